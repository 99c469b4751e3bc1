"""CPU time that the SDK adds to a call over its own transport: signing, encoding, deadlines, retries."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from statistics import median
from time import monotonic

import httpx

from benchmarks.measuring import Result, Row, cpu_us_per_call, drive, median_of, run_in_turns, timed
from benchmarks.peers import APPKEY, APPSECRET, client
from benchmarks.serving import Served, serving
from gatepay_async.exchange.headers import HEADERS
from gatepay_async.pool import OriginPool
from gatepay_async.pool.port import Hooks, Prepared, WholeResponse
from gatepay_async.protocol.calls import ProductShow
from gatepay_async.protocol.messages import Reply, decode, encode
from gatepay_async.protocol.signing import Credentials

CALLERS, MAX_ADDED_US = 16, 10.0
_DECODINGS = 5000  # decoding is measured separately and subtracted
_MAX_BODY_BYTES = 2**20


def measure(*, quick: bool) -> Result:
    """Measure `send(ProductShow())` and the pool alone, in turn. The shop has no products, so replies are short."""
    with serving() as served:
        return asyncio.run(_measure(served, seconds=0.2 if quick else 0.6, rounds=5 if quick else 9))


async def _measure(served: Served, *, seconds: float, rounds: int) -> Result:
    pool = OriginPool(served.base_url, max_connections=100)
    content = encode(ProductShow(), Credentials(APPKEY, APPSECRET))
    async with client(served) as gatepay, pool:
        prepared = pool.prepare(httpx.URL(served.base_url + ProductShow.path), HEADERS)
        body = (await _post(pool, prepared, content)).body
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "send": lambda: gatepay.send(ProductShow()),
            "pool": partial(_post, pool, prepared, content),
        }
        for call in calls.values():
            await drive(call, callers=CALLERS, seconds=0.1)
        arms = {name: partial(drive, call, callers=CALLERS, seconds=seconds) for name, call in calls.items()}
        samples = await run_in_turns(arms, rounds=rounds)
    decoding = timed(lambda: decode(ProductShow(), Reply(200, body)), times=_DECODINGS).cpu_us_per_call
    added = median(
        ours.cpu_us_per_call - bare.cpu_us_per_call for ours, bare in zip(samples["send"], samples["pool"], strict=True)
    )
    send, bare = median_of(samples["send"], cpu_us_per_call), median_of(samples["pool"], cpu_us_per_call)
    row = Row(
        what="CPU that the SDK adds to a call over its own transport, decoding left out",
        goal=MAX_ADDED_US,
        value=added - decoding,
        at_most=True,
        unit="µs",
        details=f"send {send:.0f} µs, pool {bare:.0f} µs, of the difference decoding {decoding:.1f} µs",
    )
    return Result([row])


async def _post(pool: OriginPool, prepared: Prepared, content: bytes) -> WholeResponse:
    """Post as the client does: in one step over an idle connection, or else over a new one."""
    response = await pool.post_at_once(
        prepared, content, on_send=_nothing, deadline=monotonic() + 30, max_bytes=_MAX_BODY_BYTES
    )
    return response or await (await pool.post(prepared, content, Hooks())).read_whole(max_bytes=_MAX_BODY_BYTES)


def _nothing() -> None:
    pass
