"""Products and their card keys: what the shop sells, listing, storing, uploading."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

from gatepay_async.client.base import Base
from gatepay_async.client.caller import sealed_async
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

# Of an upload's calls, seconds: whether the same card keys are sent again after a longer time, the upload decides. It
# knows what other calls met meanwhile.
_RESENT_WITHIN = 5.0


class CardKeys(Base):
    """The methods of ``AsyncGatePay`` that list products, and list and store card keys."""

    async def list_products(self) -> Catalog:
        """What the shop sells, with prices and stock (产品接口, ``product/show``)."""
        return await self.send(ProductShow())

    def watch_stock(self, *, below: int, every: Seconds = 60.0) -> StockWatch:
        """
        Watch what the shop has left to sell: iterate over it for an alert each time that a product runs low.

        The first alerts are for products that are low already. A product gives one alert, and another one after it was
        filled up and is low again. Outages are logged and waited for; a refusal (a wrong key) raises.

        Args:
            below: A product is low if its stock is below this.
            every: Seconds, or a ``timedelta``, between two calls; up to a tenth more or less.

        Raises:
            InvalidRequestError: At once; everything else when it is iterated.
        """
        return StockWatch(self.list_products, below=below, every=every)

    def list_card_keys(
        self, product_id: int, *, page: int = 1, prefetch: int = 1, thorough: bool = False
    ) -> CardKeyListing:
        """
        A product's card keys (卡密接口, ``ka/show``): awaited, one page; iterated, all from that page on.

        A walk gives every key that was there all along, once, also when others are deleted or added meanwhile. What
        it can't see is a deletion that an addition at the same moment hides from the reply's ``total``, unless it
        is ``thorough``.

        Args:
            product_id: One of ``list_products()``.
            page: From 1.
            prefetch: Pages fetched concurrently, and held in memory; their keys come in order. The first of them (8 at
                most) are asked for before it is known how many there are.
            thorough: Also find a deletion that ``total`` does not show. Costs about one call in seven more, and memory
                for up to three blocks of 8 pages, or of ``prefetch`` if that is more.

        Raises:
            InvalidRequestError: At once; everything else when it is awaited or iterated.
        """
        return CardKeyListing(self.send, KaShow(product_id, page), prefetch=prefetch, thorough=thorough)

    @sealed_async
    async def create_card_keys(self, product_id: int, keys: list[str] | tuple[str, ...]) -> Stored:
        """
        Store 1 to 500 card keys in one call (卡密接口, ``ka/create``); ``upload_card_keys`` takes any number.

        The server keeps one copy of each: keys that it has are passed over, and a call that broke off is
        sent again.

        Args:
            product_id: One of ``list_products()``.
            keys: Each one line, none twice; sent exactly as they are.

        Raises:
            AlreadyStoredError: All of them were there already.
        """
        call = KaCreate(product_id, keys)
        try:
            return (await self._send_card_keys(call)).value
        except AlreadyStoredError as error:
            if not error.in_doubt:
                raise
            # An attempt before this one broke off; this one has found its keys, or keys that were there before.
            return Stored(None, error.message)

    @sealed_async
    async def upload_card_keys(
        self,
        product_id: int,
        keys: Lines,
        *,
        concurrency: int | Literal["auto"] = 4,
        on_progress: OnProgress | None = None,
    ) -> UploadReport:
        """
        Upload any number of card keys: cleaned, deduplicated over the whole input, 500 a call, side by side.

        Each line is stripped of blanks and invisible characters (a byte-order mark, for example) at both ends; blank
        lines and repetitions are counted and left out. What is refused is an outcome in the report, not an exception: a
        line that can't be a card key, and a card key that GatePay can't store, which is found by halving its chunk. A
        refusal that every chunk would meet (wrong key, closed endpoint) ends the upload. While nobody answers, what is
        in flight waits and is sent again; 20 seconds without a success (5 at the start) end the upload. Uploading the
        same input again is always safe.

        Reading waits for sending: memory holds the chunks in flight and what deduplication needs, which is bounded.
        Past a million different card keys it goes on in a private temporary file of keyed digests, in which nothing
        can be read and which is gone however the process ends. From then on up to 2,000 lines are read ahead; those
        being looked up when the upload is cancelled, or the file fails, count as not sent.

        Args:
            product_id: One of ``list_products()``.
            keys: Any iterable or asynchronous iterable of text or UTF-8 bytes, or an open text or binary file
                (read in a worker thread).
            concurrency: Calls in flight at once. ``"auto"``: begins with 4, sends more while that makes the upload
                faster, up to ``max_connections``, and fewer when GatePay slows down or answers 429 or 503.
            on_progress: Called with an ``UploadProgress`` after each chunk and at the end, never two at a time;
                plain or async. The upload waits for it.

        Returns:
            The ledger: every line read is in exactly one column.

        Raises:
            InvalidRequestError: *keys* is no such thing, or a text file is in another encoding than it was opened with.
            sqlite3.Error: The temporary file can't be written (a full disk).
            GatePayError: Something awaited in *keys* or *on_progress* was cancelled, but not the upload.
            BaseException: What *keys* or *on_progress* raised, once nothing is in flight any more; or a
                cancellation. Each has the ledger so far as ``.report``.
        """
        send = partial(self._send_card_keys, resent_within=_RESENT_WITHIN)
        places: int | AutoPlaces
        if concurrency == "auto":
            places = AutoPlaces(self._max_connections)
            send = partial(send, observer=places.observe)
        else:
            places = concurrency
        return await upload(send, product_id, keys, concurrency=places, on_progress=on_progress)

    async def _send_card_keys(
        self, call: KaCreate, *, resent_within: float = math.inf, observer: Observer | None = None
    ) -> Sent[Stored]:
        return await self._caller.send(call, decode, resent_within=resent_within, observer=observer)
