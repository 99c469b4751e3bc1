"""What a decoded page costs of the CPU, and pages a second, beside others: for the bytes alone, and decoded alike."""

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
    cpu_each,
    drive,
    median_of,
    rate,
    ratio,
    readable,
    run_in_turns,
)
from benchmarks.peers import Peer, ours, present, raw_httpx
from benchmarks.serving import Served, serving

# On which event loop, with how many callers at once.
LOOPS = {"asyncio": (1, 16, 64, 200), "uvloop": (16, 64), "trio": (16, 64)}
LOOPS_QUICK = {"asyncio": (16, 64), "uvloop": (64,), "trio": (16,)}
# By how many times ours is to cost less CPU than a peer, at how many callers.
WANTED: dict[str, dict[int, float]] = {
    "raw httpx, bytes": {16: 12, 64: 17},
    "aiohttp by hand, bytes": {1: 1.3, 16: 1.3, 64: 1.3, 200: 1.3},
    "pyreqwest, decoded": {16: 0.952, 64: 0.952},
}
FEW, MANY, FLAT = 16, 200, 0.9
AT_ONCE = 64

Found = dict[str, dict[int, Samples]]


def measure(*, quick: bool) -> Result:
    """All peers in turn, on each loop, at each number of callers; ours at few and at many; callers all at once."""
    seconds, rounds, loops = (0.12, 2, LOOPS_QUICK) if quick else (0.3, 5, LOOPS)
    found: Found = {}
    with serving() as served:
        for loop, callers in loops.items():
            found[loop] = _run(loop, _peers, served, callers, seconds, rounds, loop == "trio")
        flat, fresh = _run("asyncio", _ours, served, seconds, rounds)
    rows = [
        _row(found["asyncio"][at], peer, at, goal)
        for peer, goals in WANTED.items()
        for at, goal in goals.items()
        if at in found["asyncio"]
    ]
    rows += [_row(found["trio"][at], "raw httpx, bytes", at, None, loop="trio") for at in found["trio"]]
    rows += [_row(found["uvloop"][at], "aiohttp by hand, bytes", at, None, loop="uvloop") for at in found["uvloop"]]
    rows += [_flatness(flat), _freshness(fresh)]
    return Result(rows, {"throughput": {loop: _numbers(by_callers) for loop, by_callers in found.items()}})


def _run(loop: str, work: Any, *args: Any) -> Any:
    if loop == "trio":
        return anyio.run(work, *args, backend="trio")
    return anyio.run(work, *args, backend="asyncio", backend_options={"use_uvloop": loop == "uvloop"})


async def _peers(
    served: Served,
    callers: tuple[int, ...],
    seconds: float,
    rounds: int,
    trio: bool,  # noqa: FBT001 -- anyio.run's
) -> dict[int, Samples]:
    found: dict[int, Samples] = {}
    for at in callers:
        arms = {name: (peer, at) for name, peer in present(trio=trio).items()}
        found[at] = await _in_turn(served, arms, seconds=seconds, rounds=rounds)
    return found


async def _ours(served: Served, seconds: float, rounds: int) -> tuple[Samples, Samples]:
    arms: dict[str, tuple[Peer, int]] = {str(at): (ours, at) for at in (FEW, MANY)}
    flat = await _in_turn(served, arms, seconds=seconds, rounds=rounds)
    peers: dict[str, Peer] = {"ours": ours, "raw httpx": raw_httpx}
    new: dict[str, Arm] = {name: partial(_at_once, served, peer, 1.0) for name, peer in peers.items()}
    return flat, await run_in_turns(new, rounds=3)


async def _in_turn(served: Served, arms: dict[str, tuple[Peer, int]], *, seconds: float, rounds: int) -> Samples:
    """Each arm keeps its connections over the rounds; what opens them is not counted."""
    async with AsyncExitStack() as stack:
        ready: dict[str, Arm] = {}
        for name, (peer, callers) in arms.items():
            call = await stack.enter_async_context(peer(served, callers))
            await drive(call, callers=callers, seconds=0.1)
            ready[name] = partial(drive, call, callers=callers, seconds=seconds)
        return await run_in_turns(ready, rounds=rounds)


async def _at_once(served: Served, peer: Peer, seconds: float) -> Sample:
    """The first second of a client that all callers come to at the same time."""
    async with peer(served, AT_ONCE) as call:
        return await drive(call, callers=AT_ONCE, seconds=seconds, ramp=0.0)


def _row(samples: Samples, peer: str, callers: int, goal: float | None, *, loop: str = "asyncio") -> Row:
    what = f"{loop}, {callers} callers: CPU of a decoded page, {peer} against ours"
    if peer not in samples:
        return Row(what=what, goal=goal, value=None, beside="it is not installed")
    ours, theirs = samples["ours"], samples[peer]
    costs = ", ".join(f"{name} {median_of(rounds, cpu_each):.0f}" for name, rounds in samples.items())
    rates = f"{readable(median_of(ours, rate))} pages a second against {readable(median_of(theirs, rate))}"
    beside = f"by rate {ratio(ours, theirs, rate):.2f} ×, {rates}; CPU, µs a page: {costs}"
    return Row(
        what=what, goal=None if goal is None else round(goal, 3), value=ratio(theirs, ours, cpu_each), beside=beside
    )


def _flatness(samples: Samples) -> Row:
    few, many = samples[str(FEW)], samples[str(MANY)]
    rates = f"{readable(median_of(many, rate))} and {readable(median_of(few, rate))} pages a second"
    costs = f"CPU {median_of(many, cpu_each):.0f} and {median_of(few, cpu_each):.0f} µs a page"
    beside = f"by rate {ratio(many, few, rate):.2f} ×, {rates}; {costs}"
    what = f"ours: {MANY} callers against {FEW}, by CPU"
    return Row(what=what, goal=FLAT, value=ratio(few, many, cpu_each), beside=beside)


def _freshness(samples: Samples) -> Row:
    ours, httpx = samples["ours"], samples["raw httpx"]
    beside = f"a second: ours {readable(median_of(ours, rate))}, raw httpx {readable(median_of(httpx, rate))}"
    what = f"ours: the first second of {AT_ONCE} callers that come all at once, against raw httpx's"
    return Row(what=what, goal=None, value=ratio(ours, httpx, rate), beside=beside)


def _numbers(by_callers: dict[int, Samples]) -> dict[str, Any]:
    return {
        str(callers): {
            name: {
                "cpu_us_a_page": round(median_of(rounds, cpu_each), 1),
                "pages_a_second": round(median_of(rounds, rate)),
            }
            for name, rounds in samples.items()
        }
        for callers, samples in by_callers.items()
    }
