"""Callbacks of customers who paid less than the price."""

from decimal import Decimal
from typing import Any

import pytest
from delivering import CALLBACK_FIELDS, Shop, call, query, reply_to

from gatepay_async.callbacks import CallbackApp, EventKind, MemoryStore
from gatepay_async.protocol.callback_errors import CallbackError
from gatepay_async.protocol.errors import InvalidRequestError

pytestmark = [pytest.mark.fast, pytest.mark.anyio]


def underpaid_query(paid: str = "0.01") -> bytes:
    """Return a genuine callback of a customer who has paid *paid* for an order of 10.23."""
    return query(realprice=paid)


async def test_underpaid_callback_is_refused() -> None:
    """An underpaid callback gets ``fail`` and makes an event of its own kind. The handler isn't called."""
    shop = Shop(MemoryStore())
    answer = await call(shop.app(), underpaid_query())
    assert (answer.status, answer.body) == (400, b"fail")
    assert shop.handled == []
    [event] = shop.events
    assert (event.kind, event.order_id, event.out_order_id) == (EventKind.UNDERPAID, 67848, "T-1001-X")
    assert isinstance(event.error, CallbackError)
    assert (event.error.field, event.error.problem) == ("realprice", "0.01 was paid for an order of 10.23")


async def test_full_payment_after_an_underpaid_one_is_handled() -> None:
    """An underpaid callback doesn't count as handled: the full payment is handled, and later callbacks are repeated."""
    shop = Shop(MemoryStore(), prices={"T-1001-X": Decimal("10.23")})
    app = shop.app()
    for query_string in (underpaid_query(), underpaid_query("10.22"), query(), query(), underpaid_query()):
        await reply_to(app, query_string)
    assert shop.event_kinds == ["underpaid", "underpaid", "handled", "repeated", "repeated"]
    assert [callback.realprice for callback in shop.handled] == [Decimal("10.23")]


async def test_overpaid_callback_is_handled() -> None:
    """A callback with a ``realprice`` above the price is handled."""
    shop = Shop(MemoryStore())
    assert await reply_to(shop.app(), query(realprice="10.24")) == "success"


async def test_shortfall_is_the_largest_accepted_underpayment() -> None:
    """With ``shortfall``, a Decimal or text, a callback may be underpaid by at most that amount."""
    for allowed, paid, expected in (
        (Decimal("0.05"), "10.18", "success"),
        (Decimal("0.05"), "10.17", "fail"),
        ("0.05", "10.18", "success"),
        ("0.05", "10.17", "fail"),
        ("0", "10.22", "fail"),
        ("10.23", "0.00", "success"),
    ):
        assert await reply_to(Shop(MemoryStore()).app(shortfall=allowed), query(realprice=paid)) == expected, (
            allowed,
            paid,
        )


async def test_underpaid_callback_of_an_unknown_order_is_refused() -> None:
    """If ``lookup`` finds no order or another price, the event's kind is ``refused``, not ``underpaid``."""
    shop = Shop(MemoryStore(), prices={"T-1001-X": Decimal("9.99")})
    app = shop.app(shortfall="0.50")
    assert await reply_to(app, query(price="10.23", realprice="9.99")) == "fail"
    assert await reply_to(app, query(out_order_id="T-0-X", realprice="0.01")) == "fail"
    assert shop.event_kinds == ["refused", "refused"]


@pytest.mark.parametrize("shortfall", [0.05, -1, 1, True, None, Decimal("-0.01"), Decimal("NaN"), "NaN", "x", "0.001"])
def test_invalid_shortfall_is_refused(shortfall: Any) -> None:
    """An invalid ``shortfall`` raises an error when the application is created."""

    async def handler(_: object) -> None: ...

    with pytest.raises(InvalidRequestError) as caught:
        CallbackApp(handler, appkey=CALLBACK_FIELDS["appkey"], appsecret="x", store=MemoryStore(), shortfall=shortfall)
    assert caught.value.field == "shortfall"
