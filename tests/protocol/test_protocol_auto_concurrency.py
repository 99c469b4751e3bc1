"""``concurrency="auto"``: what it makes of servers of many kinds, in simulated time."""

import math
import random
from collections.abc import Callable

import pytest
from upload_simulator import FixedLimit, Server, simulate

from gatepay_async.protocol.auto_concurrency import START, AttemptEnd, AutoConcurrency

pytestmark = pytest.mark.fast

MOST = 100


def flat(seconds: float) -> Callable[[random.Random, float, int], float]:
    return lambda _random, _now, _in_flight: seconds


def jitter(chance: random.Random, _now: float, _in_flight: int) -> float:
    return chance.uniform(0.01, 0.03)


def exponential(chance: random.Random, _now: float, _in_flight: int) -> float:
    return chance.expovariate(50)


def thrash(_chance: random.Random, _now: float, in_flight: int) -> float:
    return 0.02 * (1 + (in_flight / 16) ** 2)


def ten(_: float) -> float:
    return 10


# A name, a server, the best fixed number for it (of all from 1 to 100), and how much longer than with that
# one the upload may take.
Row = tuple[str, Callable[[], Server], int, float]
THE_THREE: list[Row] = [
    ("20 ms, whatever comes", Server, 64, 1.25),
    ("four workers and a queue", lambda: Server(workers=lambda _: 4), 5, 1.1),
    ("429 above ten in flight", lambda: Server(most=ten), 10, 1.25),
]
OTHERS: list[Row] = [
    ("six workers", lambda: Server(workers=lambda _: 6), 7, 1.1),
    ("jitter", lambda: Server(latency=jitter), 64, 1.3),
    ("jitter, four workers", lambda: Server(latency=jitter, workers=lambda _: 4), 7, 1.1),
    ("jitter, twelve workers", lambda: Server(latency=jitter, workers=lambda _: 12), 16, 1.25),
    ("jitter, 429 above ten", lambda: Server(latency=jitter, most=ten), 10, 1.25),
    ("any latency, twenty workers", lambda: Server(latency=exponential, workers=lambda _: 20), 32, 2.0),
    ("429 above three", lambda: Server(most=lambda _: 3), 3, 1.15),
    ("slower from 0.2 s on", lambda: Server(latency=lambda _r, now, _n: 0.02 if now < 0.2 else 0.1), 100, 1.7),
    ("faster from 1 s on", lambda: Server(latency=lambda _r, now, _n: 0.1 if now < 1 else 0.02), 100, 1.25),
    ("sixteen workers, then four", lambda: Server(workers=lambda now: 16 if now < 0.5 else 4), 100, 1.25),
    ("four workers, then sixteen", lambda: Server(workers=lambda now: 4 if now < 1 else 16), 20, 1.25),
    ("429 above ten, then above five", lambda: Server(most=lambda now: 10 if now < 1 else 5), 6, 1.25),
    ("429 above ten, then above forty", lambda: Server(most=lambda now: 10 if now < 1 else 40), 24, 1.25),
    ("slower with each call in flight", lambda: Server(latency=thrash), 16, 1.25),
    ("silent for three seconds", lambda: Server(stalls=(0.2, 3.2)), 100, 1.1),
    ("far away, four workers", lambda: Server(latency=flat(0.3), workers=lambda _: 4), 5, 1.1),
]


def test_a_thousand_chunks_take_little_longer_than_with_the_best_fixed_number() -> None:
    """On each kind of server, and less than 2 % of the attempts are refused."""
    wrong: list[str] = []
    for name, server, best, bound in THE_THREE + OTHERS:
        fixed = simulate(server(), FixedLimit(best), 1_000).seconds
        for seed in (1, 4):
            result = simulate(server(), AutoConcurrency(MOST), 1_000, seed=seed)
            if result.seconds > bound * fixed or result.refused >= 0.02:
                wrong.append(f"{name}: {result.seconds / fixed:.2f} ×, {result.refused:.2%} refused")
    assert not wrong


def test_a_short_upload_is_as_fast_as_with_the_default() -> None:
    """One chunk or a few: never slower than with four at a time."""
    for chunks in (1, 3, 4, 5, 12, 18):
        for name, server, *_ in THE_THREE:
            default = simulate(server(), FixedLimit(START), chunks)
            result = simulate(server(), AutoConcurrency(MOST), chunks)
            assert result.seconds <= 1.01 * default.seconds, (name, chunks)
            assert not result.refused


def test_the_limit_stays_where_it_is_best() -> None:
    """In the second half of an upload it moves within narrow bounds."""
    bounds = {
        "20 ms, whatever comes": (64, 100),
        "four workers and a queue": (4, 6),
        "429 above ten in flight": (10, 11),
    }
    for name, server, *_ in THE_THREE:
        limits = simulate(server(), AutoConcurrency(MOST), 3_000).limits[1_500:]
        least, most = bounds[name]
        assert least <= min(limits) <= max(limits) <= most, name


def test_a_slow_input_is_no_slow_server() -> None:
    """While the input gives a chunk every 15 ms the limit is not lowered; when it is fast, all of it is used."""

    def read(now: float) -> float:
        return 0.015 if now < 3 else 0

    result = simulate(Server(), AutoConcurrency(MOST), 1_200, read=read)
    assert min(result.limits) == START
    assert result.seconds < 1.1 * simulate(Server(), FixedLimit(64), 1_200, read=read).seconds


def test_calls_that_leave_permits_free_say_nothing() -> None:
    """However slow they are: it may be the input, or a callback, that comes between them."""
    auto = AutoConcurrency(MOST)
    calls = Calls(auto)
    calls.answer(12)
    calls.seen.clear()
    calls.answer(500, latency=5, permits=20)
    assert calls.seen == {MOST}


def test_a_queue_that_forms_is_left_soon() -> None:
    """A server that has become slower with each call in flight: after a few rounds few are left."""
    auto = AutoConcurrency(MOST)
    calls = Calls(auto)
    calls.answer(12)
    for _ in range(40):
        calls.answer(1, latency=0.01 * auto.limit)
    assert auto.limit <= 8


def test_a_refusal_asks_for_no_more_than_it_says() -> None:
    """A server that refuses all but one is sent one at a time; most is the bound, and one is enough."""
    result = simulate(Server(most=lambda _: 1), AutoConcurrency(MOST), 300)
    assert result.limits[-1] == 1
    assert result.refused < 0.1
    for most in (1, 2, 7):
        assert max(simulate(Server(), AutoConcurrency(most), 300).limits) == most


class Calls:
    """Has attempts of an ``AutoConcurrency`` begin and end, all permits taken."""

    def __init__(self, auto: AutoConcurrency) -> None:
        self.auto = auto
        self.seen: set[int] = set()
        self._now = 0.0

    def answer(
        self, times: int, *, latency: float = 0.02, end: AttemptEnd = AttemptEnd.ANSWERED, permits: int | None = None
    ) -> None:
        """That often: all *permits* are taken (None: all that there are), and all calls end after *latency*."""
        for _ in range(times):
            begun = [self.auto.began(self._now) for _ in range(permits or self.auto.limit)]
            self._now += latency
            for attempt in begun:
                self.auto.ended(attempt, end, self._now)
            self.seen.add(self.auto.limit)


def test_time_outs_lower_the_limit_and_broken_connections_do_not() -> None:
    """An attempt that nobody answered is a slow one, if it was; what says nothing holds nothing up."""
    auto = AutoConcurrency(MOST)
    calls = Calls(auto)
    calls.answer(12)
    assert auto.limit == MOST
    calls.answer(50, latency=0.001, end=AttemptEnd.UNANSWERED)
    calls.answer(50, latency=0.001, end=AttemptEnd.OTHER)
    assert auto.limit == MOST
    calls.seen.clear()
    calls.answer(12, latency=10, end=AttemptEnd.UNANSWERED)
    assert min(calls.seen) == 66
    calls.answer(20)
    assert auto.limit == MOST


def test_a_server_that_became_faster_is_tried_soon() -> None:
    """However long nothing more was tried, because it had never brought anything."""
    auto = AutoConcurrency(MOST)
    calls = Calls(auto)
    for _ in range(300):
        calls.answer(1, latency=0.01 * auto.limit)
    assert auto.limit <= 6
    calls.answer(40, latency=0.01)
    assert auto.limit > 16


def test_only_refusals_take_the_limit_below_its_start() -> None:
    """A latency that grows without end doesn't; a 503 does, and one of several calls counts."""
    auto = AutoConcurrency(MOST)
    calls = Calls(auto)
    for doublings in range(8):
        calls.answer(12, latency=0.02 * 2**doublings)
    assert auto.limit >= START
    calls.answer(1, end=AttemptEnd.REFUSED)
    lowered = auto.limit
    assert lowered >= START // 2
    calls.answer(1, end=AttemptEnd.REFUSED)
    assert auto.limit == lowered // 2
    calls.answer(200)
    assert auto.limit > START
    assert math.isfinite(auto.limit)
