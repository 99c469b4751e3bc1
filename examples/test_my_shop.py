"""
Tests of a shop: nothing to start by hand, as the package brings the fixtures `gatepay` and `gatepay_sandbox`.

    pip install 'gatepay-async[sandbox]' pytest
    pytest test_my_shop.py
"""

from decimal import Decimal

import httpx
import pytest

from gatepay_async import AsyncGatePay, Callback, OutOfStockError, Payment, PayType, new_out_order_id
from gatepay_async.callbacks import CallbackApp, MemoryStore
from gatepay_async.sandbox import Fault, FaultKind, Sandbox
from gatepay_async.testing import signed_callback

pytestmark = pytest.mark.anyio  # or pytest.mark.asyncio, with pytest-asyncio


class Shop:
    """What is tested: your own program, which takes orders and hears of payments."""

    def __init__(self, gatepay: AsyncGatePay, *, appkey: str, appsecret: str) -> None:
        self.gatepay = gatepay
        self.prices: dict[str, Decimal] = {}
        self.delivered: list[str] = []
        self.callbacks = CallbackApp(
            self.deliver, appkey=appkey, appsecret=appsecret, store=MemoryStore(), lookup=self.price_of
        )

    async def order(self, email: str) -> Payment:
        """Make an order, and write it down."""
        payment = await self.gatepay.create_payment(
            product_id=8, product_num=1, pay_type=PayType.ALIPAY, out_order_id=new_out_order_id(), custom=email
        )
        self.prices[payment.out_order_id] = payment.order_price
        return payment

    async def price_of(self, out_order_id: str) -> Decimal | None:
        """Say what an order costs."""
        return self.prices.get(out_order_id)

    async def deliver(self, callback: Callback) -> None:
        """Give the goods."""
        self.delivered.append(callback.out_order_id)


@pytest.fixture
def shop(gatepay: AsyncGatePay, gatepay_sandbox: Sandbox) -> Shop:
    """The shop, with a client that talks to GatePay's other end: a fresh one for each test."""
    return Shop(gatepay, appkey=gatepay_sandbox.appkey, appsecret=gatepay_sandbox.appsecret)


async def call_back(shop: Shop, query: str) -> str:
    """Deliver a callback as GatePay does."""
    transport = httpx.ASGITransport(shop.callbacks)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as gatepay:
        return (await gatepay.get(f"/callback?{query}")).text


async def test_a_paid_order_is_delivered_once(shop: Shop, gatepay_sandbox: Sandbox) -> None:
    """The customer pays, GatePay calls back, twice: the goods are given once."""
    payment = await shop.order("terry@example.com")
    [order] = gatepay_sandbox.orders()
    query = gatepay_sandbox.callback_query(gatepay_sandbox.pay(order))
    assert [await call_back(shop, query) for _ in range(2)] == ["success", "success"]
    assert shop.delivered == [payment.out_order_id]


async def test_a_forged_callback_is_refused(shop: Shop, gatepay_sandbox: Sandbox) -> None:
    """The price changed, the signature of another secret, the order of another price: nothing is given."""
    number = (await shop.order("terry@example.com")).out_order_id
    key, secret = gatepay_sandbox.appkey, gatepay_sandbox.appsecret
    for query in (
        signed_callback(appkey=key, appsecret=secret, out_order_id=number, price="0.99", tampered={"price": "0.01"}),
        signed_callback(appkey=key, appsecret="guessed", out_order_id=number, price="0.99"),
        signed_callback(appkey=key, appsecret=secret, out_order_id=number, price="0.01"),
    ):
        assert await call_back(shop, query) == "fail"
    assert shop.delivered == []


async def test_an_underpaid_order_is_not_delivered(shop: Shop, gatepay_sandbox: Sandbox) -> None:
    """A customer can pay less than the price, and GatePay calls back all the same: nothing is given."""
    await shop.order("terry@example.com")
    [order] = gatepay_sandbox.orders()
    query = gatepay_sandbox.callback_query(gatepay_sandbox.pay(order, realprice=Decimal("0.01")))
    assert await call_back(shop, query) == "fail"
    assert shop.delivered == []


async def test_sold_out(shop: Shop, gatepay_sandbox: Sandbox) -> None:
    """What GatePay refuses can be asked for: here, too little stock."""
    gatepay_sandbox.fault(Fault(FaultKind.CODE, endpoint="pay/create", code=110))
    with pytest.raises(OutOfStockError):
        await shop.order("terry@example.com")
