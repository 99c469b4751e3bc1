"""What becomes of an order: paid, expired, paid too late, and put right by the merchant."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from shop_side import make_order
from tables import rows

from gatepay_async.sandbox import Sandbox

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]
NOWHERE = "http://127.0.0.1:1/callback"


def sold(sandbox: Sandbox) -> int:
    with sandbox._database.transaction() as connection:
        return int(connection.execute("SELECT count(*) FROM card_key WHERE order_id <> 0").fetchone()[0])


async def test_an_order_expires(sandbox: Sandbox, clock: Any) -> None:
    """An order is to be paid for five minutes, to the fraction of a second; then it has expired."""
    order = await make_order(sandbox)
    assert (order.state, order.expires_at, order.paid_at, order.realprice) == ("pending", clock.now + 300, None, None)
    clock.now += 299.9
    assert sandbox.orders()[0].state == "pending"
    clock.now += 0.1
    assert sandbox.orders()[0].state == "expired"


async def test_how_long_is_a_setting(clock: Any) -> None:
    """`expires_after` says for how long, and None for ever."""
    for seconds, state in ((0.5, "expired"), (None, "pending")):
        with Sandbox(clock=clock, expires_after=seconds) as sandbox:
            order = await make_order(sandbox)
            assert order.expires_at == (None if seconds is None else clock.now + seconds)
            clock.now += 1_000_000
            assert sandbox.orders()[0].state == state


async def test_a_paid_order_does_not_expire(sandbox: Sandbox, clock: Any) -> None:
    """What is paid in time stays paid."""
    sandbox.pay(await make_order(sandbox))
    clock.now += 1000
    assert sandbox.orders()[0].state == "paid"
    assert sandbox.expire(1).state == "paid"


async def test_let_it_expire(sandbox: Sandbox, clock: Any) -> None:
    """A pending order can be let expire at once; a second time changes nothing."""
    order = await make_order(sandbox)
    clock.now += 10
    expired = sandbox.expire(order)
    assert (expired.state, expired.expires_at) == ("expired", clock.now)
    clock.now += 10
    assert sandbox.expire(order.order_id) == expired


async def test_paid_too_late(sandbox: Sandbox, clock: Any) -> None:
    """An order paid after it expired stays expired: no key is sold, and nobody is called back."""
    sandbox.change_shop(callback_url=NOWHERE)
    order = await make_order(sandbox)
    clock.now += 300
    late = sandbox.pay(order, realprice=Decimal("0.98"))
    assert (late.state, late.paid_at, late.realprice) == ("expired", int(clock.now), Decimal("0.98"))
    clock.now += 5
    assert sandbox.pay(order) == late
    assert (sandbox.deliveries(), sold(sandbox)) == ([], 0)


@pytest.mark.parametrize("paid", [True, False])
async def test_i_have_been_paid(paid: bool, sandbox: Sandbox, clock: Any) -> None:  # noqa: FBT001 -- a parameter of pytest
    """The merchant's word makes an expired order a paid one: a key is sold, the callback goes out, once."""
    sandbox.change_shop(callback_url=NOWHERE)
    order = sandbox.expire(await make_order(sandbox))
    if paid:
        sandbox.pay(order, realprice=Decimal("0.98"))
    clock.now += 7
    confirmed = sandbox.confirm(order)
    assert confirmed.state == "paid"
    expected = (int(clock.now) - 7, Decimal("0.98")) if paid else (int(clock.now), Decimal("0.99"))
    assert (confirmed.paid_at, confirmed.realprice) == expected
    assert sandbox.confirm(order.order_id) == confirmed
    assert (len(sandbox.deliveries()), sold(sandbox)) == (1, 1)


async def test_paid_twice(sandbox: Sandbox, clock: Any) -> None:
    """A second payment of another amount changes nothing, and nobody is told twice."""
    sandbox.change_shop(callback_url=NOWHERE)
    paid = sandbox.pay(await make_order(sandbox))
    assert (paid.paid_at, paid.realprice) == (int(clock.now), Decimal("0.99"))
    clock.now += 1
    assert sandbox.pay(1, realprice=Decimal(5)) == paid
    assert sandbox.confirm(1) == paid
    assert len(sandbox.deliveries()) == 1


@rows("amount", ["0", "-1", "0.001", "0.999", "NaN", "Infinity", "1E+7", "-0.01"])
async def test_amounts_that_nobody_pays(amount: str, sandbox: Sandbox) -> None:
    """Nothing, less, parts of a fen, or ten million yuan can't be paid, and the order stays pending."""
    order = await make_order(sandbox)
    with pytest.raises(ValueError, match=r"a customer pays 0\.01 to 9,999,999\.99 yuan"):
        sandbox.pay(order, realprice=Decimal(amount))
    assert sandbox.orders()[0].state == "pending"


@rows("amount", ["0.01", "9999999.99", "1", "1E+3", "0.5000"])
async def test_amounts_that_somebody_pays(amount: str, sandbox: Sandbox) -> None:
    """Any whole number of fen in between can, however it is written."""
    assert sandbox.pay(await make_order(sandbox), realprice=Decimal(amount)).realprice == Decimal(amount)


async def test_the_callback_says_when_it_was_paid(sandbox: Sandbox, clock: Any) -> None:
    """callback_query() of a paid order tells of that payment; what is given in its place counts."""
    order = sandbox.pay(await make_order(sandbox), realprice=Decimal("0.50"))
    clock.now += 100
    assert "realprice=0.50&type=wechat&paytime=1555750250&" in sandbox.callback_query(order)
    when = datetime(2019, 4, 20, 9, 0, tzinfo=UTC)
    given = sandbox.callback_query(order, paid_at=when, realprice=Decimal("0.40"))
    assert "realprice=0.40&type=wechat&paytime=1555750800&" in given


async def test_no_such_order(sandbox: Sandbox) -> None:
    """An order that isn't there can be neither expired nor confirmed."""
    for act in (sandbox.expire, sandbox.confirm, sandbox.pay):
        with pytest.raises(LookupError, match="no order has the number 7"):
            act(7)


async def test_the_stock_of_two_orders(sandbox: Sandbox) -> None:
    """Two orders for the last key: each can be paid, and only the first gets it."""
    for _ in range(2):
        await make_order(sandbox, product_id="5")
    sandbox.pay(1)
    sandbox.pay(2)
    assert sold(sandbox) == 1
