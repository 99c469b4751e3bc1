"""Products and their card keys: what the shop sells, listing, storing, uploading."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

from gatepay_async.client.base import Base
from gatepay_async.client.caller import scrub_errors_async
from gatepay_async.lines import Lines
from gatepay_async.listing import CardKeyListing
from gatepay_async.places import AutoPlaces
from gatepay_async.protocol.bulk import UploadReport
from gatepay_async.protocol.calls import KaCreate, KaShow, ProductShow
from gatepay_async.protocol.durations import Seconds
from gatepay_async.protocol.errors import AlreadyStoredError
from gatepay_async.protocol.messages import decode
from gatepay_async.protocol.models import Catalog, Stored
from gatepay_async.protocol.observing import Observer
from gatepay_async.protocol.retrying import Sent
from gatepay_async.stock_watch import StockWatch
from gatepay_async.upload import OnProgress, upload

# Seconds within which a call of an upload is retried. Later, the upload itself decides whether to send the card keys
# again, because it knows the results of the other calls.
_RESENT_WITHIN = 5.0


class CardKeys(Base):
    """The methods of ``AsyncGatePay`` that list products, and list and store card keys."""

    async def list_products(self) -> Catalog:
        """Return the shop's products, with prices and stock (产品接口, ``product/show``)."""
        return await self.send(ProductShow())

    def watch_stock(self, *, below: int, every: Seconds = 60.0) -> StockWatch:
        """
        Watch the stock: iterate over the result for an alert each time that a product runs low.

        The first alerts are for products that are low already. Each product gives one alert, and another one if it
        runs low again after a restock. During an outage this logs a warning and keeps trying; a refusal (a wrong key)
        raises.

        Args:
            below: A product is low if its stock is below this.
            every: Seconds, or a ``timedelta``, between two calls; up to a tenth more or less.

        Raises:
            InvalidRequestError: At once. All other errors are raised while you iterate.
        """
        return StockWatch(self.list_products, below=below, every=every)

    def list_card_keys(
        self, product_id: int, *, page: int = 1, prefetch: int = 1, thorough: bool = False
    ) -> CardKeyListing:
        """
        List a product's card keys (卡密接口, ``ka/show``): await the result for one page, iterate over it for all.

        Iterating gives every card key that existed the whole time, once, even if others are deleted or added
        meanwhile. One case goes unnoticed unless you pass ``thorough``: an addition at the same moment hides a
        deletion from the reply's ``total``.

        Args:
            product_id: One of ``list_products()``.
            page: The page to fetch, or the first page to iterate over; from 1.
            prefetch: Pages fetched concurrently and held in memory; the card keys still come in order. The first ones
                (at most 8) are requested before the number of pages is known.
            thorough: Also notice a deletion that ``total`` does not show. This takes about one call in seven more, and
                memory for up to three blocks of 8 pages, or of ``prefetch`` if that is more.

        Raises:
            InvalidRequestError: At once. All other errors are raised while you await or iterate.
        """
        return CardKeyListing(self.send, KaShow(product_id, page), prefetch=prefetch, thorough=thorough)

    @scrub_errors_async
    async def create_card_keys(self, product_id: int, keys: list[str] | tuple[str, ...]) -> Stored:
        """
        Store 1 to 500 card keys in one call (卡密接口, ``ka/create``); ``upload_card_keys`` takes any number.

        The server keeps one copy of each card key. It skips those that it has, so the client retries a call that broke
        off.

        Args:
            product_id: One of ``list_products()``.
            keys: One line each, without duplicates; sent unchanged.

        Raises:
            AlreadyStoredError: All of them were there already.
        """
        call = KaCreate(product_id, keys)
        try:
            return (await self._send_card_keys(call)).value
        except AlreadyStoredError as error:
            if not error.in_doubt:
                raise
            # An earlier attempt broke off. It may have stored these keys, or they were there before: nobody can tell.
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
        Upload any number of card keys: cleaned, deduplicated over the whole input, 500 a call, concurrently.

        Spaces and invisible characters (a byte-order mark, for example) are stripped from both ends of each line. Blank
        lines and duplicates are counted and skipped. A refused card key is a line in the report, not an exception: one
        that can't be a card key, or one that GatePay can't store, which is found by halving its chunk. A refusal that
        would affect every chunk (wrong key, closed endpoint) ends the upload. If GatePay doesn't answer, chunks in
        flight wait and are retried; the upload ends after 20 seconds without a success (5 at the start). Uploading the
        same input again is always safe.

        The input is read only as fast as it is sent, so memory holds the chunks in flight and what deduplication
        needs, which is bounded. Beyond a million different card keys, deduplication continues in a private temporary
        file of keyed digests, from which no card key can be read and which never outlives the process. From then on, up
        to 2,000 lines are read ahead. If the upload is cancelled or the file fails during a look-up, the lines of that
        look-up count as not sent.

        Args:
            product_id: One of ``list_products()``.
            keys: Any iterable or asynchronous iterable of text or UTF-8 bytes, or an open text or binary file
                (read in a worker thread).
            concurrency: The number of concurrent calls. ``"auto"`` starts with 4 and adds more while that makes the
                upload faster, up to ``max_connections``; it uses fewer when GatePay slows down or answers 429 or 503.
            on_progress: Called with an ``UploadProgress`` after each chunk and at the end, never two at a time;
                plain or async. The upload waits for it.

        Returns:
            The report: every line read is in exactly one column.

        Raises:
            InvalidRequestError: *keys* has another type, or a text file is in another encoding than it was opened with.
            sqlite3.Error: The temporary file can't be written (a full disk).
            GatePayError: Something awaited in *keys* or *on_progress* was cancelled, but not the upload.
            BaseException: What *keys* or *on_progress* raised, once nothing is in flight any more; or a
                cancellation. Each has the report so far as ``.report``.
        """
        send = partial(self._send_card_keys, resent_within=_RESENT_WITHIN)
        places: int | AutoPlaces
        if concurrency == "auto":
            places = AutoPlaces(self._max_connections)
            send = partial(send, observer=places.observe)
        else:
            places = concurrency
        observer = self._caller.observer
        if observer is None:
            return await upload(send, product_id, keys, concurrency=places, on_progress=on_progress)
        with observer.upload() as record:
            report = await upload(send, product_id, keys, concurrency=places, on_progress=on_progress)
            record(report.columns(), report.stopped)
        return report

    async def _send_card_keys(
        self, call: KaCreate, *, resent_within: float = math.inf, observer: Observer | None = None
    ) -> Sent[Stored]:
        return await self._caller.send(call, decode, resent_within=resent_within, observer=observer)
