"""Errors and time of a thousand simultaneous calls to a server that takes 50 ms for each."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from statistics import median
from typing import Any

import httpx

from benchmarks.measuring import Result, Row, all_at_once, allow_sockets
from benchmarks.peers import FORM, PRODUCT, Call, aiohttp_by_hand, client, raw_httpx
from benchmarks.serving import Served, serving

CALLS, LATENCY_S, CONNECTIONS, MAX_SECONDS = 1000, 0.05, 1000, 2.0


def measure(*, quick: bool) -> Result:
    """Measure ours with default settings and with a thousand connections, and other clients with raised limits."""
    allow_sockets()
    with serving(latency=LATENCY_S) as served:
        return asyncio.run(_measure(served, quick=quick))


async def _measure(served: Served, *, quick: bool) -> Result:
    rounds = 1 if quick else 3
    default_seconds, default_errors = await _measure_ours(served, rounds=rounds)
    raised_limit_seconds, raised_limit_errors = await _measure_ours(served, rounds=rounds, max_connections=CONNECTIONS)
    others = await _measure_peers(served, quick=quick)
    return Result(
        [
            Row(
                what=f"{CALLS:,} calls at once, default settings: errors",
                goal=0,
                value=len(default_errors),
                at_most=True,
                unit="errors",
                details=f"{_format(default_seconds, default_errors)}{await _default_httpx(served, quick=quick)}",
            ),
            Row(
                what=f"the same, max_connections={CONNECTIONS}: errors",
                goal=0,
                value=len(raised_limit_errors),
                at_most=True,
                unit="errors",
                details=others,
            ),
            Row(
                what=f"the same, max_connections={CONNECTIONS}: time, of which {LATENCY_S} s are the server's",
                goal=MAX_SECONDS,
                value=raised_limit_seconds,
                at_most=True,
                unit="s",
                details=others,
            ),
        ]
    )


async def _measure_ours(served: Served, *, rounds: int, **options: Any) -> tuple[float, list[BaseException]]:
    took: list[float] = []
    errors: list[BaseException] = []
    for _ in range(rounds):
        async with client(served, **options) as gatepay:  # a new client each time, to include connecting
            sample, failed = await all_at_once(partial(gatepay.list_card_keys, PRODUCT), calls=CALLS)
        took.append(sample.wall)
        errors += failed
    return median(took), errors


async def _measure_peers(served: Served, *, quick: bool) -> str:
    """Measure others with as many connections. A quick run leaves out httpx, which takes about 20 seconds."""
    aiohttp = f"aiohttp by hand: {_format(*await _once(aiohttp_by_hand(served, CONNECTIONS)))}"
    return aiohttp if quick else f"raw httpx: {_format(*await _once(raw_httpx(served, CONNECTIONS)))}; {aiohttp}"


async def _default_httpx(served: Served, *, quick: bool) -> str:
    """Measure httpx with default settings; a quick run leaves it out."""
    return "" if quick else f"; raw httpx, default settings: {_format(*await _once(_httpx_with_defaults(served)))}"


@asynccontextmanager
async def _httpx_with_defaults(served: Served) -> AsyncGenerator[Call]:
    async with httpx.AsyncClient() as shared:
        yield lambda: shared.post(served.base_url + "ka/show", data=FORM)


async def _once(peer: AbstractAsyncContextManager[Call]) -> tuple[float, list[BaseException]]:
    async with peer as call:
        sample, errors = await all_at_once(call, calls=CALLS)
    return sample.wall, errors


def _format(took: float, errors: list[BaseException]) -> str:
    kinds = Counter(type(error).__name__ for error in errors)
    failed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return f"{took:.2f} s, {failed or 'no error'}"
