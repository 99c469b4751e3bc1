"""Watching the stock: fetches the products at intervals, and yields an alert for each that has run low."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from gatepay_async.log import LOGGER
from gatepay_async.protocol import checks
from gatepay_async.protocol.durations import Seconds, to_seconds
from gatepay_async.protocol.errors import ProtocolError, StorageFailedError, TransportError
from gatepay_async.protocol.models import Catalog
from gatepay_async.protocol.stock import StockAlert, StockLevels

_JITTER = 0.1  # the pause varies by this share, so that many programs don't fetch at the same moment


class StockWatch:
    """
    An endless iterator of alerts for products that run low. ``AsyncGatePay.watch_stock`` returns it.

    ::

        async for alert in gatepay.watch_stock(below=20):
            print(alert.product.name, alert.product.stock)

    Nothing is sent until you iterate over it. It keeps no task or connection between two alerts.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Catalog]], *, below: int, every: Seconds) -> None:
        """
        Prepare to watch; send nothing.

        Args:
            fetch: Fetches the products.
            below: A product is low if its stock is below this.
            every: Seconds, or a ``timedelta``, between two fetches.
        """
        checks.check("below", below, checks.positive)
        self._fetch = fetch
        self._pause = to_seconds("every", every)
        self._levels = StockLevels(below)
        self._alerts: deque[StockAlert] = deque()
        self._has_fetched = False

    def __aiter__(self) -> StockWatch:
        return self

    async def __anext__(self) -> StockAlert:
        while not self._alerts:
            if self._has_fetched:
                await self._wait_for_next_fetch()
            self._has_fetched = True
            try:
                self._alerts.extend(self._levels.new_alerts(await self._fetch()))
            except (TransportError, ProtocolError, StorageFailedError) as error:  # an outage: keep trying
                LOGGER.warning(
                    "watch_stock: %s; trying again", type(error).__name__,
                    extra={"gatepay_endpoint": error.endpoint, "gatepay_error": type(error).__name__},
                )  # fmt: skip
        return self._alerts.popleft()

    async def _wait_for_next_fetch(self) -> None:
        await anyio.sleep(self._pause * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 -- spreads the calls of many programs; protects no secret
