"""The states of an order: paid, expired, paid after expiry, and confirmed by the merchant."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from shop_side import make_order
from tables import rows

from gatepay_async import InvalidArgumentError
from gatepay_async.sandbox import Sandbox

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]
UNREACHABLE_URL = "http://127.0.0.1:1/callback"


def count_sold_keys(sandbox: Sandbox) -> int:
    with sandbox._database.transaction() as connection:
        return int(connection.execute("SELECT count(*) FROM card_key WHERE order_id <> 0").fetchone()[0])


async def test_order_expires_after_five_minutes(sandbox: Sandbox, clock: Any) -> None:
    """An order can be paid for exactly five minutes. Then it expires."""
    order = await make_order(sandbox)
    assert (order.state, order.expires_at, order.paid_at, order.realprice) == ("pending", clock.now + 300, None, None)
    clock.now += 299.9
    assert sandbox.orders()[0].state == "pending"
    clock.now += 0.1
    assert sandbox.orders()[0].state == "expired"


async def test_expires_after_sets_the_time_limit(clock: Any) -> None:
    """`expires_after` sets the time limit of an order. With None, orders don't expire."""
    for seconds, state in ((0.5, "expired"), (None, "pending")):
        with Sandbox(clock=clock, expires_after=seconds) as sandbox:
            order = await make_order(sandbox)
            assert order.expires_at == (None if seconds is None else clock.now + seconds)
            clock.now += 1_000_000
            assert sandbox.orders()[0].state == state


async def test_paid_order_does_not_expire(sandbox: Sandbox, clock: Any) -> None:
    """A paid order stays paid after the time limit and after expire()."""
    sandbox.pay(await make_order(sandbox))
    clock.now += 1000
    assert sandbox.orders()[0].state == "paid"
    assert sandbox.expire(1).state == "paid"


async def test_pending_order_can_be_expired_early(sandbox: Sandbox, clock: Any) -> None:
    """expire() makes a pending order expire now. A second call changes nothing."""
    order = await make_order(sandbox)
    clock.now += 10
    expired = sandbox.expire(order)
    assert (expired.state, expired.expires_at) == ("expired", clock.now)
    clock.now += 10
    assert sandbox.expire(order.order_id) == expired


async def test_payment_after_expiry_sells_nothing(sandbox: Sandbox, clock: Any) -> None:
    """An order paid after its expiry stays expired: no card key is sold, and no callback is sent."""
    sandbox.change_shop(callback_url=UNREACHABLE_URL)
    order = await make_order(sandbox)
    clock.now += 300
    expired = sandbox.pay(order, realprice=Decimal("0.98"))
    assert (expired.state, expired.paid_at, expired.realprice) == ("expired", int(clock.now), Decimal("0.98"))
    clock.now += 5
    assert sandbox.pay(order) == expired
    assert (sandbox.deliveries(), count_sold_keys(sandbox)) == ([], 0)


@pytest.mark.parametrize("paid", [True, False])
async def test_confirm_marks_an_expired_order_as_paid(paid: bool, sandbox: Sandbox, clock: Any) -> None:  # noqa: FBT001 -- a parameter of pytest
    """confirm() marks an expired order as paid, sells a card key and sends one callback."""
    sandbox.change_shop(callback_url=UNREACHABLE_URL)
    order = sandbox.expire(await make_order(sandbox))
    if paid:
        sandbox.pay(order, realprice=Decimal("0.98"))
    clock.now += 7
    confirmed = sandbox.confirm(order)
    assert confirmed.state == "paid"
    expected = (int(clock.now) - 7, Decimal("0.98")) if paid else (int(clock.now), Decimal("0.99"))
    assert (confirmed.paid_at, confirmed.realprice) == expected
    assert sandbox.confirm(order.order_id) == confirmed
    assert (len(sandbox.deliveries()), count_sold_keys(sandbox)) == (1, 1)


async def test_second_payment_changes_nothing(sandbox: Sandbox, clock: Any) -> None:
    """A second payment, with another amount, changes nothing and sends no callback."""
    sandbox.change_shop(callback_url=UNREACHABLE_URL)
    paid = sandbox.pay(await make_order(sandbox))
    assert (paid.paid_at, paid.realprice) == (int(clock.now), Decimal("0.99"))
    clock.now += 1
    assert sandbox.pay(1, realprice=Decimal(5)) == paid
    assert sandbox.confirm(1) == paid
    assert len(sandbox.deliveries()) == 1


@rows("amount", ["0", "-1", "0.001", "0.999", "NaN", "Infinity", "1E+7", "-0.01"])
async def test_invalid_amounts_are_rejected(amount: str, sandbox: Sandbox) -> None:
    """Zero, negative amounts, fractions of a fen and too large amounts are rejected, and the order stays pending."""
    order = await make_order(sandbox)
    with pytest.raises(InvalidArgumentError, match=r"realprice: must be an amount from 0\.01 to 9,999,999\.99 yuan"):
        sandbox.pay(order, realprice=Decimal(amount))
    assert sandbox.orders()[0].state == "pending"


@rows("amount", ["0.01", "9999999.99", "1", "1E+3", "0.5000"])
async def test_valid_amounts_are_accepted(amount: str, sandbox: Sandbox) -> None:
    """Any whole number of fen within the limits can be paid, in any notation."""
    assert sandbox.pay(await make_order(sandbox), realprice=Decimal(amount)).realprice == Decimal(amount)


async def test_callback_query_describes_the_payment(sandbox: Sandbox, clock: Any) -> None:
    """callback_query() has the time and amount of the order's payment, unless others are passed."""
    order = sandbox.pay(await make_order(sandbox), realprice=Decimal("0.50"))
    clock.now += 100
    assert "realprice=0.50&type=wechat&paytime=1555750250&" in sandbox.callback_query(order)
    when = datetime(2019, 4, 20, 9, 0, tzinfo=UTC)
    query = sandbox.callback_query(order, paid_at=when, realprice=Decimal("0.40"))
    assert "realprice=0.40&type=wechat&paytime=1555750800&" in query


async def test_unknown_order_raises_lookup_error(sandbox: Sandbox) -> None:
    """Expiring, confirming or paying an unknown order raises LookupError."""
    for method in (sandbox.expire, sandbox.confirm, sandbox.pay):
        with pytest.raises(LookupError, match="no order has the number 7"):
            method(7)


async def test_second_order_for_the_last_key_gets_no_key(sandbox: Sandbox) -> None:
    """Both orders can be paid, but only the first gets the last card key."""
    for _ in range(2):
        await make_order(sandbox, product_id="5")
    sandbox.pay(1)
    sandbox.pay(2)
    assert count_sold_keys(sandbox) == 1
