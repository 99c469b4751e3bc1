"""
Iterating over the card keys of a listing, or over its pages.

This is not part of ``listing``, because importing it takes longer than importing the client's other public classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import anyio
from attrs import define, field

from gatepay_async.cancelling import is_task_cancelled
from gatepay_async.protocol.calls import KaShow
from gatepay_async.protocol.errors import InvalidPageError, ProtocolError, TransportError
from gatepay_async.protocol.models import CardKey, CardKeyPage
from gatepay_async.protocol.paging import Walk
from gatepay_async.protocol.values import MisreadError
from gatepay_async.words.problem import Problem

T = TypeVar("T")

# These are classes, not generators: trio warns about a generator that isn't read to its end, and a generator can't
# continue after an error. Between two calls of anext(), they hold no task and no connection.


class KeyIterator:
    """Iterates over the card keys of pages. Several tasks may share it: each card key goes to one of them."""

    def __init__(self, pages: AsyncIterator[CardKeyPage]) -> None:
        self._pages = pages
        self._keys: deque[CardKey] = deque()

    def __aiter__(self) -> KeyIterator:
        return self

    async def __anext__(self) -> CardKey:
        while not self._keys:
            self._keys.extend((await anext(self._pages)).keys)
        return self._keys.popleft()


@define(eq=False, repr=False, slots=False)
class PageIterator:
    """Iterates over the pages of a walk. It fetches wave after wave, and keeps pages until they are consumed."""

    _walk: Walk
    _send: Callable[[KaShow], Awaitable[CardKeyPage]]
    _product_id: int
    # For tasks that share the walk. With fast_acquire, taking a free lock doesn't cost a turn of the event loop, which
    # would take longer than all the rest.
    _lock: anyio.Lock = field(init=False, factory=partial(anyio.Lock, fast_acquire=True))
    _ready_pages: deque[CardKeyPage] = field(init=False, factory=deque[CardKeyPage])
    # The errors of the last wave. An error is raised only if the walk still requires that page.
    _errors_by_page: dict[int, Exception] = field(init=False, factory=dict[int, Exception])

    def __aiter__(self) -> PageIterator:
        return self

    async def __anext__(self) -> CardKeyPage:
        async with self._lock:
            while not self._ready_pages:
                if self._walk.ended:
                    raise StopAsyncIteration
                await self._fetch_next_wave()
            return self._ready_pages.popleft()

    async def _fetch_next_wave(self) -> None:
        """Fetch the pages that the walk asks for, and add those that are proven to ``_ready_pages``."""
        page_numbers = _convert_misread_error(self._walk.next_wave)
        error = self._errors_by_page.get(page_numbers[0])
        self._errors_by_page = {}
        if error is not None:
            raise error
        replies: dict[int, CardKeyPage | None] = {}
        try:
            if len(page_numbers) == 1:
                await self._fetch_into(replies, page_numbers[0])
            else:
                await self._fetch_wave(page_numbers, replies)
        except BaseException:
            # After a cancellation, keep the pages that have arrived before it.
            with suppress(MisreadError):
                self._ready_pages.extend(self._walk.receive(page_numbers, replies))
            raise
        self._ready_pages.extend(_convert_misread_error(partial(self._walk.receive, page_numbers, replies)))

    async def _fetch_wave(self, page_numbers: list[int], replies: dict[int, CardKeyPage | None]) -> None:
        """Fetch these pages concurrently, and put them into *replies*."""
        errors: list[BaseException] = []

        async def fetch(number: int) -> None:
            try:
                await self._fetch_into(replies, number)
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 -- raised below, outside of an exception group
                errors.append(error)
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for number in page_numbers:
                group.start_soon(fetch, number)
        if errors:
            raise errors[0]

    async def _fetch_into(self, replies: dict[int, CardKeyPage | None], number: int) -> None:
        """Put page *number* into *replies*, or None if GatePay refuses it. Put an error into ``_errors_by_page``."""
        try:
            replies[number] = await self._send(KaShow(self._product_id, number))
        except InvalidPageError as error:
            # GatePay refuses a page past the last one with code 108. Page 1 always exists, so at the start of a walk,
            # its refusal is an error. Later, the walk decides what it means.
            if number > 1 or self._walk.begun:
                replies[number] = None
            else:
                self._errors_by_page[number] = error
        except Exception as error:  # noqa: BLE001 -- raised later if the walk requires the page
            self._errors_by_page[number] = error
        except anyio.get_cancelled_exc_class():
            if is_task_cancelled():
                raise
            self._errors_by_page[number] = TransportError(
                endpoint=KaShow.path, sent=True, problem=Problem("cancelled_elsewhere")
            )


def _convert_misread_error(decide: Callable[[], T]) -> T:
    """Return the result of *decide*. If it raises a MisreadError, raise a ProtocolError instead."""
    try:
        return decide()
    except MisreadError as error:
        problem, path = error.problem, error.path
    # Raised outside of the except block, so that it isn't chained to an error whose frames hold card keys.
    raise ProtocolError(endpoint=KaShow.path, http_status=200, problem=problem, path=path)
