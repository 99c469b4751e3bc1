"""200,000 card keys to a server that takes 50 ms for each call, against what that server allows at best."""

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

KEYS, KEYS_PER_CALL, LATENCY = 200_000, 500, 0.05
WANTED = {8: 0.95, 32: 0.93, 100: 0.85}

Upload = Callable[[list[str]], Awaitable[None]]


def measure(*, quick: bool) -> Result:
    """Ours and httpx by hand, in turn, at both concurrencies."""
    keys = [f"KEY-{number:020d}" for number in range(KEYS)]
    with serving(latency=LATENCY) as served:
        return asyncio.run(_measure(served, keys, rounds=1 if quick else 3))


async def _measure(served: Served, keys: list[str], *, rounds: int) -> Result:
    rows: list[Row] = []
    requests = _requests(keys)
    for concurrency, goal in WANTED.items():
        reached: dict[str, list[float]] = {"ours": [], "httpx by hand": [], "floor": []}
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
                name: partial(_round, served, upload, keys, concurrency, reached[name])
                for name, upload in uploads.items()
            }
            samples = await run_in_turns(arms, rounds=rounds)
        ours, theirs = samples["ours"], samples["httpx by hand"]
        beside = (
            f"{median_of(ours, wall):.2f} s, {sum(one.cpu for one in ours) / rounds:.2f} s of CPU; httpx by hand "
            f"{median(reached['httpx by hand']):.3f} ×, {median_of(theirs, wall):.2f} s, "
            f"{sum(one.cpu for one in theirs) / rounds:.2f} s of CPU; floor, requests made before: "
            f"{median(reached['floor']):.3f} ×"
        )
        what = f"{len(keys):,} keys uploaded, {LATENCY * 1000:g} ms server, concurrency={concurrency}: of the bound"
        rows.append(Row(what=what, goal=goal, value=median(reached["ours"]), beside=beside))
    return Result(rows)


async def _round(served: Served, upload: Upload, keys: list[str], concurrency: int, reached: list[float]) -> Sample:
    """One upload on open connections; notes which part of the best rate that the server allows it reached."""
    await upload([f"WARM-{number:019d}" for number in range(KEYS_PER_CALL * concurrency)])
    served.counts()
    watch = Stopwatch()
    await upload(keys)
    sample = watch.stop(-(-len(keys) // KEYS_PER_CALL))
    counts = served.counts()
    assert (counts.lines, counts.requests) == (len(keys), sample.calls)
    reached.append(sample.calls / concurrency * counts.latency / sample.wall)
    return sample


async def _ours(gatepay: AsyncGatePay, concurrency: int, keys: list[str]) -> None:
    report = await gatepay.upload_card_keys(PRODUCT, keys, concurrency=concurrency)
    assert report.ok


async def _by_hand(shared: httpx.AsyncClient, url: str, concurrency: int, keys: list[str]) -> None:
    """No repetition twice, 500 a call, side by side; no retries and no ledger."""
    different = list(dict.fromkeys(keys))
    slots = anyio.Semaphore(concurrency)

    async def send(chunk: list[str]) -> None:
        async with slots:
            form = {"appkey": APPKEY, "product_id": str(PRODUCT), "content": "\n".join(chunk), "sign": "0" * 32}
            (await shared.post(url, data=form)).raise_for_status()

    async with anyio.create_task_group() as group:
        for start in range(0, len(different), KEYS_PER_CALL):
            group.start_soon(send, different[start : start + KEYS_PER_CALL])


def _requests(keys: list[str]) -> list[bytes]:
    credentials = Credentials(APPKEY, APPSECRET)
    chunks = [tuple(keys[start : start + KEYS_PER_CALL]) for start in range(0, len(keys), KEYS_PER_CALL)]
    return [post_request("ka/create", encode(KaCreate(PRODUCT, chunk), credentials)) for chunk in chunks]


async def _bare(
    exchange: Callable[[bytes], Awaitable[bytes]], concurrency: int, requests: list[bytes], keys: list[str]
) -> None:
    """Send requests that were made before: only the network and the event loop take time."""
    waiting = requests.copy() if len(keys) == KEYS else _requests(keys)

    async def send() -> None:
        while waiting:
            await exchange(waiting.pop())

    async with anyio.create_task_group() as group:
        for _ in range(concurrency):
            group.start_soon(send)
