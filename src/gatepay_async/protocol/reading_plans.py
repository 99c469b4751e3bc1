"""
In which order the pages of a walk are read.

A plain walk reads forward. A thorough one does not rely on ``total``, which a deletion and an addition between the same
two replies leave as it was. It reads a block of pages from its end to its beginning: a row that is pulled forward
meanwhile is found on a page that is still to be read. The pages of one wave have no order; for them, the page behind
the block is read before and after it: where its rows keep their ranks, no row before them was deleted in the meantime.
That page is the first one of the next block, so this costs one call a block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Container

from attrs import frozen

__all__ = ["PlainPlan", "Plan", "ThoroughPlan", "WalkPosition"]

# Pages asked for at once, at most, before the first of them has said how many there are: a small stock makes the rest
# of these calls useless, but without them a walk would wait for one call all alone.
_MAX_FIRST_PAGES = 8
# Calls for a thorough walk's block, at least; one of them reads a page once more.
_MIN_BLOCK_CALLS = 8
# Useful waves in a row after which a plain walk dares to read more pages at once again.
_QUIET_WAVES = 4
_MAX_REPEATED_BLOCKS = 3  # beginnings of a thorough walk's blocks, in a row: the stock changes within each


@frozen
class WalkPosition:
    """
    Where a walk stands.

    Attributes:
        number: The page to go on with.
        overlapping: The page that will show a row that was given, if nothing has changed since.
        last: The last page.
        is_sure: By all that `total` says, no row can be missing before `number`.
        at_hand: Pages that need no reading.
    """

    number: int
    overlapping: int
    last: int
    is_sure: bool
    at_hand: frozenset[int]


class Plan(ABC):
    """
    An order to read pages in.

    Attributes:
        relies_on_total: Whether to go on from the furthest page that `total` says nothing against.
        waves_kept: For how many waves a reply can still prove something.
        pages_kept: How many pages may wait for proof, at most; memory holds them.
    """

    relies_on_total: bool
    waves_kept: int
    pages_kept: int

    @abstractmethod
    def first_wave(self, first: int) -> list[int]:
        """The pages to fetch while nothing is known."""

    @abstractmethod
    def next_wave(self, position: WalkPosition) -> list[int]:
        """The pages to fetch next; the first of them is needed most."""

    def record_replies(self, asked: list[int], answered: Container[int]) -> None:  # noqa: B027 -- a plan may need neither
        """Note which pages of a wave were answered."""

    def record_usefulness(self, *, is_useful: bool) -> None:  # noqa: B027 -- see above
        """Note whether the wave proved anything new."""


class PlainPlan(Plan):
    """Forward, up to *prefetch* pages at once; fewer while the stock changes within each wave."""

    relies_on_total = True
    waves_kept = 2

    def __init__(self, prefetch: int) -> None:
        self.pages_kept = 3 * prefetch
        self._prefetch = prefetch
        self._width = prefetch
        self._useful = 0  # waves in a row; below 0: useless ones

    def first_wave(self, first: int) -> list[int]:
        """As the base says."""
        return list(range(first, first + min(self._prefetch, _MAX_FIRST_PAGES)))

    def next_wave(self, position: WalkPosition) -> list[int]:
        """As the base says."""
        start = position.number if position.is_sure else position.overlapping
        behind = max(start, min(start + self._width - 1, position.last)) + 1
        return [number for number in range(start, behind) if number == start or number not in position.at_hand]

    def record_usefulness(self, *, is_useful: bool) -> None:
        """As the base says."""
        self._useful = max(self._useful, 0) + 1 if is_useful else min(self._useful, 0) - 1
        if self._useful >= _QUIET_WAVES:
            self._width, self._useful = min(self._prefetch, self._width * 2), 0
        elif self._useful < -1:  # once is what a single change costs
            self._width = max(1, self._width // 2)


class ThoroughPlan(Plan):
    """
    Block by block: in waves, or one page at a time while the stock changes within each block.

    Pages of one wave depend on what is read before and after them, and a rise of `total` anywhere in between spoils
    that. Pages read one at a time, backwards, depend on no other: a rise costs at most one block.
    """

    relies_on_total = False

    def __init__(self, prefetch: int) -> None:
        self._prefetch = prefetch
        self._breadth = prefetch  # pages read at once
        self._width = _MIN_BLOCK_CALLS - 1  # of a block that is read one page at a time
        self._useful = 0  # blocks in a row; below 0: useless ones
        self._waves: deque[list[int]] = deque()
        self._block: tuple[int, int] | None = None  # the first page of the latest block, and of the one behind
        self._opened = 0  # the first page of the one behind that, which has been read once
        self._held = 0  # the page that overlapped when the latest block began
        self.waves_kept = 0
        self.pages_kept = 3 * (_width_in_waves(prefetch) + 1)

    def first_wave(self, first: int) -> list[int]:
        """As the base says."""
        return [first]

    def next_wave(self, position: WalkPosition) -> list[int]:
        """As the base says."""
        if not self._waves:
            self._judge_block(position.overlapping)
            self._add_block(position)
        return self._waves[0]

    def record_replies(self, asked: list[int], answered: Container[int]) -> None:
        """As the base says."""
        if self._waves:
            self._waves.popleft()
            if left := [number for number in asked if number not in answered]:
                self._waves.appendleft(left)

    def _judge_block(self, overlapping: int) -> None:
        if self._block is None:
            return
        if overlapping not in self._block:
            self._block = None
            self._useful = min(self._useful, 0) - 1
            self._narrow()
        elif self._breadth == 1 or overlapping > self._held:
            self._useful = max(self._useful, 0) + 1
            self._widen()

    def _narrow(self) -> None:
        if self._breadth == 1:
            # Never the same for ever: a block could keep step with the changes.
            self._width = self._width // 2 or 2
        elif self._useful < -1:  # once is what a single change costs
            self._breadth = self._breadth // 2 if self._breadth > _MIN_BLOCK_CALLS else 1

    def _widen(self) -> None:
        self._width = min(_MIN_BLOCK_CALLS - 1, 2 * self._width + 1)
        if self._breadth < self._prefetch and self._useful >= _QUIET_WAVES:
            # Only a try: the first block that fails ends it.
            self._breadth, self._useful = min(self._prefetch, max(_MIN_BLOCK_CALLS, 2 * self._breadth)), -1
            self._block = None

    def _add_block(self, position: WalkPosition) -> None:
        self._held = position.overlapping
        if self._breadth == 1 or position.overlapping == position.last:
            self._read_one_by_one(position)
        else:
            self._read_in_waves(position, _width_in_waves(self._breadth))

    def _read_one_by_one(self, position: WalkPosition) -> None:
        end = min(position.overlapping + self._width, position.last)
        self._waves += [[number] for number in range(end, position.overlapping - 1, -1)]
        self._block, self._opened = (end, end), 0
        self.waves_kept = _MIN_BLOCK_CALLS + 2

    def _read_in_waves(self, position: WalkPosition, width: int) -> None:
        if self._block is not None and self._opened > self._block[1]:
            start, end = self._block[1], self._opened
        else:
            # The beginning, or the stock has changed.
            start, end = position.overlapping, min(position.overlapping + width, position.last)
            self._waves.append([end])
        self._opened = max(end, min(end + width, position.last))
        pages = list(range(end - 1, start - 1, -1))
        if self._opened > end:
            pages.insert(0, self._opened)
        self._waves += [pages[at : at + self._breadth] for at in range(0, len(pages), self._breadth)]
        self._block = (start, end)
        self.waves_kept = 2 * (_MIN_BLOCK_CALLS + width) // self._breadth + 2


def _width_in_waves(breadth: int) -> int:
    """With the page that is read once more, blocks fill their waves."""
    return breadth * -(-_MIN_BLOCK_CALLS // breadth) - 1
