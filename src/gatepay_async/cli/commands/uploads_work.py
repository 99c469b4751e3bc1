"""``gatepay uploads work``: a worker, as long as the command runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from gatepay_async.cli import queue, settings
from gatepay_async.cli.language import say
from gatepay_async.cli.output import complain, emit, wants_json
from gatepay_async.cli.screens import line
from gatepay_async.cli.status import Status

if TYPE_CHECKING:
    from gatepay_async.durable import Job, Submitter

_LOOK = 1.0  # seconds between two looks whether something is left


async def work(concurrency: int, global_concurrency: int | None, rate: float | None, *, drain: bool) -> Status:
    """Work at the jobs of the shop: until Ctrl-C, or with *drain* until none is left."""
    settings.secret()
    uploads = queue.durable_uploads()
    from gatepay_async.durable import Rate

    limit = None if rate is None else Rate(1, per=1 / rate)
    with queue.told():
        worker = uploads.worker(concurrency=concurrency, global_concurrency=global_concurrency, rate=limit)
        async with uploads.submitter() as submit, worker:
            complain(say("working.open"))
            if not drain:
                await anyio.sleep_forever()
            return await _until_none_is_left(submit)


async def _until_none_is_left(submit: Submitter) -> Status:
    known: dict[str, Job] = {}  # each remembers what has ended, and doesn't ask for it again
    while True:
        known = {job.id: known.get(job.id, job) for job in await submit.jobs()}
        if all([(await job.info()).state != "working" for job in known.values()]):
            return _tell_end()
        await anyio.sleep(_LOOK)


def _tell_end() -> Status:
    if wants_json():
        emit(drained=True)
    else:
        line(say("working.drained"))
    return Status.DONE
