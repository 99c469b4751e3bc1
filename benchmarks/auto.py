"""
Compare uploads with ``concurrency="auto"`` and with the best fixed concurrency, over real sockets.

    python -m benchmarks.run --quick auto

Each upload creates its own client, so its time includes opening the connections.
"""

import asyncio
from functools import partial
from typing import Any, Literal

from attrs import frozen

from benchmarks.measuring import Arm, Result, Row, Sample, Stopwatch, median_of, run_in_turns, wall
from benchmarks.peers import PRODUCT, client
from benchmarks.serving import Served, serving

KEYS_PER_CALL = 500
LATENCY_S = 0.02
MAX_TIME_RATIO = 1.25  # the time of "auto" divided by the time of the best fixed concurrency
MAX_REFUSED_PERCENT = 2.0  # of the calls


@frozen
class Scenario:
    """
    A server's behaviour, and the upload to it.

    Attributes:
        name: The name in the table.
        options: Arguments of `serving`.
        chunks: The number of chunks to upload.
        fixed: The fixed concurrencies to compare with.
        goal: The largest acceptable time ratio; None: no goal.
    """

    name: str
    options: dict[str, Any]
    chunks: int
    fixed: tuple[int, ...]
    goal: float | None = MAX_TIME_RATIO


SCENARIOS = (
    Scenario("20 ms, unlimited", {}, 1_000, (16, 32, 64, 100)),
    Scenario("20 ms, four workers and a queue", {"workers": 4}, 400, (4, 6, 8, 16)),
    Scenario("20 ms, 429 above ten in flight", {"max_in_flight": 10}, 1_000, (6, 8, 10, 12)),
    Scenario("the same, with Retry-After: 1", {"max_in_flight": 10, "retry_after": "1"}, 1_000, (8, 10), goal=None),
)


def measure(*, quick: bool) -> Result:
    """Measure all scenarios, one after the other."""
    rows: list[Row] = []
    for scenario in SCENARIOS:
        with serving(latency=LATENCY_S, **scenario.options) as served:
            rows += asyncio.run(_measure(served, scenario, rounds=1 if quick else 3))
    return Result(rows)


async def _measure(served: Served, scenario: Scenario, *, rounds: int) -> list[Row]:
    refused: dict[str, int] = {}
    levels: tuple[int | Literal["auto"], ...] = (*scenario.fixed, "auto")
    arms: dict[str, Arm] = {str(level): partial(_upload, served, scenario.chunks, level, refused) for level in levels}
    await arms["auto"]()  # warm up: imports and compiles what the first call needs
    refused.clear()
    samples = await run_in_turns(arms, rounds=rounds)
    seconds = {name: median_of(samples[name], wall) for name in arms}
    auto = seconds.pop("auto")
    refused_percent = 100 * refused["auto"] / (refused["auto"] + rounds * scenario.chunks)
    best = min(seconds, key=lambda name: seconds[name])
    others = ", ".join(f"{name}: {took:.2f} s" for name, took in seconds.items())
    what = f'concurrency="auto", {scenario.chunks:,} calls, {scenario.name}'
    details = f"auto: {auto:.2f} s; fixed {others}; the best is {best}"
    return [
        Row(what=f"{what}: time relative to the best fixed concurrency", goal=scenario.goal, value=auto / seconds[best],
            at_most=True, details=details),
        Row(what=f"{what}: 429 responses", goal=MAX_REFUSED_PERCENT, value=refused_percent, at_most=True, unit="%"),
    ]  # fmt: skip


async def _upload(served: Served, chunks: int, concurrency: int | Literal["auto"], refused: dict[str, int]) -> Sample:
    keys = (f"KEY-{number:020d}" for number in range(chunks * KEYS_PER_CALL))
    served.counts()  # resets the counts
    watch = Stopwatch()
    async with client(served) as gatepay:
        report = await gatepay.upload_card_keys(PRODUCT, keys, concurrency=concurrency)
        sample = watch.stop(chunks)
    assert report.ok
    counts = served.counts()
    assert (counts.lines, counts.requests) == (chunks * KEYS_PER_CALL, chunks)
    refused[str(concurrency)] = refused.get(str(concurrency), 0) + counts.refused
    return sample
