"""
The order in which the pages of a walk are read.

A plain walk reads forward. A thorough walk doesn't rely on ``total``, because a deletion and an addition between two
replies leave it unchanged. It reads a block of pages backwards: a row that moves to a lower page meanwhile is found
there, because that page is read later.

Pages that are read in one wave have no order. For them, the page after the block is read both before and after the
block. If its rows have kept their ranks, no row before them was deleted in between. That page is the first one of the
next block, so this costs one call per block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Container

from attrs import frozen

__all__ = ["PlainPlan", "Plan", "ThoroughPlan", "WalkPosition"]

# The largest first wave, before the number of pages is known. With a small stock, most of these calls are useless. With
# a large one, they save waiting for a single call.
_MAX_FIRST_PAGES = 8
# The smallest number of calls for a block of a thorough walk. One of these calls reads a page again.
_MIN_BLOCK_CALLS = 8
# After so many waves or blocks in a row that have proven something new, a walk reads more pages at once again.
_QUIET_WAVES = 4


@frozen
class WalkPosition:
    """
    The position of a walk.

    Attributes:
        number: The next page.
        overlapping: The page that contains the last yielded row, if nothing has changed since.
        last: The last page.
        is_sure: Whether, as far as `total` shows, no row can be missing before `number`.
        at_hand: Pages that were fetched already and wait to be yielded.
    """

    number: int
    overlapping: int
    last: int
    is_sure: bool
    at_hand: frozenset[int]


class Plan(ABC):
    """
    An order in which pages are read.

    Attributes:
        relies_on_total: Whether to continue after the furthest page, as long as `total` shows no change.
        waves_kept: For how many waves a reply is kept, because it can still prove something.
        pages_kept: How many pages at most wait in memory until they are proven.
    """

    relies_on_total: bool
    waves_kept: int
    pages_kept: int

    @abstractmethod
    def first_wave(self, first: int) -> list[int]:
        """Return the pages to fetch first. *first* is the first page of the walk."""

    @abstractmethod
    def next_wave(self, position: WalkPosition) -> list[int]:
        """Return the pages to fetch next. The first of them is the most important one."""

    def record_replies(self, requested: list[int], answered: Container[int]) -> None:  # noqa: B027 -- a plan may need neither
        """Record which pages of a wave have arrived."""

    def record_usefulness(self, *, is_useful: bool) -> None:  # noqa: B027 -- see above
        """Record whether the wave has proven anything new."""


class PlainPlan(Plan):
    """Reads forward, up to *prefetch* pages at once. It reads fewer while the stock changes within each wave."""

    relies_on_total = True
    waves_kept = 2

    def __init__(self, prefetch: int) -> None:
        self.pages_kept = 3 * prefetch
        self._prefetch = prefetch
        self._pages_per_wave = prefetch
        self._useful_streak = 0  # useful waves in a row; if it is below 0, useless ones

    def first_wave(self, first: int) -> list[int]:
        """Implement ``Plan.first_wave``."""
        return list(range(first, first + min(self._prefetch, _MAX_FIRST_PAGES)))

    def next_wave(self, position: WalkPosition) -> list[int]:
        """Implement ``Plan.next_wave``."""
        start = position.number if position.is_sure else position.overlapping
        end = max(start, min(start + self._pages_per_wave - 1, position.last)) + 1
        return [number for number in range(start, end) if number == start or number not in position.at_hand]

    def record_usefulness(self, *, is_useful: bool) -> None:
        """Implement ``Plan.record_usefulness``."""
        self._useful_streak = max(self._useful_streak, 0) + 1 if is_useful else min(self._useful_streak, 0) - 1
        if self._useful_streak >= _QUIET_WAVES:
            self._pages_per_wave, self._useful_streak = min(self._prefetch, self._pages_per_wave * 2), 0
        elif self._useful_streak < -1:  # a single change makes only one wave useless
            self._pages_per_wave = max(1, self._pages_per_wave // 2)


class ThoroughPlan(Plan):
    """
    Reads block by block: in waves, or one page at a time while the stock changes within each block.

    Pages that are read in waves are proven by the page that is read before and after them, and a rise of `total` in
    between makes this proof invalid. Pages that are read one at a time, backwards, don't need this proof: a rise costs
    at most one block.
    """

    relies_on_total = False

    def __init__(self, prefetch: int) -> None:
        self._prefetch = prefetch
        self._pages_per_wave = prefetch
        # The number of pages of a block that is read one page at a time, without the overlapping page.
        self._slow_block_pages = _MIN_BLOCK_CALLS - 1
        self._useful_streak = 0  # useful blocks in a row; if it is below 0, useless ones
        self._waves: deque[list[int]] = deque()  # the waves of the latest block that have not arrived yet
        self._block_starts: tuple[int, int] | None = None  # the first page of the latest block, and of the next one
        self._page_after_next_block = 0  # the first page of the block after the next one; it was read once
        self._overlapping_at_start = 0  # the overlapping page when the latest block began
        self.waves_kept = 0
        self.pages_kept = 3 * (_pages_per_block(prefetch) + 1)

    def first_wave(self, first: int) -> list[int]:
        """Implement ``Plan.first_wave``."""
        return [first]

    def next_wave(self, position: WalkPosition) -> list[int]:
        """Implement ``Plan.next_wave``."""
        if not self._waves:
            self._judge_block(position.overlapping)
            self._add_block(position)
        return self._waves[0]

    def record_replies(self, requested: list[int], answered: Container[int]) -> None:
        """Implement ``Plan.record_replies``."""
        if self._waves:
            self._waves.popleft()
            if missing := [number for number in requested if number not in answered]:
                self._waves.appendleft(missing)

    def _judge_block(self, overlapping: int) -> None:
        """Record whether the latest block has proven anything new, and adapt how many pages are read."""
        if self._block_starts is None:
            return
        if overlapping not in self._block_starts:  # the stock has changed: the last yielded row is on another page
            self._block_starts = None
            self._useful_streak = min(self._useful_streak, 0) - 1
            self._narrow()
        elif self._pages_per_wave == 1 or overlapping > self._overlapping_at_start:
            self._useful_streak = max(self._useful_streak, 0) + 1
            self._widen()

    def _narrow(self) -> None:
        """After a useless block, read fewer pages in a block or in a wave."""
        if self._pages_per_wave == 1:
            # The length of a block must vary. Otherwise, blocks could stay in step with regular changes of the stock.
            self._slow_block_pages = self._slow_block_pages // 2 or 2
        elif self._useful_streak < -1:  # a single change makes only one block useless
            self._pages_per_wave = self._pages_per_wave // 2 if self._pages_per_wave > _MIN_BLOCK_CALLS else 1

    def _widen(self) -> None:
        """After a useful block, read more pages in a block or in a wave."""
        self._slow_block_pages = min(_MIN_BLOCK_CALLS - 1, 2 * self._slow_block_pages + 1)
        if self._pages_per_wave < self._prefetch and self._useful_streak >= _QUIET_WAVES:
            self._pages_per_wave = min(self._prefetch, max(_MIN_BLOCK_CALLS, 2 * self._pages_per_wave))
            self._useful_streak = -1  # so that the first useless block reduces the number of pages again
            self._block_starts = None

    def _add_block(self, position: WalkPosition) -> None:
        """Plan the waves of the next block."""
        self._overlapping_at_start = position.overlapping
        if self._pages_per_wave == 1 or position.overlapping == position.last:
            self._read_one_by_one(position)
        else:
            self._read_in_waves(position, _pages_per_block(self._pages_per_wave))

    def _read_one_by_one(self, position: WalkPosition) -> None:
        """Plan a block that is read one page at a time, backwards."""
        end = min(position.overlapping + self._slow_block_pages, position.last)
        self._waves += [[number] for number in range(end, position.overlapping - 1, -1)]
        # If the block is useful, the walk continues on page *end*.
        self._block_starts, self._page_after_next_block = (end, end), 0
        self.waves_kept = _MIN_BLOCK_CALLS + 2  # more than the waves of the block

    def _read_in_waves(self, position: WalkPosition, block_pages: int) -> None:
        """Plan a block of *block_pages* pages that is read in waves."""
        if self._block_starts is not None and self._page_after_next_block > self._block_starts[1]:
            # Continue after the latest block. The page after the new block was read just before the latest block.
            start, end = self._block_starts[1], self._page_after_next_block
        else:
            # At the start, or after the stock has changed.
            start, end = position.overlapping, min(position.overlapping + block_pages, position.last)
            self._waves.append([end])
        self._page_after_next_block = max(end, min(end + block_pages, position.last))
        pages = list(range(end - 1, start - 1, -1))
        if self._page_after_next_block > end:
            pages.insert(0, self._page_after_next_block)
        self._waves += [pages[at : at + self._pages_per_wave] for at in range(0, len(pages), self._pages_per_wave)]
        self._block_starts = (start, end)
        # More than the waves of two blocks.
        self.waves_kept = 2 * (_MIN_BLOCK_CALLS + block_pages) // self._pages_per_wave + 2


def _pages_per_block(pages_per_wave: int) -> int:
    """Return a number of pages for a block such that these and the page that is read twice fill whole waves."""
    return pages_per_wave * -(-_MIN_BLOCK_CALLS // pages_per_wave) - 1
