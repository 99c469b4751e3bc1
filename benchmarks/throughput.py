"""CPU time of a decoded page, and pages per second, compared with other clients with and without decoding."""

from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio

from benchmarks.measuring import (
    Arm,
    Result,
    Row,
    Sample,
    Samples,
    cpu_us_per_call,
    drive,
    median_of,
    rate,
    ratio,
    readable,
    run_in_turns,
)
from benchmarks.peers import Peer, available_peers, ours, raw_httpx
from benchmarks.serving import Served, serving

# For each event loop, the numbers of concurrent callers.
LOOPS = {"asyncio": (1, 16, 64, 200), "uvloop": (16, 64), "trio": (16, 64)}
LOOPS_QUICK = {"asyncio": (16, 64), "uvloop": (64,), "trio": (16,)}
# Goals: the CPU time of each peer divided by ours, for each number of callers. 0.952 allows ours to take 5 % more.
GOALS: dict[str, dict[int, float]] = {
    "raw httpx, bytes": {16: 12, 64: 17},
    "aiohttp by hand, bytes": {1: 1.3, 16: 1.3, 64: 1.3, 200: 1.3},
    "pyreqwest, decoded": {16: 0.952, 64: 0.952},
}
FEW, MANY, MIN_RATIO_MANY_TO_FEW = 16, 200, 0.9
SIMULTANEOUS_CALLERS = 64

SamplesByLoop = dict[str, dict[int, Samples]]  # for each event loop and each number of callers


def measure(*, quick: bool) -> Result:
    """Measure all peers on each loop with each number of callers, then ours with few, many and simultaneous callers."""
    seconds, rounds, loops = (0.12, 2, LOOPS_QUICK) if quick else (0.3, 5, LOOPS)
    samples_by_loop: SamplesByLoop = {}
    with serving() as served:
        for loop, callers in loops.items():
            samples_by_loop[loop] = _run(loop, _measure_peers, served, callers, seconds, rounds, loop == "trio")
        many_and_few, first_second = _run("asyncio", _measure_ours, served, seconds, rounds)
    rows = [
        _row(samples_by_loop["asyncio"][count], peer, count, goal)
        for peer, goals in GOALS.items()
        for count, goal in goals.items()
        if count in samples_by_loop["asyncio"]
    ]
    rows += [
        _row(samples, "raw httpx, bytes", count, None, loop="trio")
        for count, samples in samples_by_loop["trio"].items()
    ]
    rows += [
        _row(samples, "aiohttp by hand, bytes", count, None, loop="uvloop")
        for count, samples in samples_by_loop["uvloop"].items()
    ]
    rows += [_many_to_few_row(many_and_few), _first_second_row(first_second)]
    return Result(
        rows, {"throughput": {loop: _picture_data(by_callers) for loop, by_callers in samples_by_loop.items()}}
    )


def _run(loop: str, work: Any, *args: Any) -> Any:
    if loop == "trio":
        return anyio.run(work, *args, backend="trio")
    return anyio.run(work, *args, backend="asyncio", backend_options={"use_uvloop": loop == "uvloop"})


async def _measure_peers(
    served: Served,
    callers: tuple[int, ...],
    seconds: float,
    rounds: int,
    trio: bool,  # noqa: FBT001 -- anyio.run passes no keywords
) -> dict[int, Samples]:
    """Return the samples of all available peers for each number of callers."""
    samples: dict[int, Samples] = {}
    for count in callers:
        arms = {name: (peer, count) for name, peer in available_peers(trio=trio).items()}
        samples[count] = await _measure_arms(served, arms, seconds=seconds, rounds=rounds)
    return samples


async def _measure_ours(served: Served, seconds: float, rounds: int) -> tuple[Samples, Samples]:
    """Return our samples with few and many callers, and the samples of the first second with simultaneous callers."""
    arms: dict[str, tuple[Peer, int]] = {str(count): (ours, count) for count in (FEW, MANY)}
    many_and_few = await _measure_arms(served, arms, seconds=seconds, rounds=rounds)
    peers: dict[str, Peer] = {"ours": ours, "raw httpx": raw_httpx}
    first_second_arms: dict[str, Arm] = {
        name: partial(_first_second, served, peer, 1.0) for name, peer in peers.items()
    }
    return many_and_few, await run_in_turns(first_second_arms, rounds=3)


async def _measure_arms(served: Served, arms: dict[str, tuple[Peer, int]], *, seconds: float, rounds: int) -> Samples:
    """Measure the arms in turn. Each arm opens its connections before the first round and keeps them."""
    async with AsyncExitStack() as stack:
        warm_arms: dict[str, Arm] = {}
        for name, (peer, callers) in arms.items():
            call = await stack.enter_async_context(peer(served, callers))
            await drive(call, callers=callers, seconds=0.1)
            warm_arms[name] = partial(drive, call, callers=callers, seconds=seconds)
        return await run_in_turns(warm_arms, rounds=rounds)


async def _first_second(served: Served, peer: Peer, seconds: float) -> Sample:
    """Measure a new client's first *seconds*, with all callers starting at the same moment."""
    async with peer(served, SIMULTANEOUS_CALLERS) as call:
        return await drive(call, callers=SIMULTANEOUS_CALLERS, seconds=seconds, ramp=0.0)


def _row(samples: Samples, peer: str, callers: int, goal: float | None, *, loop: str = "asyncio") -> Row:
    what = f"{loop}, {callers} callers: CPU of a decoded page, {peer} against ours"
    if peer not in samples:
        return Row(what=what, goal=goal, value=None, details="it is not installed")
    ours, theirs = samples["ours"], samples[peer]
    costs = ", ".join(f"{name} {median_of(rounds, cpu_us_per_call):.0f}" for name, rounds in samples.items())
    rates = f"{readable(median_of(ours, rate))} pages a second against {readable(median_of(theirs, rate))}"
    details = f"by rate {ratio(ours, theirs, rate):.2f} ×, {rates}; CPU, µs a page: {costs}"
    return Row(
        what=what,
        goal=None if goal is None else round(goal, 3),
        value=ratio(theirs, ours, cpu_us_per_call),
        details=details,
    )


def _many_to_few_row(samples: Samples) -> Row:
    few, many = samples[str(FEW)], samples[str(MANY)]
    rates = f"{readable(median_of(many, rate))} and {readable(median_of(few, rate))} pages a second"
    costs = f"CPU {median_of(many, cpu_us_per_call):.0f} and {median_of(few, cpu_us_per_call):.0f} µs a page"
    details = f"by rate {ratio(many, few, rate):.2f} ×, {rates}; {costs}"
    what = f"ours: {MANY} callers against {FEW}, by CPU"
    return Row(what=what, goal=MIN_RATIO_MANY_TO_FEW, value=ratio(few, many, cpu_us_per_call), details=details)


def _first_second_row(samples: Samples) -> Row:
    ours, httpx = samples["ours"], samples["raw httpx"]
    details = f"a second: ours {readable(median_of(ours, rate))}, raw httpx {readable(median_of(httpx, rate))}"
    what = f"ours: the first second of {SIMULTANEOUS_CALLERS} callers that come all at once, against raw httpx's"
    return Row(what=what, goal=None, value=ratio(ours, httpx, rate), details=details)


def _picture_data(by_callers: dict[int, Samples]) -> dict[str, Any]:
    return {
        str(callers): {
            name: {
                "cpu_us_a_page": round(median_of(rounds, cpu_us_per_call), 1),
                "pages_a_second": round(median_of(rounds, rate)),
            }
            for name, rounds in samples.items()
        }
        for callers, samples in by_callers.items()
    }
