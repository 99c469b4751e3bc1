"""
Flask: creates orders and receives callbacks; with parse_callback() alone, as Flask is not async.

    pip install gatepay-async flask waitress
    GATEPAY_APPKEY=… GATEPAY_APPSECRET=… waitress-serve --listen 127.0.0.1:5000 flask_shop:app

`flask run` would log each callback's query, its signature included; waitress logs no requests.

    POST /orders {"email": "terry@example.com"}
    /gatepay/callback       the address to enter in GatePay's console

It needs shop.py in the same folder, which stands for your own records.
"""

import os
from contextlib import suppress

import anyio
import shop
from flask import Flask, Response, jsonify, request

from gatepay_async import (
    AsyncGatePay,
    CallbackError,
    GatePayError,
    OrderStatus,
    OutcomeUnknownError,
    Payment,
    PayType,
    parse_callback,
)

APPKEY, APPSECRET = os.environ["GATEPAY_APPKEY"], os.environ["GATEPAY_APPSECRET"]

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 8192


@app.route("/gatepay/callback", methods=["GET", "POST"])
def gatepay_callback() -> Response:
    """Receive a callback: the raw text, not request.args, since a name that comes twice must be seen."""
    query = request.query_string if request.method == "GET" else request.get_data()
    try:
        callback = parse_callback(query, appkey=APPKEY, appsecret=APPSECRET)
    except CallbackError as error:
        app.logger.warning("refused: %s", error)
        return Response("fail", 400, mimetype="text/plain")
    # The signature alone lets digits slide between number and price: the shop's own record decides.
    if shop.price_of(callback.out_order_id) != callback.price:
        app.logger.warning("refused: %s is no order of this price", callback.out_order_id)
        return Response("fail", 400, mimetype="text/plain")
    # A customer can pay 0.01 for an order of 0.99, and GatePay calls back all the same.
    if callback.realprice < callback.price:
        app.logger.warning("underpaid: %s of %s for %s", callback.realprice, callback.price, callback.out_order_id)
        return Response("fail", 400, mimetype="text/plain")
    shop.deliver(callback)  # exactly once, however often the callback comes; if it raises, the answer is a 500
    return Response("success", mimetype="text/plain")


@app.post("/orders")
def create_order() -> tuple[Response, int]:
    """Record an order, create its payment, and return where to pay."""
    email = str(request.get_json()["email"])
    out_order_id = shop.new_order(email)
    made = anyio.run(order, out_order_id, email)
    if isinstance(made, Payment):
        return jsonify(out_order_id=made.out_order_id, pay_at=made.order_url), 201
    if made is not None:  # it exists; only the address where to pay is lost
        return jsonify(out_order_id=out_order_id, status=made.order_status), 201
    return jsonify(error=f"order {out_order_id} is being checked"), 504


async def order(out_order_id: str, email: str) -> Payment | OrderStatus | None:
    """Create the payment in an event loop and a client of its own: slow for many orders, good enough for a few."""
    async with AsyncGatePay() as gatepay:
        try:
            return await gatepay.create_payment(
                product_id=shop.PRODUCT,
                product_num=1,
                pay_type=PayType.ALIPAY,
                out_order_id=out_order_id,
                custom=email,
            )
        except OutcomeUnknownError as error:
            # The order may exist: creating another could charge the customer twice. A callback will find this one.
            with suppress(GatePayError):
                return await gatepay.settle(error)
    return None
