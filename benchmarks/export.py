"""100,000 card keys out of the sandbox, over HTTP, by the client."""

import asyncio

from benchmarks.measuring import Result, Row, Sample, Stopwatch, median_of, wall
from gatepay_async import AsyncGatePay
from gatepay_async.sandbox import Sandbox

KEYS, PRODUCT, AHEAD, WANTED = 100_000, 8, 8, 5.0


def measure(*, quick: bool) -> Result:
    """Both ends in this process."""
    keys, rounds = (KEYS // 10, 1) if quick else (KEYS, 3)
    with Sandbox() as sandbox:
        sandbox.add_keys(PRODUCT, [f"KEY-{number:020d}" for number in range(keys)])
        samples = asyncio.run(_measure(sandbox, keys, rounds))
    cpu = sorted(sample.cpu for sample in samples)[rounds // 2]
    what = f"{keys:,} card keys exported from the sandbox over HTTP, prefetch={AHEAD}"
    return Result(
        [
            Row(
                what=what,
                goal=WANTED,
                value=median_of(samples, wall),
                at_most=True,
                unit="s",
                beside=f"CPU of both ends {cpu:.2f} s",
            )
        ]
    )


async def _measure(sandbox: Sandbox, keys: int, rounds: int) -> list[Sample]:
    samples: list[Sample] = []
    async with sandbox.serve() as url, AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=url) as gatepay:
        for _ in range(rounds):
            watch = Stopwatch()
            found = {key.id async for key in gatepay.list_card_keys(PRODUCT, prefetch=AHEAD)}
            samples.append(watch.stop(keys))
            assert len(found) == len(sandbox.key_ids(PRODUCT))
    return samples
