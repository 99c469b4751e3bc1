"""
What the replies of a walk prove: whether a row can be missing between one page and the next.

``ka/show`` numbers pages by position, and each reply shows the stock at a moment of its own. A row's *rank* is the
number of rows before it. No row is missing within a page, nor between two pages that overlap. Two pages that only touch
(one begins at the rank at which the other ended) miss a row if its rank changed between the two replies: it fell, from
the page read last to the one read first, or it rose, from the page read first to the one read last. Ranks fall when
rows are deleted, and rise when rows come back with old ids. ``total`` shows either, unless a deletion and an addition
happen between the same two replies.

Requests are sent in waves. The replies of one wave may have been made in any order, those of the next one came later.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from attrs import define, frozen

from gatepay_async.protocol.models import CardKeyPage

__all__ = ["FRONT", "History", "Snapshot", "Wave", "last_page", "snapshot_of_page", "snapshot_of_refusal"]


_UNKNOWN = 2**63  # more rows than there can be


@frozen(eq=False)
class Wave:
    """
    A wave of replies: how often `total` may have fallen and risen until then.

    Attributes:
        number: Later waves have higher ones.
        falls: Until the first reply of the wave.
        falls_until_end: Until the last one.
        rises: As `falls`.
        rises_until_end: As `falls_until_end`.
    """

    number: int
    falls: int
    falls_until_end: int
    rises: int
    rises_until_end: int


@define(eq=False)
class Snapshot:
    """
    One reply.

    Attributes:
        number: The page that it shows.
        start: The rank of its first row.
        end: The rank behind its last row; for the last page, no less than `size`.
        size: The rank behind the last row that there is.
        ids: Its rows' ids, ascending.
        wave: When it was made.
        page: The reply, until its rows have been given away.
    """

    number: int
    start: int
    end: int
    size: int
    ids: tuple[int, ...]
    wave: Wave
    page: CardKeyPage | None

    def first_id(self) -> float:
        """Infinite where there is no row."""
        return self.ids[0] if self.ids else inf

    def is_within(self, last_given_id: float) -> bool:
        """Whether it has rows, and none beyond the id *given*."""
        return bool(self.ids) and self.ids[-1] <= last_given_id

    def is_beyond(self, last_given_id: float) -> bool:
        """Whether it has a row beyond the id *given*."""
        return bool(self.ids) and self.ids[-1] > last_given_id

    def agrees(self, other: Snapshot) -> bool:
        """Whether one stock can show both."""
        if self is other or not (self.ids and other.ids):
            return True
        one, two = (self, other) if self.start <= other.start else (other, self)
        if two.start >= one.start + len(one.ids):
            return one.ids[-1] < two.ids[0]
        shared = one.ids[two.start - one.start :][: len(two.ids)]
        return shared == two.ids[: len(shared)]

    def shared_id(self, other: Snapshot) -> int | None:
        """The highest id that both could show, if it has the same rank in both."""
        top = min(self.start + len(self.ids), other.start + len(other.ids)) - 1
        if top < max(self.start, other.start):
            return None
        mine = self.ids[top - self.start]
        return mine if mine == other.ids[top - other.start] else None


# Before the first row there is nothing, at any time.
FRONT = Snapshot(0, 0, 0, 0, (), Wave(0, 0, 0, 0, 0), None)


def snapshot_of_page(asked: int, page: CardKeyPage, wave: Wave) -> Snapshot:
    """The snapshot that a reply to a request for page *asked* is."""
    ids = tuple([key.id for key in page.keys])
    if not ids:
        # ThinkPHP answers a page past the last one with no rows and the number of the last one.
        start = (asked - 1) * page.per_page
        return Snapshot(asked, start, start, min(page.total, start), (), wave, None)
    last = last_page(page)
    # A server may answer a page past the last one with the rows of the last one, under either number.
    number = min(page.current_page if page.current_page > 0 else asked, last)
    # Pages before the last one are full. Where they aren't, the numbers count: nothing else says what comes next.
    end = number * page.per_page if number < last else max(number * page.per_page, page.total)
    return Snapshot(number, (number - 1) * page.per_page, end, page.total, ids, wave, page)


def snapshot_of_refusal(number: int, wave: Wave) -> Snapshot:
    """
    What the refusal of a page as not valid shows: without page 1 there is nothing.

    Of another page it says too little: how many rows a page had at that moment isn't known.
    """
    return Snapshot(number, 0, 0, 0 if number == 1 else _UNKNOWN, (), wave, None)


def last_page(page: CardKeyPage) -> int:
    """The number of the last page, at least 1."""
    last = max(1, -(-page.total // page.per_page))
    return min(last, page.last_page) if page.last_page > 0 else last


class History:
    """
    What the replies have said of the stock's changes. It does not grow with their number.

    Args:
        thorough: Don't conclude from a `total` that stays the same that nothing was deleted.
    """

    def __init__(self, *, thorough: bool) -> None:
        self._thorough = thorough
        self._now = FRONT.wave
        self._totals: tuple[int, int] | None = None  # the lowest and the highest of the latest wave
        # Two snapshots that show a row at the same rank, and its id.
        self._brackets: list[tuple[Snapshot, Snapshot, int]] = []

    def begin_wave(self, totals: Sequence[int], *, has_gone: bool) -> Wave:
        """
        Note a wave.

        Args:
            totals: Those of its replies, in any order.
            has_gone: A page was refused that another reply says is there.
        """
        falls, rises, inside = self._now.falls_until_end, self._now.rises_until_end, has_gone
        if totals:
            low, high = min(totals), max(totals)
            before_low, before_high = self._totals or (low, high)
            falls += low < before_high
            rises += high > before_low
            inside |= low < high
            self._totals = low, high
        self._now = Wave(self._now.number + 1, falls, falls + inside, rises, rises + inside)
        return self._now

    def may_have_fallen(self, since: Wave, until: Wave | None = None) -> bool:
        """Whether `total` may have fallen between a reply of *since* and one of *until*, or of the latest wave."""
        return (until or self._now).falls_until_end > since.falls

    def may_have_risen(self, since: Wave, until: Wave | None = None) -> bool:
        """The same for a rise."""
        return (until or self._now).rises_until_end > since.rises

    def bracket(self, earlier_ones: Sequence[Snapshot], fresh: Sequence[Snapshot], *, oldest: int) -> None:
        """
        Note which rows a thorough walk has met at the same rank again.

        Args:
            earlier_ones: Snapshots of earlier waves.
            fresh: Those of the latest one.
            oldest: Forget what began before that wave.
        """
        if not self._thorough:
            return
        self._brackets = [bracket for bracket in self._brackets if bracket[0].wave.number >= oldest]
        for later in fresh:
            for earlier in earlier_ones:
                row = earlier.shared_id(later)
                # Rows that came back could have hidden from the rank that others were deleted.
                if row is not None and not self.may_have_risen(earlier.wave, later.wave):
                    self._brackets.append((earlier, later, row))

    def joins(self, behind: Snapshot, ahead: Snapshot) -> bool:
        """
        Whether no row that was there all along can be missing between two snapshots.

        Args:
            behind: The walk has given all rows up to the last one of this, and maybe more.
            ahead: Its first row would come next.
        """
        if ahead.start <= 0 or ahead.start > behind.end:
            return ahead.start <= 0  # nothing stands before the first row
        if self._thorough:
            return self._was_read_backwards(behind, ahead) or self._is_bracketed(behind, ahead)
        return self._has_rested(behind, ahead)

    def ends(self, behind: Snapshot, at: Snapshot) -> bool:
        """Whether, by *at*, no row that was there all along comes after those of *behind*."""
        if behind is at or at.size <= 0 or at.size > behind.end:
            return at.size <= behind.end
        return self._was_read_backwards(behind, at) or (not self._thorough and self._has_rested(behind, at))

    def _has_rested(self, behind: Snapshot, ahead: Snapshot) -> bool:
        """Whether `total` has not changed in the way that could hide a row."""
        one, two = behind.wave, ahead.wave
        has_fallen = two.number >= one.number and self.may_have_fallen(one, two)
        has_risen = two.number <= one.number and self.may_have_risen(two, one)
        return not (has_fallen or has_risen)

    def _was_read_backwards(self, behind: Snapshot, ahead: Snapshot) -> bool:
        """Whether *behind* is the later one: a row pulled out of the page ahead was pulled into it."""
        return ahead.wave.number < behind.wave.number and not self.may_have_risen(ahead.wave, behind.wave)

    def _is_bracketed(self, behind: Snapshot, ahead: Snapshot) -> bool:
        """Whether a row further on kept its rank while both were read: then none before it was deleted."""
        return any(
            row >= ahead.ids[0] and _lies_within(behind, one, two) and _lies_within(ahead, one, two)
            for one, two, row in self._brackets
        )


def _lies_within(snapshot: Snapshot, one: Snapshot, two: Snapshot) -> bool:
    return snapshot is one or snapshot is two or one.wave.number < snapshot.wave.number < two.wave.number
