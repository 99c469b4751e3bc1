"""
aiohttp.web: makes orders, and hears of payments.

    pip install 'gatepay-async[aiohttp]'
    GATEPAY_APPKEY=… GATEPAY_APPSECRET=… python -m aiohttp.web -H 127.0.0.1 -P 8080 aiohttp_shop:create_app

    POST /orders {"email": "terry@example.com"}
    /gatepay/callback       the address to enter in GatePay's console
"""

import logging
import os
from collections.abc import AsyncGenerator

import shop
from aiohttp import web
from anyio import to_thread

from gatepay_async import AsyncGatePay, CallbackError, PayType, new_out_order_id, parse_callback

APPKEY, APPSECRET = os.environ["GATEPAY_APPKEY"], os.environ["GATEPAY_APPSECRET"]

logger = logging.getLogger(__name__)

GATEPAY = web.AppKey("GATEPAY", AsyncGatePay)


async def gatepay_callback(request: web.Request) -> web.Response:
    """Hear of a payment. From the raw path: aiohttp's `query_string` is decoded already."""
    query = request.raw_path.partition("?")[2] if request.method == "GET" else await request.read()
    try:
        callback = parse_callback(query, appkey=APPKEY, appsecret=APPSECRET)
    except CallbackError as error:
        logger.warning("refused: %s", error)
        return web.Response(text="fail", status=400)
    # The signature alone lets digits slide between number and price: the shop's own record decides.
    if await to_thread.run_sync(shop.price_of, callback.out_order_id) != callback.price:
        logger.warning("refused: %s is no order of this price", callback.out_order_id)
        return web.Response(text="fail", status=400)
    # Exactly once, however often the callback comes; if it raises, the answer is a 500, and GatePay comes again.
    await to_thread.run_sync(shop.deliver, callback)
    return web.Response(text="success")


async def create_order(request: web.Request) -> web.Response:
    """Make an order, write it down, and say where to pay."""
    email = str((await request.json())["email"])
    payment = await request.app[GATEPAY].create_payment(
        product_id=8, product_num=1, pay_type=PayType.ALIPAY, out_order_id=new_out_order_id(), custom=email
    )
    await to_thread.run_sync(shop.write_down, payment, email)
    return web.json_response({"out_order_id": payment.out_order_id, "pay_at": payment.order_url}, status=201)


async def client(app: web.Application) -> AsyncGenerator[None]:
    """One client for the life of the program; its key and secret are the environment's."""
    async with AsyncGatePay(transport="aiohttp") as gatepay:
        app[GATEPAY] = gatepay
        yield


def create_app(_: list[str]) -> web.Application:
    """Put the application together; `python -m aiohttp.web` hands it the rest of its command line."""
    app = web.Application()
    app.cleanup_ctx.append(client)
    app.router.add_post("/orders", create_order)
    app.router.add_get("/gatepay/callback", gatepay_callback, allow_head=False)
    app.router.add_post("/gatepay/callback", gatepay_callback)
    return app
