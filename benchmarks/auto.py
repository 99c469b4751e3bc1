"""
Uploads under ``concurrency="auto"`` against the best fixed number, to servers of three kinds, over real sockets.

    python -m benchmarks.run --quick auto

Each upload has a client of its own, and so opens its connections itself, as a program that uploads a file does.
"""

import asyncio
from functools import partial
from typing import Any, Literal

from attrs import frozen

from benchmarks.measuring import Arm, Result, Row, Sample, Stopwatch, interleaved, middle, wall
from benchmarks.peers import PRODUCT, client
from benchmarks.serving import Served, serving

A_CALL, LATENCY = 500, 0.02
GOAL, MOST_REFUSED = 1.25, 2.0  # times the best fixed number; percent of the calls


@frozen
class Kind:
    """
    A server, and what is uploaded to it.

    Attributes:
        name: For the table.
        options: Of `serving`.
        chunks: How many.
        fixed: The numbers among which the best is looked for.
        goal: Times the best of them, or None.
    """

    name: str
    options: dict[str, Any]
    chunks: int
    fixed: tuple[int, ...]
    goal: float | None = GOAL


KINDS = (
    Kind("20 ms, whatever comes", {}, 1_000, (16, 32, 64, 100)),
    Kind("20 ms, four workers and a queue", {"workers": 4}, 400, (4, 6, 8, 16)),
    Kind("20 ms, 429 above ten in flight", {"most": 10}, 1_000, (6, 8, 10, 12)),
    Kind("the same, with Retry-After: 1", {"most": 10, "retry_after": "1"}, 1_000, (8, 10), goal=None),
)


def measure(*, quick: bool) -> Result:
    """All kinds, one after the other."""
    rows: list[Row] = []
    for kind in KINDS:
        with serving(latency=LATENCY, **kind.options) as served:
            rows += asyncio.run(_measure(served, kind, rounds=1 if quick else 3))
    return Result(rows)


async def _measure(served: Served, kind: Kind, *, rounds: int) -> list[Row]:
    refused: dict[str, int] = {}
    numbers: tuple[int | Literal["auto"], ...] = (*kind.fixed, "auto")
    arms: dict[str, Arm] = {str(number): partial(_round, served, kind.chunks, number, refused) for number in numbers}
    await arms["auto"]()  # whatever is imported, or compiled, at the first call
    refused.clear()
    samples = await interleaved(arms, rounds=rounds)
    took = {name: middle(samples[name], wall) for name in arms}
    auto = took.pop("auto")
    share = 100 * refused["auto"] / (refused["auto"] + rounds * kind.chunks)
    best = min(took, key=lambda name: took[name])
    others = ", ".join(f"{name}: {seconds:.2f} s" for name, seconds in took.items())
    what = f'concurrency="auto", {kind.chunks:,} calls, {kind.name}'
    beside = f"auto: {auto:.2f} s; fixed {others}; the best is {best}"
    return [
        Row(what=f"{what}: time, of the best fixed number's", goal=kind.goal, value=auto / took[best], at_most=True,
            beside=beside),
        Row(what=f"{what}: answered 429", goal=MOST_REFUSED, value=share, at_most=True, unit="%"),
    ]  # fmt: skip


async def _round(served: Served, chunks: int, concurrency: int | Literal["auto"], refused: dict[str, int]) -> Sample:
    keys = (f"KEY-{number:020d}" for number in range(chunks * A_CALL))
    served.counts()
    watch = Stopwatch()
    async with client(served) as gatepay:
        report = await gatepay.upload_card_keys(PRODUCT, keys, concurrency=concurrency)
        sample = watch.stop(chunks)
    assert report.ok
    counts = served.counts()
    assert (counts.lines, counts.requests) == (chunks * A_CALL, chunks)
    refused[str(concurrency)] = refused.get(str(concurrency), 0) + counts.refused
    return sample
