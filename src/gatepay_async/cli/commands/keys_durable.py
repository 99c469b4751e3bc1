"""``gatepay keys upload --durable``: submits a job, and works until it is done. Run it again after an interruption."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from anyio import to_thread
from attrs import frozen

from gatepay_async.cli import checking, ledger, queue, settings, sources
from gatepay_async.cli.commands import uploads
from gatepay_async.cli.files.reading import Reading
from gatepay_async.cli.language import text
from gatepay_async.cli.output import print_json, wants_json, warn
from gatepay_async.cli.screens import local_time, print_line
from gatepay_async.cli.status import Status

if TYPE_CHECKING:
    from gatepay_async.durable import DurableUploads, Job


@frozen
class _JoinedFiles:
    """All files as one input in UTF-8. Implements ``Source`` of durable uploads."""

    reader: sources.Reader
    name: str

    async def copy_to(self, file: BinaryIO) -> None:
        """Write all lines to *file*."""
        await to_thread.run_sync(file.writelines, sources.encode_lines(self.reader))


async def submit(
    names: list[Path],
    product_id: int,
    concurrency: int | Literal["auto"],
    reading: Reading,
    failed_lines: Path | None,
    *,
    yes: bool,
    wait: bool,
) -> Status:
    """
    Submit all files as one job.

    With *wait*, also run a worker until the job is done, and print the report.
    """
    settings.secret()  # check that there is a secret before all files are read
    durable = queue.durable_uploads()
    unchecked = sources.find_sources(names)
    if failed_lines is not None:
        ledger.check_failed_lines(failed_lines, unchecked)
    inputs = await checking.read_inputs(names, reading, yes=yes)
    name = (
        unchecked[0].name
        if len(unchecked) == 1
        else text("queue.several_files", name=unchecked[0].name, more=len(unchecked) - 1)
    )
    reader = sources.Reader(inputs)
    with queue.explain_errors():
        async with durable.submitter() as submitter:
            job = await submitter.file(_JoinedFiles(reader, name), product_id=product_id)
            await job.resume()  # running the same command again resumes a cancelled or stopped job
            info = await job.info()
            if info.state == "done" and info.ended is not None:
                when = local_time(info.ended)
                warn(text("queue.was_done", job=queue.job_number(job), when=when))
                ledger.print_target(product_id)
                return await uploads.print_result(job, failed_lines, reader.place, reading)
            if not wait:
                _print_queued(job, info.count)
                return Status.DONE
            warn(text("queue.submitted", job=queue.job_number(job), count=f"{info.count:,}"))
            ledger.print_target(product_id)
            print_result = partial(uploads.print_result, job, failed_lines, reader.place, reading)
            return await _work_until_done(durable, job, concurrency, print_result)


async def _work_until_done(
    durable: DurableUploads, job: Job, concurrency: int | Literal["auto"], print_result: Callable[[], Awaitable[Status]]
) -> Status:
    """Run a worker until *job* is done or the command is interrupted, and print the result or the progress."""
    try:
        async with durable.worker(concurrency=concurrency):
            await uploads.follow(job)
    except asyncio.CancelledError:
        if (await job.info()).state == "done":  # the last calls in flight have finished the job
            cast("asyncio.Task[Any]", asyncio.current_task()).uncancel()
            return await print_result()
        await uploads.print_progress(job)
        warn(text("queue.goes_on", job=queue.job_number(job)))
        raise
    return await print_result()


def _print_queued(job: Job, count: int) -> None:
    if wants_json():
        print_json(job=queue.job_number(job), count=count)
        return
    print_line(text("queue.submitted", job=queue.job_number(job), count=f"{count:,}"))
    print_line(text("queue.worked_at"))
