"""Walking card keys: against the sandbox over a real socket, and against a shop whose timing is exact."""

import asyncio
import gc
import warnings
import weakref
from collections.abc import AsyncIterator, Callable
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


# --- The other end -----------------------------------------------------------------------------------------


class Shop:
    """
    ``send`` of a shop whose card keys are just their ids, 10 a page.

    `calls` are the pages asked for, in order; `on_call` is called with the number of the call, from 1, before it
    is answered; a page with a gate is answered when that opens; a page with failures fails with the next of them.
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
        self._given: list[weakref.ref[CardKeyPage]] = []

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

    def _page(self, asked: int) -> CardKeyPage:
        last = max(1, -(-len(self.ids) // 10))
        number = min(asked, last) if self.clamps else asked
        ids = self.ids[(number - 1) * 10 : number * 10]
        return page_of(*ids, number=number, last=last, total=len(self.ids))

    def _remember(self, page: CardKeyPage) -> CardKeyPage:
        self._given.append(weakref.ref(page))
        self.most_alive = max(self.most_alive, sum(ref() is not None for ref in self._given))
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
            status="soldin",
        )
        for row in ids
    )
    return CardKeyPage(total=total, per_page=10, current_page=number, last_page=last, keys=keys)


def unreachable() -> TransportError:
    return TransportError(endpoint="ka/show", sent=True, problem="the connection broke")


async def ids_of(keys: CardKeyListing | AsyncIterator[CardKey]) -> list[int]:
    with anyio.fail_after(PATIENCE):
        return [key.id async for key in keys]


async def contents(keys: CardKeyListing | AsyncIterator[CardKey]) -> list[str]:
    with anyio.fail_after(PATIENCE):
        return [key.content async for key in keys]


async def take_all(keys: AsyncIterator[CardKey], given: list[int]) -> None:
    """For whoever may be cancelled: what came before that is in *given*."""
    async for key in keys:
        given.append(key.id)  # noqa: PERF401 -- a comprehension would lose it


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


def busy(gatepay: AsyncGatePay) -> int:
    own = cast("Any", gatepay._caller._attempts._exchange)._transport
    assert isinstance(own, OriginPool)
    return own._slots.busy


def count_tasks(anyio_backend: str) -> int:
    if anyio_backend == "asyncio":
        return len(asyncio.all_tasks())
    root = trio.lowlevel.current_root_task()
    assert root is not None
    waiting = [root]
    found = 0
    while waiting:
        task = waiting.pop()
        found += 1
        for nursery in task.child_nurseries:
            waiting.extend(nursery.child_tasks)
    return found


@pytest.fixture
def stocked(sandbox: Sandbox) -> Sandbox:
    """Product 8 with 620 card keys: 13 pages, the last of 20."""
    sandbox.add_keys(8, [f"KEY-{number:03d}" for number in range(620 - 89)])
    return sandbox


# --- One page, and all of them -----------------------------------------------------------------------------


async def test_awaited_it_is_one_page(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """Awaited, the listing is the page asked for, in one request."""
    page = await gatepay.list_card_keys(8, page=2)
    assert (page.total, page.per_page, page.current_page, page.last_page) == (89, 50, 2, 2)
    assert [key.content for key in page.keys] == sandbox.keys(8)[50:]
    assert len(sandbox.requests) == 1


async def test_iterated_it_is_every_key(stocked: Sandbox, gatepay: AsyncGatePay) -> None:
    """Iterated, the listing gives every card key in ascending id, with one request a page."""
    listing = gatepay.list_card_keys(8)
    assert await contents(listing) == stocked.keys(8)
    assert await ids_of(listing) == stocked.key_ids(8)
    assert len(stocked.requests) == 2 * 13
    assert listing.drifted is False


async def test_iterated_from_a_page_on(stocked: Sandbox, gatepay: AsyncGatePay) -> None:
    """Begun at page 4, the walk gives that page's keys and all behind them."""
    assert await contents(gatepay.list_card_keys(8, page=4, prefetch=3)) == stocked.keys(8)[150:]


async def test_pages_are_given_whole(stocked: Sandbox, gatepay: AsyncGatePay) -> None:
    """``pages()`` gives the pages that the keys stand on, as GatePay sends them."""
    pages = [page async for page in gatepay.list_card_keys(8, page=2, prefetch=5).pages()]
    assert [page.current_page for page in pages] == list(range(2, 14))
    assert [len(page.keys) for page in pages] == [50] * 11 + [20]
    assert [key.content for page in pages for key in page.keys] == stocked.keys(8)[50:]


async def test_making_a_listing_sends_nothing() -> None:
    """Nothing is sent before the listing is awaited or iterated."""
    shop = Shop(20)
    aiter(shop.listing())
    shop.listing().pages()
    assert shop.calls == []


async def test_each_iteration_is_a_walk_of_its_own() -> None:
    """Two iterations of one listing, also side by side, each give every key."""
    shop = Shop(30)
    listing = shop.listing()
    one, other = aiter(listing), aiter(listing)
    first = [(await anext(one)).id, (await anext(other)).id]
    assert first == [1, 1]
    assert await ids_of(one) == await ids_of(other) == list(range(2, 31))


async def test_an_iterator_is_its_own_iterator() -> None:
    """What iterating gives can be handed on and iterated where another left off."""
    keys, pages = aiter(Shop(15).listing()), Shop(15).listing().pages()
    assert aiter(keys) is keys
    assert aiter(pages) is pages


async def test_an_ended_walk_stays_ended() -> None:
    """Asked again after its end, an iterator has still ended, and sends nothing."""
    shop = Shop(5)
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
        ({"product_id": "8"}, "product_id"),
        ({"product_id": 0}, "product_id"),
    ],
)
async def test_what_can_not_be_right_is_refused_at_once(
    sandbox: Sandbox, gatepay: AsyncGatePay, arguments: dict[str, Any], field: str
) -> None:
    """A number out of range is an InvalidRequestError of the call itself, before anything is awaited or sent."""
    with pytest.raises(InvalidRequestError) as caught:
        gatepay.list_card_keys(**{"product_id": 8, **arguments})
    assert caught.value.field == field
    assert sandbox.requests == []


async def test_no_repr_shows_a_key() -> None:
    """Neither the listing nor its iterators, pages or keys show a card key."""
    listing = Shop(25).listing(prefetch=2)
    keys, pages = aiter(listing), listing.pages()
    key, page = await anext(keys), await anext(pages)
    assert key.content == "SECRET-1"
    shown = repr([listing, keys, pages, key, page, vars(keys), vars(pages), vars(listing)])
    assert "SECRET" not in shown


# --- Where it ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("clamps", [False, True])
async def test_a_product_without_keys(*, clamps: bool) -> None:
    """A product without a card key is an empty page, and an empty walk of one request."""
    with Sandbox(seed=False, past_last_page="clamp" if clamps else "empty") as sandbox:
        async with client_of(sandbox) as gatepay:
            assert (await gatepay.list_card_keys(8)).keys == ()
            assert await contents(gatepay.list_card_keys(8)) == []
            assert len(sandbox.requests) == 2
            assert await contents(gatepay.list_card_keys(8, prefetch=8)) == []


async def test_the_first_requests_go_out_together() -> None:
    """The first pages are asked for before their number is known: as many as are prefetched, but 8 at most."""
    for prefetch, together in ((1, 1), (2, 2), (8, 8), (9, 8), (1000, 8)):
        shop = Shop(10)
        assert await ids_of(shop.listing(prefetch=prefetch)) == shop.ids
        assert sorted(shop.calls) == list(range(1, together + 1))


@pytest.mark.parametrize("clamps", [False, True])
async def test_a_page_that_came_to_be(*, clamps: bool) -> None:
    """A page asked for before it was there is asked for again, once an earlier one says that it is."""
    shop = Shop(20, clamps=clamps)
    shop.gates = {2: anyio.Event()}
    shop.failures = {4: [unreachable()]}
    given: list[int] = []

    async def walk() -> None:
        given.extend(await ids_of(shop.listing(prefetch=4)))

    async with anyio.create_task_group() as group:
        group.start_soon(walk)
        await anyio.wait_all_tasks_blocked()
        shop.ids += range(21, 41)
        shop.gates[2].set()
    assert given == list(range(1, 41))
    assert sorted(shop.calls) == [1, 1, 2, 2, 3, 3, 4, 4]  # they saw the stock change


@pytest.mark.uncounted
@pytest.mark.parametrize("clamps", [False, True])
@pytest.mark.parametrize("page", [3, 4, 999])
async def test_past_the_end_there_is_nothing(*, clamps: bool, page: int) -> None:
    """A walk that begins past the last page gives nothing, also where the server answers with its last page."""
    with Sandbox(past_last_page="clamp" if clamps else "empty") as sandbox:
        async with client_of(sandbox) as gatepay:
            assert await contents(gatepay.list_card_keys(8, page=page, prefetch=4)) == []
            assert await contents(gatepay.list_card_keys(8, page=page, thorough=True)) == []


@pytest.mark.uncounted
@pytest.mark.parametrize("clamps", [False, True])
@pytest.mark.parametrize("prefetch", [1, 8])
async def test_a_full_last_page_is_the_last(*, clamps: bool, prefetch: int) -> None:
    """Where the last page is full, none behind it is needed and no key comes twice."""
    with Sandbox(seed=False, past_last_page="clamp" if clamps else "empty") as sandbox:
        sandbox.add_keys(8, [f"KEY-{number}" for number in range(150)])
        async with client_of(sandbox) as gatepay:
            assert await contents(gatepay.list_card_keys(8, prefetch=prefetch)) == sandbox.keys(8)
        assert len(sandbox.requests) == max(3, prefetch)


@pytest.mark.parametrize("prefetch", [1, 8])
async def test_a_clamping_server_that_shrinks(prefetch: int) -> None:
    """A walk ends, and repeats nothing, when the page that it asks for has gone and the last one comes instead."""
    with Sandbox(seed=False, past_last_page="clamp") as sandbox:
        sandbox.add_keys(8, [f"KEY-{number:03d}" for number in range(300)])
        async with client_of(sandbox) as gatepay:
            keys = aiter(gatepay.list_card_keys(8, prefetch=prefetch))
            given = [(await anext(keys)).content for _ in range(100)]
            sandbox.delete_keys(8, sandbox.key_ids(8)[:170])
            given += await contents(keys)
        assert given[:100] == [f"KEY-{number:03d}" for number in range(100)]
        assert given[-130:] == sandbox.keys(8)
        assert len(given) == len(set(given))


# --- Side by side ------------------------------------------------------------------------------------------


@pytest.mark.uncounted
@pytest.mark.parametrize("prefetch", [1, 2, 8, 100])
async def test_prefetching_keeps_the_order(stocked: Sandbox, gatepay: AsyncGatePay, prefetch: int) -> None:
    """However many pages are fetched side by side, the keys are the same, in the same order, a request a page."""
    assert await contents(gatepay.list_card_keys(8, prefetch=prefetch)) == stocked.keys(8)
    assert len(stocked.requests) == 13
    assert busy(gatepay) == 0


@pytest.mark.uncounted
@pytest.mark.parametrize(("prefetch", "most"), [(1, 1), (2, 2), (8, 8), (100, 22)])
@pytest.mark.parametrize("thorough", [False, True])
async def test_no_more_than_prefetch_are_in_flight(prefetch: int, most: int, *, thorough: bool) -> None:
    """Never more than ``prefetch`` requests are under way, and that many where so many pages are known to be left."""
    shop = Shop(300)
    assert await ids_of(shop.listing(prefetch=prefetch, thorough=thorough)) == shop.ids
    assert shop.most_in_flight == (29 if thorough and prefetch == 100 else most)  # the last page comes first


async def test_replies_in_any_order() -> None:
    """Pages that arrive last first are given first first."""
    shop = Shop(40)
    shop.gates = {page: anyio.Event() for page in (1, 2, 3, 4)}
    given: list[int] = []

    async def walk() -> None:
        given.extend(await ids_of(shop.listing(prefetch=4)))

    async with anyio.create_task_group() as group:
        group.start_soon(walk)
        for page in (4, 3, 2, 1):
            await anyio.wait_all_tasks_blocked()
            assert shop.in_flight == page
            shop.gates[page].set()
    assert given == shop.ids


@pytest.mark.uncounted
@pytest.mark.parametrize("prefetch", [1, 4, 16])
@pytest.mark.parametrize("thorough", [False, True])
async def test_memory_does_not_grow_with_the_pages(prefetch: int, *, thorough: bool) -> None:
    """However many pages are walked, few more are alive at once than are fetched ahead, or than two thorough blocks."""
    shop = Shop(2000)
    assert len(await ids_of(shop.listing(prefetch=prefetch, thorough=thorough))) == 2000
    assert shop.most_alive <= (2 * max(8, prefetch) if thorough else prefetch) + 4


@pytest.mark.uncounted
@pytest.mark.parametrize("prefetch", [1, 3, 100])
async def test_thorough_reads_few_pages_twice(stocked: Sandbox, gatepay: AsyncGatePay, prefetch: int) -> None:
    """``thorough`` gives the same keys with few requests more: for the first page, the last, and one of each block."""
    listing = gatepay.list_card_keys(8, prefetch=prefetch, thorough=True)
    assert await contents(listing) == stocked.keys(8)
    assert len(stocked.requests) <= 13 + 3
    assert listing.drifted is False


# --- A stock that changes ----------------------------------------------------------------------------------


@pytest.mark.uncounted
@pytest.mark.parametrize(
    ("prefetch", "deleted", "behind"), [(1, 1, True), (1, 51, False), (8, 1, False), (8, 51, True)]
)
async def test_deletions_hide_nothing(
    stocked: Sandbox, gatepay: AsyncGatePay, prefetch: int, deleted: int, *, behind: bool
) -> None:
    """Keys deleted between two pages, behind the walk or around it, hide no other key and give none twice."""
    listing = gatepay.list_card_keys(8, prefetch=prefetch)
    keys = aiter(listing)
    given = [(await anext(keys)).id for _ in range(150)]
    start = 0 if behind else 100
    stocked.delete_keys(8, stocked.key_ids(8)[start : start + deleted])
    given += await ids_of(keys)
    assert given == sorted(set(given))
    assert set(stocked.key_ids(8)) <= set(given)
    assert listing.drifted


async def test_a_deletion_before_every_page(stocked: Sandbox, gatepay: AsyncGatePay) -> None:
    """A stock that shrinks before each page, as one does that is being sold, is walked to its end."""
    given: list[int] = []
    listing = gatepay.list_card_keys(8)
    async for page in listing.pages():
        given += [key.id for key in page.keys]
        stocked.delete_keys(8, stocked.key_ids(8)[:7])
    assert given == sorted(set(given))
    assert set(stocked.key_ids(8)) <= set(given)
    assert listing.drifted


@pytest.mark.parametrize("prefetch", [1, 4])
async def test_additions_are_given_at_the_end(stocked: Sandbox, gatepay: AsyncGatePay, prefetch: int) -> None:
    """Keys added behind the walk come when it gets there; none that was there comes twice."""
    listing = gatepay.list_card_keys(8, prefetch=prefetch)
    keys = aiter(listing)
    given = [(await anext(keys)).content for _ in range(60)]
    stocked.add_keys(8, [f"LATER-{number}" for number in range(75)])
    given += await contents(keys)
    assert given == stocked.keys(8)
    assert listing.drifted


async def test_an_addition_hides_a_deletion_from_the_total() -> None:
    """Only ``thorough`` finds the key that a deletion hides while an addition keeps ``total`` as it was."""
    for thorough in (False, True):
        shop = Shop(40)
        listing = shop.listing(thorough=thorough)
        keys = aiter(listing)
        given = [(await anext(keys)).id for _ in range(10)]
        shop.ids = [*shop.ids[1:], 41]
        given += await ids_of(keys)
        assert given == [row for row in range(1, 42) if thorough or row != 11]
        assert listing.drifted is thorough


async def test_drifted_is_of_the_last_walk() -> None:
    """``drifted`` says False again once another walk has begun."""
    shop = Shop(40)
    listing = shop.listing()
    drifted = [listing.drifted]
    async for key in listing:
        if key.id == 10:
            del shop.ids[0]
    drifted.append(listing.drifted)
    assert await ids_of(listing) == shop.ids
    assert [*drifted, listing.drifted] == [False, True, False]


async def test_a_page_read_ahead_may_be_stale() -> None:
    """A page read before a deletion that the page before it already knows of is read again in its turn."""
    shop = Shop(60)
    shop.gates = {2: anyio.Event()}
    given: list[int] = []

    async def walk() -> None:
        given.extend(await ids_of(shop.listing(prefetch=3)))

    async with anyio.create_task_group() as group:
        group.start_soon(walk)
        await anyio.wait_all_tasks_blocked()
        assert sorted(shop.calls) == [1, 2, 3]
        # Page 3 has come, with 21 to 30; now page 2 comes with the same rows.
        del shop.ids[:10]
        shop.gates[2].set()
    assert given == list(range(1, 61))
    assert sorted(shop.calls[3:]) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@given(
    rows=st.integers(0, 60),
    deletions=st.lists(st.tuples(st.integers(1, 12), st.integers(0, 50), st.integers(1, 25)), max_size=5),
    additions=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 25)), max_size=4),
    prefetch=st.sampled_from([1, 2, 3, 8]),
    thorough=st.booleans(),
    clamps=st.booleans(),
    cancelled=st.integers(0, 12),
)
async def test_whatever_changes_nothing_is_lost(
    *,
    rows: int,
    deletions: list[tuple[int, int, int]],
    additions: list[tuple[int, int]],
    prefetch: int,
    thorough: bool,
    clamps: bool,
    cancelled: int,
) -> None:
    """
    Each key that is there from the first page to the last comes once, whatever else comes and goes.

    Also where the walk is cancelled in the middle of a call, and gone on with.
    """
    shop = Shop(rows, clamps=clamps)
    if not thorough:
        additions = []  # they may hide a deletion from `total`
    gone: set[int] = set()

    def change(call: int) -> None:
        for when, start, number in deletions:
            if when == call:
                gone.update(shop.ids[start : start + number])
                del shop.ids[start : start + number]
        for when, number in additions:
            if when == call:
                newest = max([rows, *shop.ids, *gone])
                shop.ids += range(newest + 1, newest + 1 + number)
        if call == cancelled:
            scope.cancel()

    shop.on_call = change
    listing = shop.listing(prefetch=prefetch, thorough=thorough)
    keys = aiter(listing)
    given: list[int] = []
    with anyio.CancelScope() as scope:
        await take_all(keys, given)
    given += await ids_of(keys)
    assert given == sorted(set(given))
    assert set(range(1, rows + 1)) - gone <= set(given)
    if listing.drifted:
        assert deletions or additions


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio answers side by side in any order
async def test_what_was_read_again_before_a_cancellation_is_not_used_after_it() -> None:
    """A page read a second time before the walk was cancelled is read anew when it must be later than another."""
    shop = Shop(50)

    def change(call: int) -> None:
        if call == 3:
            del shop.ids[:20]
        if call == 7:
            del shop.ids[:5]
        if call == 8:
            scope.cancel()  # two more pages are read ahead, but not yet for the second time

    shop.on_call = change
    keys = aiter(shop.listing(prefetch=2, thorough=True))
    given: list[int] = []
    with anyio.CancelScope() as scope:
        await take_all(keys, given)
    await take_all(keys, given)
    assert set(shop.ids) <= set(given)


async def test_a_total_that_came_before_a_cancellation_counts() -> None:
    """A reply counts although its wave was cancelled: what it says of a deletion, no later total may show again."""
    shop = Shop(60)
    shop.gates = {4: anyio.Event()}
    keys = aiter(shop.listing(prefetch=2))
    given = [(await anext(keys)).id for _ in range(20)]  # pages 1 and 2
    del shop.ids[0]  # 21 is on page 2 now
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(cancel_when_blocked, scope)
            await take_all(keys, given)  # page 3 comes, with a total of 59, and page 4 does not
    shop.gates = {}
    shop.ids.append(61)
    given += await ids_of(keys)
    assert given == list(range(1, 62))


# --- Left half-way, cancelled, shared ----------------------------------------------------------------------


@pytest.mark.parametrize(("prefetch", "whole_pages"), [(1, True), (8, False)])
async def test_break_leaves_nothing_behind(
    stocked: Sandbox, gatepay: AsyncGatePay, anyio_backend: str, prefetch: int, *, whole_pages: bool
) -> None:
    """After a ``break`` there is no task, no busy connection, and on trio no warning of a forgotten generator."""
    await gatepay.list_products()
    gc.collect()
    tasks = count_tasks(anyio_backend)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        seen = 0
        listing = gatepay.list_card_keys(8, prefetch=prefetch, thorough=True)
        if whole_pages:
            async for _ in listing.pages():
                seen += 1
                if seen == 3:
                    break
        else:
            async for _ in listing:
                seen += 1
                if seen == 120:
                    break
        assert count_tasks(anyio_backend) == tasks
        assert busy(gatepay) == 0
        del listing
        gc.collect()
        await anyio.lowlevel.checkpoint()
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


async def test_between_two_keys_nothing_is_under_way(anyio_backend: str) -> None:
    """While the consumer thinks, no task is open and no request under way, whatever is fetched ahead."""
    shop = Shop(100)
    tasks = count_tasks(anyio_backend)
    async for _ in shop.listing(prefetch=4):
        assert count_tasks(anyio_backend) == tasks
        assert shop.in_flight == 0


@pytest.mark.parametrize("prefetch", [1, 3])
@pytest.mark.parametrize("thorough", [False, True])
async def test_a_cancelled_fetch_loses_nothing(prefetch: int, *, thorough: bool) -> None:
    """Cancelled while pages are fetched, each time that some are, the same iterator goes on with them."""
    shop = Shop(50)
    keys = aiter(shop.listing(prefetch=prefetch, thorough=thorough))
    given: list[int] = []
    cancelled = 0
    while len(given) < 50:
        shop.gates = {page: anyio.Event() for page in range(1, 6)}
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(cancel_when_blocked, scope)
                await take_all(keys, given)
        cancelled += len(given) < 50
        assert shop.in_flight == 0
        shop.gates = {}
        with suppress(StopAsyncIteration):
            given.append((await anext(keys)).id)
    assert given == shop.ids
    assert cancelled >= (1 if thorough else 5 if prefetch == 1 else 2)


@pytest.mark.parametrize("thorough", [False, True])
async def test_cancelled_at_any_step_it_goes_on(*, thorough: bool) -> None:
    """Wherever in a walk the cancellation strikes, the iterator goes on and each key comes once."""
    for steps in range(40):
        shop = Shop(60)
        keys = aiter(shop.listing(prefetch=3, thorough=thorough))
        given: list[int] = []
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(cancel_after, steps, scope)
                await take_all(keys, given)
        await take_all(keys, given)
        assert given == shop.ids


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_cancelled_the_way_of_asyncio() -> None:
    """``task.cancel()`` in the middle of a fetch loses nothing either."""
    shop = Shop(50)
    shop.gates = {5: anyio.Event()}
    keys = aiter(shop.listing(prefetch=3))
    given: list[int] = []

    task = asyncio.create_task(take_all(keys, given))
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert given == list(range(1, 31))
    assert shop.in_flight == 0
    shop.gates = {}
    assert given + await ids_of(keys) == shop.ids


async def test_a_cancelled_walk_frees_its_connections(stocked: Sandbox, gatepay: AsyncGatePay) -> None:
    """Cancelled over a real socket, a walk leaves no busy connection, and goes on."""
    keys = aiter(gatepay.list_card_keys(8, prefetch=6))
    given = [(await anext(keys)).id for _ in range(50)]
    rest: list[int] = []
    stocked.fault(Fault(FaultKind.SLOW, endpoint="ka/show", seconds=60, times=3))
    async with anyio.create_task_group() as group:
        group.start_soon(take_all, keys, rest)
        await until(lambda: len(stocked.requests) >= 7)
        assert busy(gatepay) > 0
        group.cancel_scope.cancel()
    assert busy(gatepay) == 0
    stocked.clear_faults()
    assert given + rest + await ids_of(keys) == stocked.key_ids(8)


@pytest.mark.parametrize("tasks", [2, 5])
async def test_tasks_may_share_an_iterator(tasks: int) -> None:
    """Tasks that take from one iterator get each key once between them, and each sees its end."""
    shop = Shop(95)
    keys = aiter(shop.listing(prefetch=2))
    given: list[int] = []
    ended = 0

    async def take() -> None:
        nonlocal ended
        async for key in keys:
            given.append(key.id)
            await anyio.lowlevel.checkpoint()
        ended += 1

    async with anyio.create_task_group() as group:
        for _ in range(tasks):
            group.start_soon(take)
    assert sorted(given) == shop.ids
    assert ended == tasks
    assert shop.most_in_flight <= 2


# --- Failures ----------------------------------------------------------------------------------------------


@pytest.mark.uncounted
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
async def test_faults_on_the_way(stocked: Sandbox, gatepay: AsyncGatePay, fault: Fault) -> None:
    """Whatever goes wrong on the way now and then, the walk gives every key once, in order."""
    stocked.fault(fault)
    assert await contents(gatepay.list_card_keys(8, prefetch=4)) == stocked.keys(8)
    assert busy(gatepay) == 0


async def test_a_dripping_reply(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """A page that comes byte by byte is a page."""
    sandbox.fault(Fault(FaultKind.DRIP, seconds=0.0005))
    assert await contents(gatepay.list_card_keys(5)) == sandbox.keys(5)


async def test_a_refusal_is_raised(sandbox: Sandbox, gatepay: AsyncGatePay) -> None:
    """A refusal comes out of the listing awaited or iterated, as its class."""
    with pytest.raises(ProductNotFoundError):
        await gatepay.list_card_keys(99)
    with pytest.raises(ProductNotFoundError):
        await contents(gatepay.list_card_keys(99))
    assert len(sandbox.requests) == 2
    with pytest.raises(ProductNotFoundError):
        await contents(gatepay.list_card_keys(99, prefetch=8))


async def test_a_failing_send_is_raised_as_it_is() -> None:
    """What ``send`` raises comes out unchanged, also where it is no error of ours."""
    shop = Shop(20)
    wrong = RuntimeError("a transport's own")
    shop.failures = {1: [wrong, wrong]}
    with pytest.raises(RuntimeError) as caught:
        await shop.listing()
    assert caught.value is wrong
    with pytest.raises(RuntimeError) as caught:
        await ids_of(shop.listing(prefetch=3))
    assert caught.value is wrong


@pytest.mark.parametrize("thorough", [False, True])
async def test_an_error_waits_for_its_turn(*, thorough: bool) -> None:
    """Pages before one that failed are given first; then the error; asked again, that page is tried again."""
    shop = Shop(120)
    shop.failures = {7: [unreachable()] if thorough else [unreachable(), unreachable()]}
    keys = aiter(shop.listing(prefetch=11, thorough=thorough))
    given: list[int] = []
    failed_after: list[int] = []
    while True:
        try:
            given.append((await anext(keys)).id)
        except TransportError:
            failed_after.append(len(given))
        except StopAsyncIteration:
            break
    assert failed_after == ([10] if thorough else [60, 60])  # a thorough block is given as a whole
    assert given == shop.ids


async def test_an_error_of_the_second_reading() -> None:
    """A page that fails when it is read again, thoroughly, is raised in its turn, and tried again when asked again."""
    shop = Shop(50)
    seen: list[int] = []

    def fail_the_second(_: int) -> None:
        # The last call to be answered stands at the end only while one page is fetched at a time.
        if shop.calls.count(1) == 2 and shop.calls[-1] == 1:
            shop.failures = {1: [unreachable()]}
            shop.on_call = lambda _: None

    shop.on_call = fail_the_second
    keys = aiter(shop.listing(thorough=True))
    with pytest.raises(TransportError):
        await take_all(keys, seen)
    assert seen == list(range(1, 11))
    assert seen + await ids_of(keys) == shop.ids


@pytest.mark.parametrize(
    ("page", "path"),
    [
        (page_of(2, 1, number=1, last=1, total=2), "data.ka.data[1].id"),
        (page_of(1, 1, number=1, last=1, total=2), "data.ka.data[1].id"),
        (page_of(1, 2, number=2, last=2, total=2), "data.ka.current_page"),
    ],
)
async def test_rows_that_can_not_be_believed(page: CardKeyPage, path: str) -> None:
    """Rows that don't ascend, or a page beyond the one asked for, are a ProtocolError that names the place."""

    async def send(_: KaShow) -> CardKeyPage:
        await anyio.lowlevel.checkpoint()
        return page

    with pytest.raises(ProtocolError) as caught:
        await ids_of(CardKeyListing(send, KaShow(8), prefetch=1, thorough=False))
    error = caught.value
    assert (error.endpoint, error.http_status, error.path) == ("ka/show", 200, path)
    assert error.__context__ is None  # whatever hung on it would hold card keys
