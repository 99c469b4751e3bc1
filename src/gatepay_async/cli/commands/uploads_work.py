"""``gatepay uploads work``: runs a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import anyio

from gatepay_async.cli import queue, settings
from gatepay_async.cli.language import text
from gatepay_async.cli.output import print_json, wants_json, warn
from gatepay_async.cli.screens import print_line
from gatepay_async.cli.status import Status

if TYPE_CHECKING:
    from gatepay_async.durable import Job, Submitter

_POLL_INTERVAL_S = 1.0


async def work(
    concurrency: int | Literal["auto"], global_concurrency: int | None, rate: float | None, *, drain: bool
) -> Status:
    """Send batches of the shop's jobs until Ctrl-C, or with *drain* until no job is left."""
    settings.secret()
    uploads = queue.durable_uploads()
    from gatepay_async.durable import Rate

    limit = None if rate is None else Rate(1, per=1 / rate)
    with queue.explain_errors():
        worker = uploads.worker(concurrency=concurrency, global_concurrency=global_concurrency, rate=limit)
        async with uploads.submitter() as submit, worker:
            warn(text("working.open"))
            if not drain:
                await anyio.sleep_forever()
            return await _wait_until_drained(submit)


async def _wait_until_drained(submit: Submitter) -> Status:
    jobs: dict[str, Job] = {}  # keep each Job: it doesn't read the rows of ended batches again
    while True:
        jobs = {job.id: jobs.get(job.id, job) for job in await submit.jobs()}
        if all([(await job.info()).state != "working" for job in jobs.values()]):
            return _print_drained()
        await anyio.sleep(_POLL_INTERVAL_S)


def _print_drained() -> Status:
    if wants_json():
        print_json(drained=True)
    else:
        print_line(text("working.drained"))
    return Status.DONE
