"""What a connection that rests holds in memory."""

import asyncio
import ctypes
import gc
import sys

from benchmarks.burst import allow_sockets
from benchmarks.measuring import Result, Row, all_at_once, resident, sockets
from benchmarks.peers import PRODUCT, client
from benchmarks.serving import Served, serving

CONNECTIONS, FEW, WANTED = 10_000, 100, 12.0


def measure(*, quick: bool) -> Result:
    """As many calls at once as there may be connections, to a server that takes its time; and then nothing."""
    allow_sockets()
    count = CONNECTIONS // 10 if quick else CONNECTIONS
    with serving(latency=1.0 if quick else 5.0) as served:
        before, after, opened = asyncio.run(_measure(served, count))
    each = (after - before) * 1000 / opened
    what = f"{opened:,} connections that rest: memory of each"
    beside = f"{before:.1f} MB before, {after:.1f} MB with them"
    return Result([Row(what=what, goal=WANTED, value=each, at_most=True, unit="kB", beside=beside)])


async def _measure(served: Served, count: int) -> tuple[float, float, int]:
    options = {"timeout": 120, "deadline": 120, "max_connections": count}
    async with client(served, **options) as gatepay:
        await all_at_once(lambda: gatepay.list_card_keys(PRODUCT), calls=FEW)  # what is imported and built once
        before, open_before = _settled(), sockets()
        _, errors = await all_at_once(lambda: gatepay.list_card_keys(PRODUCT), calls=count)
        assert not errors, errors[0]
        return before, _settled(), sockets() - open_before


def _settled() -> float:
    """What is held once what was needed only for the calls is given back."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return resident()
