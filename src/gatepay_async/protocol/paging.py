"""
Which pages come next, and which of their rows are new.

A walk gives a row away only when it is proven that none before it is missing (see
:mod:`~gatepay_async.protocol.snapshots`). What it fetches next is only its guess at what will prove the most: a bad
guess costs calls, never a row. Where the stock has changed, it reads the page before again, and others further back
until one overlaps with what was given.

All of this rests on rows in ascending ``id``, new ones at the end (silent: what to expect of it). Rows in another order
are not believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from operator import lt

from attrs import evolve

from gatepay_async.protocol.codec import MisreadError
from gatepay_async.protocol.models import CardKeyPage
from gatepay_async.protocol.reading_plans import PlainPlan, Plan, ThoroughPlan, WalkPosition
from gatepay_async.protocol.snapshots import FRONT, History, Snapshot, last_page, snapshot_of_page, snapshot_of_refusal
from gatepay_async.words.problem import Problem

# Waves in a row that prove nothing new, beyond one for each page that there is.
_MAX_IDLE_WAVES = 64
# Calls of one walk, beyond sixteen for each page that there was at its beginning: a stock that grows as fast as it is
# read has no end.
_MAX_CALLS = 100_000


class Walk:
    """
    The state of a walk: fetch the pages that ``next_wave()`` names, ``receive`` them, give away what that returns.

    Args:
        first: The page to begin at, from 1.
        prefetch: Pages fetched at once, at most.
        thorough: Also find what a deletion and an addition between the same two replies hide from ``total``.

    Attributes:
        begun: The page to begin at has come.
        ended: There are no more rows.
        drifted: Whether the stock is known to have changed during the walk.
    """

    def __init__(self, *, first: int, prefetch: int = 1, thorough: bool) -> None:
        self.begun = False
        self.ended = False
        self.drifted = False
        self._first = first
        self._plan: Plan = ThoroughPlan(prefetch) if thorough else PlainPlan(prefetch)
        self._history = History(thorough=thorough)
        self._last_given_id: float = -math.inf  # the id of the last row given away
        self._kept: list[Snapshot] = []  # the latest ones
        self._behind = FRONT  # the one to go on from
        self._stock: tuple[int, int] | None = None  # total and per_page of the latest reply
        self._last = 0  # the last page, as far as known
        self._missed = 0  # the lowest page that should have overlapped and did not; 0: none
        self._stride = 1  # how much further back to look next
        self._furthest = 0  # the rank up to which nothing new was found since rows were given last
        self._idle = 0  # waves in a row that proved nothing new
        self._calls = 0
        self._most_calls = 0

    def next_wave(self) -> list[int]:
        """
        The pages to fetch next, all at once. The walk can't do without the first of them.

        Raises:
            MisreadError: The stock changes too fast. Asked again, the walk tries again.
        """
        if not self.begun:
            return self._plan.first_wave(self._first)
        if self._idle > _MAX_IDLE_WAVES + self._last or self._calls > self._most_calls:
            self._idle, self._most_calls = 0, self._most_calls + self._calls
            raise MisreadError(Problem("changes_too_fast"), path="data.ka.total")
        return self._plan.next_wave(self._position())

    def receive(self, asked: list[int], replies: Mapping[int, CardKeyPage | None]) -> list[CardKeyPage]:
        """
        Take the replies of a wave.

        Args:
            asked: What ``next_wave()`` named.
            replies: The pages that came; None for one that was refused as not valid. A page that is missing is asked
                for again if it is still needed.

        Returns:
            Pages to give away, in order, without the rows that were given before; none of them is empty.

        Raises:
            MisreadError: Rows don't ascend, or a page is another one than was asked for.
        """
        for number, page in replies.items():
            if page is not None:
                _check_page(number, page)
        self._calls += len(replies)
        self._plan.record_replies(asked, replies)
        if not replies:
            return []
        fresh = self._take_snapshots(replies)
        out = (
            []
            if self.begun or self._first not in replies
            else self._give_first_page(fresh[list(replies).index(self._first)])
        )
        if self.begun and not self.ended:
            out += self._give_proven_pages()
            self._choose_where_to_go_on(fresh, has_given=bool(out))
        return out

    # -- what the replies say ------------------------------------------------------------------------------------------

    def _take_snapshots(self, replies: Mapping[int, CardKeyPage | None]) -> list[Snapshot]:
        """Make snapshots of the replies, and note what they say of the whole stock."""
        pages = [page for page in replies.values() if page is not None]
        refusals = [number for number, page in replies.items() if page is None]
        highest = max([self._last, *map(last_page, pages)])
        has_gone = any(number <= highest for number in refusals)
        wave = self._history.begin_wave([page.total for page in pages], has_gone=has_gone)
        stocks = {(page.total, page.per_page) for page in pages}
        self.drifted |= has_gone or len(stocks) > 1 or not stocks <= {self._stock or next(iter(stocks), None)}
        self._stock = max(stocks, default=self._stock)
        self._last = max(map(last_page, pages), default=self._last)
        self._last = max(1, min([self._last, *(number - 1 for number in refusals)]))
        fresh = [
            snapshot_of_refusal(number, wave) if page is None else snapshot_of_page(number, page, wave)
            for number, page in replies.items()
        ]
        self._keep_snapshots(fresh, oldest=wave.number - self._plan.waves_kept)
        return fresh

    def _keep_snapshots(self, fresh: list[Snapshot], *, oldest: int) -> None:
        self._kept = [one for one in self._kept if one.wave.number >= oldest or one is self._behind]
        self._history.bracket(self._kept, fresh, oldest=oldest)
        self._kept += fresh
        waiting = [one for one in self._kept if one.page is not None]
        for one in waiting[: -self._plan.pages_kept]:
            self._kept.remove(one)
        if not self.drifted:
            self.drifted = not all(one.agrees(other) for one in fresh for other in self._kept)

    def _give_first_page(self, page: Snapshot) -> list[CardKeyPage]:
        """Give the page that the walk begins at. If it isn't there, nothing comes after it either."""
        self.begun = True
        self._most_calls = _MAX_CALLS + 16 * self._last
        self.ended = page.number != self._first or not page.ids
        if self.drifted:
            # Fetched at the same time, what was read before it may not know of rows that it says are there.
            self._kept = [one for one in self._kept if one is page]
        return [] if self.ended else self._give_new_rows(page)

    def _give_proven_pages(self) -> list[CardKeyPage]:
        """Give all pages that no row can be missing before."""
        out: list[CardKeyPage] = []
        waiting = sorted((one for one in self._kept if one.is_beyond(self._last_given_id)), key=Snapshot.first_id)
        reached = [FRONT, *(one for one in self._kept if one.is_within(self._last_given_id))]
        while following := next((one for one in waiting if self._follows(one, reached)), None):
            out += self._give_new_rows(following)
            reached += [one for one in waiting if one.is_within(self._last_given_id)]
            waiting = [one for one in waiting if one.is_beyond(self._last_given_id)]
        for one in reached:
            one.page = None  # its rows are given; memory holds what waits
        self.ended = self._is_end(reached)
        return out

    def _is_end(self, reached: list[Snapshot]) -> bool:
        furthest = max(one.end for one in reached)
        ends = [one for one in self._kept if one.size <= furthest]
        return any(self._history.ends(behind, at) for at in ends for behind in reached)

    def _follows(self, page: Snapshot, reached: list[Snapshot]) -> bool:
        overlaps = page.ids[0] <= self._last_given_id
        return overlaps or any(self._history.joins(behind, page) for behind in reached)

    def _give_new_rows(self, shot: Snapshot) -> list[CardKeyPage]:
        page, given = shot.page, self._last_given_id
        assert page is not None  # noqa: S101 -- a snapshot beyond what was given still has its page
        self._last_given_id = shot.ids[-1]
        return [page if shot.ids[0] > given else evolve(page, keys=tuple([key for key in page.keys if key.id > given]))]

    # -- where to go on ------------------------------------------------------------------------------------------------

    def _choose_where_to_go_on(self, fresh: list[Snapshot], *, has_given: bool) -> None:
        """Choose what to go on from, and note whether the wave was of use."""
        lowest = min(one.number for one in fresh)
        if has_given or any(one.is_within(self._last_given_id) for one in fresh):
            self._missed, self._stride = 0, 1
        elif lowest < (self._missed or self._next_page()):
            # What was given stands further back now: what was read of it before leads nowhere.
            self._missed, self._stride = lowest, self._stride * 2
            self._kept = [one for one in self._kept if not one.is_within(self._last_given_id)]
        reached = [FRONT, *(one for one in self._kept if one.is_within(self._last_given_id))]
        self._behind = max(reached, key=self._worth)
        is_useful = has_given or self._behind.end > self._furthest
        self._furthest = self._behind.end if has_given else max(self._furthest, self._behind.end)
        self._idle = 0 if is_useful else self._idle + 1
        self._plan.record_usefulness(is_useful=is_useful)

    def _worth(self, behind: Snapshot) -> tuple[bool, int, int]:
        is_sure = self._plan.relies_on_total and not self._history.may_have_fallen(behind.wave)
        return is_sure, behind.end, behind.wave.number

    def _next_page(self) -> int:
        per_page = self._stock[1] if self._stock else 1
        return self._behind.end // per_page + 1

    def _position(self) -> WalkPosition:
        number = self._next_page()
        overlapping = number - 1 if self._missed == 0 else self._missed - self._stride // 2
        return WalkPosition(
            number=number,
            overlapping=max(1, min(overlapping, self._last)),
            last=self._last,
            is_sure=self._missed == 0 and not self._history.may_have_fallen(self._behind.wave),
            at_hand=frozenset(one.number for one in self._kept if self._is_at_hand(one)),
        )

    def _is_at_hand(self, one: Snapshot) -> bool:
        """Whether it waits, and is as good as if it were fetched now."""
        if not one.is_beyond(self._last_given_id) or one.page is None or self._stock is None:
            return False
        has_rested = not (self._history.may_have_fallen(one.wave) or self._history.may_have_risen(one.wave))
        return has_rested and one.page.per_page == self._stock[1]


def _check_page(asked: int, page: CardKeyPage) -> None:
    if page.per_page < 1:
        raise MisreadError(Problem("not_above_0"), path="data.ka.per_page")
    if page.current_page > asked:
        raise MisreadError(Problem("later_page"), path="data.ka.current_page")
    if page.keys and 0 < page.current_page < min(asked, page.last_page):
        raise MisreadError(Problem("earlier_page"), path="data.ka.current_page")
    ids = [key.id for key in page.keys]
    if not all(map(lt, ids, ids[1:])):
        row = next(row for row, (one, after) in enumerate(pairwise(ids), 1) if one >= after)
        raise MisreadError(Problem("id_not_ascending"), path=f"data.ka.data[{row}].id")
