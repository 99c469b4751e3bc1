"""Memory of an idle connection in the client's process, measured by the system and by tracemalloc."""

import asyncio
import gc
import tracemalloc

import httpx

from benchmarks.measuring import MB, Result, Row, allow_sockets, resident
from benchmarks.serving import Served, serving
from gatepay_async.pool import OriginPool
from gatepay_async.pool.answers import OpenResponse
from gatepay_async.pool.port import Hooks

CONNECTIONS, MAX_KB = 10_000, 12.0
BATCH = 100  # connections that are opened at once
KB = 1e3  # bytes


def measure(*, quick: bool) -> Result:
    """Open all connections, exchange a request and a reply over each, and measure them while they are idle."""
    count = 1_000 if quick else CONNECTIONS
    allow_sockets()  # also for the server, which inherits the limit
    with serving() as served:
        by_system = asyncio.run(_memory_per_connection(served, count, traced=False))
        by_python = asyncio.run(_memory_per_connection(served, count, traced=True))
    what = f"{count:,} connections at rest: memory each"
    details = f"{by_python:.1f} kB of it are Python's objects"
    return Result([Row(what=what, goal=MAX_KB, value=by_system, at_most=True, unit="kB", details=details)])


async def _memory_per_connection(served: Served, count: int, *, traced: bool) -> float:
    """Return the memory of an idle connection in kB: by tracemalloc if *traced*, else by the system."""
    pool = OriginPool(served.base_url, max_connections=count, keepalive_expiry=3600.0)
    prepared = pool.prepare(httpx.URL(served.base_url + "product/show"), httpx.Headers())
    await _read(await pool.post(prepared, b"", Hooks()))  # fills caches, whose memory must not be counted
    gc.collect()
    if traced:
        tracemalloc.start()
    before = _used(traced=traced)
    responses: list[OpenResponse] = []
    for _ in range(0, count, BATCH):
        responses += await asyncio.gather(*(pool.post(prepared, b"", Hooks()) for _ in range(BATCH)))
    while responses:
        await _read(responses.pop())
    gc.collect()
    used = _used(traced=traced) - before
    assert f" {count} idle" in repr(pool)
    tracemalloc.stop()
    await pool.aclose()
    return used / count / KB


def _used(*, traced: bool) -> float:
    """Return the used memory in bytes."""
    return tracemalloc.get_traced_memory()[0] if traced else resident() * MB


async def _read(response: OpenResponse) -> None:
    while await response.read():
        pass
