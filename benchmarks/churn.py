"""
Cancel calls at random moments, then check that the connection pool leaked nothing.

    python -m benchmarks.churn --runs 50 --loop trio

In each run, 40 workers share 10 connections for 6 seconds. Each worker cancels its call after 0 to 30 ms. After that,
all slots must be free, only idle sockets may be open, and 20 calls without cancellation must succeed. When the client
is closed, no socket and no task may be left.
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

WORKERS, CONNECTIONS, SECONDS = 40, 10, 6.0
FINAL_CALLS = 20  # calls without cancellation
MAX_CANCEL_AFTER = 0.03  # seconds
_LATENCY = 0.002  # seconds; short, so that cancellations happen at every stage of a call
_SETTLE = 0.2  # seconds for closed sockets to disappear


@define
class Run:
    """
    The result of one run.

    Attributes:
        calls: The number of calls.
        cancelled: The number of cancelled calls.
        answered: The number of final calls that succeeded.
        slots: The number of slots that were not released, plus callers that still wait for one.
        sockets: The number of leaked sockets.
        tasks: The number of leaked tasks.
    """

    calls: int = 0
    cancelled: int = 0
    answered: int = 0
    slots: int = 0
    sockets: int = 0
    tasks: int = 0

    @property
    def lost(self) -> int:
        """The number of failed final calls and leaked resources; the goal is 0."""
        return FINAL_CALLS - self.answered + self.slots + self.sockets + self.tasks


def measure(*, quick: bool) -> Result:
    """Measure our client on each event loop, and httpx's own pool on asyncio."""
    seconds = 1.0 if quick else SECONDS
    rows: list[Row] = []
    with serving(latency=_LATENCY) as served:
        httpx_run = anyio.run(_httpx, served, seconds)
        for loop in ("asyncio", "trio"):
            run = anyio.run(_ours, served, seconds, 0, backend=loop)
            details = (
                f"{run.cancelled:,} of {run.calls:,} calls cancelled; ours answers {run.answered} of {FINAL_CALLS}"
            )
            row = Row(
                what=f"churn for {seconds:g} s, {loop}: healthy calls, slots, sockets and tasks lost",
                goal=0,
                value=run.lost,
                at_most=True,
                unit="lost",
                details=f"{details}, raw httpx {httpx_run.answered}",
            )
            rows.append(row)
    return Result(rows)


async def _churn(call: Callable[[], Awaitable[object]], run: Run, *, seconds: float, seed: int) -> None:
    random_source = random.Random(seed)  # noqa: S311 -- repeatable, not secret
    end_time = anyio.current_time() + seconds

    async def worker() -> None:
        while anyio.current_time() < end_time:
            with anyio.move_on_after(random_source.uniform(0, MAX_CANCEL_AFTER)) as scope:
                await call()
            run.calls += 1
            run.cancelled += scope.cancelled_caught

    async with anyio.create_task_group() as group:
        for _ in range(WORKERS):
            group.start_soon(worker)


async def _final_calls(call: Callable[[], Awaitable[object]], run: Run) -> None:
    async def call_once() -> None:
        try:
            await call()
        except (GatePayError, httpx.HTTPError):
            return
        run.answered += 1

    async with anyio.create_task_group() as group:
        for _ in range(FINAL_CALLS):
            group.start_soon(call_once)


async def _ours(served: Served, seconds: float, seed: int) -> Run:
    run = Run()
    tasks_before, sockets_before = len(anyio.get_running_tasks()), sockets()
    async with client(served, max_connections=CONNECTIONS) as gatepay:
        slots = _pool(gatepay)._slots
        await _churn(lambda: gatepay.list_card_keys(PRODUCT), run, seconds=seconds, seed=seed)
        run.slots = slots.busy + slots.waiting
        await anyio.sleep(_SETTLE)
        run.sockets = abs(sockets() - sockets_before - slots.idle)
        run.tasks = len(anyio.get_running_tasks()) - tasks_before
        await _final_calls(lambda: gatepay.list_card_keys(PRODUCT), run)
    await anyio.sleep(_SETTLE)
    run.sockets += abs(sockets() - sockets_before)
    run.tasks += len(anyio.get_running_tasks()) - tasks_before
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
        await _final_calls(lambda: shared.post(served.base_url + "ka/show", data=FORM), run)
    return run


def main() -> int:
    """Run as often as the command line says; return 1 if anything leaked."""
    parser = argparse.ArgumentParser(description="Cancels calls at random moments, then checks the connection pool.")
    parser.add_argument("--runs", type=int, default=1, help="number of runs")
    parser.add_argument("--loop", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="length of each run")
    options = parser.parse_args()
    failed = 0
    with serving(latency=_LATENCY) as served:
        for seed in range(options.runs):
            run = anyio.run(_ours, served, options.seconds, seed, backend=options.loop)
            failed += run.lost > 0
            print(f"{options.loop} run {seed + 1}: {run}", flush=True)
    print(f"{options.runs - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
