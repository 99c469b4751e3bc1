"""Upload 200,000 card keys to a server that takes 50 ms for each call; compare with the highest possible rate."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from statistics import median

import anyio
import httpx

from benchmarks.measuring import Arm, Result, Row, Sample, Stopwatch, median_of, run_in_turns, wall
from benchmarks.peers import APPKEY, APPSECRET, PRODUCT, bare_exchange, client, post_request
from benchmarks.serving import Served, serving
from gatepay_async import AsyncGatePay
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.messages import encode
from gatepay_async.protocol.signing import Credentials

KEYS, KEYS_PER_CALL, LATENCY_S = 200_000, 500, 0.05
# A rate ratio is the rate of an upload divided by the highest possible rate, which is `concurrency` calls per latency.
# The goals for our client, by concurrency.
MIN_RATE_RATIOS = {8: 0.95, 32: 0.93, 100: 0.85}

Upload = Callable[[list[str]], Awaitable[None]]


def measure(*, quick: bool) -> Result:
    """Measure ours, httpx by hand and bare asyncio in turn, at each concurrency."""
    keys = [f"KEY-{number:020d}" for number in range(KEYS)]
    with serving(latency=LATENCY_S) as served:
        return asyncio.run(_measure(served, keys, rounds=1 if quick else 3))


async def _measure(served: Served, keys: list[str], *, rounds: int) -> Result:
    rows: list[Row] = []
    requests = _requests(keys)
    for concurrency, goal in MIN_RATE_RATIOS.items():
        # Of each round. "floor" is bare asyncio.
        rate_ratios: dict[str, list[float]] = {"ours": [], "httpx by hand": [], "floor": []}
        async with AsyncExitStack() as stack:
            gatepay = await stack.enter_async_context(client(served))
            limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
            shared = await stack.enter_async_context(httpx.AsyncClient(limits=limits))
            uploads: dict[str, Upload] = {
                "ours": partial(_ours, gatepay, concurrency),
                "httpx by hand": partial(_by_hand, shared, served.base_url + "ka/create", concurrency),
                "floor": partial(_bare, await stack.enter_async_context(bare_exchange(served)), concurrency, requests),
            }
            arms: dict[str, Arm] = {
                name: partial(_round, served, upload, keys, concurrency, rate_ratios[name])
                for name, upload in uploads.items()
            }
            samples = await run_in_turns(arms, rounds=rounds)
        ours, by_hand = samples["ours"], samples["httpx by hand"]
        details = (
            f"{median_of(ours, wall):.2f} s, {sum(sample.cpu for sample in ours) / rounds:.2f} s of CPU; httpx by hand "
            f"{median(rate_ratios['httpx by hand']):.3f} ×, {median_of(by_hand, wall):.2f} s, "
            f"{sum(sample.cpu for sample in by_hand) / rounds:.2f} s of CPU; floor, requests made before: "
            f"{median(rate_ratios['floor']):.3f} ×"
        )
        what = f"{len(keys):,} keys uploaded, {LATENCY_S * 1000:g} ms server, concurrency={concurrency}: of the bound"
        rows.append(Row(what=what, goal=goal, value=median(rate_ratios["ours"]), details=details))
    return Result(rows)


async def _round(served: Served, upload: Upload, keys: list[str], concurrency: int, rate_ratios: list[float]) -> Sample:
    """Measure one upload over open connections, and append its rate ratio to *rate_ratios*."""
    await upload([f"WARM-{number:019d}" for number in range(KEYS_PER_CALL * concurrency)])
    served.counts()  # resets the counts
    watch = Stopwatch()
    await upload(keys)
    sample = watch.stop(-(-len(keys) // KEYS_PER_CALL))  # rounded up
    counts = served.counts()
    assert (counts.lines, counts.requests) == (len(keys), sample.calls)
    rate_ratios.append(sample.calls / concurrency * counts.latency / sample.wall)
    return sample


async def _ours(gatepay: AsyncGatePay, concurrency: int, keys: list[str]) -> None:
    report = await gatepay.upload_card_keys(PRODUCT, keys, concurrency=concurrency)
    assert report.ok


async def _by_hand(shared: httpx.AsyncClient, url: str, concurrency: int, keys: list[str]) -> None:
    """Deduplicate and send concurrently, as a user would write it: without retries and without a report."""
    unique_keys = list(dict.fromkeys(keys))
    slots = anyio.Semaphore(concurrency)

    async def send(chunk: list[str]) -> None:
        async with slots:
            form = {"appkey": APPKEY, "product_id": str(PRODUCT), "content": "\n".join(chunk), "sign": "0" * 32}
            (await shared.post(url, data=form)).raise_for_status()

    async with anyio.create_task_group() as group:
        for start in range(0, len(unique_keys), KEYS_PER_CALL):
            group.start_soon(send, unique_keys[start : start + KEYS_PER_CALL])


def _requests(keys: list[str]) -> list[bytes]:
    credentials = Credentials(APPKEY, APPSECRET)
    chunks = [tuple(keys[start : start + KEYS_PER_CALL]) for start in range(0, len(keys), KEYS_PER_CALL)]
    return [post_request("ka/create", encode(KaCreate(PRODUCT, chunk), credentials)) for chunk in chunks]


async def _bare(
    exchange: Callable[[bytes], Awaitable[bytes]], concurrency: int, requests: list[bytes], keys: list[str]
) -> None:
    """Send prepared *requests*, so that only the network and the event loop take time."""
    unsent = requests.copy() if len(keys) == KEYS else _requests(keys)  # fewer keys: the warm-up, which is not measured

    async def send() -> None:
        while unsent:
            await exchange(unsent.pop())

    async with anyio.create_task_group() as group:
        for _ in range(concurrency):
            group.start_soon(send)
