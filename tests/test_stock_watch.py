"""StockWatch: one alert each time a product runs low, also after outages, and what is logged."""

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest
from tables import rows

from gatepay_async import (
    Catalog,
    Category,
    InvalidAppKeyError,
    InvalidRequestError,
    Product,
    ProtocolError,
    StockAlert,
    StockWatch,
    TransportError,
)
from gatepay_async.protocol.stock import StockLevels

pytestmark = [pytest.mark.fast, pytest.mark.anyio]


def catalog(**stocks: int) -> Catalog:
    """Return a catalog. ``p8=20`` is a product with ID 8 and a stock of 20."""
    products = tuple(
        Product(
            id=int(name[1:]),
            admin_id=1,
            category_id=1,
            name=name,
            description="",
            image="",
            price=Decimal(1),
            stock=stock,
        )
        for name, stock in stocks.items()
    )
    return Catalog((Category(id=1, name="all", products=products),))


@rows(
    ("stocks", "alerts"),
    [
        ([20, 20, 20], [0, 0, 0]),
        ([20, 19, 18, 19], [0, 1, 0, 0]),
        ([0], [1]),
        ([19, 20, 19], [1, 0, 1]),
        ([5, None, 5], [1, 0, 1]),  # removed, then added again
    ],
)
def test_one_alert_per_crossing(stocks: list[int | None], alerts: list[int]) -> None:
    """A product gives an alert when it becomes low, and another one when it becomes low again."""
    levels = StockLevels(below=20)
    catalogs = [catalog(p7=99) if stock is None else catalog(p7=99, p8=stock) for stock in stocks]
    assert [len(levels.new_alerts(current)) for current in catalogs] == alerts


async def test_watch_survives_outages(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Missing and invalid replies are logged and retried. Pauses vary by up to 10 %. A wrong appkey raises an error."""
    no_reply = TransportError(endpoint="product/show", sent=False, problem="CANARY")
    odd_reply = ProtocolError(endpoint="product/show", http_status=502, problem="CANARY")
    wrong_key = InvalidAppKeyError(code=102, message="CANARY", endpoint="product/show")
    replies: list[Any] = [
        no_reply,
        catalog(p8=3, p4=2),
        odd_reply,
        catalog(p8=3, p4=30),
        catalog(p8=30),
        catalog(p8=1),
        wrong_key,
    ]

    async def fetch() -> Catalog:
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply  # type: ignore[no-any-return]  # anything else is a Catalog

    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(anyio, "sleep", sleep)
    watch = StockWatch(fetch, below=20, every=timedelta(minutes=1))
    found_alerts = [await anext(watch) for _ in range(3)]
    with pytest.raises(InvalidAppKeyError):
        await anext(watch)
    assert [(alert.product.id, alert.product.stock) for alert in found_alerts] == [(8, 3), (4, 2), (8, 1)]
    assert found_alerts[0] == StockAlert(found_alerts[0].product, below=20)
    assert aiter(watch) is watch
    assert len(pauses) == 6
    assert all(54 <= seconds <= 66 for seconds in pauses)
    assert len(set(pauses)) > 1
    fields = [(vars(record)["gatepay_error"], record.levelno) for record in caplog.records]
    assert fields == [("TransportError", logging.WARNING), ("ProtocolError", logging.WARNING)]
    assert "CANARY" not in caplog.text


@rows(("below", "every", "field"), [(0, 60, "below"), ("20", 60, "below"), (20, 0, "every"), (20, None, "every")])
def test_invalid_arguments_raise_at_once(below: Any, every: Any, field: str) -> None:
    fetch: Callable[[], Awaitable[Catalog]] = Any  # type: ignore[assignment]  # never called
    with pytest.raises(InvalidRequestError) as caught:
        StockWatch(fetch, below=below, every=every)
    assert caught.value.field == field
