"""Lists the card keys of a product, page by page. Independent of the client: the caller passes ``send``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any

from gatepay_async.protocol import checks
from gatepay_async.protocol.calls import KaShow
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.models import CardKey, CardKeyPage
from gatepay_async.words.arguments import check_bool

if TYPE_CHECKING:
    from gatepay_async.protocol.paging import Walk

ReadPage = Callable[[KaShow], Awaitable[CardKeyPage]]


class CardKeyListing:
    """
    A product's card keys. Await it for one page; iterate over it for all card keys from that page on, each once.

    ::

        page = await gatepay.list_card_keys(8, page=2)
        async for key in gatepay.list_card_keys(8, prefetch=8): ...
        async for page in gatepay.list_card_keys(8).pages(): ...

    Nothing is sent until you await it or iterate over it. Each iteration fetches the pages anew. You can stop at any
    point: no task and no connection is left behind. ``AsyncGatePay.list_card_keys`` returns it.
    """

    def __init__(self, send: ReadPage, first: KaShow, *, prefetch: int, thorough: bool) -> None:
        """
        Prepare a walk. Nothing is sent yet.

        Args:
            send: Sends a call.
            first: The call for the first page.
            prefetch: The largest number of pages to fetch concurrently.
            thorough: Also detect a deletion that ``total`` doesn't show, because a card key was added between the
                same two replies.
        """
        checks.check("prefetch", prefetch, checks.positive)
        check_bool("thorough", thorough, error=InvalidRequestError)
        self._send = send
        self._first = first
        self._prefetch = prefetch
        self._thorough = thorough
        self._walk: Walk | None = None  # of the latest iteration

    @property
    def drifted(self) -> bool:
        """
        Whether the stock is known to have changed during the last walk.

        Even then, no card key is missing that was there all the time. Those that were added or deleted meanwhile may or
        may not be listed.
        """
        return self._walk is not None and self._walk.drifted

    def __await__(self) -> Generator[Any, Any, CardKeyPage]:
        """
        Fetch the page.

        GatePay doesn't document what it returns for a page past the last one: an empty page, the last one or a refusal.
        """
        return self._send(self._first).__await__()

    def __aiter__(self) -> AsyncIterator[CardKey]:
        """Iterate over all card keys from the page on, in ascending ``id``, each once."""
        from gatepay_async.walking import KeyIterator  # noqa: PLC0415 -- opening the client imported it

        return KeyIterator(self.pages())

    def pages(self) -> AsyncIterator[CardKeyPage]:
        """
        Iterate over the pages from the listing's ``page`` on. No page is empty.

        If the stock changes during the walk, a page contains only card keys that were not on an earlier one.
        """
        from gatepay_async.protocol.paging import Walk  # noqa: PLC0415 -- opening the client imported it
        from gatepay_async.walking import PageIterator  # noqa: PLC0415 -- opening the client imported it

        self._walk = Walk(first=self._first.page, prefetch=self._prefetch, thorough=self._thorough)
        return PageIterator(self._walk, self._send, self._first.product_id)
