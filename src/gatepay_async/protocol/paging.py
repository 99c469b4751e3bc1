"""
Decides which pages of a listing to fetch next, and which of their rows are new.

A walk yields a row only after it is proven that no row before it is missing (see
:mod:`~gatepay_async.protocol.snapshots`). It guesses which pages prove the most, and fetches those next. A bad guess
costs calls, but never a row. If the stock has changed, the walk fetches the page before again, and pages further back
until a page overlaps with the rows already yielded.

All of this requires rows in ascending ``id``, with new ones at the end. The vendor doesn't document the order. Rows in
another order are an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from operator import lt

from attrs import evolve

from gatepay_async.protocol.models import CardKeyPage
from gatepay_async.protocol.reading_plans import PlainPlan, Plan, ThoroughPlan, WalkPosition
from gatepay_async.protocol.snapshots import FRONT, History, Snapshot, last_page, snapshot_of_page, snapshot_of_refusal
from gatepay_async.protocol.values import MisreadError
from gatepay_async.words.problem import Problem

# The limit of waves in a row that prove nothing new. For each page of the listing, one more is allowed.
_MAX_IDLE_WAVES = 64
# The limit of calls in one walk. For each page that the listing has at the start, sixteen more are allowed. Without a
# limit, the walk would never end if the stock grew as fast as it is read.
_MAX_CALLS = 100_000


class Walk:
    """
    The state of a walk. Fetch the pages of ``next_wave()``, pass them to ``receive()``, and yield what that returns.

    Args:
        first: The number of the first page, from 1.
        prefetch: The largest number of pages to fetch at once.
        thorough: Also detect a deletion that ``total`` doesn't show, because a card key was added between the
            same two replies.

    Attributes:
        begun: The first page has arrived.
        ended: There are no more rows.
        drifted: Whether the stock is known to have changed during the walk.
    """

    def __init__(self, *, first: int, prefetch: int = 1, thorough: bool) -> None:
        self.begun = False
        self.ended = False
        self.drifted = False
        self._first_page = first
        self._plan: Plan = ThoroughPlan(prefetch) if thorough else PlainPlan(prefetch)
        self._history = History(thorough=thorough)
        self._last_yielded_id: float = -math.inf  # the id of the last row that was yielded
        self._kept: list[Snapshot] = []  # the snapshots that may still prove something
        self._behind = FRONT  # the snapshot after which to continue
        self._total_and_per_page: tuple[int, int] | None = None  # of the latest wave; None: no page has arrived
        self._last_page = 0  # the last page, as far as we know
        self._missed_page = 0  # the lowest page that should have overlapped with the yielded rows and didn't; 0: none
        # Twice the number of pages that the next wave goes further back. Doubled after each miss.
        self._twice_steps_back = 1
        self._furthest_rank = 0  # the highest rank that was reached since rows were last yielded
        self._idle_waves = 0  # waves in a row that proved nothing new
        self._calls = 0
        self._max_calls = 0

    def next_wave(self) -> list[int]:
        """
        Return the pages to fetch next, all at once. The first of them is required; the others may be missing.

        Raises:
            MisreadError: The stock changes too fast. If this method is called again, the walk continues.
        """
        if not self.begun:
            return self._plan.first_wave(self._first_page)
        if self._idle_waves > _MAX_IDLE_WAVES + self._last_page or self._calls > self._max_calls:
            self._idle_waves, self._max_calls = 0, self._max_calls + self._calls
            raise MisreadError(Problem("changes_too_fast"), path="data.ka.total")
        return self._plan.next_wave(self._position())

    def receive(self, requested: list[int], replies: Mapping[int, CardKeyPage | None]) -> list[CardKeyPage]:
        """
        Handle the replies of a wave.

        Args:
            requested: The pages that ``next_wave()`` has returned.
            replies: The pages that arrived, by number; None: the page was refused as invalid. A missing page is fetched
                again if it is still needed.

        Returns:
            The pages to yield, in order, without rows that were yielded before. None of them is empty.

        Raises:
            MisreadError: The rows are not in ascending order, or the server has sent another page.
        """
        for number, page in replies.items():
            if page is not None:
                _check_page(number, page)
        self._calls += len(replies)
        self._plan.record_replies(requested, replies)
        if not replies:
            return []
        fresh = self._take_snapshots(replies)
        pages: list[CardKeyPage] = []
        if not self.begun and self._first_page in replies:
            pages += self._first_page_to_yield(fresh[list(replies).index(self._first_page)])
        if self.begun and not self.ended:
            pages += self._proven_pages_to_yield()
            self._choose_next_position(fresh, has_yielded=bool(pages))
        return pages

    # -- evaluating replies --------------------------------------------------------------------------------------------

    def _take_snapshots(self, replies: Mapping[int, CardKeyPage | None]) -> list[Snapshot]:
        """Make snapshots of the replies, and record what they show about the whole stock."""
        pages = [page for page in replies.values() if page is not None]
        refused = [number for number, page in replies.items() if page is None]
        highest = max([self._last_page, *map(last_page, pages)])
        page_has_vanished = any(number <= highest for number in refused)
        wave = self._history.begin_wave([page.total for page in pages], page_has_vanished=page_has_vanished)
        # The stock has also changed if the replies differ from each other or from the wave before.
        stocks = {(page.total, page.per_page) for page in pages}
        self.drifted |= (
            page_has_vanished or len(stocks) > 1 or not stocks <= {self._total_and_per_page or next(iter(stocks), None)}
        )
        self._total_and_per_page = max(stocks, default=self._total_and_per_page)
        self._last_page = max(map(last_page, pages), default=self._last_page)
        self._last_page = max(1, min([self._last_page, *(number - 1 for number in refused)]))
        fresh = [
            snapshot_of_refusal(number, wave) if page is None else snapshot_of_page(number, page, wave)
            for number, page in replies.items()
        ]
        self._keep_snapshots(fresh, oldest=wave.number - self._plan.waves_kept)
        return fresh

    def _keep_snapshots(self, fresh: list[Snapshot], *, oldest: int) -> None:
        """
        Keep the *fresh* snapshots. Drop those from before the wave *oldest*.

        If more pages wait to be yielded than the plan allows, drop the oldest of them.
        """
        self._kept = [snapshot for snapshot in self._kept if snapshot.wave.number >= oldest or snapshot is self._behind]
        self._history.record_unchanged_ranks(self._kept, fresh, oldest=oldest)
        self._kept += fresh
        waiting = [snapshot for snapshot in self._kept if snapshot.page is not None]
        for snapshot in waiting[: -self._plan.pages_kept]:
            self._kept.remove(snapshot)
        if not self.drifted:
            self.drifted = not all(new.may_show_same_stock(kept) for new in fresh for kept in self._kept)

    def _first_page_to_yield(self, page: Snapshot) -> list[CardKeyPage]:
        """Return the rows of the first page. If it doesn't exist, the walk has ended."""
        self.begun = True
        self._max_calls = _MAX_CALLS + 16 * self._last_page
        self.ended = page.number != self._first_page or not page.ids
        if self.drifted:
            # Drop the other pages of this wave: they may be older, and not show rows that this page proves to exist.
            self._kept = [snapshot for snapshot in self._kept if snapshot is page]
        return [] if self.ended else self._unyielded_rows(page)

    def _proven_pages_to_yield(self) -> list[CardKeyPage]:
        """Return all pages before which no row can be missing."""
        pages: list[CardKeyPage] = []
        waiting = sorted(
            (snapshot for snapshot in self._kept if snapshot.ends_after(self._last_yielded_id)), key=Snapshot.first_id
        )
        reached = [FRONT, *(snapshot for snapshot in self._kept if snapshot.ends_at_or_before(self._last_yielded_id))]
        while following := next((snapshot for snapshot in waiting if self._follows(snapshot, reached)), None):
            pages += self._unyielded_rows(following)
            reached += [snapshot for snapshot in waiting if snapshot.ends_at_or_before(self._last_yielded_id)]
            waiting = [snapshot for snapshot in waiting if snapshot.ends_after(self._last_yielded_id)]
        for snapshot in reached:
            snapshot.page = None  # free the memory: its rows were yielded
        self.ended = self._is_end(reached)
        return pages

    def _is_end(self, reached: list[Snapshot]) -> bool:
        """Whether it is proven that no row comes after the *reached* snapshots, whose rows were yielded."""
        furthest = max(snapshot.end for snapshot in reached)
        candidates = [snapshot for snapshot in self._kept if snapshot.size <= furthest]
        return any(self._history.proves_end(behind, candidate) for candidate in candidates for behind in reached)

    def _follows(self, page: Snapshot, reached: list[Snapshot]) -> bool:
        """Whether no row can be missing between the rows already yielded and *page*."""
        overlaps = page.ids[0] <= self._last_yielded_id
        return overlaps or any(self._history.proves_no_gap(behind, page) for behind in reached)

    def _unyielded_rows(self, snapshot: Snapshot) -> list[CardKeyPage]:
        """Return the page of *snapshot* without the rows already yielded, and record that the rest is yielded."""
        page, last_yielded = snapshot.page, self._last_yielded_id
        assert page is not None  # noqa: S101 -- a snapshot keeps its page until its rows are yielded
        self._last_yielded_id = snapshot.ids[-1]
        if snapshot.ids[0] > last_yielded:
            return [page]
        return [evolve(page, keys=tuple([key for key in page.keys if key.id > last_yielded]))]

    # -- choosing what to fetch next -----------------------------------------------------------------------------------

    def _choose_next_position(self, fresh: list[Snapshot], *, has_yielded: bool) -> None:
        """Choose the snapshot after which to continue, and record whether the wave was useful."""
        lowest = min(snapshot.number for snapshot in fresh)
        if has_yielded or any(snapshot.ends_at_or_before(self._last_yielded_id) for snapshot in fresh):
            self._missed_page, self._twice_steps_back = 0, 1
        elif lowest < (self._missed_page or self._next_page_number()):
            # The rows already yielded have moved to lower pages. Their old snapshots are no use any more.
            self._missed_page, self._twice_steps_back = lowest, self._twice_steps_back * 2
            self._kept = [snapshot for snapshot in self._kept if not snapshot.ends_at_or_before(self._last_yielded_id)]
        reached = [FRONT, *(snapshot for snapshot in self._kept if snapshot.ends_at_or_before(self._last_yielded_id))]
        self._behind = max(reached, key=self._rating)
        is_useful = has_yielded or self._behind.end > self._furthest_rank
        self._furthest_rank = self._behind.end if has_yielded else max(self._furthest_rank, self._behind.end)
        self._idle_waves = 0 if is_useful else self._idle_waves + 1
        self._plan.record_usefulness(is_useful=is_useful)

    def _rating(self, behind: Snapshot) -> tuple[bool, int, int]:
        """Return a sort key: the highest is the best snapshot after which to continue."""
        is_sure = self._plan.relies_on_total and not self._history.may_have_fallen(behind.wave)
        return is_sure, behind.end, behind.wave.number

    def _next_page_number(self) -> int:
        """Return the number of the page that follows the snapshot after which to continue."""
        _, per_page = self._total_and_per_page or (0, 1)
        return self._behind.end // per_page + 1

    def _position(self) -> WalkPosition:
        """Return the position of the walk, for its plan."""
        number = self._next_page_number()
        overlapping = number - 1 if self._missed_page == 0 else self._missed_page - self._twice_steps_back // 2
        return WalkPosition(
            number=number,
            overlapping=max(1, min(overlapping, self._last_page)),
            last=self._last_page,
            is_sure=self._missed_page == 0 and not self._history.may_have_fallen(self._behind.wave),
            at_hand=frozenset(snapshot.number for snapshot in self._kept if self._is_at_hand(snapshot)),
        )

    def _is_at_hand(self, snapshot: Snapshot) -> bool:
        """Whether the page of *snapshot* is waiting to be yielded, and fetching it again would show nothing new."""
        if not snapshot.ends_after(self._last_yielded_id) or snapshot.page is None or self._total_and_per_page is None:
            return False
        _, per_page = self._total_and_per_page
        has_changed = self._history.may_have_fallen(snapshot.wave) or self._history.may_have_risen(snapshot.wave)
        return not has_changed and snapshot.page.per_page == per_page


def _check_page(requested: int, page: CardKeyPage) -> None:
    """Raise `MisreadError` if *page* can't be the reply for page *requested*, or its ids are not ascending."""
    if page.per_page < 1:
        raise MisreadError(Problem("not_above_0"), path="data.ka.per_page")
    if page.current_page > requested:
        raise MisreadError(Problem("later_page"), path="data.ka.current_page")
    if page.keys and 0 < page.current_page < min(requested, page.last_page):
        raise MisreadError(Problem("earlier_page"), path="data.ka.current_page")
    ids = [key.id for key in page.keys]
    if not all(map(lt, ids, ids[1:])):
        row = next(row for row, (previous, current) in enumerate(pairwise(ids), 1) if previous >= current)
        raise MisreadError(Problem("id_not_ascending"), path=f"data.ka.data[{row}].id")
