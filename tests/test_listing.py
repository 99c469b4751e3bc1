"""Lists card keys: from the sandbox over a real socket, and from a simulated shop with exact timing."""

import asyncio
import gc
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Container
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from waiting import PATIENCE, until

from gatepay_async import (
    AsyncGatePay,
    CardKey,
    CardKeyListing,
    CardKeyPage,
    InvalidRequestError,
    ProductNotFoundError,
    ProtocolError,
    TransportError,
)
from gatepay_async.pool import OriginPool
from gatepay_async.protocol.calls import KaShow
from gatepay_async.sandbox import Fault, FaultKind, Sandbox

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

NOON = datetime(2019, 4, 20, 12, tzinfo=UTC)


# --- A simulated shop --------------------------------------------------------------------------------------


class SimulatedShop:
    """
    A simulated shop. Its card keys differ only in their ids, and a page has 10 of them.

    Attributes:
        ids: The ids of the card keys.
        clamps: Whether the shop returns its last page for page numbers beyond it, instead of an empty page.
        calls: The page numbers of the calls, in order.
        answered: The number of calls that were answered.
        in_flight: The number of calls that are not answered yet.
        most_in_flight: The largest value of ``in_flight`` so far.
        most_alive: The largest number of pages that were in memory at the same time.
        gates: Events by page number; a call waits for the event of its page.
        failures: Errors by page number; a call raises the first one left for its page.
        on_call: Called before each reply, with the number of calls answered so far, including this one.
    """

    def __init__(self, rows: int, *, clamps: bool = False) -> None:
        self.ids = list(range(1, rows + 1))
        self.clamps = clamps
        self.calls: list[int] = []
        self.answered = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.most_alive = 0
        self.gates: dict[int, anyio.Event] = {}
        self.failures: dict[int, list[Exception]] = {}
        self.on_call: Callable[[int], None] = lambda _: None
        self._returned_pages: list[weakref.ref[CardKeyPage]] = []

    def listing(self, *, page: int = 1, prefetch: int = 1, thorough: bool = False) -> CardKeyListing:
        return CardKeyListing(self.send, KaShow(8, page), prefetch=prefetch, thorough=thorough)

    async def send(self, call: KaShow) -> CardKeyPage:
        assert call.product_id == 8
        self.calls.append(call.page)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await anyio.lowlevel.checkpoint()
            if call.page in self.gates:
                await self.gates[call.page].wait()
        finally:
            self.in_flight -= 1
        self.answered += 1
        self.on_call(self.answered)
        if self.failures.get(call.page):
            raise self.failures[call.page].pop(0)
        return self._remember(self._page(call.page))

    def _page(self, requested: int) -> CardKeyPage:
        last = max(1, -(-len(self.ids) // 10))  # rounded up
        number = min(requested, last) if self.clamps else requested
        ids = self.ids[(number - 1) * 10 : number * 10]
        return page_of(*ids, number=number, last=last, total=len(self.ids))

    def _remember(self, page: CardKeyPage) -> CardKeyPage:
        """Return *page*, after counting the returned pages that are still in memory."""
        self._returned_pages.append(weakref.ref(page))
        self.most_alive = max(self.most_alive, sum(ref() is not None for ref in self._returned_pages))
        return page


def page_of(*ids: int, number: int, last: int, total: int) -> CardKeyPage:
    keys = tuple(
        CardKey(
            id=row,
            admin_id=6,
            pay_product_id=8,
            pay_order_id=0,
            content=f"SECRET-{row}",
            created_at=NOON,
            updated_at=NOON,
            status="soldin",  # as in GatePay's example
        )
        for row in ids
    )
    return CardKeyPage(total=total, per_page=10, current_page=number, last_page=last, keys=keys)


def connection_error() -> TransportError:
    return TransportError(endpoint="ka/show", sent=True, problem="the connection broke")


async def ids_of(keys: CardKeyListing | AsyncIterator[CardKey]) -> list[int]:
    with anyio.fail_after(PATIENCE):
        return [key.id async for key in keys]


async def contents_of(keys: CardKeyListing | AsyncIterator[CardKey]) -> list[str]:
    with anyio.fail_after(PATIENCE):
        return [key.content async for key in keys]


async def take_all(keys: AsyncIterator[CardKey], received: list[int]) -> None:
    """Append the ids to *received*, so that they are kept if the walk is cancelled."""
    async for key in keys:
        received.append(key.id)  # noqa: PERF401 -- a cancelled comprehension returns no ids


async def cancel_when_blocked(scope: anyio.CancelScope) -> None:
    await anyio.wait_all_tasks_blocked()
    scope.cancel()


async def cancel_after(steps: int, scope: anyio.CancelScope) -> None:
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    scope.cancel()


@asynccontextmanager
async def client_of(sandbox: Sandbox) -> AsyncIterator[AsyncGatePay]:
    async with (
        sandbox.serve() as base_url,
        AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url) as gatepay,
    ):
        yield gatepay


def busy_connections(gatepay: AsyncGatePay) -> int:
    """Return the number of the client's connections that a call is using."""
    pool = cast("Any", gatepay._caller._attempts._exchange)._transport
    assert isinstance(pool, OriginPool)
    return pool._slots.busy


def count_tasks(anyio_backend: str) -> int:
    if anyio_backend == "asyncio":
        return len(asyncio.all_tasks())
    root = trio.lowlevel.current_root_task()
    assert root is not None
    remaining = [root]
    count = 0
    while remaining:
        task = remaining.pop()
        count += 1
        for nursery in task.child_nurseries:
            remaining.extend(nursery.child_tasks)
    return count


@pytest.fixture
def full_sandbox(sandbox: Sandbox) -> Sandbox:
    """Return a sandbox whose product 8 has 620 card keys: 13 pages, the last one with 20."""
    sandbox.add_keys(8, [f"KEY-{number:03d}" for number in range(620 - 89)])  # the example shop has 89
    return sandbox


# --- One page, and all of them -----------------------------------------------------------------------------


async def test_awaiting_a_listing_returns_one_page(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """Awaiting a listing returns the requested page, with one request."""
    page = await gatepay.list_card_keys(8, page=2)
    assert (page.total, page.per_page, page.current_page, page.last_page) == (89, 50, 2, 2)
    assert [key.content for key in page.keys] == sandbox.keys(8)[50:]
    assert len(sandbox.requests) == 1


async def test_iterating_a_listing_returns_every_key(full_sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """Iterating a listing returns every card key, sorted by id, with one request per page."""
    listing = gatepay.list_card_keys(8)
    assert await contents_of(listing) == full_sandbox.keys(8)
    assert await ids_of(listing) == full_sandbox.key_ids(8)
    assert len(full_sandbox.requests) == 2 * 13  # two walks
    assert listing.drifted is False


async def test_iterating_starts_at_the_requested_page(full_sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """A walk from page 4 returns the card keys of page 4 and of all later pages."""
    assert await contents_of(gatepay.list_card_keys(8, page=4, prefetch=3)) == full_sandbox.keys(8)[150:]


async def test_pages_yields_whole_pages(full_sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """``pages()`` yields the pages as GatePay sends them."""
    pages = [page async for page in gatepay.list_card_keys(8, page=2, prefetch=5).pages()]
    assert [page.current_page for page in pages] == list(range(2, 14))
    assert [len(page.keys) for page in pages] == [50] * 11 + [20]
    assert [key.content for page in pages for key in page.keys] == full_sandbox.keys(8)[50:]


async def test_creating_a_listing_sends_no_request() -> None:
    """A listing sends no request before it is awaited or iterated."""
    shop = SimulatedShop(20)
    aiter(shop.listing())
    shop.listing().pages()
    assert shop.calls == []


async def test_iterations_of_a_listing_are_independent() -> None:
    """Two concurrent iterations of one listing each return every card key."""
    shop = SimulatedShop(30)
    listing = shop.listing()
    iterator_1, iterator_2 = aiter(listing), aiter(listing)
    first_ids = [(await anext(iterator_1)).id, (await anext(iterator_2)).id]
    assert first_ids == [1, 1]
    assert await ids_of(iterator_1) == await ids_of(iterator_2) == list(range(2, 31))


async def test_aiter_of_an_iterator_is_the_iterator() -> None:
    """`aiter()` of a listing's iterator returns the same iterator, so that a second loop can continue."""
    keys, pages = aiter(SimulatedShop(15).listing()), SimulatedShop(15).listing().pages()
    assert aiter(keys) is keys
    assert aiter(pages) is pages


async def test_an_exhausted_iterator_sends_no_request() -> None:
    """After its end an iterator raises StopAsyncIteration again, without a request."""
    shop = SimulatedShop(5)
    keys = aiter(shop.listing())
    assert await ids_of(keys) == [1, 2, 3, 4, 5]
    with pytest.raises(StopAsyncIteration):
        await anext(keys)
    assert shop.calls == [1]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"page": 0}, "page"),
        ({"page": -1}, "page"),
        ({"page": True}, "page"),
        ({"prefetch": 0}, "prefetch"),
        ({"prefetch": 1.5}, "prefetch"),
        ({"thorough": "no"}, "thorough"),
        ({"product_id": "8"}, "product_id"),
        ({"product_id": 0}, "product_id"),
    ],
)
async def test_invalid_arguments_are_refused_before_a_request(
    sandbox: Sandbox, gatepay: AsyncGatePay, arguments: dict[str, Any], field: str
) -> None:
    """An invalid number raises InvalidRequestError when the listing is created."""
    with pytest.raises(InvalidRequestError) as caught:
        gatepay.list_card_keys(**{"product_id": 8, **arguments})
    assert caught.value.field == field
    assert sandbox.requests == []


async def test_no_repr_shows_a_key() -> None:
    """The repr of a listing, its iterators, pages and card keys contains no card key's text."""
    listing = SimulatedShop(25).listing(prefetch=2)
    keys, pages = aiter(listing), listing.pages()
    key, page = await anext(keys), await anext(pages)
    assert key.content == "SECRET-1"
    shown = repr([listing, keys, pages, key, page, vars(keys), vars(pages), vars(listing)])
    assert "SECRET" not in shown


# --- The last page -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("clamps", [False, True])
async def test_a_product_without_keys_has_one_empty_page(*, clamps: bool) -> None:
    """Without card keys, awaiting returns an empty page, and iterating ends after one request."""
    with Sandbox(seed=False, past_last_page="clamp" if clamps else "empty") as sandbox:
        async with client_of(sandbox) as gatepay:
            assert (await gatepay.list_card_keys(8)).keys == ()
            assert await contents_of(gatepay.list_card_keys(8)) == []
            assert len(sandbox.requests) == 2
            assert await contents_of(gatepay.list_card_keys(8, prefetch=8)) == []


async def test_the_first_pages_are_requested_concurrently() -> None:
    """While the number of pages is unknown, ``prefetch`` pages are requested concurrently, but at most 8."""
    for prefetch, first_calls in ((1, 1), (2, 2), (8, 8), (9, 8), (1000, 8)):
        shop = SimulatedShop(10)
        assert await ids_of(shop.listing(prefetch=prefetch)) == shop.ids
        assert sorted(shop.calls) == list(range(1, first_calls + 1))


@pytest.mark.parametrize("clamps", [False, True])
async def test_a_new_page_is_requested_again(*, clamps: bool) -> None:
    """A page that didn't exist yet is requested again after an earlier page shows that it exists now."""
    shop = SimulatedShop(20, clamps=clamps)
    shop.gates = {2: anyio.Event()}
    shop.failures = {4: [connection_error()]}
    received: list[int] = []

    async def walk() -> None:
        received.extend(await ids_of(shop.listing(prefetch=4)))

    async with anyio.create_task_group() as group:
        group.start_soon(walk)
        await anyio.wait_all_tasks_blocked()
        shop.ids += range(21, 41)
        shop.gates[2].set()
    assert received == list(range(1, 41))
    assert sorted(shop.calls) == [1, 1, 2, 2, 3, 3, 4, 4]  # every page is read again, because the stock changed


@pytest.mark.without_coverage
@pytest.mark.parametrize("clamps", [False, True])
@pytest.mark.parametrize("page", [3, 4, 999])
async def test_a_walk_from_beyond_the_last_page_is_empty(*, clamps: bool, page: int) -> None:
    """A walk that starts beyond the last page is empty, even if the server returns its last page instead."""
    with Sandbox(past_last_page="clamp" if clamps else "empty") as sandbox:
        async with client_of(sandbox) as gatepay:
            assert await contents_of(gatepay.list_card_keys(8, page=page, prefetch=4)) == []
            assert await contents_of(gatepay.list_card_keys(8, page=page, thorough=True)) == []


@pytest.mark.without_coverage
@pytest.mark.parametrize("clamps", [False, True])
@pytest.mark.parametrize("prefetch", [1, 8])
async def test_a_full_last_page_ends_the_walk(*, clamps: bool, prefetch: int) -> None:
    """If the last page is full, no further page is requested and no card key is returned twice."""
    with Sandbox(seed=False, past_last_page="clamp" if clamps else "empty") as sandbox:
        sandbox.add_keys(8, [f"KEY-{number}" for number in range(150)])
        async with client_of(sandbox) as gatepay:
            assert await contents_of(gatepay.list_card_keys(8, prefetch=prefetch)) == sandbox.keys(8)
        assert len(sandbox.requests) == max(3, prefetch)


@pytest.mark.parametrize("prefetch", [1, 8])
async def test_a_page_that_vanished_ends_the_walk(prefetch: int) -> None:
    """If the next page no longer exists, and the server returns its last page, the walk ends without repetitions."""
    with Sandbox(seed=False, past_last_page="clamp") as sandbox:
        sandbox.add_keys(8, [f"KEY-{number:03d}" for number in range(300)])
        async with client_of(sandbox) as gatepay:
            keys = aiter(gatepay.list_card_keys(8, prefetch=prefetch))
            received = [(await anext(keys)).content for _ in range(100)]
            sandbox.delete_keys(8, sandbox.key_ids(8)[:170])
            received += await contents_of(keys)
        assert received[:100] == [f"KEY-{number:03d}" for number in range(100)]
        assert received[-130:] == sandbox.keys(8)
        assert len(received) == len(set(received))


# --- Concurrency -------------------------------------------------------------------------------------------


@pytest.mark.without_coverage
@pytest.mark.parametrize("prefetch", [1, 2, 8, 100])
async def test_prefetching_keeps_the_order(full_sandbox: Sandbox, gatepay: AsyncGatePay, prefetch: int) -> None:
    """For any ``prefetch`` the card keys are the same, in the same order, with one request per page."""
    assert await contents_of(gatepay.list_card_keys(8, prefetch=prefetch)) == full_sandbox.keys(8)
    assert len(full_sandbox.requests) == 13
    assert busy_connections(gatepay) == 0


@pytest.mark.without_coverage
# 300 rows are 30 pages. 8 of them are requested before their number is known, so 22 pages are left.
@pytest.mark.parametrize(("prefetch", "limit"), [(1, 1), (2, 2), (8, 8), (100, 22)])
@pytest.mark.parametrize("thorough", [False, True])
async def test_prefetch_limits_the_requests_in_flight(prefetch: int, limit: int, *, thorough: bool) -> None:
    """The largest number of requests in flight is ``prefetch``, if enough pages are left."""
    shop = SimulatedShop(300)
    assert await ids_of(shop.listing(prefetch=prefetch, thorough=thorough)) == shop.ids
    # With `thorough`, the last page is read first, and then the other 29.
    assert shop.most_in_flight == (29 if thorough and prefetch == 100 else limit)


async def test_pages_are_returned_in_order() -> None:
    """Pages that arrive in reverse order are returned in order."""
    shop = SimulatedShop(40)
    shop.gates = {page: anyio.Event() for page in (1, 2, 3, 4)}
    received: list[int] = []

    async def walk() -> None:
        received.extend(await ids_of(shop.listing(prefetch=4)))

    async with anyio.create_task_group() as group:
        group.start_soon(walk)
        for page in (4, 3, 2, 1):
            await anyio.wait_all_tasks_blocked()
            assert shop.in_flight == page
            shop.gates[page].set()
    assert received == shop.ids


@pytest.mark.without_coverage
@pytest.mark.parametrize("prefetch", [1, 4, 16])
@pytest.mark.parametrize("thorough", [False, True])
async def test_memory_does_not_grow_with_the_pages(prefetch: int, *, thorough: bool) -> None:
    """A walk holds about ``prefetch`` pages in memory; a thorough one holds about two blocks of pages."""
    shop = SimulatedShop(2000)
    assert len(await ids_of(shop.listing(prefetch=prefetch, thorough=thorough))) == 2000
    assert shop.most_alive <= (2 * max(8, prefetch) if thorough else prefetch) + 4


@pytest.mark.without_coverage
@pytest.mark.parametrize("prefetch", [1, 3, 100])
async def test_thorough_reads_few_pages_twice(full_sandbox: Sandbox, gatepay: AsyncGatePay, prefetch: int) -> None:
    """``thorough`` needs extra requests only for the first page, the last page, and one page of each block."""
    listing = gatepay.list_card_keys(8, prefetch=prefetch, thorough=True)
    assert await contents_of(listing) == full_sandbox.keys(8)
    assert len(full_sandbox.requests) <= 13 + 3
    assert listing.drifted is False


# --- A stock that changes ----------------------------------------------------------------------------------


@pytest.mark.without_coverage
@pytest.mark.parametrize(
    ("prefetch", "deleted", "at_the_start"), [(1, 1, True), (1, 51, False), (8, 1, False), (8, 51, True)]
)
async def test_deletions_hide_no_other_key(
    full_sandbox: Sandbox, gatepay: AsyncGatePay, prefetch: int, deleted: int, *, at_the_start: bool
) -> None:
    """If card keys are deleted during a walk, each other key is returned once."""
    listing = gatepay.list_card_keys(8, prefetch=prefetch)
    keys = aiter(listing)
    received = [(await anext(keys)).id for _ in range(150)]
    start = 0 if at_the_start else 100  # the walk is at position 150
    full_sandbox.delete_keys(8, full_sandbox.key_ids(8)[start : start + deleted])
    received += await ids_of(keys)
    assert received == sorted(set(received))
    assert set(full_sandbox.key_ids(8)) <= set(received)
    assert listing.drifted


async def test_a_walk_ends_while_keys_are_sold(full_sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """A walk ends even if card keys are deleted before each page."""
    received: list[int] = []
    listing = gatepay.list_card_keys(8)
    async for page in listing.pages():
        received += [key.id for key in page.keys]
        full_sandbox.delete_keys(8, full_sandbox.key_ids(8)[:7])
    assert received == sorted(set(received))
    assert set(full_sandbox.key_ids(8)) <= set(received)
    assert listing.drifted


@pytest.mark.parametrize("prefetch", [1, 4])
async def test_added_keys_are_returned_at_the_end(full_sandbox: Sandbox, gatepay: AsyncGatePay, prefetch: int) -> None:
    """Card keys that are added during a walk are returned at its end; no other key is returned twice."""
    listing = gatepay.list_card_keys(8, prefetch=prefetch)
    keys = aiter(listing)
    received = [(await anext(keys)).content for _ in range(60)]
    full_sandbox.add_keys(8, [f"LATER-{number}" for number in range(75)])
    received += await contents_of(keys)
    assert received == full_sandbox.keys(8)
    assert listing.drifted


async def test_only_thorough_detects_a_deletion_with_an_addition() -> None:
    """If a deletion and an addition leave ``total`` unchanged, only ``thorough`` detects the skipped card key."""
    for thorough in (False, True):
        shop = SimulatedShop(40)
        listing = shop.listing(thorough=thorough)
        keys = aiter(listing)
        received = [(await anext(keys)).id for _ in range(10)]
        shop.ids = [*shop.ids[1:], 41]
        received += await ids_of(keys)
        # After the deletion, card key 11 is on page 1, which was already read.
        assert received == [row for row in range(1, 42) if thorough or row != 11]
        assert listing.drifted is thorough


async def test_drifted_is_reset_by_the_next_walk() -> None:
    """``drifted`` is False again after the next walk has started."""
    shop = SimulatedShop(40)
    listing = shop.listing()
    results = [listing.drifted]
    async for key in listing:
        if key.id == 10:
            del shop.ids[0]
    results.append(listing.drifted)
    assert await ids_of(listing) == shop.ids
    assert [*results, listing.drifted] == [False, True, False]


async def test_a_stale_prefetched_page_is_read_again() -> None:
    """A page that was prefetched before a deletion is read again if the page before it shows the deletion."""
    shop = SimulatedShop(60)
    shop.gates = {2: anyio.Event()}
    received: list[int] = []

    async def walk() -> None:
        received.extend(await ids_of(shop.listing(prefetch=3)))

    async with anyio.create_task_group() as group:
        group.start_soon(walk)
        await anyio.wait_all_tasks_blocked()
        assert sorted(shop.calls) == [1, 2, 3]
        # Page 3 has arrived with 21 to 30. After the deletion, page 2 arrives with 21 to 30, too.
        del shop.ids[:10]
        shop.gates[2].set()
    assert received == list(range(1, 61))
    assert sorted(shop.calls[3:]) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@given(
    rows=st.integers(0, 60),
    deletions=st.lists(st.tuples(st.integers(1, 12), st.integers(0, 50), st.integers(1, 25)), max_size=5),
    additions=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 25)), max_size=4),
    prefetch=st.sampled_from([1, 2, 3, 8]),
    thorough=st.booleans(),
    clamps=st.booleans(),
    cancelled_call=st.integers(0, 12),
)
async def test_random_changes_lose_no_key(
    *,
    rows: int,
    deletions: list[tuple[int, int, int]],
    additions: list[tuple[int, int]],
    prefetch: int,
    thorough: bool,
    clamps: bool,
    cancelled_call: int,
) -> None:
    """
    Each card key that exists from the first page to the last is returned once, whatever is deleted or added.

    This also holds if the walk is cancelled during a call and then continued.
    """
    shop = SimulatedShop(rows, clamps=clamps)
    if not thorough:
        additions = []  # an addition may hide a deletion from `total`
    gone: set[int] = set()

    def change(call: int) -> None:
        for deletion_call, start, number in deletions:
            if deletion_call == call:
                gone.update(shop.ids[start : start + number])
                del shop.ids[start : start + number]
        for addition_call, number in additions:
            if addition_call == call:
                newest = max([rows, *shop.ids, *gone])
                shop.ids += range(newest + 1, newest + 1 + number)
        if call == cancelled_call:
            scope.cancel()

    shop.on_call = change
    listing = shop.listing(prefetch=prefetch, thorough=thorough)
    keys = aiter(listing)
    received: list[int] = []
    with anyio.CancelScope() as scope:
        await take_all(keys, received)
    received += await ids_of(keys)
    assert received == sorted(set(received))
    assert set(range(1, rows + 1)) - gone <= set(received)
    if listing.drifted:
        assert deletions or additions


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # on trio, concurrent calls are answered in any order
async def test_cancellation_within_a_wave_loses_no_key() -> None:
    """If a wave is cancelled after its first page has arrived, while the stock changes, no card key is lost."""
    shop = SimulatedShop(50)

    def change(call: int) -> None:
        if call == 3:
            del shop.ids[:20]
        if call == 7:
            del shop.ids[:5]
        if call == 8:
            scope.cancel()  # of the wave with pages 2 and 1, only page 2 has arrived

    shop.on_call = change
    keys = aiter(shop.listing(prefetch=2, thorough=True))
    received: list[int] = []
    with anyio.CancelScope() as scope:
        await take_all(keys, received)
    await take_all(keys, received)
    assert set(shop.ids) <= set(received)


async def test_a_total_before_a_cancellation_is_remembered() -> None:
    """A total that arrived before a cancellation is remembered, because later totals may hide the deletion."""
    shop = SimulatedShop(60)
    shop.gates = {4: anyio.Event()}
    keys = aiter(shop.listing(prefetch=2))
    received = [(await anext(keys)).id for _ in range(20)]  # pages 1 and 2
    del shop.ids[0]  # card key 21 is on page 2 now
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(cancel_when_blocked, scope)
            await take_all(keys, received)  # page 3 arrives with a total of 59; page 4 doesn't arrive
    shop.gates = {}
    shop.ids.append(61)
    received += await ids_of(keys)
    assert received == list(range(1, 62))


# --- Unfinished, cancelled, shared -------------------------------------------------------------------------


@pytest.mark.parametrize(("prefetch", "whole_pages"), [(1, True), (8, False)])
async def test_break_leaves_no_task_and_no_connection(
    full_sandbox: Sandbox, gatepay: AsyncGatePay, anyio_backend: str, prefetch: int, *, whole_pages: bool
) -> None:
    """After a ``break`` no task and no busy connection is left, and trio doesn't warn about an unfinished generator."""
    await gatepay.list_products()
    gc.collect()
    tasks_before = count_tasks(anyio_backend)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count = 0
        listing = gatepay.list_card_keys(8, prefetch=prefetch, thorough=True)
        if whole_pages:
            async for _ in listing.pages():
                count += 1
                if count == 3:
                    break
        else:
            async for _ in listing:
                count += 1
                if count == 120:
                    break
        assert count_tasks(anyio_backend) == tasks_before
        assert busy_connections(gatepay) == 0
        del listing
        gc.collect()
        await anyio.lowlevel.checkpoint()
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


async def test_no_request_is_open_between_two_keys(anyio_backend: str) -> None:
    """Between two card keys no task and no request is open, for any ``prefetch``."""
    shop = SimulatedShop(100)
    tasks_before = count_tasks(anyio_backend)
    async for _ in shop.listing(prefetch=4):
        assert count_tasks(anyio_backend) == tasks_before
        assert shop.in_flight == 0


@pytest.mark.parametrize("prefetch", [1, 3])
@pytest.mark.parametrize("thorough", [False, True])
async def test_an_iterator_continues_after_a_cancelled_fetch(prefetch: int, *, thorough: bool) -> None:
    """If a fetch is cancelled, the same iterator can continue, and no card key is lost."""
    shop = SimulatedShop(50)
    keys = aiter(shop.listing(prefetch=prefetch, thorough=thorough))
    received: list[int] = []
    cancellations = 0
    while len(received) < 50:
        shop.gates = {page: anyio.Event() for page in range(1, 6)}
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(cancel_when_blocked, scope)
                await take_all(keys, received)
        cancellations += len(received) < 50
        assert shop.in_flight == 0
        shop.gates = {}
        with suppress(StopAsyncIteration):
            received.append((await anext(keys)).id)
    assert received == shop.ids
    # One for each fetch: of all 5 pages, of one page, or of up to 3 pages.
    assert cancellations >= (1 if thorough else 5 if prefetch == 1 else 2)


@pytest.mark.parametrize("thorough", [False, True])
async def test_an_iterator_continues_after_a_cancellation_at_any_step(*, thorough: bool) -> None:
    """Wherever a walk is cancelled, the iterator can continue, and each card key is returned once."""
    for steps in range(40):
        shop = SimulatedShop(60)
        keys = aiter(shop.listing(prefetch=3, thorough=thorough))
        received: list[int] = []
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(cancel_after, steps, scope)
                await take_all(keys, received)
        await take_all(keys, received)
        assert received == shop.ids


class BlockedShop(SimulatedShop):
    """A simulated shop that doesn't answer the calls whose numbers, counted from 0, are in ``unanswered``."""

    def __init__(self, rows: int, unanswered: Container[int] = ()) -> None:
        super().__init__(rows)
        self.unanswered = unanswered
        self.blocked = anyio.Event()

    async def send(self, call: KaShow) -> CardKeyPage:
        if len(self.calls) in self.unanswered:
            self.calls.append(call.page)
            self.blocked.set()
            await anyio.sleep_forever()
        return await super().send(call)

    async def cancel_when_blocked(self, scope: anyio.CancelScope) -> None:
        """Cancel *scope* once a call is blocked and the other calls of its wave are answered."""
        # wait_all_tasks_blocked() may return too early on asyncio: between the end of a task and that of its group, no
        # task seems to run.
        await self.blocked.wait()
        await cancel_after(10, scope)


@pytest.mark.parametrize("prefetch", [1, 2, 3, 8])
@pytest.mark.parametrize("thorough", [False, True])
async def test_the_pages_that_a_cancelled_wave_lacks_are_requested_again(prefetch: int, *, thorough: bool) -> None:
    """
    After a cancellation, the walk requests those pages of the wave that have not arrived, and returns each key once.

    This also holds for a page that has arrived before and is read a second time.
    """
    shop = BlockedShop(120)
    await ids_of(shop.listing(prefetch=prefetch, thorough=thorough))
    assert (len(set(shop.calls)) < len(shop.calls)) == thorough  # some pages are read twice
    calls = len(shop.calls)
    for first in range(calls):
        # Leave unanswered only this call, or this call and all later ones.
        for unanswered in (range(first, first + 1), range(first, calls)):
            shop = BlockedShop(120, unanswered)
            keys = aiter(shop.listing(prefetch=prefetch, thorough=thorough))
            received: list[int] = []
            async with anyio.create_task_group() as group:
                group.start_soon(shop.cancel_when_blocked, group.cancel_scope)
                await take_all(keys, received)
            calls_before = len(shop.calls)
            missing = [page for number, page in enumerate(shop.calls) if number in unanswered]
            shop.unanswered = ()
            await take_all(keys, received)
            assert received == shop.ids
            next_wave = shop.calls[calls_before : calls_before + prefetch]
            assert missing
            assert set(missing) <= set(next_wave), (first, unanswered)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_iterator_continues_after_task_cancel() -> None:
    """After ``task.cancel()`` during a fetch the iterator can continue, and no card key is lost."""
    shop = SimulatedShop(50)
    shop.gates = {5: anyio.Event()}
    keys = aiter(shop.listing(prefetch=3))
    received: list[int] = []

    task = asyncio.create_task(take_all(keys, received))
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert received == list(range(1, 31))
    assert shop.in_flight == 0
    shop.gates = {}
    assert received + await ids_of(keys) == shop.ids


async def test_a_cancelled_walk_frees_its_connections(full_sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """A walk that is cancelled over a real socket leaves no busy connection, and can continue."""
    keys = aiter(gatepay.list_card_keys(8, prefetch=6))
    received = [(await anext(keys)).id for _ in range(50)]
    rest: list[int] = []
    full_sandbox.fault(Fault(FaultKind.SLOW, endpoint="ka/show", seconds=60, times=3))
    async with anyio.create_task_group() as group:
        group.start_soon(take_all, keys, rest)
        await until(lambda: len(full_sandbox.requests) >= 7)
        assert busy_connections(gatepay) > 0
        group.cancel_scope.cancel()
    assert busy_connections(gatepay) == 0
    full_sandbox.clear_faults()
    assert received + rest + await ids_of(keys) == full_sandbox.key_ids(8)


@pytest.mark.parametrize("tasks", [2, 5])
async def test_tasks_can_share_an_iterator(tasks: int) -> None:
    """If tasks share an iterator, each card key is returned to one of them, and the iterator ends for all."""
    shop = SimulatedShop(95)
    keys = aiter(shop.listing(prefetch=2))
    received: list[int] = []
    ended = 0

    async def take() -> None:
        nonlocal ended
        async for key in keys:
            received.append(key.id)
            await anyio.lowlevel.checkpoint()
        ended += 1

    async with anyio.create_task_group() as group:
        for _ in range(tasks):
            group.start_soon(take)
    assert sorted(received) == shop.ids
    assert ended == tasks
    assert shop.most_in_flight <= 2


# --- Failures ----------------------------------------------------------------------------------------------


@pytest.mark.without_coverage
@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.CUT_BEFORE, skip=4, times=2),
        Fault(FaultKind.CUT_AFTER, skip=4, times=2),
        Fault(FaultKind.HALF_BODY, skip=4, times=2),
        Fault(FaultKind.HALF_JSON, skip=4, times=2),
        Fault(FaultKind.RATE_LIMITED, skip=4, times=2, retry_after=0),
        Fault(FaultKind.BAD_GATEWAY, skip=4, times=2),
        Fault(FaultKind.SLOW, skip=4, times=2, seconds=0.02),
        Fault(FaultKind.CUT_BEFORE, times=8, probability=0.3, seed=7),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.probability}",
)
async def test_a_walk_survives_temporary_faults(full_sandbox: Sandbox, gatepay: AsyncGatePay, fault: Fault) -> None:
    """With temporary faults the walk returns every card key once, in order."""
    full_sandbox.fault(fault)
    assert await contents_of(gatepay.list_card_keys(8, prefetch=4)) == full_sandbox.keys(8)
    assert busy_connections(gatepay) == 0


async def test_a_page_that_arrives_byte_by_byte_is_accepted(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    sandbox.fault(Fault(FaultKind.DRIP, seconds=0.0005))
    assert await contents_of(gatepay.list_card_keys(5)) == sandbox.keys(5)


async def test_a_refusal_is_raised(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """A refusal is raised as its exception class, whether the listing is awaited or iterated."""
    with pytest.raises(ProductNotFoundError):
        await gatepay.list_card_keys(99)
    with pytest.raises(ProductNotFoundError):
        await contents_of(gatepay.list_card_keys(99))
    assert len(sandbox.requests) == 2
    with pytest.raises(ProductNotFoundError):
        await contents_of(gatepay.list_card_keys(99, prefetch=8))


async def test_an_unexpected_error_is_raised_unchanged() -> None:
    """An exception that isn't a GatePayError is raised unchanged."""
    shop = SimulatedShop(20)
    failure = RuntimeError("raised by the transport")
    shop.failures = {1: [failure, failure]}
    with pytest.raises(RuntimeError) as caught:
        await shop.listing()
    assert caught.value is failure
    with pytest.raises(RuntimeError) as caught:
        await ids_of(shop.listing(prefetch=3))
    assert caught.value is failure


@pytest.mark.parametrize("thorough", [False, True])
async def test_a_failed_page_raises_after_the_pages_before_it(*, thorough: bool) -> None:
    """The pages before a failed page are returned, then the error is raised. The next call retries the page."""
    shop = SimulatedShop(120)
    shop.failures = {7: [connection_error()] if thorough else [connection_error(), connection_error()]}
    keys = aiter(shop.listing(prefetch=11, thorough=thorough))
    received: list[int] = []
    failed_after: list[int] = []
    while True:
        try:
            received.append((await anext(keys)).id)
        except TransportError:
            failed_after.append(len(received))
        except StopAsyncIteration:
            break
    assert failed_after == ([10] if thorough else [60, 60])  # `thorough` returns the pages of a block together
    assert received == shop.ids


async def test_a_failed_second_reading_is_retried() -> None:
    """If the second reading of a page fails, the error is raised after the earlier pages, and the next call retries."""
    shop = SimulatedShop(50)
    received: list[int] = []

    def fail_second_reading(_: int) -> None:
        # With one page at a time, the last call in `calls` is the one that is being answered.
        if shop.calls.count(1) == 2 and shop.calls[-1] == 1:
            shop.failures = {1: [connection_error()]}
            shop.on_call = lambda _: None

    shop.on_call = fail_second_reading
    keys = aiter(shop.listing(thorough=True))
    with pytest.raises(TransportError):
        await take_all(keys, received)
    assert received == list(range(1, 11))
    assert received + await ids_of(keys) == shop.ids


@pytest.mark.parametrize(
    ("page", "path"),
    [
        (page_of(2, 1, number=1, last=1, total=2), "data.ka.data[1].id"),
        (page_of(1, 1, number=1, last=1, total=2), "data.ka.data[1].id"),
        (page_of(1, 2, number=2, last=2, total=2), "data.ka.current_page"),
    ],
)
async def test_invalid_rows_raise_a_protocol_error(page: CardKeyPage, path: str) -> None:
    """Ids that don't ascend, or a page after the requested one, raise a ProtocolError with the path of the field."""

    async def send(_: KaShow) -> CardKeyPage:
        await anyio.lowlevel.checkpoint()
        return page

    with pytest.raises(ProtocolError) as caught:
        await ids_of(CardKeyListing(send, KaShow(8), prefetch=1, thorough=False))
    error = caught.value
    assert (error.endpoint, error.http_status, error.path) == ("ka/show", 200, path)
    assert error.__context__ is None  # the original error would contain card keys
