"""Decoded pages a second, beside what others take for the bytes alone."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from benchmarks.measuring import (
    Arm,
    Result,
    Row,
    Sample,
    Samples,
    cpu_each,
    drive,
    interleaved,
    middle,
    rate,
    ratio,
    readable,
)
from benchmarks.peers import PEERS, Peer
from benchmarks.serving import Served, serving

CALLERS = (1, 16, 64, 200)
CALLERS_QUICK = (1, 16, 64)
# How many times as fast as raw httpx, at how many callers.
WANTED: dict[str, dict[int, float | None]] = {
    "ours": {16: 2.5, 64: 4.0, 200: None},
}
FEW, MANY, FLAT = 16, 200, 0.8
AT_ONCE = 64


def measure(*, quick: bool) -> Result:
    """All peers in turn, at each number of callers; ours at few and at many; callers that come all at once."""
    seconds, rounds, callers = (0.12, 2, CALLERS_QUICK) if quick else (0.3, 5, CALLERS)
    with serving() as served:
        found, flat, fresh = asyncio.run(_measure(served, callers, seconds=seconds, rounds=rounds))
    rows = [_row(found[at], name, at, goal) for name in WANTED for at, goal in WANTED[name].items() if at in found]
    rows += [_flatness(flat), _freshness(fresh)]
    return Result(rows, {"throughput": {str(callers): _numbers(found[callers]) for callers in found}})


async def _measure(
    served: Served, callers: tuple[int, ...], *, seconds: float, rounds: int
) -> tuple[dict[int, Samples], Samples, Samples]:
    found: dict[int, Samples] = {}
    for at in callers:
        arms = {name: (peer, at) for name, peer in PEERS.items()}
        found[at] = await _in_turn(served, arms, seconds=seconds, rounds=rounds)
    arms = {str(at): (PEERS["ours"], at) for at in (FEW, MANY)}
    flat = await _in_turn(served, arms, seconds=seconds, rounds=rounds)
    new: dict[str, Arm] = {name: partial(_at_once, served, PEERS[name], 1.0) for name in ("ours", "raw httpx")}
    return found, flat, await interleaved(new, rounds=3)


async def _in_turn(served: Served, arms: dict[str, tuple[Peer, int]], *, seconds: float, rounds: int) -> Samples:
    """Each arm keeps its connections over the rounds; what opens them is not counted."""
    async with AsyncExitStack() as stack:
        ready: dict[str, Arm] = {}
        for name, (peer, callers) in arms.items():
            call = await stack.enter_async_context(peer(served, callers))
            await drive(call, callers=callers, seconds=0.1)
            ready[name] = partial(drive, call, callers=callers, seconds=seconds)
        return await interleaved(ready, rounds=rounds)


async def _at_once(served: Served, peer: Peer, seconds: float) -> Sample:
    """The first second of a client that all callers come to at the same time."""
    async with peer(served, AT_ONCE) as call:
        return await drive(call, callers=AT_ONCE, seconds=seconds, ramp=0.0)


def _row(samples: Samples, name: str, callers: int, goal: float | None) -> Row:
    what = f"{name}: decoded pages a second against raw httpx's bytes, {callers} callers"
    if name not in samples:
        return Row(what=what, goal=goal, value=None)
    ours, httpx = samples[name], samples["raw httpx"]
    by_cpu = 1 / ratio(ours, httpx, cpu_each)
    pages = ", ".join(f"{peer} {readable(middle(rounds, rate))}" for peer, rounds in samples.items())
    return Row(what=what, goal=goal, value=ratio(ours, httpx, rate), beside=f"by CPU {by_cpu:.2f} ×; a second: {pages}")


def _flatness(samples: Samples) -> Row:
    few, many = samples[str(FEW)], samples[str(MANY)]
    beside = f"a second: {readable(middle(many, rate))} and {readable(middle(few, rate))}"
    what = f"ours: {MANY} callers against {FEW}"
    return Row(what=what, goal=FLAT, value=ratio(many, few, rate), beside=beside)


def _freshness(samples: Samples) -> Row:
    ours, httpx = samples["ours"], samples["raw httpx"]
    beside = f"a second: ours {readable(middle(ours, rate))}, raw httpx {readable(middle(httpx, rate))}"
    what = f"ours: the first second of {AT_ONCE} callers that come all at once, against raw httpx's"
    return Row(what=what, goal=None, value=ratio(ours, httpx, rate), beside=beside)


def _numbers(samples: Samples) -> dict[str, Any]:
    return {
        name: {"pages_a_second": middle(rounds, rate), "cpu_us_a_page": middle(rounds, cpu_each)}
        for name, rounds in samples.items()
    }
