"""
Test your shop with pytest. The package provides the fixtures `gatepay` and `gatepay_sandbox`.

    pip install 'gatepay-async[sandbox]' pytest
    pytest test_my_shop.py
"""

from decimal import Decimal

import httpx
import pytest

from gatepay_async import AsyncGatePay, Callback, OutcomeUnknownError, OutOfStockError, PayType, new_out_order_id
from gatepay_async.callbacks import CallbackApp, MemoryStore
from gatepay_async.sandbox import Fault, FaultKind, Sandbox
from gatepay_async.testing import signed_callback

pytestmark = pytest.mark.anyio  # or pytest.mark.asyncio, with pytest-asyncio

PRODUCT, PRICE = 8, Decimal("0.99")  # the id and the price of a product in the sandbox


class Shop:
    """Stands for your own program: it creates orders and receives callbacks."""

    def __init__(self, gatepay: AsyncGatePay, *, appkey: str, appsecret: str) -> None:
        self.gatepay = gatepay
        self.prices: dict[str, Decimal] = {}
        self.delivered: list[str] = []
        self.callbacks = CallbackApp(
            self.deliver, appkey=appkey, appsecret=appsecret, store=MemoryStore(), lookup=self.price_of
        )

    async def order(self, email: str) -> str:
        """Record an order, create its payment, and return the order number."""
        number = new_out_order_id()
        # Record the order first: if GatePay's response is lost, the customer may still pay.
        self.prices[number] = PRICE
        try:
            await self.gatepay.create_payment(
                product_id=PRODUCT, product_num=1, pay_type=PayType.ALIPAY, out_order_id=number, custom=email
            )
        except OutcomeUnknownError as error:
            existing = await self.gatepay.settle(error)
            if existing is None:  # this doesn't prove that there is no order
                raise
        return number

    async def price_of(self, out_order_id: str) -> Decimal | None:
        """Return the price of an order."""
        return self.prices.get(out_order_id)

    async def deliver(self, callback: Callback) -> None:
        """Deliver an order; called once for each payment, and only if the price was paid in full."""
        self.delivered.append(callback.out_order_id)


@pytest.fixture
def shop(gatepay: AsyncGatePay, gatepay_sandbox: Sandbox) -> Shop:
    """Return a new shop, whose client uses the sandbox."""
    return Shop(gatepay, appkey=gatepay_sandbox.appkey, appsecret=gatepay_sandbox.appsecret)


async def call_back(shop: Shop, query: str) -> str:
    """Send a callback as GatePay does."""
    transport = httpx.ASGITransport(shop.callbacks)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
        return (await http.get(f"/callback?{query}")).text


async def test_a_paid_order_is_delivered_once(shop: Shop, gatepay_sandbox: Sandbox) -> None:
    """The customer pays and GatePay sends the callback twice: the shop delivers once."""
    number = await shop.order("terry@example.com")
    [order] = gatepay_sandbox.orders()
    query = gatepay_sandbox.callback_query(gatepay_sandbox.pay(order))
    assert [await call_back(shop, query) for _ in range(2)] == ["success", "success"]
    assert shop.delivered == [number]


async def test_a_forged_callback_is_refused(shop: Shop, gatepay_sandbox: Sandbox) -> None:
    """The shop refuses a callback with a changed price, a wrong secret, or another price than the order's."""
    number = await shop.order("terry@example.com")
    key, secret = gatepay_sandbox.appkey, gatepay_sandbox.appsecret
    for query in (
        signed_callback(appkey=key, appsecret=secret, out_order_id=number, price="0.99", tampered={"price": "0.01"}),
        signed_callback(appkey=key, appsecret="guessed", out_order_id=number, price="0.99"),
        signed_callback(appkey=key, appsecret=secret, out_order_id=number, price="0.01"),
    ):
        assert await call_back(shop, query) == "fail"
    assert shop.delivered == []


async def test_an_underpaid_order_is_not_delivered(shop: Shop, gatepay_sandbox: Sandbox) -> None:
    """GatePay sends a callback even if the customer pays less than the price: the shop delivers nothing."""
    await shop.order("terry@example.com")
    [order] = gatepay_sandbox.orders()
    query = gatepay_sandbox.callback_query(gatepay_sandbox.pay(order, realprice=Decimal("0.01")))
    assert await call_back(shop, query) == "fail"
    assert shop.delivered == []


async def test_ordering_a_sold_out_product_raises(shop: Shop, gatepay_sandbox: Sandbox) -> None:
    """The sandbox can simulate each of GatePay's errors. 110 means that the product is out of stock."""
    gatepay_sandbox.fault(Fault(FaultKind.CODE, endpoint="pay/create", code=110))
    with pytest.raises(OutOfStockError):
        await shop.order("terry@example.com")


async def test_order_is_found_after_a_lost_response(shop: Shop, gatepay_sandbox: Sandbox) -> None:
    """GatePay creates the order but its response is lost: the shop asks, finds the order, and creates no second one."""
    gatepay_sandbox.fault(Fault(FaultKind.CUT_AFTER, endpoint="pay/create"))
    number = await shop.order("terry@example.com")
    [order] = gatepay_sandbox.orders()
    assert order.out_order_id == number
    query = gatepay_sandbox.callback_query(gatepay_sandbox.pay(order))
    assert await call_back(shop, query) == "success"
