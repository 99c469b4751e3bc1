"""400 pages from a server that takes 50 ms for each: eight at a time against one at a time, and against the best."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from statistics import median

from benchmarks.measuring import Arm, Result, Row, Sample, Stopwatch, cpu_each, median_of, ratio, run_in_turns, wall
from benchmarks.peers import PRODUCT, Call, Peer, client, floor, ours
from benchmarks.server import ROWS_PER_PAGE
from benchmarks.serving import Served, serving
from gatepay_async import AsyncGatePay

PAGES, LATENCY, AHEAD = 400, 0.05, 8
FASTER, OF_THE_BOUND, CPU = 7.7, 0.93, 150.0


def measure(*, quick: bool) -> Result:
    """Both walks in turn."""
    pages = 120 if quick else PAGES
    with serving(latency=LATENCY, pages=pages) as served:
        return asyncio.run(_measure(served, pages=pages, rounds=1 if quick else 3))


async def _measure(served: Served, *, pages: int, rounds: int) -> Result:
    reached: dict[int, list[float]] = {1: [], AHEAD: []}
    # Eight callers that fetch a page each, with the client and with bare asyncio: the shares of the walk's CPU time
    # that the calls and the event loop take. With a server this slow, the process sleeps between most replies, and each
    # wake-up costs more than the same work in a busy process.
    callers: dict[str, Peer] = {"calls": ours, "floor": floor}
    async with AsyncExitStack() as stack:
        gatepay = await stack.enter_async_context(client(served))
        await asyncio.gather(*(gatepay.list_card_keys(PRODUCT) for _ in range(AHEAD)))
        arms: dict[str, Arm] = {
            str(prefetch): partial(_walk, served, gatepay, pages, prefetch, reached[prefetch]) for prefetch in reached
        }
        for name, peer in callers.items():
            call = await stack.enter_async_context(peer(served, AHEAD))
            arms[name] = partial(_call, call, pages)
            await _call(call, AHEAD)
        samples = await run_in_turns(arms, rounds=rounds)
    one, eight = samples["1"], samples[str(AHEAD)]
    beside = f"{median_of(eight, wall):.2f} s against {median_of(one, wall):.2f} s"
    what = f"{pages} pages walked, {LATENCY * 1000:g} ms server, prefetch={AHEAD}"
    return Result(
        [
            Row(what=f"{what}: against prefetch=1", goal=FASTER, value=ratio(one, eight, wall), beside=beside),
            Row(
                what=f"{what}: of the bound",
                goal=OF_THE_BOUND,
                value=median(reached[AHEAD]),
                beside=f"prefetch=1 {median(reached[1]):.3f} ×",
            ),
            Row(
                what=f"{what}: CPU a page",
                goal=CPU,
                value=median_of(eight, cpu_each),
                at_most=True,
                unit="µs",
                beside=f"prefetch=1 {median_of(one, cpu_each):.0f} µs; {AHEAD} callers without a walk "
                f"{median_of(samples['calls'], cpu_each):.0f} µs, of which bare asyncio takes "
                f"{median_of(samples['floor'], cpu_each):.0f} µs",
            ),
        ]
    )


async def _call(call: Call, pages: int) -> Sample:
    watch = Stopwatch()

    async def make_calls() -> None:
        for _ in range(pages // AHEAD):
            await call()

    await asyncio.gather(*(make_calls() for _ in range(AHEAD)))
    return watch.stop(pages)


async def _walk(served: Served, gatepay: AsyncGatePay, pages: int, prefetch: int, reached: list[float]) -> Sample:
    served.counts()
    watch = Stopwatch()
    keys = 0
    async for _ in gatepay.list_card_keys(PRODUCT, prefetch=prefetch):
        keys += 1
    sample = watch.stop(pages)
    assert keys == pages * ROWS_PER_PAGE
    reached.append(pages / prefetch * served.counts().latency / sample.wall)
    return sample
