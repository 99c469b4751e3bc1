"""Walking pages of a stock that changes under the walk, against a model of the server."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import cycle, pairwise

import pytest
from attrs import define, evolve, field
from hypothesis import given
from hypothesis import strategies as st
from tables import rows

from gatepay_async.protocol.codec import MisreadError
from gatepay_async.protocol.models import CardKey, CardKeyPage
from gatepay_async.protocol.paging import Walk
from gatepay_async.protocol.snapshots import History, Snapshot, snapshot_of_page

pytestmark = pytest.mark.fast

THEN = datetime(2019, 4, 26, tzinfo=UTC)


def row(number: int) -> CardKey:
    return CardKey(number, 6, 8, 0, f"KEY-{number}", THEN, THEN, "soldin")


def page_of(*ids: int, total: int, number: int, last: int, per_page: int = 2) -> CardKeyPage:
    return CardKeyPage(total, per_page, number, last, tuple(row(id_) for id_ in ids))


@define
class Change:
    """What happens to the stock between two reads: rows deleted, by their place, and rows added at the end."""

    deleted: list[tuple[int, int]]  # (place, how many from there on)
    added: int

    def of(self, ids: list[int]) -> set[int]:
        gone: set[int] = set()
        for place, length in self.deleted:
            at = place % (len(ids) or 1)
            gone.update(ids[at : at + length])
        return gone


@define
class Server:
    """ka/show, page by page: what a page past the last is, its reader chooses."""

    ids: list[int]
    per_page: int
    past: str  # of a page past the last: "empty", "clamped" to the last, "echo" of its rows, "think": empty, clamped
    changes: Iterator[Change]
    hides: bool = True  # an addition may hide a deletion of the same interval from `total`
    reads: int = 0
    began: list[int] = field(factory=list)
    ever: set[int] = field(factory=set)

    def read(self, asked: int) -> CardKeyPage:
        if self.reads:
            self.change()
        self.reads += 1
        self.ever.update(self.ids)
        page = self.show(asked)
        if self.reads == 1:
            there = page.keys and page.current_page == asked <= page.last_page
            self.began = self.ids[self.ids.index(page.keys[0].id) :] if there else []
        return page

    def change(self) -> None:
        change = next(self.changes, Change([], 0))
        gone = change.of(self.ids)
        added = change.added if self.hides or not gone else min(change.added, len(gone) - 1)
        newest = max(self.ever)
        self.ids = [id_ for id_ in self.ids if id_ not in gone] + [newest + 1 + step for step in range(added)]

    def show(self, asked: int) -> CardKeyPage:
        last = max(1, -(-len(self.ids) // self.per_page))
        rows_of = min(asked, last) if self.past in ("clamped", "echo") else asked
        shown = min(asked, last) if self.past in ("clamped", "think") else asked
        rows = self.ids[(rows_of - 1) * self.per_page : rows_of * self.per_page]
        return page_of(*rows, total=len(self.ids), number=shown, last=last, per_page=self.per_page)


def walk(
    read: Callable[[int], CardKeyPage],
    *,
    first: int = 1,
    prefetch: int = 1,
    thorough: bool = False,
    most: int = 400,
) -> list[int]:
    """The ids that a walk gives; fails when it takes more than *most* waves."""
    state = Walk(first=first, prefetch=prefetch, thorough=thorough)
    given_ids: list[int] = []
    for _ in range(most):
        if state.ended:
            return given_ids
        for page in take(state, read):
            assert page.keys
            given_ids += [key.id for key in page.keys]
    pytest.fail(f"no end after {most} waves")


def take(state: Walk, read: Callable[[int], CardKeyPage]) -> list[CardKeyPage]:
    """One wave of a walk."""
    asked = state.next_wave()
    assert min(asked) >= 1
    return state.receive(asked, {number: read(number) for number in asked})


def check(server: Server, given_ids: list[int]) -> None:
    """Each key that was there all along is given, in ascending order, none twice, none that never was."""
    assert all(one < after for one, after in pairwise(given_ids))
    stayed = set(server.began) & set(server.ids)
    assert not stayed - set(given_ids)
    assert set(given_ids) <= server.ever


pasts = st.sampled_from(["empty", "clamped", "echo", "think"])
places = st.tuples(st.one_of(st.integers(0, 6), st.integers(0, 40)), st.one_of(st.integers(1, 2), st.integers(1, 12)))
deletions = st.lists(places, max_size=3)
additions = st.integers(0, 5)


def servers(
    deleted: st.SearchStrategy[list[tuple[int, int]]], added: st.SearchStrategy[int], *, hides: bool
) -> st.SearchStrategy[Server]:
    changes = st.lists(st.builds(Change, deleted, added), max_size=14)
    return st.builds(
        lambda count, per_page, past, changes: Server(
            list(range(1, count + 1)), per_page, past, iter(changes), hides, ever=set(range(count + 1))
        ),
        st.integers(0, 30),
        st.integers(1, 5),
        pasts,
        changes,
    )


firsts = st.one_of(st.just(1), st.integers(1, 5))


@given(servers(deletions, st.just(0), hides=False), firsts)
def test_deletions_hide_nothing(server: Server, first: int) -> None:
    """Keys deleted anywhere between any two reads neither hide a key that stays nor give one twice."""
    check(server, walk(server.read, first=first))


@given(servers(st.just([]), additions, hides=False), firsts)
def test_additions_hide_nothing(server: Server, first: int) -> None:
    """Keys added between any two reads neither hide a key that was there nor give one twice."""
    check(server, walk(server.read, first=first))


@given(servers(deletions, additions, hides=False), firsts)
def test_a_mix_that_the_total_shows(server: Server, first: int) -> None:
    """Deletions and additions in any order hide nothing, as long as no interval adds what it deletes."""
    check(server, walk(server.read, first=first))


@given(servers(deletions, additions, hides=True), firsts)
def test_thorough_survives_any_mix(server: Server, first: int) -> None:
    """A thorough walk misses nothing, whatever is deleted and added between any two reads."""
    check(server, walk(server.read, first=first, thorough=True))


def at_work(count: int, per_page: int, *changes: Change, past: str = "empty", hides: bool = True) -> Server:
    ids = list(range(1, count + 1))
    return Server(ids, per_page, past, iter(changes), hides, ever=set(range(count + 1)))


first_row = [(0, 1)]


def test_a_deletion_while_reading_back() -> None:
    """What is deleted while the walk reads back is missed by no later page, though an addition evens the total out."""
    server = at_work(6, 2, Change(first_row, 0), Change(first_row, 0), Change([], 1))
    assert walk(server.read) == [1, 2, 3, 4, 5, 6, 7]


def test_reading_back_before_the_first_page() -> None:
    """Keys that are pulled before the page that the walk began at are found there."""
    server = at_work(4, 1, Change([(0, 2)], 0))
    assert walk(server.read, first=2) == [2, 3, 4]


@rows(
    ("changes", "reads"),
    [
        ([], 6),
        ([Change([], 1)] * 3, 8),  # two pages more
        ([Change(first_row, 0)], 7),  # page 1 again
        ([Change([], 0), Change([], 0), Change(first_row, 0)], 7),
        ([Change([(0, 2)], 0)], 6),  # page 1 again, but page 6 is gone
        ([Change([], 0), Change([], 0), Change([(0, 4)], 0)], 8),  # pages 3, 2 and 1 again, then 2 to 4
        ([Change(first_row, 0), Change(first_row, 0)], 7),  # pages 1 and 2 again, but page 6 is gone
    ],
)
def test_how_many_reads(changes: list[Change], reads: int) -> None:
    """A walk reads each page once, and again only as far back as what was deleted reaches."""
    server = at_work(12, 2, *changes)
    check(server, walk(server.read))
    assert server.reads == reads


def test_an_addition_may_hide_a_deletion() -> None:
    """What the design says a plain walk can't see, it doesn't see; a thorough one does."""
    assert walk(at_work(6, 2, Change(first_row, 1)).read) == [1, 2, 4, 5, 6, 7]
    assert walk(at_work(6, 2, Change(first_row, 1)).read, thorough=True) == [1, 2, 3, 4, 5, 6, 7]


@rows("past", ["empty", "clamped", "echo", "think"])
@rows("thorough", [False, True])
@rows("count", [0, 1, 4, 5, 6])
def test_a_quiet_stock(count: int, past: str, *, thorough: bool) -> None:
    """Where nothing changes each key is given once, for one read a page; thorough, the first one is read again."""
    server = at_work(count, 2, past=past)
    assert walk(server.read, thorough=thorough) == list(range(1, count + 1))
    pages = max(1, -(-count // 2))
    assert server.reads == (pages + 1 if thorough and pages > 1 else pages)


@rows("past", ["empty", "clamped", "think"])
def test_a_walk_from_past_the_last_page(past: str) -> None:
    """A walk that begins past the last page gives nothing, however the server answers."""
    assert walk(at_work(4, 2, past=past).read, first=3) == []


@rows("thorough", [False, True])
@rows("past", ["empty", "echo"])
@rows("count", [0, 3, 4])
def test_a_last_page_far_too_big(count: int, past: str, *, thorough: bool) -> None:
    """A server whose last_page never comes, and that repeats its last rows, ends the walk with the first repetition."""
    server = at_work(count, 2, past=past)
    given_ids = walk(lambda asked: evolve(server.show(asked), last_page=10**9), thorough=thorough, most=9)
    assert given_ids == list(range(1, count + 1))


def resized(server: Server, sizes: Iterator[int]) -> Callable[[int], CardKeyPage]:
    def read(asked: int) -> CardKeyPage:
        page = server.read(asked)
        server.per_page = next(sizes, server.per_page)
        return page

    return read


@given(servers(deletions, st.just(0), hides=False), st.integers(0, 9), st.integers(1, 6), firsts)
def test_the_page_size_changes(server: Server, after: int, size: int, first: int) -> None:
    """A per_page that changes in the middle of a walk makes it miss nothing."""
    sizes = [server.per_page] * after + [size]
    check(server, walk(resized(server, iter(sizes)), first=first))


@given(
    count=st.integers(0, 30),
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    first=firsts,
    thorough=st.booleans(),
)
def test_the_page_size_never_rests(count: int, sizes: list[int], *, first: int, thorough: bool) -> None:
    """A per_page that changes with every read neither makes the walk endless nor gives a key twice."""
    server = at_work(count, sizes[0])
    try:
        given_ids = walk(resized(server, cycle(sizes)), first=first, thorough=thorough)
    except MisreadError as error:
        assert error.path == "data.ka.total"  # noqa: PT017 -- a walk that ends is right too
        return
    assert all(one < after for one, after in pairwise(given_ids))


anything = st.builds(
    CardKeyPage,
    st.integers(-1, 9),
    st.integers(0, 4),
    st.integers(-1, 9),
    st.one_of(st.integers(-1, 9), st.just(10**9)),
    st.lists(st.integers(0, 30), max_size=4, unique=True).map(sorted).map(lambda ids: tuple(map(row, ids))),
)


@given(replies=st.lists(anything, min_size=1, max_size=12), first=firsts, thorough=st.booleans())
def test_any_server_at_all(replies: list[CardKeyPage], *, first: int, thorough: bool) -> None:
    """Replies that fit nothing end the walk, or are not believed; they never make it give a key twice."""
    reads = 0

    def read(_: int) -> CardKeyPage:
        nonlocal reads
        reads += 1
        return replies[min(reads, len(replies)) - 1]

    try:
        given_ids = walk(read, first=first, thorough=thorough)
    except MisreadError as error:
        assert error.path in ("data.ka.current_page", "data.ka.per_page", "data.ka.total")  # noqa: PT017 -- a walk that ends is right too
    else:
        assert all(one < after for one, after in pairwise(given_ids))


@rows(
    ("number", "last", "asked", "problem"),
    [
        (3, 9, 2, "is a later page than was asked for"),
        (10**9, 1, 1, "is a later page than was asked for"),
        (1, 9, 2, "is an earlier page than was asked for"),
        (1, 2, 2, "is an earlier page than was asked for"),
    ],
)
def test_another_page(number: int, last: int, asked: int, problem: str) -> None:
    """A reply that says it is another page, and not the last one, is not believed."""
    with pytest.raises(MisreadError) as caught:
        Walk(first=asked, thorough=False).receive([asked], {asked: page_of(5, 6, total=99, number=number, last=last)})
    assert (caught.value.path, caught.value.problem) == ("data.ka.current_page", problem)


@rows("number", [0, -1])
def test_a_page_without_a_number(number: int) -> None:
    """A current_page that is no page's number counts as the page that was asked for."""
    state = Walk(first=2, thorough=False)
    assert len(state.receive([2], {2: page_of(5, 6, total=9, number=number, last=5)})) == 1
    assert state.next_wave() == [3]


@rows(("ids", "wrong"), [((2, 1), 1), ((1, 1), 1), ((1, 2, 5, 4), 3), ((3, 2, 1), 1)])
def test_rows_that_do_not_ascend(ids: tuple[int, ...], wrong: int) -> None:
    """Rows in another order than ascending id are not believed; the error names the first one."""
    with pytest.raises(MisreadError) as caught:
        Walk(first=1, thorough=False).receive([1], {1: page_of(*ids, total=9, number=1, last=1)})
    assert caught.value.path == f"data.ka.data[{wrong}].id"


@rows(
    ("changes", "drifted"),
    [
        ([], False),
        ([Change(first_row, 0)], True),
        ([Change([], 1)], True),
        ([Change([], 0), Change([(9, 1)], 0)], True),
    ],
)
def test_drifted(changes: list[Change], *, drifted: bool) -> None:
    """Drifted says whether total or per_page moved during the walk."""
    server = at_work(12, 2, *changes)
    state = Walk(first=1, thorough=False)
    while not state.ended:
        take(state, server.read)
    assert state.drifted is drifted


def test_drifted_under_a_thorough_walk() -> None:
    """A thorough walk also notices a change that the total hides."""
    server = at_work(6, 2, Change(first_row, 1))
    state = Walk(first=1, thorough=True)
    while not state.ended:
        take(state, server.read)
    assert state.drifted


def test_thorough_while_keys_are_added_all_the_time() -> None:
    """A stock that grows before every second or third reply ends a thorough walk, and each page costs few calls."""
    for every, prefetch in ((2, 7), (2, 20), (3, 2)):
        server = at_work(100, 5, *[Change([], int(step % every == 0)) for step in range(1000)])
        check(server, walk(server.read, prefetch=prefetch, thorough=True, most=1000))
        assert server.reads <= 8 * len(server.ids) / server.per_page, (every, prefetch)


def test_the_page_before_is_read_again() -> None:
    """After a shrunk total the page before is asked for again, and both are given once it has come."""
    state = Walk(first=1, thorough=False)
    one = page_of(1, 2, total=5, number=1, last=3)
    assert state.receive([1], {1: one}) == [one]
    assert state.next_wave() == [2]
    two = page_of(4, 5, total=4, number=2, last=2)
    assert state.receive([2], {2: two}) == []
    assert state.next_wave() == [1]
    again = page_of(2, 3, total=4, number=1, last=2)
    assert state.receive([1], {1: again}) == [evolve(again, keys=(row(3),)), two]
    assert (state.ended, state.drifted) == (True, True)


def test_replies_of_one_wave_have_no_order() -> None:
    """Where the totals of a wave differ its pages don't follow each other, nor the one before, unless they overlap."""
    state = Walk(first=1, prefetch=2, thorough=False)
    state.receive(
        [1, 2], {number: page_of(2 * number - 1, 2 * number, total=8, number=number, last=4) for number in (1, 2)}
    )
    # A key was added, page 4 read, key 1 sold, page 3 read: 5 is on neither of them, but on page 2.
    fourth = page_of(8, 9, total=9, number=4, last=5)
    third = page_of(6, 7, total=8, number=3, last=4)
    assert state.receive([3, 4], {3: third, 4: fourth}) == []
    assert state.next_wave()[0] == 2


def test_a_refusal_of_one_wave_has_no_order_either() -> None:
    """A page that was refused although another says that it is there shows a fall that no total shows."""
    state = Walk(first=1, prefetch=2, thorough=False)
    state.receive(
        [1, 2], {number: page_of(2 * number - 1, 2 * number, total=8, number=number, last=4) for number in (1, 2)}
    )
    # Keys 1 and 2 were sold, page 4 refused, two keys added, page 3 read: 5 is on neither of them, but on page 2.
    assert state.receive([3, 4], {3: page_of(7, 8, total=8, number=3, last=4), 4: None}) == []
    assert state.next_wave()[0] == 2


@rows(
    ("before", "after", "has_gone", "changed"),
    [
        ([8], [8], False, (False, False)),
        ([8], [7], False, (True, False)),
        ([7], [8], False, (False, True)),
        # Of one wave nobody knows which reply came first.
        ([7], [7, 8], False, (True, True)),
        ([8], [8, 7], False, (True, True)),
        ([7, 8], [8], False, (True, True)),
        ([8, 7], [7], False, (True, True)),
        ([8], [8], True, (True, True)),
    ],
)
def test_what_totals_show(before: list[int], after: list[int], changed: tuple[bool, bool], *, has_gone: bool) -> None:
    """A fall and a rise between two waves, or within either; what came before and later is nothing to them."""
    history = History(thorough=False)
    history.begin_wave([1, 99], has_gone=True)
    since, until = history.begin_wave(before, has_gone=False), history.begin_wave(after, has_gone=has_gone)
    history.begin_wave([1, 99], has_gone=True)
    assert (history.may_have_fallen(since, until), history.may_have_risen(since, until)) == changed


@rows(
    ("waves", "behind", "ahead", "joins"),  # each page of a wave by its number and its first id
    [
        ([[(3, 5)], [(1, 1)], [(2, 3)], [(3, 5)]], 1, 2, True),
        ([[(3, 5)], [(2, 3)], [(3, 5)]], 1, 2, True),
        # 1 was sold between the two pages, before the row was seen for the first time: 3 is missing.
        ([[(1, 1)], [(3, 6)], [(2, 4)], [(3, 6)]], 0, 2, False),
        ([[(1, 1), (3, 6)], [(2, 4)], [(3, 6)]], 0, 2, False),
        # 1 was sold after it was seen for the second time.
        ([[(3, 5)], [(1, 1)], [(3, 5)], [(2, 4)]], 1, 3, False),
        ([[(3, 5)], [(1, 1)], [(3, 5), (2, 4)]], 1, 3, False),
        # 4 was sold, which is further on than 2, the row seen twice: 5 is missing.
        ([[(1, 1)], [(2, 3)], [(3, 6)], [(1, 1)]], 1, 2, False),
        # 1 was sold amid a wave.
        ([[(1, 1), (2, 4)]], 0, 1, False),
    ],
)
def test_what_a_row_proves_that_kept_its_place(
    waves: list[list[tuple[int, int]]], behind: int, ahead: int, *, joins: bool
) -> None:
    """Seen at the same place twice, a row proves that none was lost before it, and between the two times alone."""
    history = History(thorough=True)
    known: list[Snapshot] = []
    for pages in waves:
        wave = history.begin_wave([8], has_gone=False)
        fresh = [
            snapshot_of_page(number, page_of(first, first + 1, total=8, number=number, last=4), wave)
            for number, first in pages
        ]
        history.bracket(known, fresh, oldest=0)
        known += fresh
    assert history.joins(known[behind], known[ahead]) == joins


def test_a_page_that_waits_is_not_read_again() -> None:
    """Where only one page of a wave is missing, only that one is asked for again, as long as total rests."""
    state = Walk(first=1, prefetch=4, thorough=False)
    came = {number: page_of(2 * number - 1, 2 * number, total=12, number=number, last=6) for number in (1, 3, 4)}
    assert state.receive([1, 2, 3, 4], came) == [came[1]]
    assert state.next_wave() == [2, 5]


def test_a_rise_hides_a_row_from_a_page_read_later() -> None:
    """A page that was read before the one in front of it does not follow it if total has risen in between."""
    state = Walk(first=1, thorough=False)
    state.receive([1], {1: page_of(3, 4, total=7, number=1, last=4)})
    state.receive([2], {2: page_of(6, 7, total=6, number=2, last=3)})  # 3 was deleted: 5 is on page 1 now
    # 2 and 3 came back before page 1 could be read again: 5 is on page 2 now.
    assert state.receive([1], {1: page_of(2, 3, total=8, number=1, last=4)}) == []
    assert state.next_wave() == [1] or state.next_wave() == [2]
    assert not state.ended


def test_the_page_size_is_no_size() -> None:
    """A per_page below 1 is not believed: nobody knows which rows a page would hold."""
    with pytest.raises(MisreadError) as caught:
        Walk(first=1, thorough=False).receive([1], {1: page_of(1, total=1, number=1, last=1, per_page=0)})
    assert caught.value.path == "data.ka.per_page"


@pytest.mark.parametrize("thorough", [False, True])
def test_a_stock_that_changes_for_ever(*, thorough: bool) -> None:
    """A total that changes between any two pages, and rows that never overlap, end the walk with an error."""
    state = Walk(first=1, prefetch=3, thorough=thorough)
    reads = 0

    def read(asked: int) -> CardKeyPage:
        nonlocal reads
        reads += 1
        if reads == 1:
            return page_of(1, 2, total=41, number=1, last=21)
        shift = 1000 * reads
        ids = (shift + asked, shift + asked + 1) if asked > 1 else (0, 1)
        return page_of(*ids, total=41 - (asked > 1), number=asked, last=21)

    for _ in range(2):
        with pytest.raises(MisreadError) as caught:  # noqa: PT012 -- any of the calls
            while not state.ended:
                take(state, read)
        assert caught.value.path == "data.ka.total"
    assert reads < 2000


def test_a_stock_that_grows_as_fast_as_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stock without end ends the walk with an error after many calls."""
    monkeypatch.setattr("gatepay_async.protocol.paging._MAX_CALLS", 100)
    state = Walk(first=1, thorough=False)
    with pytest.raises(MisreadError):  # noqa: PT012 -- any of the calls
        while not state.ended:
            take(
                state,
                lambda asked: page_of(2 * asked, 2 * asked + 1, total=2 * asked + 2, number=asked, last=asked + 1),
            )
