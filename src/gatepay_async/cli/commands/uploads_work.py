"""``gatepay uploads work``: runs a worker until the command is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

import anyio

from gatepay_async.cli import queue, settings
from gatepay_async.cli.health import HealthAddress, Page, serve_health
from gatepay_async.cli.language import text
from gatepay_async.cli.output import print_json, wants_json, warn
from gatepay_async.cli.screens import print_line
from gatepay_async.cli.status import Status
from gatepay_async.cli.worker_metrics import CONTENT_TYPE, WorkerMetrics

if TYPE_CHECKING:
    from gatepay_async.durable import Job, Submitter, Worker

_POLL_INTERVAL_S = 1.0  # between two checks whether all jobs have ended, for --drain
_COUNT_INTERVAL_S = 5.0  # between two counts of the queue, for the metrics


async def work(
    concurrency: int | Literal["auto"],
    global_concurrency: int | None,
    rate: float | None,
    *,
    drain: bool,
    health: HealthAddress | None,
) -> Status:
    """Work on the jobs of the shop until Ctrl-C, or with *drain* until all jobs have ended."""
    settings.secret()  # check that there is a secret before the worker starts
    uploads = queue.durable_uploads()
    from gatepay_async.durable import Rate

    limit = None if rate is None else Rate(1, per=1 / rate)
    metrics = WorkerMetrics()
    if health is not None:
        uploads._instrument(metrics)  # noqa: SLF001 -- as `gatepay_async.otel.instrument` does
    with queue.explain_errors():
        worker = uploads.worker(concurrency=concurrency, global_concurrency=global_concurrency, rate=limit)
        async with (
            _serving_health(health, metrics, worker),
            uploads.submitter() as submitter,
            worker,
            _counting_queue(submitter, metrics, enabled=health is not None),
        ):
            warn(text("working.open"))
            if not drain:
                await anyio.sleep_forever()
            return await _wait_until_drained(submitter)


@asynccontextmanager
async def _serving_health(
    address: HealthAddress | None, metrics: WorkerMetrics, worker: Worker
) -> AsyncGenerator[None]:
    """Serve health checks, from before the worker opens until after it has closed."""
    if address is None:
        yield
        return

    def readiness() -> Page:
        return Page("ready\n") if worker.ready else Page("not ready\n", 503)

    pages = {
        "/healthz": lambda: Page("ok\n"),  # a response shows that the event loop runs
        "/readyz": readiness,
        "/metrics": lambda: Page(metrics.text(ready=worker.ready), content_type=CONTENT_TYPE),
    }
    async with serve_health(address, pages):
        yield


@asynccontextmanager
async def _counting_queue(submitter: Submitter, metrics: WorkerMetrics, *, enabled: bool) -> AsyncGenerator[None]:
    """Count the queue at regular intervals, so that requests for the metrics don't wait for the database."""
    if not enabled:
        yield
        return
    counting = asyncio.create_task(_count_queue(submitter, metrics))
    try:
        yield
    finally:
        counting.cancel()
        await asyncio.wait([counting])


async def _count_queue(submitter: Submitter, metrics: WorkerMetrics) -> None:
    """Count the queue every ``_COUNT_INTERVAL_S``, until cancelled. Forget a count that is too old."""
    loop = asyncio.get_running_loop()
    while True:
        # A database may accept a query and never respond, without an error.
        expiry = loop.call_later(_COUNT_INTERVAL_S, metrics.forget_queue)
        try:
            metrics.queue = await submitter.queue()
        except Exception:  # noqa: BLE001 -- the database is unavailable; the worker logs the error itself
            metrics.forget_queue()
        finally:
            expiry.cancel()
        await anyio.sleep(_COUNT_INTERVAL_S)


async def _wait_until_drained(submitter: Submitter) -> Status:
    """Wait until all jobs have ended."""
    jobs: dict[str, Job] = {}  # keep the objects: a job caches the batches that have ended
    while True:
        jobs = {job.id: jobs.get(job.id, job) for job in await submitter.jobs()}
        if all([(await job.info()).state != "working" for job in jobs.values()]):
            return _print_drained()
        await anyio.sleep(_POLL_INTERVAL_S)


def _print_drained() -> Status:
    if wants_json():
        print_json(drained=True)
    else:
        print_line(text("working.drained"))
    return Status.DONE
