"""
What the replies of a walk prove: whether a row can be missing between one page and the next.

``ka/show`` numbers pages by position, and each reply shows the stock at another moment. The *rank* of a row is the
number of rows before it. No row is missing within a page, or between two pages that overlap. But two pages may only
touch: one begins at the rank at which the other ended. Then a row is missing if its rank moved, between the two
replies, from the page read last to the page read first. It fell if the lower page was read first; otherwise it rose.

Ranks fall when rows are deleted, and rise when rows are restored with their old ids. ``total`` shows either, unless a
deletion and an addition happen between the same two replies.

Requests are sent in waves. The replies of one wave may have been made in any order. Those of the next wave are later.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from attrs import define, frozen

from gatepay_async.protocol.models import CardKeyPage

__all__ = ["FRONT", "History", "Snapshot", "Wave", "last_page", "snapshot_of_page", "snapshot_of_refusal"]


_UNKNOWN_SIZE = 2**63  # stands for the size of a stock if that is unknown; more rows than there can be


@frozen(eq=False)
class Wave:
    """
    A wave of replies, with counts of how often `total` may have fallen and risen since the start of the walk.

    Attributes:
        number: Ascending in time.
        falls: How often it may have fallen before the first reply of the wave.
        falls_until_end: How often it may have fallen before the last reply of the wave.
        rises: Like `falls`, for rises.
        rises_until_end: Like `falls_until_end`, for rises.
    """

    number: int
    falls: int
    falls_until_end: int
    rises: int
    rises_until_end: int


@define(eq=False)
class Snapshot:
    """
    The part of the stock that a reply shows, at the moment of the reply.

    Attributes:
        number: The number of the page.
        start: The rank of its first row.
        end: The rank after its last row; for the last page, at least `size`.
        size: The rank after the last row of the stock.
        ids: The ids of its rows, ascending.
        wave: The wave of the reply.
        page: The reply itself; None: its rows were yielded, or it has none.
    """

    number: int
    start: int
    end: int
    size: int
    ids: tuple[int, ...]
    wave: Wave
    page: CardKeyPage | None

    def first_id(self) -> float:
        """The id of the first row; infinity if there is no row."""
        return self.ids[0] if self.ids else inf

    def ends_at_or_before(self, last_yielded_id: float) -> bool:
        """Whether the page has rows, and none of them is after the row *last_yielded_id*."""
        return bool(self.ids) and self.ids[-1] <= last_yielded_id

    def ends_after(self, last_yielded_id: float) -> bool:
        """Whether the page has a row after the row *last_yielded_id*."""
        return bool(self.ids) and self.ids[-1] > last_yielded_id

    def may_show_same_stock(self, other: Snapshot) -> bool:
        """Whether both snapshots can be of the same, unchanged stock."""
        if self is other or not (self.ids and other.ids):
            return True
        first, second = (self, other) if self.start <= other.start else (other, self)
        if second.start >= first.start + len(first.ids):
            return first.ids[-1] < second.ids[0]
        shared = first.ids[second.start - first.start :][: len(second.ids)]
        return shared == second.ids[: len(shared)]

    def shared_id(self, other: Snapshot) -> int | None:
        """Return the id at the highest rank that both snapshots show. None: there is none, or the ids differ."""
        top = min(self.start + len(self.ids), other.start + len(other.ids)) - 1
        if top < max(self.start, other.start):
            return None
        own_id = self.ids[top - self.start]
        return own_id if own_id == other.ids[top - other.start] else None


# The position before the first row, as the snapshot from which a walk starts.
FRONT = Snapshot(
    number=0,
    start=0,
    end=0,
    size=0,
    ids=(),
    wave=Wave(number=0, falls=0, falls_until_end=0, rises=0, rises_until_end=0),
    page=None,
)


def snapshot_of_page(requested: int, page: CardKeyPage, wave: Wave) -> Snapshot:
    """Make a snapshot of the reply to a request for page *requested*."""
    ids = tuple([key.id for key in page.keys])
    if not ids:
        # For a page past the last one, ThinkPHP (GatePay's framework) returns no rows and the number of the last page.
        start = (requested - 1) * page.per_page
        return Snapshot(
            number=requested, start=start, end=start, size=min(page.total, start), ids=(), wave=wave, page=None
        )
    last = last_page(page)
    # For a page past the last one, a server may return the rows of the last page, with either number.
    number = min(page.current_page if page.current_page > 0 else requested, last)
    # Pages before the last one should be full. If they aren't, only the page number tells the rank.
    end = number * page.per_page if number < last else max(number * page.per_page, page.total)
    start = (number - 1) * page.per_page
    return Snapshot(number=number, start=start, end=end, size=page.total, ids=ids, wave=wave, page=page)


def snapshot_of_refusal(number: int, wave: Wave) -> Snapshot:
    """
    Make a snapshot of the refusal of page *number* as invalid.

    If page 1 doesn't exist, there are no rows. For another page, the size of the stock stays unknown, because the page
    size at that moment isn't known.
    """
    size = 0 if number == 1 else _UNKNOWN_SIZE
    return Snapshot(number=number, start=0, end=0, size=size, ids=(), wave=wave, page=None)


def last_page(page: CardKeyPage) -> int:
    """The number of the last page, at least 1."""
    last = max(1, -(-page.total // page.per_page))
    return min(last, page.last_page) if page.last_page > 0 else last


class History:
    """
    The changes of the stock that the replies have shown. Its size doesn't grow with the number of replies.

    Args:
        thorough: Don't assume that nothing was deleted if `total` stays the same.
    """

    def __init__(self, *, thorough: bool) -> None:
        self._thorough = thorough
        self._latest = FRONT.wave
        self._latest_totals: tuple[int, int] | None = None  # the lowest and highest `total` of the latest wave
        # Pairs of snapshots that show a row at the same rank, with the id of that row.
        self._unchanged_ranks: list[tuple[Snapshot, Snapshot, int]] = []

    def begin_wave(self, totals: Sequence[int], *, page_has_vanished: bool) -> Wave:
        """
        Record a wave, and return it.

        Args:
            totals: The `total` of each reply, in any order.
            page_has_vanished: A page was refused although another reply says that it exists.
        """
        falls, rises, changed_within = self._latest.falls_until_end, self._latest.rises_until_end, page_has_vanished
        if totals:
            low, high = min(totals), max(totals)
            # Compare the extremes: the replies of a wave have no order.
            before_low, before_high = self._latest_totals or (low, high)
            falls += low < before_high
            rises += high > before_low
            changed_within |= low < high
            self._latest_totals = low, high
        self._latest = Wave(
            number=self._latest.number + 1,
            falls=falls,
            falls_until_end=falls + changed_within,
            rises=rises,
            rises_until_end=rises + changed_within,
        )
        return self._latest

    def may_have_fallen(self, since: Wave, until: Wave | None = None) -> bool:
        """Whether `total` may have fallen between a reply of *since* and a reply of *until* (None: the latest wave)."""
        return (until or self._latest).falls_until_end > since.falls

    def may_have_risen(self, since: Wave, until: Wave | None = None) -> bool:
        """Whether `total` may have risen between a reply of *since* and a reply of *until* (None: the latest wave)."""
        return (until or self._latest).rises_until_end > since.rises

    def record_unchanged_ranks(
        self, earlier_snapshots: Sequence[Snapshot], fresh: Sequence[Snapshot], *, oldest: int
    ) -> None:
        """
        For a thorough walk, record the rows that have kept their rank between two snapshots.

        Args:
            earlier_snapshots: Snapshots of earlier waves.
            fresh: Snapshots of the latest wave.
            oldest: Drop pairs whose first snapshot is from before this wave.
        """
        if not self._thorough:
            return
        self._unchanged_ranks = [entry for entry in self._unchanged_ranks if entry[0].wave.number >= oldest]
        for later in fresh:
            for earlier in earlier_snapshots:
                row = earlier.shared_id(later)
                # A rank can also stay the same because some rows before it were deleted and others restored.
                if row is not None and not self.may_have_risen(earlier.wave, later.wave):
                    self._unchanged_ranks.append((earlier, later, row))

    def proves_no_gap(self, behind: Snapshot, ahead: Snapshot) -> bool:
        """
        Whether no row that existed all the time can be missing between two snapshots.

        Args:
            behind: The walk has yielded all rows up to the last one of this snapshot, and perhaps more.
            ahead: The snapshot with the rows to yield next.
        """
        if ahead.start <= 0 or ahead.start > behind.end:
            return ahead.start <= 0  # no row comes before the first one
        if self._thorough:
            return self._was_read_backwards(behind, ahead) or self._later_row_kept_rank(behind, ahead)
        return self._total_shows_no_gap(behind, ahead)

    def proves_end(self, behind: Snapshot, candidate: Snapshot) -> bool:
        """Whether *candidate* proves that the rows of *behind* are the last ones of those that existed all the time."""
        if behind is candidate or candidate.size <= 0 or candidate.size > behind.end:
            return candidate.size <= behind.end
        return self._was_read_backwards(behind, candidate) or (
            not self._thorough and self._total_shows_no_gap(behind, candidate)
        )

    def _total_shows_no_gap(self, behind: Snapshot, ahead: Snapshot) -> bool:
        """Whether `total` shows no change that could make a row missing between the two snapshots."""
        wave_behind, wave_ahead = behind.wave, ahead.wave
        has_fallen = wave_ahead.number >= wave_behind.number and self.may_have_fallen(wave_behind, wave_ahead)
        has_risen = wave_ahead.number <= wave_behind.number and self.may_have_risen(wave_ahead, wave_behind)
        return not (has_fallen or has_risen)

    def _was_read_backwards(self, behind: Snapshot, ahead: Snapshot) -> bool:
        """Whether *behind* was read after *ahead*: then a row that moved out of *ahead* meanwhile is in *behind*."""
        return ahead.wave.number < behind.wave.number and not self.may_have_risen(ahead.wave, behind.wave)

    def _later_row_kept_rank(self, behind: Snapshot, ahead: Snapshot) -> bool:
        """Whether a row of *ahead*, or a later one, kept its rank while both were read: none before it was deleted."""
        return any(
            row >= ahead.ids[0] and _lies_within(behind, first, second) and _lies_within(ahead, first, second)
            for first, second, row in self._unchanged_ranks
        )


def _lies_within(snapshot: Snapshot, first: Snapshot, second: Snapshot) -> bool:
    """Whether *snapshot* is *first* or *second*, or from a wave between theirs."""
    return snapshot in (first, second) or first.wave.number < snapshot.wave.number < second.wave.number
