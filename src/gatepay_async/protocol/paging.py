"""
Which page comes next, and which of its rows are new.

``ka/show`` counts pages by position. A row that is deleted behind the walk pulls every later row one place forward,
over the edge of the page that comes next: it would be missed. So a page is believed to *join on* only if

- it overlaps: it holds the last row given, or one before it; or
- nothing was deleted since the page before it was read: the reply's ``total`` has not shrunk, in none of the replies
  between the two.

Else the walk reads back, page by page, until one overlaps; before the page that it began at, if it must. A deletion
that an addition at the same moment hides from ``total`` is caught by ``thorough``, which reads every page again after
the one that follows it.

All of this rests on rows in ascending ``id``, new ones at the end (silent: what to expect of it). Rows in another order
are not believed.
"""

from __future__ import annotations

import math
from itertools import pairwise

from attrs import evolve

from gatepay_async.protocol.codec import MisreadError
from gatepay_async.protocol.models import CardKey, CardKeyPage


class Walk:
    """
    The state of a walk: read the page that ``next_page`` names, ``take`` it, give away what that returns.

    Args:
        first: The page to begin at, from 1.
        thorough: Read every page again after the one that follows it.

    Attributes:
        first: The page that the walk began at.
        next_page: The page to read next, or None: the walk has ended.
        again: ``next_page`` is one that was taken before; it must be read later than the page taken last.
        last_page: The last page, as far as known; at least ``first``. None before the first reply.
        drifted: Whether the stock is known to have changed under the walk.
    """

    def __init__(self, *, first: int, thorough: bool) -> None:
        self.next_page: int | None = first
        self.again = False
        self.last_page: int | None = None
        self.drifted = False
        self.first = first
        self._thorough = thorough
        self._given: float = -math.inf  # the id of the last row given away
        self._before: CardKeyPage | None = None  # the page that the next one has to join on to
        self._latest: CardKeyPage | None = None  # the page read last, which may be a later reading than that
        self._shrunk = False  # a row was deleted after the page before was read
        self._shortest: float = math.inf  # the smallest per_page so far
        self._repassed: float = math.inf  # the id of the last row on the way back to where pages became shorter
        self._held: CardKeyPage | None = None  # a page that waits until nothing before it is missing

    def is_stale(self, page: CardKeyPage) -> bool:
        """
        Whether *page*, read ahead of its turn, holds only rows that were given since.

        It must then be read again: read in its turn, such a page would mean that there are no more.
        """
        return bool(page.keys) and page.keys[-1].id <= self._given

    def take(self, asked: int, page: CardKeyPage) -> list[CardKeyPage]:
        """
        Take the reply to a request for page *asked*.

        Returns:
            Pages to give away, in order, without the rows that were given before; none of them is empty.

        Raises:
            MisreadError: Its rows don't ascend, or it is another page than was asked for.
        """
        _check(asked, page)
        self.last_page = max(self.first, page.last_page)
        before, latest, self._latest = self._before, self._latest, page
        shorter = page.per_page < self._shortest
        self._shortest = min(self._shortest, page.per_page)
        # A server may answer a page past the last one with the last one (clamping).
        number = page.current_page if page.keys and page.current_page > 0 else asked
        if before is None or latest is None:
            self._go_on_behind(page, number)
            return self._give(page) if number == asked else []
        self.drifted |= (page.total, page.per_page) != (latest.total, latest.per_page)
        self._shrunk |= page.total < latest.total
        if shorter:
            # The same numbers now name earlier rows: the held page may stand further behind than the next one, and
            # pages may come that hold nothing new.
            self._held, self._repassed = None, -math.inf
        if self.again:
            return self._read_back(number, page)
        if not self._joins(before, page):
            self._held, self.again, self.next_page = page, True, max(1, number - 1)
            return []
        self._go_on_behind(page, number, ended=self._repeats(page))
        return self._give(page)

    def _repeats(self, page: CardKeyPage) -> bool:
        """Whether *page* can only come from a server that answers a page past the last one with the last one."""
        if not self.is_stale(page):
            return False
        repassed, self._repassed = self._repassed, page.keys[-1].id
        return self._repassed <= repassed

    def _joins(self, before: CardKeyPage, page: CardKeyPage) -> bool:
        """Whether no row can be missing between the last one given and *page*."""
        if self._overlaps(page):
            return True
        return not self._shrunk and page.per_page == before.per_page and not self._thorough

    def _read_back(self, number: int, page: CardKeyPage) -> list[CardKeyPage]:
        """Take a page that was read again, to find what was pulled over its edge."""
        if number > 1 and not self._overlaps(page):
            # More than a page of rows is gone: further back, and then forward again from there.
            self._held, self.next_page = None, number - 1
            return []
        held, self._held, self.again = self._held, None, False
        shrunk = held is not None and page.total < held.total
        self._go_on_behind(page, number)
        out = self._give(page)
        self.drifted |= bool(out)
        if held is not None and self._fresh(held):
            # It was read before *page*: whatever precedes it stands on *page*, or was given.
            self._go_on_behind(held, number + 1)
            self._shrunk = shrunk
            return out + self._give(held)
        if held is not None and not out:
            self.next_page = None  # nothing new here, nothing behind it
        return out

    def _go_on_behind(self, page: CardKeyPage, number: int, *, ended: bool = False) -> None:
        """Go on behind *page*, unless it is the last."""
        self._before, self._shrunk = page, False
        last = ended or not page.keys or number >= page.last_page
        self.next_page = None if last else number + 1

    def _give(self, page: CardKeyPage) -> list[CardKeyPage]:
        fresh = self._fresh(page)
        if not fresh:
            return []
        self._given = fresh[-1].id
        return [page if len(fresh) == len(page.keys) else evolve(page, keys=fresh)]

    def _fresh(self, page: CardKeyPage) -> tuple[CardKey, ...]:
        if not self._overlaps(page):
            return page.keys
        return tuple(key for key in page.keys if key.id > self._given)

    def _overlaps(self, page: CardKeyPage) -> bool:
        return bool(page.keys) and page.keys[0].id <= self._given


def _check(asked: int, page: CardKeyPage) -> None:
    if page.current_page > asked:
        raise MisreadError("is a later page than was asked for", path="data.ka.current_page")
    if page.keys and 0 < page.current_page < min(asked, page.last_page):
        raise MisreadError("is an earlier page than was asked for", path="data.ka.current_page")
    ids = [key.id for key in page.keys]
    for row, (one, after) in enumerate(pairwise(ids), 1):
        if one >= after:
            raise MisreadError("is not above the id of the row before it", path=f"data.ka.data[{row}].id")
