"""``concurrency="auto"`` with many kinds of simulated servers, in simulated time."""

import math
import random
from collections.abc import Callable

import pytest
from upload_simulator import FixedLimit, Server, simulate

from gatepay_async.protocol.auto_concurrency import INITIAL_LIMIT, AttemptEnd, AutoConcurrency

pytestmark = pytest.mark.fast

MAXIMUM = 100


def constant(seconds: float) -> Callable[[random.Random, float, int], float]:
    return lambda _random, _now, _in_flight: seconds


def jitter(randomness: random.Random, _now: float, _in_flight: int) -> float:
    return randomness.uniform(0.01, 0.03)


def exponential(randomness: random.Random, _now: float, _in_flight: int) -> float:
    return randomness.expovariate(50)


def growing_with_load(_randomness: random.Random, _now: float, in_flight: int) -> float:
    return 0.02 * (1 + (in_flight / 16) ** 2)


def always_ten(_: float) -> float:
    return 10


# A name, a server, the best fixed concurrency for it (from 1 to 100), and how many times as long an upload with "auto"
# may take as one with that concurrency.
ServerCase = tuple[str, Callable[[], Server], int, float]
BASIC_SERVERS: list[ServerCase] = [
    ("20 ms at any load", Server, 64, 1.25),
    ("four workers and a queue", lambda: Server(workers=lambda _: 4), 5, 1.1),
    ("429 above ten in flight", lambda: Server(max_in_flight=always_ten), 10, 1.25),
]
OTHER_SERVERS: list[ServerCase] = [
    ("six workers", lambda: Server(workers=lambda _: 6), 7, 1.1),
    ("jitter", lambda: Server(latency=jitter), 64, 1.3),
    ("jitter, four workers", lambda: Server(latency=jitter, workers=lambda _: 4), 7, 1.1),
    ("jitter, twelve workers", lambda: Server(latency=jitter, workers=lambda _: 12), 16, 1.25),
    ("jitter, 429 above ten", lambda: Server(latency=jitter, max_in_flight=always_ten), 10, 1.25),
    ("any latency, twenty workers", lambda: Server(latency=exponential, workers=lambda _: 20), 32, 2.0),
    ("429 above three", lambda: Server(max_in_flight=lambda _: 3), 3, 1.15),
    ("slower from 0.2 s on", lambda: Server(latency=lambda _r, now, _n: 0.02 if now < 0.2 else 0.1), 100, 1.7),
    ("faster from 1 s on", lambda: Server(latency=lambda _r, now, _n: 0.1 if now < 1 else 0.02), 100, 1.25),
    ("sixteen workers, then four", lambda: Server(workers=lambda now: 16 if now < 0.5 else 4), 100, 1.25),
    ("four workers, then sixteen", lambda: Server(workers=lambda now: 4 if now < 1 else 16), 20, 1.25),
    ("429 above ten, then above five", lambda: Server(max_in_flight=lambda now: 10 if now < 1 else 5), 6, 1.25),
    ("429 above ten, then above forty", lambda: Server(max_in_flight=lambda now: 10 if now < 1 else 40), 24, 1.25),
    ("slower with each call in flight", lambda: Server(latency=growing_with_load), 16, 1.25),
    ("silent for three seconds", lambda: Server(stalls=(0.2, 3.2)), 100, 1.1),
    ("far away, four workers", lambda: Server(latency=constant(0.3), workers=lambda _: 4), 5, 1.1),
]


def test_upload_is_nearly_as_fast_as_with_the_best_fixed_concurrency() -> None:
    """1,000 chunks are sent to each kind of server. Less than 2 % of the attempts are refused."""
    too_slow_or_refused: list[str] = []
    for name, server, best, max_ratio in BASIC_SERVERS + OTHER_SERVERS:
        fixed = simulate(server(), FixedLimit(best), 1_000).seconds
        for seed in (1, 4):
            result = simulate(server(), AutoConcurrency(MAXIMUM), 1_000, seed=seed)
            if result.seconds > max_ratio * fixed or result.refused >= 0.02:
                too_slow_or_refused.append(f"{name}: {result.seconds / fixed:.2f} ×, {result.refused:.2%} refused")
    assert not too_slow_or_refused


def test_short_upload_is_as_fast_as_with_the_default() -> None:
    """An upload of 1 to 18 chunks is never slower than with a concurrency of four."""
    for chunks in (1, 3, 4, 5, 12, 18):
        for name, server, *_ in BASIC_SERVERS:
            default = simulate(server(), FixedLimit(INITIAL_LIMIT), chunks)
            result = simulate(server(), AutoConcurrency(MAXIMUM), chunks)
            assert result.seconds <= 1.01 * default.seconds, (name, chunks)
            assert not result.refused


def test_limit_stays_near_the_best_value() -> None:
    """In the second half of an upload, the limit stays within narrow bounds."""
    bounds = {
        "20 ms at any load": (64, 100),
        "four workers and a queue": (4, 6),
        "429 above ten in flight": (10, 11),
    }
    for name, server, *_ in BASIC_SERVERS:
        limits = simulate(server(), AutoConcurrency(MAXIMUM), 3_000).limits[1_500:]
        lowest, highest = bounds[name]
        assert lowest <= min(limits) <= max(limits) <= highest, name


def test_slow_input_does_not_lower_the_limit() -> None:
    """While the input yields a chunk every 15 ms, the limit stays. Once the input is fast, the limit rises."""

    def read(now: float) -> float:
        return 0.015 if now < 3 else 0

    result = simulate(Server(), AutoConcurrency(MAXIMUM), 1_200, read=read)
    assert min(result.limits) == INITIAL_LIMIT
    assert result.seconds < 1.1 * simulate(Server(), FixedLimit(64), 1_200, read=read).seconds


def test_calls_below_the_limit_are_not_measured() -> None:
    """A call below the limit may be slow because of a slow input or a slow progress callback."""
    auto = AutoConcurrency(MAXIMUM)
    calls = Calls(auto)
    calls.run_rounds(12)  # the limit rises to its maximum
    calls.limits.clear()
    calls.run_rounds(500, latency=5, in_flight=20)
    assert calls.limits == {MAXIMUM}


def test_limit_falls_when_the_server_queues_calls() -> None:
    """If the latency grows with the number of calls in flight, the limit is low after a few rounds."""
    auto = AutoConcurrency(MAXIMUM)
    calls = Calls(auto)
    calls.run_rounds(12)
    for _ in range(40):
        calls.run_rounds(1, latency=0.01 * auto.limit)
    assert auto.limit <= 8


def test_limit_falls_to_one_if_the_server_accepts_one_call_at_a_time() -> None:
    """The limit never exceeds ``maximum``, which may be 1."""
    result = simulate(Server(max_in_flight=lambda _: 1), AutoConcurrency(MAXIMUM), 300)
    assert result.limits[-1] == 1
    assert result.refused < 0.1
    for maximum in (1, 2, 7):
        assert max(simulate(Server(), AutoConcurrency(maximum), 300).limits) == maximum


class Calls:
    """
    Makes attempts begin and end, as many at once as the limit allows.

    Attributes:
        limits: The limits so far.
    """

    def __init__(self, auto: AutoConcurrency) -> None:
        self.auto = auto
        self.limits: set[int] = set()
        self._now = 0.0

    def run_rounds(
        self, rounds: int, *, latency: float = 0.02, end: AttemptEnd = AttemptEnd.ANSWERED, in_flight: int | None = None
    ) -> None:
        """In each round, begin *in_flight* calls (None: as many as the limit), and end all of them after *latency*."""
        for _ in range(rounds):
            begun = [self.auto.record_begin(self._now) for _ in range(in_flight or self.auto.limit)]
            self._now += latency
            for attempt in begun:
                self.auto.record_end(attempt, end, self._now)
            self.limits.add(self.auto.limit)


def test_time_outs_lower_the_limit_and_broken_connections_do_not() -> None:
    """A time-out counts as a long latency. A connection that breaks at once, and ``OTHER``, don't count."""
    auto = AutoConcurrency(MAXIMUM)
    calls = Calls(auto)
    calls.run_rounds(12)
    assert auto.limit == MAXIMUM
    calls.run_rounds(50, latency=0.001, end=AttemptEnd.UNANSWERED)
    calls.run_rounds(50, latency=0.001, end=AttemptEnd.OTHER)
    assert auto.limit == MAXIMUM
    calls.limits.clear()
    calls.run_rounds(12, latency=10, end=AttemptEnd.UNANSWERED)
    assert min(calls.limits) == 66  # a step down goes to two thirds of the limit
    calls.run_rounds(20)
    assert auto.limit == MAXIMUM


def test_limit_rises_soon_after_the_server_becomes_faster() -> None:
    """The limit rises soon even if the rest between steps has become long, because more calls had never helped."""
    auto = AutoConcurrency(MAXIMUM)
    calls = Calls(auto)
    for _ in range(300):
        calls.run_rounds(1, latency=0.01 * auto.limit)
    assert auto.limit <= 6
    calls.run_rounds(40, latency=0.01)
    assert auto.limit > 16


def test_only_refusals_lower_the_limit_below_its_start() -> None:
    """A growing latency doesn't lower the limit below the initial one. Several refusals at the same time count once."""
    auto = AutoConcurrency(MAXIMUM)
    calls = Calls(auto)
    for doublings in range(8):
        calls.run_rounds(12, latency=0.02 * 2**doublings)
    assert auto.limit >= INITIAL_LIMIT
    calls.run_rounds(1, end=AttemptEnd.REFUSED)
    lowered = auto.limit
    assert lowered >= INITIAL_LIMIT // 2
    calls.run_rounds(1, end=AttemptEnd.REFUSED)
    assert auto.limit == lowered // 2
    calls.run_rounds(200)
    assert auto.limit > INITIAL_LIMIT
    assert math.isfinite(auto.limit)
