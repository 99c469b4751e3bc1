"""``gatepay keys upload --durable``: submitted first, then sent; what is left when it ends goes on another time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from anyio import to_thread
from attrs import frozen

from gatepay_async.cli import ledger, queue, settings, sources
from gatepay_async.cli.commands import uploads
from gatepay_async.cli.language import say
from gatepay_async.cli.output import complain, emit, wants_json
from gatepay_async.cli.screens import line
from gatepay_async.cli.status import Status

if TYPE_CHECKING:
    from gatepay_async.durable import DurableUploads, Job


@frozen
class _Input:
    """All files as one input, in UTF-8; a ``Source`` of durable uploads."""

    reader: sources.Reader
    name: str

    async def copy_to(self, file: BinaryIO) -> None:
        """As ``Source.copy_to``."""
        await to_thread.run_sync(file.writelines, sources.as_lines(self.reader, "utf-8"))


async def submit(
    names: list[Path], product_id: int, concurrency: int, encoding: str, failed_lines: Path | None, *, wait: bool
) -> Status:
    """Put all files into the queue as one job; unless nobody waits for it, work until it is done, and show it."""
    settings.secret()  # while there is nothing to lose yet
    durable = queue.durable_uploads()
    found = sources.look_through(names, encoding)
    if failed_lines is not None:
        ledger.check_target(failed_lines, found)
    name = found[0].name if len(found) == 1 else say("queue.several_files", name=found[0].name, more=len(found) - 1)
    reader = sources.Reader(found, encoding)
    with queue.told():
        async with durable.submitter() as submitter:
            job = await submitter.file(_Input(reader, name), product_id=product_id)
            await job.resume()  # run again, it goes on, whatever has stopped it before
            info = await job.info()
            if not wait:
                _tell_queued(job, info.count)
                return Status.DONE
            complain(say("queue.submitted", job=queue.number_of(job), count=f"{info.count:,}"))
            end = partial(uploads.show_end, job, failed_lines, reader.place, encoding)
            return await _work(durable, job, concurrency, end)


async def _work(durable: DurableUploads, job: Job, concurrency: int, end: Callable[[], Awaitable[Status]]) -> Status:
    try:
        async with durable.worker(concurrency=concurrency):
            await uploads.follow(job)
    except asyncio.CancelledError:
        await uploads.show_so_far(job)
        complain(say("queue.goes_on", job=queue.number_of(job)))
        raise
    return await end()


def _tell_queued(job: Job, count: int) -> None:
    if wants_json():
        emit(job=queue.number_of(job), count=count)
        return
    line(say("queue.submitted", job=queue.number_of(job), count=f"{count:,}"))
    line(say("queue.worked_at"))
