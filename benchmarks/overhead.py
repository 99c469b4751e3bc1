"""What the SDK adds to a call over its own transport, decoding left out: signing, encoding, deadlines, retries."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from statistics import median

import httpx

from benchmarks.measuring import Result, Row, cpu_each, drive, median_of, run_in_turns, timed
from benchmarks.peers import APPKEY, APPSECRET, client
from benchmarks.serving import Served, serving
from gatepay_async.pool import OriginPool
from gatepay_async.protocol.calls import ProductShow
from gatepay_async.protocol.messages import CONTENT_TYPE, Reply, decode, encode
from gatepay_async.protocol.signing import Credentials

CALLERS, WANTED = 16, 10.0
_TIMES = 5000


def measure(*, quick: bool) -> Result:
    """`send(ProductShow())` and the pool by itself, in turn; the shop sells nothing, so there is little to read."""
    with serving() as served:
        return asyncio.run(_measure(served, seconds=0.2 if quick else 0.6, rounds=5 if quick else 9))


async def _measure(served: Served, *, seconds: float, rounds: int) -> Result:
    pool = OriginPool(served.base_url, max_connections=100)
    async with client(served) as gatepay, pool:
        body = await _post(pool, _request(served))
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "send": lambda: gatepay.send(ProductShow()),
            "pool": partial(_post, pool, _request(served)),
        }
        for call in calls.values():
            await drive(call, callers=CALLERS, seconds=0.1)
        arms = {name: partial(drive, call, callers=CALLERS, seconds=seconds) for name, call in calls.items()}
        samples = await run_in_turns(arms, rounds=rounds)
    decoding = timed(lambda: decode(ProductShow(), Reply(200, body)), times=_TIMES).cpu_each
    added = median(ours.cpu_each - bare.cpu_each for ours, bare in zip(samples["send"], samples["pool"], strict=True))
    send, bare = median_of(samples["send"], cpu_each), median_of(samples["pool"], cpu_each)
    row = Row(
        what="CPU that the SDK adds to a call over its own transport, decoding left out",
        goal=WANTED,
        value=added - decoding,
        at_most=True,
        unit="µs",
        beside=f"send {send:.0f} µs, pool {bare:.0f} µs, of the difference decoding {decoding:.1f} µs",
    )
    return Result([row])


def _request(served: Served) -> httpx.Request:
    """Prepared once, and sent again and again."""
    content = encode(ProductShow(), Credentials(APPKEY, APPSECRET))
    headers = {"content-type": CONTENT_TYPE, "accept": "application/json"}
    return httpx.Request("POST", served.base_url + ProductShow.path, headers=headers, content=content)


async def _post(pool: OriginPool, request: httpx.Request) -> bytes:
    response = await pool.handle_async_request(request)
    return await response.aread()
