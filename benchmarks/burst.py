"""A thousand calls at the same moment, to a server that takes 50 ms for each."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from statistics import median
from typing import Any

import httpx

from benchmarks.measuring import Result, Row, all_at_once
from benchmarks.peers import FORM, PRODUCT, Call, aiohttp_by_hand, client, raw_httpx
from benchmarks.serving import Served, serving

CALLS, LATENCY, CONNECTIONS, LIMIT = 1000, 0.05, 1000, 2.0


def measure(*, quick: bool) -> Result:
    """Ours with the default settings and with a thousand connections; others with their limits raised."""
    allow_sockets()
    with serving(latency=LATENCY) as served:
        return asyncio.run(_measure(served, quick=quick))


def allow_sockets() -> None:
    """As many open files as this user may have; 1,000 sockets are more than many systems start with."""
    if sys.platform != "win32":  # which has no such limit
        import resource  # noqa: PLC0415 -- nor this module

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _measure(served: Served, *, quick: bool) -> Result:
    rounds = 1 if quick else 3
    default, default_errors = await _ours(served, rounds=rounds)
    thousand, thousand_errors = await _ours(served, rounds=rounds, max_connections=CONNECTIONS)
    beside = await _peers(served, quick=quick)
    return Result(
        [
            Row(
                what=f"{CALLS:,} calls at once, default settings: errors",
                goal=0,
                value=len(default_errors),
                at_most=True,
                unit="errors",
                beside=f"{_told(default, default_errors)}{await _default_httpx(served, quick=quick)}",
            ),
            Row(
                what=f"the same, max_connections={CONNECTIONS}: errors",
                goal=0,
                value=len(thousand_errors),
                at_most=True,
                unit="errors",
                beside=beside,
            ),
            Row(
                what=f"the same, max_connections={CONNECTIONS}: time, of which {LATENCY} s are the server's",
                goal=LIMIT,
                value=thousand,
                at_most=True,
                unit="s",
                beside=beside,
            ),
        ]
    )


async def _ours(served: Served, *, rounds: int, **options: Any) -> tuple[float, list[BaseException]]:
    took: list[float] = []
    errors: list[BaseException] = []
    for _ in range(rounds):
        async with client(served, **options) as gatepay:  # a new one each time: connecting is part of a burst
            sample, failed = await all_at_once(partial(gatepay.list_card_keys, PRODUCT), calls=CALLS)
        took.append(sample.wall)
        errors += failed
    return median(took), errors


async def _peers(served: Served, *, quick: bool) -> str:
    """With as many connections; httpx needs some 20 seconds for it, which is not for a quick look."""
    aiohttp = f"aiohttp by hand: {_told(*await _once(aiohttp_by_hand(served, CONNECTIONS)))}"
    return aiohttp if quick else f"raw httpx: {_told(*await _once(raw_httpx(served, CONNECTIONS)))}; {aiohttp}"


async def _default_httpx(served: Served, *, quick: bool) -> str:
    """As above."""
    return "" if quick else f"; raw httpx, default settings: {_told(*await _once(_httpx_as_it_comes(served)))}"


@asynccontextmanager
async def _httpx_as_it_comes(served: Served) -> AsyncGenerator[Call]:
    async with httpx.AsyncClient() as shared:
        yield lambda: shared.post(served.base_url + "ka/show", data=FORM)


async def _once(peer: AbstractAsyncContextManager[Call]) -> tuple[float, list[BaseException]]:
    async with peer as call:
        sample, errors = await all_at_once(call, calls=CALLS)
    return sample.wall, errors


def _told(took: float, errors: list[BaseException]) -> str:
    kinds = Counter(type(error).__name__ for error in errors)
    failed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return f"{took:.2f} s, {failed or 'no error'}"
