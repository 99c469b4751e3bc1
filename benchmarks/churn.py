"""
Callers that give up at random, all over the life of a call; then the pool must be whole.

    python -m benchmarks.churn --runs 50 --loop trio

Each run: 40 workers share 10 connections for 6 seconds, each cancelling its call after 0 to 30 ms. Then nobody may
hold a slot, no socket may be open but the resting ones, and 20 healthy calls must be answered; and when the client is
closed, no socket and no task may be left.
"""

import argparse
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any, cast

import anyio
import httpx
from attrs import define

from benchmarks.measuring import Result, Row, sockets
from benchmarks.peers import FORM, PRODUCT, client
from benchmarks.serving import Served, serving
from gatepay_async import AsyncGatePay, GatePayError
from gatepay_async.pool import OriginPool

WORKERS, CONNECTIONS, HEALTHY, SECONDS, PATIENCE = 40, 10, 20, 6.0, 0.03
_LATENCY = 0.002  # so that a cancellation meets every stage of a call
_SETTLE = 0.2  # seconds for sockets that are closed to be gone


@define
class Run:
    """
    What one run came to.

    Attributes:
        calls: Calls made.
        cancelled: Those that were cancelled.
        answered: Healthy calls answered afterwards.
        slots: Slots not given back, and callers still waiting.
        sockets: Open that shouldn't be.
        tasks: Running that shouldn't be.
    """

    calls: int = 0
    cancelled: int = 0
    answered: int = 0
    slots: int = 0
    sockets: int = 0
    tasks: int = 0

    @property
    def lost(self) -> int:
        """Everything that must not be; 0 is what is wanted."""
        return HEALTHY - self.answered + self.slots + self.sockets + self.tasks


def measure(*, quick: bool) -> Result:
    """One run on each event loop, and one of httpx's own pool."""
    seconds = 1.0 if quick else SECONDS
    rows: list[Row] = []
    with serving(latency=_LATENCY) as served:
        theirs = anyio.run(_httpx, served, seconds)
        for loop in ("asyncio", "trio"):
            run = anyio.run(_ours, served, seconds, 0, backend=loop)
            beside = f"{run.cancelled:,} of {run.calls:,} calls cancelled; ours answers {run.answered} of {HEALTHY}"
            row = Row(
                what=f"churn for {seconds:g} s, {loop}: healthy calls, slots, sockets and tasks lost",
                goal=0,
                value=run.lost,
                at_most=True,
                unit="lost",
                beside=f"{beside}, raw httpx {theirs.answered}",
            )
            rows.append(row)
    return Result(rows)


async def _churn(call: Callable[[], Awaitable[object]], run: Run, *, seconds: float, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 -- a draw that can be repeated
    ends = anyio.current_time() + seconds

    async def worker() -> None:
        while anyio.current_time() < ends:
            with anyio.move_on_after(chance.uniform(0, PATIENCE)) as scope:
                await call()
            run.calls += 1
            run.cancelled += scope.cancelled_caught

    async with anyio.create_task_group() as group:
        for _ in range(WORKERS):
            group.start_soon(worker)


async def _healthy(call: Callable[[], Awaitable[object]], run: Run) -> None:
    async def one() -> None:
        try:
            await call()
        except (GatePayError, httpx.HTTPError):
            return
        run.answered += 1

    async with anyio.create_task_group() as group:
        for _ in range(HEALTHY):
            group.start_soon(one)


async def _ours(served: Served, seconds: float, seed: int) -> Run:
    run = Run()
    tasks, before = len(anyio.get_running_tasks()), sockets()
    async with client(served, max_connections=CONNECTIONS) as gatepay:
        slots = _pool(gatepay)._slots
        await _churn(lambda: gatepay.list_card_keys(PRODUCT), run, seconds=seconds, seed=seed)
        run.slots = slots.busy + slots.waiting
        await anyio.sleep(_SETTLE)
        run.sockets = abs(sockets() - before - slots.idle)
        run.tasks = len(anyio.get_running_tasks()) - tasks
        await _healthy(lambda: gatepay.list_card_keys(PRODUCT), run)
    await anyio.sleep(_SETTLE)
    run.sockets += abs(sockets() - before)
    run.tasks += len(anyio.get_running_tasks()) - tasks
    return run


def _pool(gatepay: AsyncGatePay) -> OriginPool:
    return cast("OriginPool", cast("Any", gatepay._caller._attempts._exchange)._transport)


async def _httpx(served: Served, seconds: float) -> Run:
    run = Run()
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(limits=limits) as shared:

        async def call() -> None:
            try:
                await shared.post(served.base_url + "ka/show", data=FORM)
            except httpx.PoolTimeout:
                return

        await _churn(call, run, seconds=seconds, seed=0)
        await _healthy(lambda: shared.post(served.base_url + "ka/show", data=FORM), run)
    return run


def main() -> int:
    """As many runs in a row as are asked for; 1 if anything was lost."""
    parser = argparse.ArgumentParser(description="Callers that give up at random; then the pool must be whole.")
    parser.add_argument("--runs", type=int, default=1, help="in a row")
    parser.add_argument("--loop", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each run")
    given = parser.parse_args()
    failed = 0
    with serving(latency=_LATENCY) as served:
        for seed in range(given.runs):
            run = anyio.run(_ours, served, given.seconds, seed, backend=given.loop)
            failed += run.lost > 0
            print(f"{given.loop} run {seed + 1}: {run}", flush=True)
    print(f"{given.runs - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
