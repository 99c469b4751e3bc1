"""
Flask: creates orders and receives callbacks; with parse_callback() alone, as Flask is not async.

    pip install gatepay-async flask waitress
    GATEPAY_APPKEY=… GATEPAY_APPSECRET=… waitress-serve --listen 127.0.0.1:5000 flask_shop:app

`flask run` would log each callback's query, its signature included; waitress logs no requests.

    POST /orders {"email": "terry@example.com"}
    /gatepay/callback       the address to enter in GatePay's console
"""

import os

import anyio
import shop
from flask import Flask, Response, jsonify, request

from gatepay_async import AsyncGatePay, CallbackError, Payment, PayType, new_out_order_id, parse_callback

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
    """Make an order, write it down, and say where to pay."""
    email = str(request.get_json()["email"])
    payment = anyio.run(order, email)
    shop.write_down(payment, email)
    return jsonify(out_order_id=payment.out_order_id, pay_at=payment.order_url), 201


async def order(email: str) -> Payment:
    """Order in an event loop of its own, with a client of its own; dear for many orders, good enough for a few."""
    async with AsyncGatePay() as gatepay:
        return await gatepay.create_payment(
            product_id=8, product_num=1, pay_type=PayType.ALIPAY, out_order_id=new_out_order_id(), custom=email
        )
