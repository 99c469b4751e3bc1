"""List 400 pages from a server that takes 50 ms for each: eight at once, compared with one after the other."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from statistics import median

from benchmarks.measuring import (
    Arm,
    Result,
    Row,
    Sample,
    Stopwatch,
    cpu_us_per_call,
    median_of,
    ratio,
    run_in_turns,
    wall,
)
from benchmarks.peers import PRODUCT, Call, Peer, client, floor, ours
from benchmarks.server import ROWS_PER_PAGE
from benchmarks.serving import Served, serving
from gatepay_async import AsyncGatePay

PAGES, LATENCY_S, PREFETCH = 400, 0.05, 8
MIN_SPEEDUP = 7.7  # relative to one page after the other
MIN_RATE_RATIO = 0.93  # the rate divided by the highest possible rate, which is `prefetch` pages per latency
MAX_CPU_US = 150.0  # for each page


def measure(*, quick: bool) -> Result:
    """Measure both walks, and calls without a walk, in turn."""
    pages = 120 if quick else PAGES
    with serving(latency=LATENCY_S, pages=pages) as served:
        return asyncio.run(_measure(served, pages=pages, rounds=1 if quick else 3))


async def _measure(served: Served, *, pages: int, rounds: int) -> Result:
    rate_ratios: dict[int, list[float]] = {1: [], PREFETCH: []}  # of each round
    # Concurrent callers without a walk, with the client and with bare asyncio, show how much of the walk's CPU time the
    # calls and the event loop take. With a server this slow, the process sleeps between most replies, and each wake-up
    # costs more than the same work in a busy process.
    callers: dict[str, Peer] = {"calls": ours, "floor": floor}
    async with AsyncExitStack() as stack:
        gatepay = await stack.enter_async_context(client(served))
        await asyncio.gather(*(gatepay.list_card_keys(PRODUCT) for _ in range(PREFETCH)))  # open the connections
        arms: dict[str, Arm] = {
            str(prefetch): partial(_walk, served, gatepay, pages, prefetch, rate_ratios[prefetch])
            for prefetch in rate_ratios
        }
        for name, peer in callers.items():
            call = await stack.enter_async_context(peer(served, PREFETCH))
            arms[name] = partial(_make_calls, call, pages)
            await _make_calls(call, PREFETCH)  # warm up
        samples = await run_in_turns(arms, rounds=rounds)
    sequential, prefetched = samples["1"], samples[str(PREFETCH)]
    cpu_us = {name: median_of(sample_list, cpu_us_per_call) for name, sample_list in samples.items()}
    details = f"{median_of(prefetched, wall):.2f} s against {median_of(sequential, wall):.2f} s"
    what = f"{pages} pages walked, {LATENCY_S * 1000:g} ms server, prefetch={PREFETCH}"
    return Result(
        [
            Row(
                what=f"{what}: against prefetch=1",
                goal=MIN_SPEEDUP,
                value=ratio(sequential, prefetched, wall),
                details=details,
            ),
            Row(
                what=f"{what}: of the bound",
                goal=MIN_RATE_RATIO,
                value=median(rate_ratios[PREFETCH]),
                details=f"prefetch=1 {median(rate_ratios[1]):.3f} ×",
            ),
            Row(
                what=f"{what}: CPU a page",
                goal=MAX_CPU_US,
                value=cpu_us[str(PREFETCH)],
                at_most=True,
                unit="µs",
                details=f"prefetch=1 {cpu_us['1']:.0f} µs; {PREFETCH} callers without a walk {cpu_us['calls']:.0f} µs, "
                f"of which bare asyncio takes {cpu_us['floor']:.0f} µs",
            ),
        ]
    )


async def _make_calls(call: Call, pages: int) -> Sample:
    """Measure PREFETCH concurrent callers that together fetch *pages* pages, without a walk."""
    watch = Stopwatch()

    async def make_its_share() -> None:
        for _ in range(pages // PREFETCH):
            await call()

    await asyncio.gather(*(make_its_share() for _ in range(PREFETCH)))
    return watch.stop(pages)


async def _walk(served: Served, gatepay: AsyncGatePay, pages: int, prefetch: int, rate_ratios: list[float]) -> Sample:
    served.counts()  # resets the counts
    watch = Stopwatch()
    keys = 0
    async for _ in gatepay.list_card_keys(PRODUCT, prefetch=prefetch):
        keys += 1
    sample = watch.stop(pages)
    assert keys == pages * ROWS_PER_PAGE
    rate_ratios.append(pages / prefetch * served.counts().latency / sample.wall)
    return sample
