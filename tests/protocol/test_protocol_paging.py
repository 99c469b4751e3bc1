"""Walks over a listing while the stock changes, tested against a model of the server."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import cycle, pairwise

import pytest
from attrs import define, evolve, field
from hypothesis import given
from hypothesis import strategies as st
from tables import rows

from gatepay_async.protocol.models import CardKey, CardKeyPage
from gatepay_async.protocol.paging import Walk
from gatepay_async.protocol.snapshots import History, Snapshot, snapshot_of_page
from gatepay_async.protocol.values import MisreadError

pytestmark = pytest.mark.fast

CREATED_AT = datetime(2019, 4, 26, tzinfo=UTC)


def row(number: int) -> CardKey:
    return CardKey(
        id=number,
        admin_id=6,
        pay_product_id=8,
        pay_order_id=0,
        content=f"KEY-{number}",
        created_at=CREATED_AT,
        updated_at=CREATED_AT,
        status="soldin",
    )


def page_of(*ids: int, total: int, number: int, last: int, per_page: int = 2) -> CardKeyPage:
    keys = tuple(row(id_) for id_ in ids)
    return CardKeyPage(total=total, per_page=per_page, current_page=number, last_page=last, keys=keys)


@define
class Change:
    """A change of the stock between two reads: some rows are deleted, and rows are added at the end."""

    deleted: list[tuple[int, int]]  # (position of the first deleted row, number of rows)
    added: int

    def deleted_from(self, ids: list[int]) -> set[int]:
        deleted: set[int] = set()
        for position, length in self.deleted:
            start = position % (len(ids) or 1)
            deleted.update(ids[start : start + length])
        return deleted


NO_CHANGE = Change(deleted=[], added=0)


@define
class Server:
    """
    A model of ``ka/show``.

    ``past_end`` is the reply to a request for a page after the last one: "empty" has no rows and the requested number,
    "clamped" is the last page, "echo" has the rows of the last page and the requested number, and "think" (ThinkPHP)
    has no rows and the number of the last page.
    """

    ids: list[int]
    per_page: int
    past_end: str
    changes: Iterator[Change]
    may_offset: bool = True  # a change may add as many rows as it deletes, so that `total` stays the same
    reads: int = 0
    ids_at_start: list[int] = field(factory=list)  # from the first row of the first page read
    all_ids: set[int] = field(factory=set)  # including deleted ones

    def read(self, requested: int) -> CardKeyPage:
        if self.reads:
            self.change()
        self.reads += 1
        self.all_ids.update(self.ids)
        page = self.show(requested)
        if self.reads == 1:
            page_exists = page.keys and page.current_page == requested <= page.last_page
            self.ids_at_start = self.ids[self.ids.index(page.keys[0].id) :] if page_exists else []
        return page

    def change(self) -> None:
        change = next(self.changes, NO_CHANGE)  # no change after the last one
        deleted = change.deleted_from(self.ids)
        added = change.added if self.may_offset or not deleted else min(change.added, len(deleted) - 1)
        newest = max(self.all_ids)
        self.ids = [id_ for id_ in self.ids if id_ not in deleted] + [newest + 1 + step for step in range(added)]

    def show(self, requested: int) -> CardKeyPage:
        last = max(1, -(-len(self.ids) // self.per_page))
        rows_page = min(requested, last) if self.past_end in ("clamped", "echo") else requested
        number = min(requested, last) if self.past_end in ("clamped", "think") else requested
        ids = self.ids[(rows_page - 1) * self.per_page : rows_page * self.per_page]
        return page_of(*ids, total=len(self.ids), number=number, last=last, per_page=self.per_page)


def walk(
    read: Callable[[int], CardKeyPage],
    *,
    first: int = 1,
    prefetch: int = 1,
    thorough: bool = False,
    max_waves: int = 400,
) -> list[int]:
    """Return the ids of all rows that a walk yields. Fail if it takes more than *max_waves* waves."""
    state = Walk(first=first, prefetch=prefetch, thorough=thorough)
    yielded_ids: list[int] = []
    for _ in range(max_waves):
        if state.ended:
            return yielded_ids
        for page in run_wave(state, read):
            assert page.keys
            yielded_ids += [key.id for key in page.keys]
    pytest.fail(f"no end after {max_waves} waves")


def run_wave(state: Walk, read: Callable[[int], CardKeyPage]) -> list[CardKeyPage]:
    """Run one wave of a walk: read its pages, and return the pages that it yields."""
    requested = state.next_wave()
    assert min(requested) >= 1
    return state.receive(requested, {number: read(number) for number in requested})


def assert_nothing_missed(server: Server, yielded_ids: list[int]) -> None:
    """Assert that the walk yielded every row that existed all the time, in ascending order and without repeats."""
    assert is_ascending(yielded_ids)
    existed_all_the_time = set(server.ids_at_start) & set(server.ids)
    assert not existed_all_the_time - set(yielded_ids)
    assert set(yielded_ids) <= server.all_ids


def is_ascending(ids: list[int]) -> bool:
    return all(first < second for first, second in pairwise(ids))


past_ends = st.sampled_from(["empty", "clamped", "echo", "think"])
# Where two ranges of integers are combined, small numbers are drawn more often.
deleted_ranges = st.tuples(
    st.one_of(st.integers(0, 6), st.integers(0, 40)), st.one_of(st.integers(1, 2), st.integers(1, 12))
)
deletions = st.lists(deleted_ranges, max_size=3)
additions = st.integers(0, 5)


def servers(
    deleted: st.SearchStrategy[list[tuple[int, int]]], added: st.SearchStrategy[int], *, may_offset: bool
) -> st.SearchStrategy[Server]:
    changes = st.lists(st.builds(Change, deleted, added), max_size=14)
    return st.builds(
        lambda count, per_page, past_end, changes: Server(
            list(range(1, count + 1)), per_page, past_end, iter(changes), may_offset, all_ids=set(range(count + 1))
        ),
        st.integers(0, 30),
        st.integers(1, 5),
        past_ends,
        changes,
    )


first_pages = st.one_of(st.just(1), st.integers(1, 5))


@given(servers(deletions, st.just(0), may_offset=False), first_pages)
def test_walk_misses_no_row_when_rows_are_deleted(server: Server, first: int) -> None:
    """When rows are deleted between any two reads, the walk yields each remaining row exactly once."""
    assert_nothing_missed(server, walk(server.read, first=first))


@given(servers(st.just([]), additions, may_offset=False), first_pages)
def test_walk_misses_no_row_when_rows_are_added(server: Server, first: int) -> None:
    """When rows are added between any two reads, the walk yields each earlier row exactly once."""
    assert_nothing_missed(server, walk(server.read, first=first))


@given(servers(deletions, additions, may_offset=False), first_pages)
def test_walk_misses_no_row_when_every_deletion_changes_the_total(server: Server, first: int) -> None:
    """The walk misses no row as long as no interval between two reads adds as many rows as it deletes."""
    assert_nothing_missed(server, walk(server.read, first=first))


@given(servers(deletions, additions, may_offset=True), first_pages)
def test_thorough_walk_misses_no_row_after_any_change(server: Server, first: int) -> None:
    """A thorough walk misses no row, whatever is deleted and added between any two reads."""
    assert_nothing_missed(server, walk(server.read, first=first, thorough=True))


def make_server(count: int, per_page: int, *changes: Change, past_end: str = "empty") -> Server:
    ids = list(range(1, count + 1))
    return Server(ids, per_page, past_end, iter(changes), all_ids=set(range(count + 1)))


FIRST_ROW_DELETED = Change(deleted=[(0, 1)], added=0)
FIRST_ROW_DELETED_AND_ONE_ADDED = Change(deleted=[(0, 1)], added=1)
ONE_ROW_ADDED = Change(deleted=[], added=1)


def test_rows_deleted_while_reading_backwards_hide_no_row() -> None:
    """The walk reads backwards after a deletion. Another deletion, offset by an addition, must not hide a row."""
    server = make_server(6, 2, FIRST_ROW_DELETED, FIRST_ROW_DELETED, ONE_ROW_ADDED)
    assert walk(server.read) == [1, 2, 3, 4, 5, 6, 7]


def test_rows_that_moved_before_the_first_page_are_found() -> None:
    """If deletions move rows to pages before the first page of the walk, the walk finds them there."""
    server = make_server(4, 1, Change(deleted=[(0, 2)], added=0))
    assert walk(server.read, first=2) == [2, 3, 4]


@rows(
    ("changes", "reads"),
    [
        ([], 6),
        ([ONE_ROW_ADDED] * 3, 8),  # two more pages
        ([FIRST_ROW_DELETED], 7),  # page 1 again
        ([NO_CHANGE, NO_CHANGE, FIRST_ROW_DELETED], 7),  # page 3 again
        ([Change(deleted=[(0, 2)], added=0)], 6),  # page 1 again, but page 6 is gone
        ([NO_CHANGE, NO_CHANGE, Change(deleted=[(0, 4)], added=0)], 8),  # pages 3, 2 and 1 again, then 2 to 4
        ([FIRST_ROW_DELETED, FIRST_ROW_DELETED], 7),  # pages 1 and 2 again, but page 6 is gone
    ],
)
def test_pages_are_read_again_only_as_far_back_as_needed(changes: list[Change], reads: int) -> None:
    """A walk reads each page once. After a deletion, it reads back only as far as rows have moved."""
    server = make_server(12, 2, *changes)
    assert_nothing_missed(server, walk(server.read))
    assert server.reads == reads


def test_only_a_thorough_walk_detects_a_deletion_offset_by_an_addition() -> None:
    """``total`` doesn't show the change: a plain walk misses row 3, a thorough walk doesn't (a documented limit)."""
    assert walk(make_server(6, 2, FIRST_ROW_DELETED_AND_ONE_ADDED).read) == [1, 2, 4, 5, 6, 7]
    assert walk(make_server(6, 2, FIRST_ROW_DELETED_AND_ONE_ADDED).read, thorough=True) == [1, 2, 3, 4, 5, 6, 7]


@rows("past_end", ["empty", "clamped", "echo", "think"])
@rows("thorough", [False, True])
@rows("count", [0, 1, 4, 5, 6])
def test_unchanged_stock_needs_one_read_per_page(count: int, past_end: str, *, thorough: bool) -> None:
    """If nothing changes, the walk reads each page once. A thorough walk reads one page twice."""
    server = make_server(count, 2, past_end=past_end)
    assert walk(server.read, thorough=thorough) == list(range(1, count + 1))
    pages = max(1, -(-count // 2))
    assert server.reads == (pages + 1 if thorough and pages > 1 else pages)


@rows("past_end", ["empty", "clamped", "think"])
def test_walk_that_starts_after_the_last_page_yields_nothing(past_end: str) -> None:
    """The walk yields nothing, whatever the server replies for a page after the last one."""
    assert walk(make_server(4, 2, past_end=past_end).read, first=3) == []


@rows("thorough", [False, True])
@rows("past_end", ["empty", "echo"])
@rows("count", [0, 3, 4])
def test_walk_ends_despite_a_last_page_that_is_never_reached(count: int, past_end: str, *, thorough: bool) -> None:
    """If ``last_page`` is far too large, the first page that is empty or repeats rows ends the walk."""
    server = make_server(count, 2, past_end=past_end)
    yielded_ids = walk(
        lambda requested: evolve(server.show(requested), last_page=10**9), thorough=thorough, max_waves=9
    )
    assert yielded_ids == list(range(1, count + 1))


def with_page_sizes(server: Server, sizes: Iterator[int]) -> Callable[[int], CardKeyPage]:
    """Return a function that reads a page of *server* and then sets the next page size."""

    def read(requested: int) -> CardKeyPage:
        page = server.read(requested)
        server.per_page = next(sizes, server.per_page)
        return page

    return read


@given(servers(deletions, st.just(0), may_offset=False), st.integers(0, 9), st.integers(1, 6), first_pages)
def test_walk_misses_no_row_when_the_page_size_changes(
    server: Server, unchanged_reads: int, new_size: int, first: int
) -> None:
    """A ``per_page`` that changes in the middle of a walk hides no row."""
    sizes = [server.per_page] * unchanged_reads + [new_size]
    assert_nothing_missed(server, walk(with_page_sizes(server, iter(sizes)), first=first))


@given(
    count=st.integers(0, 30),
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    first=first_pages,
    thorough=st.booleans(),
)
def test_walk_ends_when_the_page_size_changes_with_every_read(
    count: int, sizes: list[int], *, first: int, thorough: bool
) -> None:
    """A ``per_page`` that changes with every read neither makes the walk endless nor repeats a row."""
    server = make_server(count, sizes[0])
    try:
        yielded_ids = walk(with_page_sizes(server, cycle(sizes)), first=first, thorough=thorough)
    except MisreadError as error:
        assert error.path == "data.ka.total"  # noqa: PT017 -- the walk may also end without an error
        return
    assert is_ascending(yielded_ids)


any_pages = st.builds(
    CardKeyPage,
    total=st.integers(-1, 9),
    per_page=st.integers(0, 4),
    current_page=st.integers(-1, 9),
    last_page=st.one_of(st.integers(-1, 9), st.just(10**9)),
    keys=st.lists(st.integers(0, 30), max_size=4, unique=True).map(sorted).map(lambda ids: tuple(map(row, ids))),
)


@given(replies=st.lists(any_pages, min_size=1, max_size=12), first=first_pages, thorough=st.booleans())
def test_inconsistent_replies_end_the_walk_or_raise(replies: list[CardKeyPage], *, first: int, thorough: bool) -> None:
    """Replies that contradict each other end the walk or raise ``MisreadError``. No row is yielded twice."""
    reads = 0

    def read(_: int) -> CardKeyPage:
        nonlocal reads
        reads += 1
        return replies[min(reads, len(replies)) - 1]

    try:
        yielded_ids = walk(read, first=first, thorough=thorough)
    except MisreadError as error:
        assert error.path in ("data.ka.current_page", "data.ka.per_page", "data.ka.total")  # noqa: PT017 -- the walk may also end without an error
    else:
        assert is_ascending(yielded_ids)


@rows(
    ("number", "last", "requested", "problem"),
    [
        (3, 9, 2, "is after the requested page"),
        (10**9, 1, 1, "is after the requested page"),
        (1, 9, 2, "is before the requested page"),
        (1, 2, 2, "is before the requested page"),
    ],
)
def test_reply_with_another_page_number_is_rejected(number: int, last: int, requested: int, problem: str) -> None:
    """A reply for another page than the requested one is rejected, except for the last page."""
    with pytest.raises(MisreadError) as caught:
        Walk(first=requested, thorough=False).receive(
            [requested], {requested: page_of(5, 6, total=99, number=number, last=last)}
        )
    assert (caught.value.path, caught.value.problem) == ("data.ka.current_page", problem)


@rows("number", [0, -1])
def test_invalid_current_page_counts_as_the_requested_page(number: int) -> None:
    """A ``current_page`` below 1 counts as the requested page."""
    state = Walk(first=2, thorough=False)
    assert len(state.receive([2], {2: page_of(5, 6, total=9, number=number, last=5)})) == 1
    assert state.next_wave() == [3]


@rows(("ids", "wrong_index"), [((2, 1), 1), ((1, 1), 1), ((1, 2, 5, 4), 3), ((3, 2, 1), 1)])
def test_rows_not_in_ascending_order_are_rejected(ids: tuple[int, ...], wrong_index: int) -> None:
    """Rows not in ascending order of ``id`` are rejected. The error names the first wrong row."""
    with pytest.raises(MisreadError) as caught:
        Walk(first=1, thorough=False).receive([1], {1: page_of(*ids, total=9, number=1, last=1)})
    assert caught.value.path == f"data.ka.data[{wrong_index}].id"


@rows(
    ("changes", "drifted"),
    [
        ([], False),
        ([FIRST_ROW_DELETED], True),
        ([ONE_ROW_ADDED], True),
        ([NO_CHANGE, Change(deleted=[(9, 1)], added=0)], True),
    ],
)
def test_drifted_is_true_if_the_total_changed(changes: list[Change], *, drifted: bool) -> None:
    """``drifted`` is true if a ``total`` changed during the walk."""
    server = make_server(12, 2, *changes)
    state = Walk(first=1, thorough=False)
    while not state.ended:
        run_wave(state, server.read)
    assert state.drifted is drifted


def test_thorough_walk_reports_drift_that_the_total_hides() -> None:
    """A thorough walk reports a change even if ``total`` stayed the same."""
    server = make_server(6, 2, FIRST_ROW_DELETED_AND_ONE_ADDED)
    state = Walk(first=1, thorough=True)
    while not state.ended:
        run_wave(state, server.read)
    assert state.drifted


def test_thorough_walk_of_a_growing_stock_ends_with_few_reads() -> None:
    """If the stock grows before every second or third reply, the walk ends with at most 8 reads per page."""
    for interval, prefetch in ((2, 7), (2, 20), (3, 2)):
        server = make_server(100, 5, *[Change(deleted=[], added=int(step % interval == 0)) for step in range(1000)])
        assert_nothing_missed(server, walk(server.read, prefetch=prefetch, thorough=True, max_waves=1000))
        assert server.reads <= 8 * len(server.ids) / server.per_page, (interval, prefetch)


def test_previous_page_is_read_again_when_the_total_shrinks() -> None:
    """The new page is held back until the previous page was read again. Then the rows of both are yielded."""
    state = Walk(first=1, thorough=False)
    first = page_of(1, 2, total=5, number=1, last=3)
    assert state.receive([1], {1: first}) == [first]
    assert state.next_wave() == [2]
    second = page_of(4, 5, total=4, number=2, last=2)
    assert state.receive([2], {2: second}) == []
    assert state.next_wave() == [1]
    first_again = page_of(2, 3, total=4, number=1, last=2)
    assert state.receive([1], {1: first_again}) == [evolve(first_again, keys=(row(3),)), second]
    assert (state.ended, state.drifted) == (True, True)


def test_pages_of_a_wave_with_different_totals_are_held_back() -> None:
    """If the totals in a wave differ, its pages are yielded only if they overlap with rows already yielded."""
    state = Walk(first=1, prefetch=2, thorough=False)
    state.receive(
        [1, 2], {number: page_of(2 * number - 1, 2 * number, total=8, number=number, last=4) for number in (1, 2)}
    )
    # Row 1 is deleted, rows 9 and 10 are added, page 4 is read, row 10 is deleted, page 3 is read: now row 5 is on
    # page 2.
    fourth = page_of(8, 9, total=9, number=4, last=5)
    third = page_of(6, 7, total=8, number=3, last=4)
    assert state.receive([3, 4], {3: third, 4: fourth}) == []
    assert state.next_wave()[0] == 2


def test_refused_page_in_a_wave_counts_as_a_deletion() -> None:
    """If one reply of a wave says that a page exists and another refuses that page, rows may have been deleted."""
    state = Walk(first=1, prefetch=2, thorough=False)
    state.receive(
        [1, 2], {number: page_of(2 * number - 1, 2 * number, total=8, number=number, last=4) for number in (1, 2)}
    )
    # Rows 1 and 2 are deleted, page 4 is refused, two rows are added, page 3 is read: now row 5 is on page 2.
    assert state.receive([3, 4], {3: page_of(7, 8, total=8, number=3, last=4), 4: None}) == []
    assert state.next_wave()[0] == 2


@rows(
    # The totals in the earlier wave and in the later one, whether the later one shows that a page has vanished, and
    # whether the total may have fallen and may have risen between the two.
    ("before", "after", "page_has_vanished", "fell_and_rose"),
    [
        ([8], [8], False, (False, False)),
        ([8], [7], False, (True, False)),
        ([7], [8], False, (False, True)),
        # Within one wave, the order of the replies is unknown.
        ([7], [7, 8], False, (True, True)),
        ([8], [8, 7], False, (True, True)),
        ([7, 8], [8], False, (True, True)),
        ([8, 7], [7], False, (True, True)),
        ([8], [8], True, (True, True)),
    ],
)
def test_history_reports_possible_falls_and_rises_of_the_total(
    before: list[int], after: list[int], fell_and_rose: tuple[bool, bool], *, page_has_vanished: bool
) -> None:
    """Only the totals of the two waves and of the waves between count. Earlier and later waves don't."""
    history = History(thorough=False)
    history.begin_wave([1, 99], page_has_vanished=True)
    wave_before = history.begin_wave(before, page_has_vanished=False)
    wave_after = history.begin_wave(after, page_has_vanished=page_has_vanished)
    history.begin_wave([1, 99], page_has_vanished=True)
    assert (
        history.may_have_fallen(wave_before, wave_after),
        history.may_have_risen(wave_before, wave_after),
    ) == fell_and_rose


@rows(
    # Each wave is a list of pages: (number, id of the first row). `behind` and `ahead` choose two pages, counted from 0
    # through all waves. `no_gap`: whether it is proven that no row between these two is missing.
    ("waves", "behind", "ahead", "no_gap"),
    [
        ([[(3, 5)], [(1, 1)], [(2, 3)], [(3, 5)]], 1, 2, True),
        ([[(3, 5)], [(2, 3)], [(3, 5)]], 1, 2, True),
        # Row 1 was deleted between the two pages, before row 6 was read for the first time. So row 3 is missing.
        ([[(1, 1)], [(3, 6)], [(2, 4)], [(3, 6)]], 0, 2, False),
        ([[(1, 1), (3, 6)], [(2, 4)], [(3, 6)]], 0, 2, False),
        # Row 1 was deleted after row 5 was read for the second time.
        ([[(3, 5)], [(1, 1)], [(3, 5)], [(2, 4)]], 1, 3, False),
        ([[(3, 5)], [(1, 1)], [(3, 5), (2, 4)]], 1, 3, False),
        # Row 4 was deleted. It comes after row 2, which was read twice. So row 5 is missing.
        ([[(1, 1)], [(2, 3)], [(3, 6)], [(1, 1)]], 1, 2, False),
        # Row 1 was deleted during a wave.
        ([[(1, 1), (2, 4)]], 0, 1, False),
    ],
)
def test_row_with_an_unchanged_rank_proves_that_no_earlier_row_was_deleted(
    waves: list[list[tuple[int, int]]], behind: int, ahead: int, *, no_gap: bool
) -> None:
    """The proof holds only for rows before that row, and only between the two times at which it was read."""
    history = History(thorough=True)
    snapshots: list[Snapshot] = []
    for pages in waves:
        wave = history.begin_wave([8], page_has_vanished=False)
        new_snapshots = [
            snapshot_of_page(number, page_of(first, first + 1, total=8, number=number, last=4), wave)
            for number, first in pages
        ]
        history.record_unchanged_ranks(snapshots, new_snapshots, oldest=0)
        snapshots += new_snapshots
    assert history.proves_no_gap(snapshots[behind], snapshots[ahead]) == no_gap


def test_only_the_missing_page_of_a_wave_is_requested_again() -> None:
    """The pages after it wait for it, as long as ``total`` doesn't change."""
    state = Walk(first=1, prefetch=4, thorough=False)
    replies = {number: page_of(2 * number - 1, 2 * number, total=12, number=number, last=6) for number in (1, 3, 4)}
    assert state.receive([1, 2, 3, 4], replies) == [replies[1]]
    assert state.next_wave() == [2, 5]


def test_rise_of_the_total_invalidates_a_page_read_earlier() -> None:
    """If page 2 was read before page 1, and ``total`` rose in between, a row may be missing between the two pages."""
    state = Walk(first=1, thorough=False)
    state.receive([1], {1: page_of(3, 4, total=7, number=1, last=4)})
    state.receive([2], {2: page_of(6, 7, total=6, number=2, last=3)})  # row 3 was deleted: row 5 is on page 1
    # Rows 2 and 3 are restored before page 1 is read again: row 5 is on page 2.
    assert state.receive([1], {1: page_of(2, 3, total=8, number=1, last=4)}) == []
    assert state.next_wave() in ([1], [2])
    assert not state.ended


def test_page_size_below_1_is_rejected() -> None:
    """If ``per_page`` is below 1, the positions of the rows are unknown."""
    with pytest.raises(MisreadError) as caught:
        Walk(first=1, thorough=False).receive([1], {1: page_of(1, total=1, number=1, last=1, per_page=0)})
    assert caught.value.path == "data.ka.per_page"


@pytest.mark.parametrize("thorough", [False, True])
def test_stock_that_never_stops_changing_raises(*, thorough: bool) -> None:
    """If ``total`` changes with every page and rows never overlap, the walk raises ``MisreadError``."""
    state = Walk(first=1, prefetch=3, thorough=thorough)
    reads = 0

    def read(requested: int) -> CardKeyPage:
        nonlocal reads
        reads += 1
        if reads == 1:
            return page_of(1, 2, total=41, number=1, last=21)
        shift = 1000 * reads
        ids = (shift + requested, shift + requested + 1) if requested > 1 else (0, 1)
        # Page 1 has another total than all other pages.
        return page_of(*ids, total=41 if requested == 1 else 40, number=requested, last=21)

    for _ in range(2):  # after the error, the walk can be continued, and raises again
        with pytest.raises(MisreadError) as caught:  # noqa: PT012 -- any of the waves may raise
            while not state.ended:
                run_wave(state, read)
        assert caught.value.path == "data.ka.total"
    assert reads < 2000


def test_stock_that_grows_as_fast_as_it_is_read_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk can't reach the end of the stock. It raises ``MisreadError`` at the limit of calls."""
    monkeypatch.setattr("gatepay_async.protocol.paging._MAX_CALLS", 100)
    state = Walk(first=1, thorough=False)
    with pytest.raises(MisreadError):  # noqa: PT012 -- any of the waves may raise
        while not state.ended:
            run_wave(
                state,
                lambda requested: page_of(
                    2 * requested, 2 * requested + 1, total=2 * requested + 2, number=requested, last=requested + 1
                ),
            )
