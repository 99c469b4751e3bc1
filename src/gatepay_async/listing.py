"""Listing the card keys of a product, page by page. Knows no client: it is given ``send``."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import anyio
from attrs import define, field

from gatepay_async.protocol import checks
from gatepay_async.protocol.calls import KaShow
from gatepay_async.protocol.codec import MisreadError
from gatepay_async.protocol.errors import InvalidPageError, ProtocolError, TransportError
from gatepay_async.protocol.models import CardKey, CardKeyPage
from gatepay_async.protocol.paging import Walk
from gatepay_async.words.problem import Problem

Send = Callable[[KaShow], Awaitable[CardKeyPage]]
T = TypeVar("T")


class CardKeyListing:
    """
    A product's card keys: awaited, one page; iterated, every key from that page on, each once.

    ::

        page = await gatepay.list_card_keys(8, page=2)
        async for key in gatepay.list_card_keys(8, prefetch=8): ...
        async for page in gatepay.list_card_keys(8).pages(): ...

    Nothing is sent before it is awaited or iterated. Each iteration is a walk of its own; leaving it
    half-way leaves no task and no busy connection behind. ``AsyncGatePay.list_card_keys`` makes it.
    """

    def __init__(self, send: Send, first: KaShow, *, prefetch: int, thorough: bool) -> None:
        """
        Prepare a walk; send nothing.

        Args:
            send: How a call is sent.
            first: The call for the first page.
            prefetch: Pages fetched concurrently, at most.
            thorough: Also find what a deletion and an addition between the same two replies hide from ``total``.
        """
        checks.check("prefetch", prefetch, checks.positive)
        self._send = send
        self._first = first
        self._prefetch = prefetch
        self._thorough = thorough
        self._walk: Walk | None = None  # the last one

    @property
    def drifted(self) -> bool:
        """
        Whether the stock is known to have changed under the last walk.

        Keys that were there all along were given all the same; ones that came or went may have been, or not.
        """
        return self._walk is not None and self._walk.drifted

    def __await__(self) -> Generator[Any, Any, CardKeyPage]:
        """The page as GatePay sends it; past the last one an empty one, the last one again, or a refusal (silent)."""
        return self._send(self._first).__await__()

    def __aiter__(self) -> AsyncIterator[CardKey]:
        """Every card key from the page on, in ascending ``id``, each once."""
        return _Keys(self.pages())

    def pages(self) -> AsyncIterator[CardKeyPage]:
        """
        Whole pages, from the page on; never an empty one.

        Where the stock changes under the walk, a page holds only the keys that were not given before.
        """
        self._walk = Walk(first=self._first.page, prefetch=self._prefetch, thorough=self._thorough)
        return _Pages(self._walk, self._send, self._first.product_id)


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


@define(eq=False, repr=False, slots=False)
class _Pages:
    """The pages of a walk: fetches what the walk asks for, and holds what came until it is asked for."""

    _walk: Walk
    _send: Send
    _product_id: int
    # Fast: the lock is for tasks that share the walk, and a turn of the event loop would cost more than all the rest.
    _lock: anyio.Lock = field(init=False, factory=partial(anyio.Lock, fast_acquire=True))
    _ready_pages: deque[CardKeyPage] = field(init=False, factory=deque[CardKeyPage])
    # By page; raised when the walk can't do without it.
    _failed: dict[int, Exception] = field(init=False, factory=dict[int, Exception])

    def __aiter__(self) -> _Pages:
        return self

    async def __anext__(self) -> CardKeyPage:
        async with self._lock:
            while not self._ready_pages:
                if self._walk.ended:
                    raise StopAsyncIteration
                await self._fetch_next_wave()
            return self._ready_pages.popleft()

    async def _fetch_next_wave(self) -> None:
        page_numbers = _check_reply(self._walk.next_wave)
        error = self._failed.get(page_numbers[0])
        self._failed = {}
        if error is not None:
            raise error
        replies: dict[int, CardKeyPage | None] = {}
        try:
            if len(page_numbers) == 1:
                await self._fetch_into(replies, page_numbers[0])
            else:
                await self._fetch_wave(page_numbers, replies)
        except BaseException:
            # Cancelled. What came before that counts: no reply may go unheard.
            with suppress(MisreadError):
                self._ready_pages.extend(self._walk.receive(page_numbers, replies))
            raise
        self._ready_pages.extend(_check_reply(partial(self._walk.receive, page_numbers, replies)))

    async def _fetch_wave(self, page_numbers: list[int], replies: dict[int, CardKeyPage | None]) -> None:
        errors: list[BaseException] = []

        async def fetch(number: int) -> None:
            try:
                await self._fetch_into(replies, number)
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 -- raised below, as itself and not in a group
                errors.append(error)
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for number in page_numbers:
                group.start_soon(fetch, number)
        if errors:
            raise errors[0]

    async def _fetch_into(self, replies: dict[int, CardKeyPage | None], number: int) -> None:
        try:
            replies[number] = await self._send(KaShow(self._product_id, number))
        except InvalidPageError as error:
            # 108, for a page past the last one. Page 1 always is a page; if that can't be had, nothing is known.
            if number > 1 or self._walk.begun:
                replies[number] = None
            else:
                self._failed[number] = error
        except Exception as error:  # noqa: BLE001 -- raised when the walk can't do without the page
            self._failed[number] = error
        except anyio.get_cancelled_exc_class():
            if _is_task_cancelled():
                raise
            self._failed[number] = TransportError(
                endpoint=KaShow.path, sent=True, problem=Problem("cancelled_elsewhere")
            )


def _check_reply(decide: Callable[[], T]) -> T:
    """What *decide* returns; where it doesn't believe a reply, a ProtocolError."""
    try:
        return decide()
    except MisreadError as error:
        problem, path = error.problem, error.path
    # Outside: whatever hung on it as its context would hold card keys.
    raise ProtocolError(endpoint=KaShow.path, http_status=200, problem=problem, path=path)


def _is_task_cancelled() -> bool:
    """
    Whether somebody has cancelled this task. On asyncio, a ``CancelledError`` doesn't prove it.

    One also comes out of an ``await`` of a task or a future that was cancelled. Passed on, it would end the task group
    without a word, and the walk as if all its pages had come.
    """
    if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
        return True
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
