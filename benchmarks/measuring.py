"""Building blocks of the benchmarks: rounds that alternate, medians, wall and CPU time, and a row of the table."""

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from statistics import median
from typing import Any

import anyio
import anyio.lowlevel
import psutil
from attrs import field, frozen

MB = 1e6  # bytes
RAMP_S = 0.003  # between the starts of two callers


@frozen(kw_only=True)
class Row:
    """
    One row of the table.

    Attributes:
        what: What was measured.
        goal: The value to reach; None: no goal.
        at_most: Whether less is better.
        unit: The unit of the goal and the value.
        value: The measured value; None: not measured, because a program or package is not installed.
        details: More about the value, such as the values of the other arms.
    """

    what: str
    goal: float | None
    value: float | None
    at_most: bool = False
    unit: str = "×"
    details: str = ""

    @property
    def goal_text(self) -> str:
        """The goal as text, such as "≤ 5 s"."""
        return "" if self.goal is None else f"{'≤' if self.at_most else '≥'} {self.goal:g} {self.unit}"

    @property
    def value_text(self) -> str:
        """The value as text, such as "3.91 s"."""
        return "not available" if self.value is None else f"{readable(self.value)} {self.unit}"

    @property
    def meets_goal(self) -> bool | None:
        """Whether the value meets the goal; None: there is no goal or no value."""
        if self.goal is None or self.value is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal


@frozen
class Result:
    """The results of one benchmark module: rows for the table, and data for the pictures."""

    rows: list[Row]
    data: dict[str, Any] = field(factory=dict)


@frozen
class Sample:
    """
    One round of one arm.

    Attributes:
        calls: The number of calls.
        wall: Wall-clock time in seconds.
        cpu: CPU time in seconds of this process, including its threads.
    """

    calls: int
    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.calls / self.wall

    @property
    def cpu_us_per_call(self) -> float:
        """CPU microseconds per call."""
        return self.cpu / self.calls * 1e6


class Stopwatch:
    """Measures wall and CPU time from the moment it is created."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self, calls: int) -> Sample:
        """Return the time that *calls* took."""
        return Sample(calls, time.perf_counter() - self._wall, time.process_time() - self._cpu)


# One of the variants that a benchmark compares: runs one round, and returns its sample.
Arm = Callable[[], Awaitable[Sample]]
Samples = dict[str, list[Sample]]


async def run_in_turns(arms: Mapping[str, Arm], *, rounds: int) -> Samples:
    """Run the arms in turn, one round of each before the next round of any."""
    samples: Samples = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            gc.collect()  # so that no arm pays for the garbage of the arm before it
            samples[name].append(await arm())
    return samples


async def drive(call: Callable[[], Awaitable[object]], *, callers: int, seconds: float, ramp: float = RAMP_S) -> Sample:
    """
    Run *callers* concurrent callers, each calling again as soon as it gets a reply. Count calls once all have started.

    Args:
        call: The function to call.
        callers: The number of callers.
        seconds: How long to count.
        ramp: Seconds between the start of one caller and the next. Without a ramp, httpx's pool is several times
            slower for five seconds: each request counts the idle connections once for each idle connection, until the
            surplus expires. The ramp lets us measure its steady state.
    """
    calls, running = 0, True

    async def caller(delay: float) -> None:
        nonlocal calls
        await anyio.sleep(delay)
        while running:
            await call()
            calls += 1

    async with anyio.create_task_group() as group:
        for number in range(callers):
            group.start_soon(caller, number * ramp)
        await anyio.sleep(callers * ramp)
        before, watch = calls, Stopwatch()
        await anyio.sleep(seconds)
        while calls == before:  # a sample without calls has no CPU time per call
            await anyio.lowlevel.checkpoint()
        sample = watch.stop(calls - before)
        running = False
    return sample


async def all_at_once(call: Callable[[], Awaitable[object]], *, calls: int) -> tuple[Sample, list[BaseException]]:
    """Make *calls* concurrent calls. Return the time that they took, and the errors that they raised."""
    watch = Stopwatch()
    results = await asyncio.gather(*(call() for _ in range(calls)), return_exceptions=True)
    return watch.stop(calls), [result for result in results if isinstance(result, BaseException)]


def timed(work: Callable[[], object], *, times: int) -> Sample:
    """Measure *times* runs of *work* in a row."""
    watch = Stopwatch()
    for _ in range(times):
        work()
    return watch.stop(times)


def ratio(numerators: list[Sample], denominators: list[Sample], of: Callable[[Sample], float]) -> float:
    """Return the median over the rounds of *of(numerator)* divided by *of(denominator)*."""
    return median(of(upper) / of(lower) for upper, lower in zip(numerators, denominators, strict=True))


def median_of(samples: list[Sample], of: Callable[[Sample], float]) -> float:
    """Return the median of *of(sample)* over the rounds."""
    return median(map(of, samples))


def rate(sample: Sample) -> float:
    """Return calls per second: an argument for `ratio` and `median_of`."""
    return sample.rate


def cpu_us_per_call(sample: Sample) -> float:
    """Return CPU microseconds per call: an argument for `ratio` and `median_of`."""
    return sample.cpu_us_per_call


def wall(sample: Sample) -> float:
    """Return wall-clock seconds: an argument for `ratio` and `median_of`."""
    return sample.wall


def resident() -> float:
    """Return the resident memory of this process in MB."""
    return float(psutil.Process().memory_info().rss) / MB


def sockets() -> int:
    """Return the number of open network sockets of this process."""
    return len(psutil.Process().net_connections(kind="inet"))


def descriptors() -> int:
    """Return the number of open file descriptors of this process; 0 on Windows."""
    return psutil.Process().num_fds() if psutil.POSIX else 0


def allow_sockets() -> None:
    """Raise the limit of open files to its maximum: on many systems the default is less than 1,000 sockets."""
    if sys.platform != "win32":  # Windows has no such limit
        import resource  # noqa: PLC0415 -- missing on Windows

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def readable(value: float) -> str:
    """Format with three significant digits and no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 -- three digits
