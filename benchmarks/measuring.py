"""What every figure is made of: rounds that take turns, medians, both clocks, and a row of the table."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Mapping
from statistics import median
from typing import Any

import anyio
import anyio.lowlevel
import psutil
from attrs import field, frozen

MB = 1e6
RAMP = 0.003


@frozen(kw_only=True)
class Row:
    """
    One row of the table.

    Attributes:
        what: What was measured.
        goal: The figure that is wanted, or None: there is none.
        at_most: Whether less is better.
        unit: Of both numbers.
        value: The figure that was measured, or None: this arm is not available here.
        beside: What the peers reached, what it is made of.
    """

    what: str
    goal: float | None
    value: float | None
    at_most: bool = False
    unit: str = "×"
    beside: str = ""

    @property
    def wanted(self) -> str:
        """The goal, in words."""
        return "" if self.goal is None else f"{'≤' if self.at_most else '≥'} {self.goal:g} {self.unit}"

    @property
    def measured(self) -> str:
        """The figure, in words."""
        return "not available" if self.value is None else f"{readable(self.value)} {self.unit}"

    @property
    def met(self) -> bool | None:
        """Whether the figure is reached; None: it can't be said."""
        if self.goal is None or self.value is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal


@frozen
class Result:
    """What one module has measured: rows for the table, and numbers for the pictures."""

    rows: list[Row]
    data: dict[str, Any] = field(factory=dict)


@frozen
class Sample:
    """
    One round of one arm.

    Attributes:
        calls: How many were made.
        wall: Seconds by the clock.
        cpu: Seconds of this process, its threads included.
    """

    calls: int
    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.wall

    @property
    def cpu_each(self) -> float:
        """CPU microseconds a call."""
        return self.cpu / self.calls * 1e6


class Stopwatch:
    """Both clocks, from the moment it is made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self, calls: int) -> Sample:
        """What *calls* took."""
        return Sample(calls, time.perf_counter() - self._wall, time.process_time() - self._cpu)


Arm = Callable[[], Awaitable[Sample]]
Samples = dict[str, list[Sample]]


async def interleaved(arms: Mapping[str, Arm], *, rounds: int) -> Samples:
    """Run the arms in turn, one round of each before the next round of any."""
    samples: Samples = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            gc.collect()  # so that no arm pays for what the one before it left
            samples[name].append(await arm())
    return samples


async def drive(call: Callable[[], Awaitable[object]], *, callers: int, seconds: float, ramp: float = RAMP) -> Sample:
    """
    Have that many callers call as fast as they are answered, and count for *seconds* once all of them do.

    Args:
        call: What they call.
        callers: How many.
        seconds: How long to count.
        ramp: Seconds between one caller and the next. httpx's pool, for one, is several times slower for five
            seconds after many callers have come at once (each request counts the idle connections once for each
            idle connection, until those too many expire); what is measured is what it settles to.
    """
    calls, going = 0, True

    async def caller(delay: float) -> None:
        nonlocal calls
        await anyio.sleep(delay)
        while going:
            await call()
            calls += 1

    async with anyio.create_task_group() as group:
        for place in range(callers):
            group.start_soon(caller, place * ramp)
        await anyio.sleep(callers * ramp)
        before, watch = calls, Stopwatch()
        await anyio.sleep(seconds)
        while calls == before:
            await anyio.lowlevel.checkpoint()
        sample = watch.stop(calls - before)
        going = False
    return sample


async def all_at_once(call: Callable[[], Awaitable[object]], *, calls: int) -> tuple[Sample, list[BaseException]]:
    """Make that many calls at once; what they took, and what they raised."""
    watch = Stopwatch()
    ends = await asyncio.gather(*(call() for _ in range(calls)), return_exceptions=True)
    return watch.stop(calls), [end for end in ends if isinstance(end, BaseException)]


def timed(work: Callable[[], object], *, times: int) -> Sample:
    """Do *work* over and over, with nothing in between."""
    watch = Stopwatch()
    for _ in range(times):
        work()
    return watch.stop(times)


def ratio(above: list[Sample], below: list[Sample], of: Callable[[Sample], float]) -> float:
    """The median, over the rounds, of one arm's figure by the other's."""
    return median(of(one) / of(other) for one, other in zip(above, below, strict=True))


def middle(samples: list[Sample], of: Callable[[Sample], float]) -> float:
    """The median over the rounds."""
    return median(map(of, samples))


def rate(sample: Sample) -> float:
    """For `ratio` and `middle`."""
    return sample.rate


def cpu_each(sample: Sample) -> float:
    """For `ratio` and `middle`."""
    return sample.cpu_each


def wall(sample: Sample) -> float:
    """For `ratio` and `middle`."""
    return sample.wall


def resident() -> float:
    """What this process holds in memory now, in MB."""
    return float(psutil.Process().memory_info().rss) / MB


def sockets() -> int:
    """How many sockets to a network this process has open."""
    return len(psutil.Process().net_connections(kind="inet"))


def descriptors() -> int:
    """How many files and sockets this process has open; 0 where nobody says."""
    return psutil.Process().num_fds() if psutil.POSIX else 0


def readable(value: float) -> str:
    """Three digits that count, no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 -- three digits
