"""
Starlette: creates orders and receives callbacks.

    pip install gatepay-async starlette uvicorn
    GATEPAY_APPKEY=… GATEPAY_APPSECRET=… uvicorn starlette_shop:app --no-access-log

    POST /orders {"email": "terry@example.com"}
    /gatepay/callback       the address to enter in GatePay's console

It needs shop.py in the same folder, which stands for your own records.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal

import shop
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gatepay_async import AsyncGatePay, Callback, GatePayError, OutcomeUnknownError, PayType
from gatepay_async.callbacks import CallbackApp, SQLiteStore


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


async def create_order(request: Request) -> JSONResponse:
    """Record an order, create its payment, and return where to pay."""
    email = str((await request.json())["email"])
    gatepay: AsyncGatePay = request.app.state.gatepay
    out_order_id = await to_thread.run_sync(shop.new_order, email)
    try:
        payment = await gatepay.create_payment(
            product_id=shop.PRODUCT,
            product_num=1,
            pay_type=PayType.ALIPAY,
            out_order_id=out_order_id,
            custom=email,
        )
    except OutcomeUnknownError as error:
        # The order may exist: a second one could charge the customer twice. If it is paid, a callback arrives.
        with suppress(GatePayError):
            if existing := await gatepay.settle(error):  # the order exists; only its payment URL is lost
                return JSONResponse({"out_order_id": out_order_id, "status": existing.order_status}, status_code=201)
        return JSONResponse({"error": f"order {out_order_id} is being checked"}, status_code=504)
    return JSONResponse({"out_order_id": payment.out_order_id, "pay_at": payment.order_url}, status_code=201)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None]:
    """Open one client for the whole program, with the key and secret from the environment."""
    async with AsyncGatePay() as gatepay:
        app.state.gatepay = gatepay
        yield
    await store.aclose()


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/orders", create_order, methods=["POST"]),
        # Not a Mount: it would redirect this path to `/gatepay/callback/`.
        Route("/gatepay/callback", callbacks),
    ],
)
