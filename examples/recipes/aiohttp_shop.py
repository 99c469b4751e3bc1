"""
aiohttp.web: creates orders and receives callbacks.

    pip install gatepay-async aiohttp
    GATEPAY_APPKEY=… GATEPAY_APPSECRET=… python aiohttp_shop.py

    POST /orders {"email": "terry@example.com"}
    /gatepay/callback       the address to enter in GatePay's console

It needs shop.py in the same folder, which stands for your own records.
"""

import logging
import os
from collections.abc import AsyncGenerator
from contextlib import suppress
from decimal import Decimal

import shop
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from anyio import to_thread

from gatepay_async import AsyncGatePay, Callback, GatePayError, OutcomeUnknownError, PayType
from gatepay_async.callbacks import CallbackApp, SQLiteStore

GATEPAY = web.AppKey("GATEPAY", AsyncGatePay)


async def price_of(out_order_id: str) -> Decimal | None:
    """Return the price of an order from the shop's own records."""
    return await to_thread.run_sync(shop.price_of, out_order_id)


async def deliver(callback: Callback) -> None:
    """Deliver; called once for each payment, and only if the price was paid in full."""
    await to_thread.run_sync(shop.deliver, callback)


store = SQLiteStore("callbacks.sqlite3")
callbacks = CallbackApp(
    deliver,
    appkey=os.environ["GATEPAY_APPKEY"],
    appsecret=os.environ["GATEPAY_APPSECRET"],
    store=store,
    lookup=price_of,
)


async def gatepay_callback(request: web.Request) -> web.Response:
    """Receive a callback. Takes the query from the raw path, because aiohttp's `query_string` is already decoded."""
    query = request.raw_path.partition("?")[2] if request.method == "GET" else await request.read()
    reply = await callbacks.receive(query)
    return web.Response(text=reply.body, status=reply.status)


async def create_order(request: web.Request) -> web.Response:
    """Record an order, create its payment, and return where to pay."""
    email = str((await request.json())["email"])
    out_order_id = await to_thread.run_sync(shop.new_order, email)
    try:
        payment = await request.app[GATEPAY].create_payment(
            product_id=shop.PRODUCT,
            product_num=1,
            pay_type=PayType.ALIPAY,
            out_order_id=out_order_id,
            custom=email,
        )
    except OutcomeUnknownError as error:
        # The order may exist: a second one could charge the customer twice. If it is paid, a callback arrives.
        with suppress(GatePayError):
            if existing := await request.app[GATEPAY].settle(error):  # the order exists; only its payment URL is lost
                return web.json_response({"out_order_id": out_order_id, "status": existing.order_status}, status=201)
        return web.json_response({"error": f"order {out_order_id} is being checked"}, status=504)
    return web.json_response({"out_order_id": payment.out_order_id, "pay_at": payment.order_url}, status=201)


async def client(app: web.Application) -> AsyncGenerator[None]:
    """Open one client for the whole program, with the key and secret from the environment."""
    async with AsyncGatePay() as gatepay:
        app[GATEPAY] = gatepay
        yield
    await store.aclose()


def create_app() -> web.Application:
    """Create the application."""
    app = web.Application()
    app.cleanup_ctx.append(client)
    app.router.add_post("/orders", create_order)
    # Without HEAD: `gatepay_callback` would look for its fields in the body.
    app.router.add_get("/gatepay/callback", gatepay_callback, allow_head=False)
    app.router.add_post("/gatepay/callback", gatepay_callback)
    return app


def without_request(record: logging.LogRecord) -> bool:
    """Log a malformed request without its first line, which may contain a callback's signature."""
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.exc_info = None
    return True


if __name__ == "__main__":
    logging.getLogger("aiohttp.server").addFilter(without_request)
    # No access log: it would contain each callback's query, including its signature.
    web.run_app(create_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "8080")), access_log=None)
