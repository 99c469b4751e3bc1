"""
Flask: creates orders and receives callbacks. It uses parse_callback() instead of CallbackApp, as Flask is not async.

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
    """Receive a callback. Uses the raw text, because request.args would hide a repeated name."""
    query = request.query_string if request.method == "GET" else request.get_data()
    try:
        callback = parse_callback(query, appkey=APPKEY, appsecret=APPSECRET)
    except CallbackError as error:
        app.logger.warning("refused: %s", error)
        return Response("fail", 400, mimetype="text/plain")
    # Digits can be moved between order number and price without breaking the signature: compare your own record.
    if shop.price_of(callback.out_order_id) != callback.price:
        app.logger.warning("refused: %s is no order of this price", callback.out_order_id)
        return Response("fail", 400, mimetype="text/plain")
    # A customer can pay 0.01 for an order of 0.99. GatePay sends a callback for that too.
    if callback.realprice < callback.price:
        app.logger.warning("underpaid: %s of %s for %s", callback.realprice, callback.price, callback.out_order_id)
        return Response("fail", 400, mimetype="text/plain")
    shop.deliver(callback)  # delivers once per payment; if it raises, Flask responds with 500 and GatePay retries
    return Response("success", mimetype="text/plain")


@app.post("/orders")
def create_order() -> tuple[Response, int]:
    """Record an order, create its payment, and return where to pay."""
    email = str(request.get_json()["email"])
    out_order_id = shop.new_order(email)
    result = anyio.run(order, out_order_id, email)
    if isinstance(result, Payment):
        return jsonify(out_order_id=result.out_order_id, pay_at=result.order_url), 201
    if result is not None:  # the order exists; only its payment URL is lost
        return jsonify(out_order_id=out_order_id, status=result.order_status), 201
    return jsonify(error=f"order {out_order_id} is being checked"), 504


async def order(out_order_id: str, email: str) -> Payment | OrderStatus | None:
    """Create the payment in a new event loop with a new client: fast enough for few orders, slow for many."""
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
            # The order may exist: a second one could charge the customer twice. If it is paid, a callback arrives.
            with suppress(GatePayError):
                return await gatepay.settle(error)
    return None
