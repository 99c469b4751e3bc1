"""Prices as PHP prints floats: how the sandbox writes them, and how the client reads them."""

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from gatepay_async import AsyncGatePay, PayType
from gatepay_async.callbacks import CallbackApp, MemoryStore
from gatepay_async.sandbox import Sandbox
from gatepay_async.sandbox.prices import format_price

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]


def test_format_price_is_exact_or_has_phps_rounding_errors() -> None:
    """By default, prices are exact. With either value of `php_floats`, they have PHP's rounding errors."""
    for fen, quantity, exact, shortest, seventeen_digits in (
        (190, 3, "5.7", "5.699999999999999", "5.6999999999999993"),
        (190, 1, "1.9", "1.9", "1.8999999999999999"),
        (100, 1, "1", "1", "1"),
        (100, 10, "10", "10", "10"),
        (50, 2, "1", "1", "1"),
        (99, 89, "88.11", "88.11", "88.109999999999999"),
        (10, 3, "0.3", "0.30000000000000004", "0.30000000000000004"),
        (123456789, 1000, "1234567890", "1234567890", "1234567890"),
    ):
        assert format_price(fen, quantity, None) == exact
        assert format_price(fen, quantity, "shortest") == shortest
        assert format_price(fen, quantity, "17 digits") == seventeen_digits


@pytest.mark.without_coverage
@pytest.mark.parametrize(
    ("php_floats", "number"), [(None, "5.7"), ("shortest", "5.699999999999999"), ("17 digits", "5.6999999999999993")]
)
async def test_client_rounds_imprecise_prices(php_floats: Any, number: str) -> None:
    """The client rounds the price in a reply to 5.70, and a callback with price=5.70 is accepted."""
    bodies: list[bytes] = []

    class RecordingTransport(httpx.ASGITransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await super().handle_async_request(request)
            bodies.append(await response.aread())
            return httpx.Response(response.status_code, headers=response.headers, content=bodies[-1])

    with Sandbox(php_floats=php_floats) as sandbox:
        sandbox.add_keys(5, ["A", "B", "C"])
        base_url, transport = "http://127.0.0.1/api/", RecordingTransport(sandbox.app)
        async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url, transport=transport) as gatepay:
            payment = await gatepay.create_payment(
                product_id=5, product_num=3, pay_type=PayType.ALIPAY, out_order_id="T-1-X", custom="terry"
            )
        assert f'"order_price": {number},'.encode() in bodies[0]
        assert json.loads(bodies[0])["data"]["order_url"] == payment.order_url
        assert str(payment.order_price) == "5.70"

        async def handler(_: object) -> None: ...

        async def lookup(_: str) -> Decimal:
            return payment.order_price

        app = CallbackApp(
            handler, appkey=sandbox.appkey, appsecret=sandbox.appsecret, store=MemoryStore(), lookup=lookup
        )
        assert (await app.receive(sandbox.callback_query(sandbox.pay(1)))).body == "success"
