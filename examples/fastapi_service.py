"""
A FastAPI service that creates payments. Its lifespan opens one client for the whole application.

    pip install 'gatepay-async' fastapi uvicorn
    GATEPAY_APPKEY=… GATEPAY_APPSECRET=… uvicorn fastapi_service:app --no-access-log

    POST /payments {"product_id": 8, "email": "terry@example.com"}
"""

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

from gatepay_async import (
    AsyncGatePay,
    GatePayError,
    InvalidRequestError,
    OutcomeUnknownError,
    OutOfStockError,
    PayType,
)


class Order(BaseModel):
    """The body of a request from the shop's page."""

    product_id: int = Field(gt=0)
    email: str = Field(min_length=3, max_length=200)
    pay_type: PayType = PayType.ALIPAY


async def client_of(request: Request) -> AsyncGatePay:
    """Return the client opened by the lifespan."""
    client: AsyncGatePay = request.app.state.gatepay
    return client


GatePay = Annotated[AsyncGatePay, Depends(client_of)]


def create_app(**options: Any) -> FastAPI:
    """Create the application; *options* go to the client (such as ``base_url`` for a sandbox)."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with AsyncGatePay(**options) as gatepay:
            app.state.gatepay = gatepay
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/payments", status_code=201)
    async def create_payment(order: Order, gatepay: GatePay) -> dict[str, str]:  # pyright: ignore[reportUnusedFunction] -- FastAPI calls it
        # The order number starts and ends with a letter, because the callback's signature doesn't protect digits at its
        # ends. Save it with the price before you create the payment: you compare the callback with both.
        out_order_id = f"T-{secrets.token_hex(8)}-X"
        try:
            payment = await gatepay.create_payment(
                product_id=order.product_id,
                product_num=1,
                pay_type=order.pay_type,
                out_order_id=out_order_id,
                custom=order.email,
            )
        except OutOfStockError as error:
            raise HTTPException(409, "sold out") from error
        except InvalidRequestError as error:
            raise HTTPException(422, str(error)) from error
        except OutcomeUnknownError as error:
            # Don't retry: the order may exist. `settle` asks GatePay several times within about 15 seconds. If it
            # returns None, the order may still exist.
            with suppress(GatePayError):
                if existing := await gatepay.settle(error):  # the order exists; only the payment URL is lost
                    return {
                        "out_order_id": out_order_id,
                        "price": str(existing.order_price),
                        "status": existing.order_status,
                    }
            raise HTTPException(504, f"order {out_order_id} may or may not exist") from error
        except GatePayError as error:
            raise HTTPException(502, "the payment service is unavailable") from error
        return {
            "out_order_id": payment.out_order_id,
            "price": str(payment.order_price),
            "pay_at": payment.order_url,
            "qr_code": payment.order_qrcode.data_uri,
        }

    @app.get("/products")
    async def list_products(gatepay: GatePay) -> list[dict[str, object]]:  # pyright: ignore[reportUnusedFunction] -- FastAPI calls it
        catalog = await gatepay.list_products()
        return [
            {"id": product.id, "name": product.name, "price": str(product.price), "stock": product.stock}
            for product in catalog.products
        ]

    return app


def __getattr__(name: str) -> FastAPI:
    """Create ``app`` for uvicorn, with the key and secret from the environment."""
    if name == "app":
        return create_app()
    raise AttributeError(name)
