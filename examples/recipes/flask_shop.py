"""
Flask: creates orders and receives callbacks. It uses only parse_callback(), because Flask is not async.

    pip install gatepay-async flask waitress
    GATEPAY_APPKEY=… GATEPAY_APPSECRET=… waitress-serve --listen 127.0.0.1:5000 flask_shop:app

Don't use `flask run`: it logs the signature of each callback. waitress logs no requests.

    POST /orders {"email": "terry@example.com"}
    /gatepay/callback       the callback URL to set in GatePay's console
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
    """Receive a callback: the raw text, not request.args, because duplicate names must be detected."""
    query = request.query_string if request.method == "GET" else request.get_data()
    try:
        callback = parse_callback(query, appkey=APPKEY, appsecret=APPSECRET)
    except CallbackError as error:
        app.logger.warning("refused: %s", error)
        return Response("fail", 400, mimetype="text/plain")
    # The signature doesn't detect digits moved between order number and price: check the shop's own record.
    if shop.price_of(callback.out_order_id) != callback.price:
        app.logger.warning("refused: %s is no order of this price", callback.out_order_id)
        return Response("fail", 400, mimetype="text/plain")
    # GatePay sends a callback even if the customer pays less than the price.
    if callback.realprice < callback.price:
        app.logger.warning("underpaid: %s of %s for %s", callback.realprice, callback.price, callback.out_order_id)
        return Response("fail", 400, mimetype="text/plain")
    shop.deliver(callback)  # once, even if the callback comes several times; if it raises, the response is a 500
    return Response("success", mimetype="text/plain")


@app.post("/orders")
def create_order() -> tuple[Response, int]:
    """Create an order, save it, and return the payment link."""
    email = str(request.get_json()["email"])
    payment = anyio.run(order, email)
    shop.write_down(payment, email)
    return jsonify(out_order_id=payment.out_order_id, pay_at=payment.order_url), 201


async def order(email: str) -> Payment:
    """Create an order with a new event loop and client: slow for many orders, good enough for a few."""
    async with AsyncGatePay() as gatepay:
        return await gatepay.create_payment(
            product_id=8, product_num=1, pay_type=PayType.ALIPAY, out_order_id=new_out_order_id(), custom=email
        )
