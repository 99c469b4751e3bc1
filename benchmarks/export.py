"""Time to list 100,000 card keys from the sandbox over HTTP."""

import asyncio

from benchmarks.measuring import Result, Row, Sample, Stopwatch, median_of, wall
from gatepay_async import AsyncGatePay
from gatepay_async.sandbox import Sandbox

KEYS, PRODUCT, PREFETCH, MAX_SECONDS = 100_000, 8, 8, 5.0


def measure(*, quick: bool) -> Result:
    """Measure client and sandbox together, in this process."""
    keys, rounds = (KEYS // 10, 1) if quick else (KEYS, 3)
    with Sandbox() as sandbox:
        sandbox.add_keys(PRODUCT, [f"KEY-{number:020d}" for number in range(keys)])
        samples = asyncio.run(_measure(sandbox, keys, rounds))
    cpu = sorted(sample.cpu for sample in samples)[rounds // 2]
    what = f"{keys:,} card keys exported from the sandbox over HTTP, prefetch={PREFETCH}"
    return Result(
        [
            Row(
                what=what,
                goal=MAX_SECONDS,
                value=median_of(samples, wall),
                at_most=True,
                unit="s",
                details=f"CPU of both ends {cpu:.2f} s",
            )
        ]
    )


async def _measure(sandbox: Sandbox, keys: int, rounds: int) -> list[Sample]:
    samples: list[Sample] = []
    async with sandbox.serve() as url, AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=url) as gatepay:
        for _ in range(rounds):
            watch = Stopwatch()
            listed_ids = {key.id async for key in gatepay.list_card_keys(PRODUCT, prefetch=PREFETCH)}
            samples.append(watch.stop(keys))
            assert len(listed_ids) == len(sandbox.key_ids(PRODUCT))
    return samples
