"""The methods for products and card keys: list, watch, store, upload."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

from gatepay_async.client.base import BaseClient
from gatepay_async.client.caller import scrub_errors_async
from gatepay_async.lines import Lines
from gatepay_async.listing import CardKeyListing
from gatepay_async.protocol.bulk import OnProgress, UploadReport
from gatepay_async.protocol.calls import KaCreate, KaShow, ProductShow
from gatepay_async.protocol.durations import Seconds
from gatepay_async.protocol.errors import AlreadyStoredError
from gatepay_async.protocol.messages import decode
from gatepay_async.protocol.models import Catalog, Stored
from gatepay_async.protocol.observing import Observer
from gatepay_async.protocol.retrying import Sent
from gatepay_async.stock_watch import StockWatch

# In an upload, the client retries a call for this many seconds. After that, the upload decides whether to send the
# chunk again, because it knows the results of the other calls.
_RETRY_WITHIN_S = 5.0


class CardKeys(BaseClient):
    """The methods of ``AsyncGatePay`` for products and card keys."""

    async def list_products(self) -> Catalog:
        """Return the shop's products, with prices and stock (产品接口, ``product/show``)."""
        return await self.send(ProductShow())

    def watch_stock(self, *, below: int, every: Seconds = 60.0) -> StockWatch:
        """
        Watch the stock: iterate over the result to get an alert each time a product runs low.

        The first alerts are for products that are already low. Each product gives one alert, and another one if it
        runs low again after a restock. During an outage the watch logs a warning and keeps trying. A refusal, such as
        a wrong key, raises.

        Args:
            below: A product is low if its stock is below this.
            every: Seconds, or a ``timedelta``, between two calls; the actual time varies by up to 10 %.

        Raises:
            InvalidRequestError: An argument is invalid. Raised by this call; other errors are raised while you iterate.
        """
        return StockWatch(self.list_products, below=below, every=every)

    def list_card_keys(
        self, product_id: int, *, page: int = 1, prefetch: int = 1, thorough: bool = False
    ) -> CardKeyListing:
        """
        List a product's card keys (卡密接口, ``ka/show``): await the result for one page, iterate over it for all.

        Iterating returns each card key that existed the whole time exactly once, even if others are deleted or added
        meanwhile. There is one exception: if a card key is deleted and another one added between the same two
        replies, the reply's ``total`` doesn't show the deletion. Pass ``thorough`` to detect that too.

        Args:
            product_id: One of ``list_products()``.
            page: The page to fetch, or the first page to iterate over; from 1.
            prefetch: The largest number of pages to fetch concurrently; the card keys still come in order. Up to three
                times as many pages are held in memory. Without ``thorough``, the first ones (at most 8) are requested
                before the number of pages is known.
            thorough: Also detect a deletion that ``total`` doesn't show. This makes about one extra call for every
                seven, and holds up to 42 pages in memory (or three times ``prefetch``, if that is more).

        Raises:
            InvalidRequestError: An argument is invalid. Raised by this call; other errors are raised while you await
                or iterate.
        """
        return CardKeyListing(self.send, KaShow(product_id, page), prefetch=prefetch, thorough=thorough)

    @scrub_errors_async
    async def create_card_keys(self, product_id: int, keys: list[str] | tuple[str, ...]) -> Stored:
        """
        Store 1 to 500 card keys in one call (卡密接口, ``ka/create``); ``upload_card_keys`` takes any number.

        GatePay keeps one copy of each card key and skips those that it already has. So the client can safely retry.

        Args:
            product_id: One of ``list_products()``.
            keys: One line each, without duplicates; sent unchanged.

        Raises:
            AlreadyStoredError: All of the card keys were stored before this call.
        """
        call = KaCreate(product_id, keys)
        try:
            return (await self._send_card_keys(call)).value
        except AlreadyStoredError as error:
            if not error.in_doubt:
                raise
            # An earlier attempt got no reply. Either it stored these keys, or they were stored before: we can't know.
            return Stored(None, error.message)

    @scrub_errors_async
    async def upload_card_keys(
        self,
        product_id: int,
        keys: Lines,
        *,
        concurrency: int | Literal["auto"] = 4,
        on_progress: OnProgress | None = None,
    ) -> UploadReport:
        """
        Upload any number of card keys: clean and deduplicate them, and send 500 per call, with concurrent calls.

        Spaces and invisible characters (a byte-order mark, for example) are stripped from both ends of each line. Blank
        lines and duplicates are counted and skipped. A refused card key is listed in the report and doesn't raise an
        exception. It either can't be a card key, or GatePay can't store it; the latter is found by halving its chunk. A
        refusal that would affect every chunk (wrong key, closed endpoint) ends the upload. If GatePay doesn't respond,
        chunks in flight wait and are retried; the upload ends after 20 seconds without a success (5 at the start).
        Uploading the same input again is always safe.

        The input is read only as fast as it is sent. So memory holds only the chunks in flight and the data for
        deduplication, which is bounded: beyond a million different card keys, deduplication continues in a private
        temporary file. The file holds keyed digests, not card keys, and never outlives the process. From then on, up
        to 2,000 lines are read ahead. If the upload is cancelled or the file fails during a look-up, the lines of that
        look-up count as not sent.

        Args:
            product_id: One of ``list_products()``.
            keys: Any iterable or asynchronous iterable of text or UTF-8 bytes, or an open text or binary file
                (read in a worker thread).
            concurrency: The number of concurrent calls. ``"auto"`` starts with 4 and adds more while that makes the
                upload faster, up to ``max_connections``; it uses fewer when GatePay slows down or responds with 429 or
                503.
            on_progress: A plain or async function. It is called with an ``UploadProgress`` after each chunk and at the
                end, one call at a time. The upload waits for it.

        Returns:
            The report: every line read is in exactly one column.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was read, so there is no ``.report``. Or a text file
                was opened with the wrong encoding; then ``.report`` is the report so far, as in all cases below.
            sqlite3.Error: The temporary file can't be written (the disk is full, for example).
            GatePayError: *keys* or *on_progress* awaited something that was cancelled, while the upload itself was not.
            BaseException: An error from *keys* or *on_progress*, raised after the chunks in flight have ended; or a
                cancellation.
        """
        from gatepay_async.permits import AutoPermits  # noqa: PLC0415 -- opening the client imported it
        from gatepay_async.upload import upload  # noqa: PLC0415 -- opening the client imported it

        send = partial(self._send_card_keys, retry_within=_RETRY_WITHIN_S)
        permits: int | AutoPermits
        if concurrency == "auto":
            permits = AutoPermits(self._max_connections)
            send = partial(send, observer=permits.observe)
        else:
            permits = concurrency
        observer = self._caller.observer
        if observer is None:
            return await upload(send, product_id, keys, concurrency=permits, on_progress=on_progress)
        with observer.upload() as record_result:
            report = await upload(send, product_id, keys, concurrency=permits, on_progress=on_progress)
            record_result(report.columns(), report.stopped)
        return report

    async def _send_card_keys(
        self, call: KaCreate, *, retry_within: float = math.inf, observer: Observer | None = None
    ) -> Sent[Stored]:
        """Send *call*. Unlike ``send``, also return the number of attempts."""
        return await self._caller.send(call, decode, retry_within=retry_within, observer=observer)
