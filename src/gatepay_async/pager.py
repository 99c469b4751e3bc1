"""Walking the card keys of a product, page by page. Knows no client: it is given ``send``."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any

import anyio

from gatepay_async.protocol import checks
from gatepay_async.protocol.calls import KaShow
from gatepay_async.protocol.codec import MisreadError
from gatepay_async.protocol.errors import ProtocolError
from gatepay_async.protocol.models import CardKey, CardKeyPage
from gatepay_async.protocol.paging import Walk

Send = Callable[[KaShow], Awaitable[CardKeyPage]]
Fetch = Callable[[int], Awaitable[CardKeyPage]]


class CardKeyListing:
    """
    A product's card keys: awaited, one page; iterated, every key from that page on, each once.

    ::

        page = await gatepay.list_card_keys(8, page=2)
        async for key in gatepay.list_card_keys(8, prefetch=8): ...
        async for page in gatepay.list_card_keys(8).pages(): ...

    Nothing is sent before it is awaited or iterated. Each iteration is a walk of its own; leaving it
    half-way leaves no task and no busy connection behind.

    Args:
        send: How a call is sent.
        first: The call for the first page.
        prefetch: Pages fetched side by side.
        thorough: Read every page twice.
    """

    def __init__(self, send: Send, first: KaShow, *, prefetch: int, thorough: bool) -> None:
        checks.check("prefetch", prefetch, checks.positive)
        self._send = send
        self._first = first
        self._prefetch = prefetch
        self._thorough = thorough
        self._walk = Walk(first=first.page, thorough=thorough)

    @property
    def drifted(self) -> bool:
        """
        Whether the stock is known to have changed under the last walk.

        Keys that were there all along were given all the same; ones that came or went may have been, or not.
        """
        return self._walk.drifted

    def __await__(self) -> Generator[Any, Any, CardKeyPage]:
        """The page as GatePay sends it; past the last one an empty one, or the last again (silent)."""
        return self._send(self._first).__await__()

    def __aiter__(self) -> AsyncIterator[CardKey]:
        """Every card key from the page on, in ascending ``id``, each once."""
        return _Keys(self.pages())

    def pages(self) -> AsyncIterator[CardKeyPage]:
        """
        Whole pages, from the page on; never an empty one.

        Where the stock changes under the walk, a page holds only the keys that were not given before.
        """
        self._walk = Walk(first=self._first.page, thorough=self._thorough)
        return _Pages(self._walk, _Shelf(self._walk, self._fetch, self._prefetch, thorough=self._thorough))

    def _fetch(self, page: int) -> Awaitable[CardKeyPage]:
        return self._send(KaShow(self._first.product_id, page))


# No generators: trio warns of one that is left half-way, and a page that could not be had may be asked for again.
# Nothing below holds a task or a connection while its consumer thinks, or forgets it.


class _Keys:
    """The card keys of pages. Tasks may share it: each key goes to one of them."""

    def __init__(self, pages: AsyncIterator[CardKeyPage]) -> None:
        self._pages = pages
        self._keys: deque[CardKey] = deque()

    def __aiter__(self) -> _Keys:
        return self

    async def __anext__(self) -> CardKey:
        while not self._keys:
            self._keys.extend((await anext(self._pages)).keys)
        return self._keys.popleft()


class _Pages:
    """The pages of a walk."""

    def __init__(self, walk: Walk, shelf: _Shelf) -> None:
        self._walk = walk
        self._shelf = shelf
        self._turn = anyio.Lock()
        self._out: deque[CardKeyPage] = deque()

    def __aiter__(self) -> _Pages:
        return self

    async def __anext__(self) -> CardKeyPage:
        async with self._turn:
            while not self._out:
                if self._walk.next_page is None:
                    raise StopAsyncIteration
                await self._advance(self._walk.next_page)
            return self._out.popleft()

    async def _advance(self, asked: int) -> None:
        page = await self._shelf.page(asked)
        try:
            self._out.extend(self._walk.take(asked, page))
        except MisreadError as error:
            problem, path = error.problem, error.path
        else:
            return
        raise ProtocolError(endpoint=KaShow.path, http_status=200, problem=problem, path=path)


# Pages asked for at once, at most, before the first of them has said how many there are: a small stock makes the rest
# of these calls useless, but without them a walk would wait for one call all alone.
_UNSEEN = 8


class _Shelf:
    """Pages fetched ahead, side by side; at most ``prefetch`` of them, twice that with ``thorough``."""

    def __init__(self, walk: Walk, fetch: Fetch, prefetch: int, *, thorough: bool) -> None:
        self._walk = walk
        self._fetch = fetch
        self._prefetch = prefetch
        self._thorough = thorough
        self._ahead: dict[int, CardKeyPage | Exception] = {}
        self._again: dict[int, CardKeyPage | Exception] = {}  # read later than all that is ahead

    async def page(self, number: int) -> CardKeyPage:
        """Page *number*, as the walk needs it; raises what fetching it raised."""
        shelf = self._again if self._walk.again else self._ahead
        page = shelf.pop(number, None)
        if self._walk.again:
            page = page or await self._fetch(number)
        elif page is None or (isinstance(page, CardKeyPage) and self._walk.is_stale(page)):
            await self._fill(number)
            page = self._ahead.pop(number)
        if isinstance(page, Exception):
            raise page
        return page

    async def _fill(self, number: int) -> None:
        known = self._walk.last_page
        last = max(number, min(number + self._prefetch - 1, known or number + _UNSEEN - 1))
        self._again = {}  # older than what comes now; and whoever is cancelled below would go on with it
        self._ahead = await self._side_by_side(range(number, last + 1))
        first = self._ahead[number]
        if known is None and isinstance(first, CardKeyPage):
            # What came for a page that isn't there, by the word of the first, says nothing of one that may come to be.
            last = min(last, max(number, first.last_page))
            self._ahead = {page: self._ahead[page] for page in range(number, last + 1)}
        if self._thorough:
            # Each page again, now that the one behind it has been read.
            self._again = await self._side_by_side(range(max(self._walk.first, number - 1), last))

    async def _side_by_side(self, numbers: range) -> dict[int, CardKeyPage | Exception]:
        pages: dict[int, CardKeyPage | Exception] = {}

        async def fetch(number: int) -> None:
            try:
                pages[number] = await self._fetch(number)
            except Exception as error:  # noqa: BLE001 -- raised when it is this page's turn
                pages[number] = error

        if len(numbers) == 1:
            await fetch(numbers[0])
        else:
            async with anyio.create_task_group() as group:
                for number in numbers:
                    group.start_soon(fetch, number)
        return pages
