"""
Litestar: creates orders and receives callbacks.

    pip install gatepay-async litestar uvicorn
    GATEPAY_APPKEY=… GATEPAY_APPSECRET=… uvicorn litestar_shop:app --no-access-log

    POST /orders {"email": "terry@example.com"}
    /gatepay/callback       the address to enter in GatePay's console

It needs shop.py in the same folder, which stands for your own records.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

import shop
from anyio import to_thread
from litestar import Litestar, asgi, post
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.params import Body

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


@dataclass
class Order:
    """The body of a request from the shop's page."""

    email: str


@post("/orders")
async def create_order(data: Annotated[Order, Body()], state: State) -> dict[str, str]:
    """Record an order, create its payment, and return where to pay."""
    gatepay: AsyncGatePay = state.gatepay
    out_order_id = await to_thread.run_sync(shop.new_order, data.email)
    try:
        payment = await gatepay.create_payment(
            product_id=shop.PRODUCT,
            product_num=1,
            pay_type=PayType.ALIPAY,
            out_order_id=out_order_id,
            custom=data.email,
        )
    except OutcomeUnknownError as error:
        # The order may exist: a second one could charge the customer twice. If it is paid, a callback arrives.
        with suppress(GatePayError):
            if existing := await gatepay.settle(error):  # the order exists; only its payment URL is lost
                return {"out_order_id": out_order_id, "status": existing.order_status}
        raise HTTPException(f"order {out_order_id} is being checked", status_code=504) from error
    return {"out_order_id": payment.out_order_id, "pay_at": payment.order_url}


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncGenerator[None]:
    """Open one client for the whole program, with the key and secret from the environment."""
    async with AsyncGatePay() as gatepay:
        app.state.gatepay = gatepay
        yield
    await store.aclose()


# Litestar recommends `copy_scope` for an application that isn't meant to change Litestar's own scope.
app = Litestar([create_order, asgi("/gatepay/callback", copy_scope=True)(callbacks)], lifespan=[lifespan])
