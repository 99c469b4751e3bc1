"""
Simulates walks over random stocks that change at random moments, on every known kind of server.

The simulator knows the true stock, and checks each walk: it returns every key that existed the whole time, returns none
twice, and misses keys only where the documentation allows it. Each walk has its own seed, which a failure prints:

    python tests/walk_simulator.py --walks 100000            many walks, with a new seed
    python tests/walk_simulator.py --replay 1234567          one walk, printing each reply
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, cast

import anyio.lowlevel
from attrs import define, field

from gatepay_async.listing import CardKeyListing
from gatepay_async.protocol.calls import KaShow
from gatepay_async.protocol.errors import InvalidPageError, ProtocolError, TransportError
from gatepay_async.protocol.models import CardKey, CardKeyPage
from gatepay_async.protocol.paging import Walk
from gatepay_async.protocol.values import MisreadError

# What a server returns for a page beyond the last one: an empty page; its last page, with the number of that page or
# with the requested number; an error; or an empty page with the number of the last page, as ThinkPHP's paginator does.
SERVERS = ("empty", "clamping", "echo", "refusing", "thinkphp")
# The changes of a stock: deletions, additions at its end, rows that come back with their old ids, another per_page.
CHANGE_KINDS = ("delete", "add", "come back", "resize")
SIZES = (1, 2, 3, 4)  # rows per page


class Row:
    """A card key with the only attribute that a walk reads."""

    __slots__ = ("id",)

    def __init__(self, number: int) -> None:
        self.id = number


ROWS = tuple(map(Row, range(5000)))


@define
class Settings:
    """The settings that a seed determines."""

    server: str
    change_kinds: tuple[str, ...]
    rows: int
    per_page: int
    change_rate: float  # the probability of a change before each reply
    max_changes: int
    failure_rate: float  # the probability that a call fails, or is cancelled with its wave
    prefetch: int
    thorough: bool
    first_page: int

    @classmethod
    def draw(cls, rng: random.Random, **fixed: Any) -> Settings:
        """Return random settings, except for those in *fixed*."""
        drawn: dict[str, Any] = {
            "server": rng.choice(SERVERS),
            "change_kinds": tuple(kind for kind in CHANGE_KINDS if rng.random() < (0.4 if kind == "resize" else 0.85)),
            "rows": rng.randrange(26),
            "per_page": rng.choice(SIZES),
            "change_rate": rng.choice((0.02, 0.1, 0.3, 0.3, 0.6)),
            "max_changes": 40,
            "failure_rate": rng.choice((0, 0, 0.1)),
            "prefetch": rng.randrange(1, 9),
            "thorough": rng.random() < 0.4,
            "first_page": 1 if rng.random() < 0.8 else rng.randrange(1, 4),
        }
        return cls(**{**drawn, **fixed})


@define
class Reply:
    """The state of the stock when a reply was created."""

    rows: tuple[int, ...]
    per_page: int
    come_backs: int  # since the previous reply


class Stock:
    """The true stock: its rows, and what has happened to them."""

    def __init__(self, settings: Settings, rng: random.Random) -> None:
        self.settings = settings
        self.rng = rng
        self.rows = list(range(1, settings.rows + 1))
        self.newest = settings.rows
        self.deleted: list[int] = []  # deleted rows, which may come back
        self.per_page = settings.per_page
        self.changes_left = settings.max_changes
        self.resized = False
        self.stayed = set(self.rows)  # the rows that have existed since the first reply
        self.required: set[int] = set()  # the rows that the walk must return
        self.has_replied = False  # whether a reply was sent
        self.changed = False  # since the first reply
        self.come_backs = 0
        self.replies: list[Reply] = []
        self.log: list[tuple[object, ...]] = []

    def change(self) -> None:
        """Change the stock at random, not at all or several times."""
        while self.changes_left > 0 and self.settings.change_kinds and self.rng.random() < self.settings.change_rate:
            self.changes_left -= 1
            kind = self.rng.choice(self.settings.change_kinds)
            log_entry = self._delete() if kind == "delete" else self._add_or_resize(kind)
            if log_entry:
                self.changed |= self.has_replied
                self.log.append(log_entry)

    def _delete(self) -> tuple[object, ...]:
        """Delete one row or several. Return a log entry; empty if there are no rows."""
        if not self.rows:
            return ()
        start = self.rng.randrange(len(self.rows))
        is_range = self.rng.random() < 0.3
        deleted = self.rows[start : start + (self.rng.randrange(1, 3 * self.per_page + 2) if is_range else 1)]
        del self.rows[start : start + len(deleted)]
        self.stayed.difference_update(deleted)
        self.required.difference_update(deleted)
        self.deleted += deleted
        return ("deleted", deleted)

    def _add_or_resize(self, kind: str) -> tuple[object, ...]:
        """Add rows, restore deleted rows, or change per_page. Return a log entry; empty if nothing changed."""
        if kind == "add":
            fresh = range(self.newest + 1, self.newest + 1 + self.rng.choice((1, 1, 1, 2, 4)))
            self.newest = fresh[-1]
            self.rows += fresh
            return ("added", list(fresh))
        if kind == "come back" and self.deleted:
            back = [self.deleted.pop(self.rng.randrange(len(self.deleted)))]
            if self.rng.random() < 0.3:
                back += self.deleted
                self.deleted = []
            self.rows = sorted({*self.rows, *back})
            self.come_backs += 1
            return ("came back", back)
        if kind == "resize" and not self.resized:
            self.resized = True
            self.per_page = self.rng.choice([size for size in SIZES if size != self.per_page])
            return ("per_page", self.per_page)
        return ()

    def reply(self, asked: int) -> CardKeyPage | None:
        """Return the reply of this kind of server; None: the page is refused as invalid."""
        total, size = len(self.rows), self.per_page
        last = max(1, -(-total // size))
        is_beyond = asked > last
        if not self.has_replied:
            self.has_replied, self.stayed = True, set(self.rows)
        server = self.settings.server
        if is_beyond and server == "refusing":
            self.log.append(("asked", asked, "refused"))
            return None
        shown = min(asked, last) if server in ("clamping", "echo") else asked
        number = min(asked, last) if server in ("clamping", "thinkphp") else asked
        ids = self.rows[(shown - 1) * size : shown * size]
        stated_last = 0 if server == "thinkphp" and not total else last  # ThinkPHP: an empty list has 0 pages
        self.replies.append(Reply(tuple(self.rows), size, self.come_backs))
        self.come_backs = 0
        self.log.append(("asked", asked, "page", number, ids, "total", total, "per_page", size))
        keys = cast("tuple[CardKey, ...]", tuple([ROWS[i] for i in ids]))
        return CardKeyPage(total, size, number if stated_last else 0, stated_last, keys)

    def note_first_page(self, asked: int) -> None:
        """Note which rows the walk must return: those from its first page on that existed from the start."""
        rows = set(self.rows[(asked - 1) * self.per_page :])
        self.required = rows & self.stayed if self.has_replied else rows

    def may_be_missed(self, row: int, *, thorough: bool) -> bool:
        """
        Whether the documentation allows a walk to miss a row that existed the whole time.

        Without `thorough`, it may if the row's rank changed between two replies whose totals don't show that. With
        `thorough`, it may only if rows came back between two such replies, because no order of reading detects that.
        """
        for before, after in pairwise(self.replies):
            growth = len(after.rows) - len(before.rows)
            if thorough:
                if after.come_backs and growth <= 0:
                    return True
            else:
                shift = _rank(after.rows, row) - _rank(before.rows, row)
                if (shift < 0 <= growth) or (shift > 0 >= growth):
                    return True
        return False

    def replies_show_a_change(self) -> bool:
        """Whether the replies show that something changed."""
        return len({(len(reply.rows), reply.per_page) for reply in self.replies}) > 1


def _rank(rows: tuple[int, ...], row: int) -> int:
    """Return how many rows are before *row*."""
    return sum(other < row for other in rows)


@define
class Outcome:
    """The result of a walk."""

    settings: Settings
    violations: list[str] = field(factory=list[str])  # of the contract
    exempt: bool = False  # the walk missed keys that it may miss
    gave_up: bool = False  # whether the walk ended early, because the stock changed too fast
    calls: int = 0
    returned: int = 0  # the number of card keys
    most_kept: int = 0  # the largest number of pages that the walk held at once
    log: list[tuple[object, ...]] = field(factory=list[tuple[object, ...]])

    def note_error(self, error: MisreadError | ProtocolError, stock: Stock) -> None:
        """Note that the walk gave up. It may do so only if the stock changed."""
        self.gave_up = True
        # A walk that gives up because of changes names the field `total`. Other errors of a reply name other fields.
        if error.path != "data.ka.total" or not stock.changed:
            self.violations.append(f"raised {error}")


def simulate(seed: int, **fixed: Any) -> Outcome:
    """Simulate one walk without an event loop. The replies of a wave arrive in any order."""
    rng = random.Random(seed)  # noqa: S311 -- not for security
    settings = Settings.draw(rng, **fixed)
    stock = Stock(settings, rng)
    walk = Walk(first=settings.first_page, prefetch=settings.prefetch, thorough=settings.thorough)
    outcome = Outcome(settings, log=stock.log)
    ids: list[int] = []
    try:
        for page_ids in _run(walk, stock, outcome):
            ids += page_ids
    except MisreadError as error:
        outcome.note_error(error, stock)
    except Exception as error:  # noqa: BLE001 -- reported with the seed
        outcome.violations.append(f"raised {error!r}")
    # A walk may hold three waves of pages; with `thorough`, three blocks of at least 8 pages.
    if outcome.most_kept > 3 * settings.prefetch * (-(-8 // settings.prefetch) if settings.thorough else 1):
        outcome.violations.append(f"held {outcome.most_kept} pages")
    return _judge(outcome, stock, ids, drifted=walk.drifted)


async def simulate_listing(seed: int, **fixed: Any) -> Outcome:
    """Run one walk through ``CardKeyListing`` on the running event loop. Failed calls are retried."""
    rng = random.Random(seed)  # noqa: S311 -- not for security
    settings = Settings.draw(rng, **fixed)
    stock = Stock(settings, rng)
    outcome = Outcome(settings, log=stock.log)
    has_begun = False

    async def send(call: KaShow) -> CardKeyPage:
        nonlocal has_begun
        for _ in range(rng.randrange(1, 4)):
            await anyio.lowlevel.checkpoint()
        stock.change()
        outcome.calls += 1
        if rng.random() < settings.failure_rate:
            raise TransportError(endpoint=call.path, sent=True, problem="the connection broke")
        if call.page == settings.first_page and not has_begun:
            has_begun = True
            stock.note_first_page(call.page)
        page = stock.reply(call.page)
        if page is None:
            raise InvalidPageError(code=108, message="", endpoint=call.path)
        return page

    listing = CardKeyListing(
        send, KaShow(8, settings.first_page), prefetch=settings.prefetch, thorough=settings.thorough
    )
    keys = aiter(listing)
    ids: list[int] = []
    while True:
        try:
            ids.append((await anext(keys)).id)
        except StopAsyncIteration:
            break
        except TransportError:
            continue
        except ProtocolError as error:
            outcome.note_error(error, stock)
            break
    return _judge(outcome, stock, ids, drifted=listing.drifted)


def _judge(outcome: Outcome, stock: Stock, ids: list[int], *, drifted: bool) -> Outcome:
    """Check the walk against the contract. Add violations to *outcome*."""
    settings = outcome.settings
    outcome.returned = len(ids)
    if any(before >= after for before, after in pairwise(ids)):
        outcome.violations.append(f"returned twice or out of order: {ids}")
    lost: set[int] = set() if outcome.gave_up else stock.required - set(ids)
    excused = {row for row in lost if stock.may_be_missed(row, thorough=settings.thorough)}
    outcome.exempt = bool(excused)
    if lost - excused:
        outcome.violations.append(f"lost {sorted(lost - excused)}, returned {ids}")
    if stock.replies_show_a_change() and not drifted:
        outcome.violations.append("drifted is False, though the replies show a change")
    if drifted and not stock.changed:
        outcome.violations.append("drifted is True, though nothing changed")
    return outcome


def _run(walk: Walk, stock: Stock, outcome: Outcome) -> Iterator[list[int]]:
    """Run the walk with random failures. Yield the ids of each page that it returns."""
    rng, failure_rate = stock.rng, stock.settings.failure_rate
    while not walk.ended:
        asked = walk.next_wave()
        assert len(set(asked)) == len(asked) <= stock.settings.prefetch, f"asked for {asked}"
        replies: dict[int, CardKeyPage | None] = {}
        for number in rng.sample(asked, len(asked)):
            stock.change()
            outcome.calls += 1
            if failure_rate and rng.random() < failure_rate:
                stock.log.append(("failed", number))
                if rng.random() < 0.3:
                    break  # cancelled: the other replies of the wave don't arrive
                continue
            if not walk.begun and number == stock.settings.first_page:
                stock.note_first_page(number)
            replies[number] = stock.reply(number)
        pages = walk.receive(asked, replies)
        held = sum(kept.page is not None for kept in walk._kept)
        outcome.most_kept = max(outcome.most_kept, held)
        stock.log.append(("wave of", asked, "returns", [[key.id for key in page.keys] for page in pages]))
        for page in pages:
            yield [key.id for key in page.keys]
        if outcome.calls > 20_000:
            outcome.violations.append("did not end")
            return


def print_line(*words: object, **print_options: Any) -> None:
    """Print to standard output."""
    print(*words, **print_options)  # noqa: T201 -- a program that is run by hand


def check(outcomes: Iterable[tuple[int, Outcome]]) -> Counter[str]:
    """Raise if a walk violated the contract, with commands to replay it. Otherwise count the servers and changes."""
    conditions: Counter[str] = Counter()
    messages: list[str] = []
    for seed, outcome in outcomes:
        messages += [f"python tests/walk_simulator.py --replay {seed}: {problem}" for problem in outcome.violations]
        conditions[outcome.settings.server] += 1
        conditions.update(outcome.settings.change_kinds)
        conditions["gave up"] += outcome.gave_up
    assert not messages, "\n".join(messages[:10])
    return conditions


def main() -> None:
    """Run many walks, or replay one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--walks", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=secrets.randbits(48))
    parser.add_argument("--replay", type=int, help="the seed of one walk")
    parser.add_argument("--set", action="append", default=[], help="a setting as NAME=VALUE, in Python syntax")
    options = parser.parse_args()
    fixed = {name: eval(value) for name, _, value in (setting.partition("=") for setting in options.set)}  # noqa: S307 -- the user's own input
    if options.replay is not None:
        outcome = simulate(options.replay, **fixed)
        print_line(
            outcome.settings, *outcome.log, f"violations: {outcome.violations}", f"calls: {outcome.calls}", sep="\n"
        )
        sys.exit(bool(outcome.violations))
    print_line(f"seed {options.seed}", flush=True)
    counts: Counter[str] = Counter()
    started = time.process_time()
    for walk in range(options.walks):
        if time.process_time() - started > options.seconds:
            break
        outcome = simulate(options.seed + walk, **fixed)
        counts += Counter(
            walks=1,
            calls=outcome.calls,
            returned=outcome.returned,
            exempt=outcome.exempt,
            gave_up=outcome.gave_up,
            violations=bool(outcome.violations),
        )
        if outcome.violations:
            print_line(f"--replay {options.seed + walk}: {outcome.violations}")
    print_line(dict(counts), f"{time.process_time() - started:.1f} s of CPU")
    sys.exit(bool(counts["violations"]))


if __name__ == "__main__":
    main()
