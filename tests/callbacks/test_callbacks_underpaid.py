"""Underpayment: what was really paid is compared with the price, and the order stays open."""

from decimal import Decimal
from typing import Any

import pytest
from delivering import FIELDS, Shop, call, query, word

from gatepay_async.callbacks import CallbackApp, EventKind, MemoryStore
from gatepay_async.protocol.callback_errors import CallbackError
from gatepay_async.protocol.errors import InvalidRequestError

pytestmark = [pytest.mark.fast, pytest.mark.anyio]


def short(paid: str = "0.01") -> bytes:
    """A genuine callback of a customer who has paid this much for an order of 10.23."""
    return query(realprice=paid)


async def test_less_than_the_price_is_refused() -> None:
    """A callback that paid less is `fail`, the handler is not called, and the event says so, with no lookup given."""
    shop = Shop(MemoryStore())
    answer = await call(shop.app(), short())
    assert (answer.status, answer.body) == (400, b"fail")
    assert shop.handled == []
    [event] = shop.events
    assert (event.kind, event.order_id, event.out_order_id) == (EventKind.UNDERPAID, 67848, "T-1001-X")
    assert isinstance(event.error, CallbackError)
    assert (event.error.field, event.error.problem) == ("realprice", "0.01 was paid for an order of 10.23")


async def test_a_later_full_payment_works() -> None:
    """The order is not written down as handled: the callback of the full price is, and then a repetition of either."""
    shop = Shop(MemoryStore(), prices={"T-1001-X": Decimal("10.23")})
    app = shop.app()
    for sent in (short(), short("10.22"), query(), query(), short()):
        await word(app, sent)
    assert shop.kinds == ["underpaid", "underpaid", "handled", "repeated", "repeated"]
    assert [each.realprice for each in shop.handled] == [Decimal("10.23")]


async def test_more_than_the_price_is_handled() -> None:
    """A customer who pays more is no less a customer."""
    shop = Shop(MemoryStore())
    assert await word(shop.app(), query(realprice="10.24")) == "success"


async def test_what_shortfall_allows() -> None:
    """As much as *shortfall* may be missing, to the fen; a Decimal or text."""
    for allowed, paid, expected in (
        (Decimal("0.05"), "10.18", "success"),
        (Decimal("0.05"), "10.17", "fail"),
        ("0.05", "10.18", "success"),
        ("0.05", "10.17", "fail"),
        ("0", "10.22", "fail"),
        ("10.23", "0.00", "success"),
    ):
        assert await word(Shop(MemoryStore()).app(shortfall=allowed), query(realprice=paid)) == expected, (
            allowed,
            paid,
        )


async def test_another_order_is_refused_and_not_underpaid() -> None:
    """With lookup, `underpaid` tells of an order that is there at that price; any other is `refused`, as before."""
    shop = Shop(MemoryStore(), prices={"T-1001-X": Decimal("9.99")})
    app = shop.app(shortfall="0.50")
    assert await word(app, query(price="10.23", realprice="9.99")) == "fail"
    assert await word(app, query(out_order_id="T-0-X", realprice="0.01")) == "fail"
    assert shop.kinds == ["refused", "refused"]


@pytest.mark.parametrize("shortfall", [0.05, -1, 1, True, None, Decimal("-0.01"), Decimal("NaN"), "NaN", "x", "0.001"])
def test_shortfalls_that_are_none(shortfall: Any) -> None:
    """A shortfall that is no amount is refused when the application is made."""

    async def handler(_: object) -> None: ...

    with pytest.raises(InvalidRequestError) as caught:
        CallbackApp(handler, appkey=FIELDS["appkey"], appsecret="x", store=MemoryStore(), shortfall=shortfall)
    assert caught.value.field == "shortfall"
