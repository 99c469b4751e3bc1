"""
A service that creates payments: one client for the life of the application, opened in its lifespan.

    pip install 'gatepay-async' fastapi uvicorn
    GATEPAY_APPKEY=… GATEPAY_APPSECRET=… uvicorn fastapi_service:app --no-access-log

    POST /payments {"product_id": 8, "email": "terry@example.com"}
"""

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
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
    """What the shop's page sends."""

    product_id: int = Field(gt=0)
    email: str = Field(min_length=3, max_length=200)
    pay_type: PayType = PayType.ALIPAY


async def client_of(request: Request) -> AsyncGatePay:
    """The client that the lifespan has opened."""
    client: AsyncGatePay = request.app.state.gatepay
    return client


GatePay = Annotated[AsyncGatePay, Depends(client_of)]


def create_app(**options: Any) -> FastAPI:
    """The application; *options* are the client's (``base_url`` of a sandbox, for example)."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with AsyncGatePay(**options) as gatepay:
            app.state.gatepay = gatepay
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/payments", status_code=201)
    async def create_payment(order: Order, gatepay: GatePay) -> dict[str, str]:  # pyright: ignore[reportUnusedFunction] -- FastAPI calls it
        # Begins and ends in a letter: in the callback's signature digits can slide between neighbouring fields.
        # Write it down, with the price, before you ask: it is what the callback is compared with.
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
            # Not to be repeated: the customer may be about to pay it. The order stays on the books as it is.
            raise HTTPException(504, f"order {out_order_id} is being looked into") from error
        except GatePayError as error:
            raise HTTPException(502, "the payment service is not available") from error
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
            {"id": each.id, "name": each.name, "price": str(each.price), "stock": each.stock}
            for each in catalog.products
        ]

    return app


def __getattr__(name: str) -> FastAPI:
    """``uvicorn fastapi_service:app`` finds its key and secret in the environment."""
    if name == "app":
        return create_app()
    raise AttributeError(name)
