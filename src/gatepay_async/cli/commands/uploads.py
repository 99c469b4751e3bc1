"""``gatepay uploads``: lists, shows, watches, cancels, resumes and deletes the jobs of durable uploads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatepay_async.cli import failures, ledger, queue, settings
from gatepay_async.cli.files.reading import Reading
from gatepay_async.cli.language import text
from gatepay_async.cli.output import escape, print_json, wants_json, warn
from gatepay_async.cli.private_file import atomic_write
from gatepay_async.cli.screens import local_time, name_value_table, print_line, print_list, print_table, progress, table
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.protocol.bulk import Fate

if TYPE_CHECKING:
    from gatepay_async.durable import Job, JobInfo
    from gatepay_async.protocol.bulk import UploadReport

_SHORT_CHARS = 8  # of a job number: only its start is shown in lists


async def list_jobs() -> Status:
    """Print all jobs of the shop, the newest first."""
    async with queue.open_submitter() as submitter:
        infos = [info async for info in _read_infos(await submitter.jobs())]
    if wants_json():
        print_json(jobs=[_job_as_json(number, info) for number, info in infos])
        return Status.DONE
    if not infos:
        print_line(text("uploads.none"))
        return Status.DONE
    columns = ("job", "name", "product", "state", "keys", "there", "created")
    rows = table(*(text(f"uploads.{name}") for name in columns), number_columns=(2, 4, 5), unbroken_columns=(0, 3, 6))
    for number, info in infos:
        rows.add_row(
            escape(number[:_SHORT_CHARS]),
            escape(info.name),
            str(info.product_id),
            text(f"uploads.{info.state}"),
            f"{info.count:,}",
            f"{_on_server(info):,}",
            local_time(info.created),
        )
    print_list(rows)
    return Status.DONE


async def show_job(prefix: str, failed_lines: Path | None) -> Status:
    """Print one job with its report so far, or its final report."""
    async with queue.open_submitter() as submitter:
        job = await queue.find_job(submitter, prefix)
        info = await job.info()
        if not wants_json():
            print_table(name_value_table(_job_facts(info)))
            print_line("")
        if info.state == "working":
            await print_progress(job)
            return Status.DONE
        return await print_result(job, failed_lines)


async def watch(prefix: str, failed_lines: Path | None) -> Status:
    """Show the progress of a job until it ends, then its report. Other processes work on it."""
    async with queue.open_submitter() as submitter:
        job = await queue.find_job(submitter, prefix)
        await follow(job)
        return await print_result(job, failed_lines)


async def cancel(prefix: str) -> Status:
    """Cancel a job."""
    async with queue.open_submitter() as submitter:
        job = await queue.find_job(submitter, prefix)
        await job.cancel()
        return await _print_state(job)


async def resume(prefix: str) -> Status:
    """Resume a job."""
    async with queue.open_submitter() as submitter:
        job = await queue.find_job(submitter, prefix)
        await job.resume()
        return await _print_state(job)


async def delete(prefix: str) -> Status:
    """Delete a job that has ended."""
    async with queue.open_submitter() as submitter:
        job = await queue.find_job(submitter, prefix)
        await job.delete()
        if wants_json():
            print_json(job=queue.job_number(job), deleted=True)
        else:
            print_line(text("uploads.deleted", job=queue.job_number(job)))
        return Status.DONE


async def follow(job: Job) -> None:
    """Show a progress bar until *job* ends."""
    total = (await job.info()).count
    with progress(text("upload.doing"), total=total) as update:
        async for so_far in job.progress():
            update(total - so_far.in_flight, total)


async def print_progress(job: Job) -> None:
    """Print the counts of a job that has not ended."""
    info = await job.info()
    if wants_json():
        print_json(**_job_as_json(queue.job_number(job), info))
        return
    ledger.print_counts(info.progress)


async def print_result(
    job: Job, failed_lines: Path | None, place: ledger.Place | None = None, reading: Reading | None = None
) -> Status:
    """Wait for a job, print its report, and write the card keys to upload again to *failed_lines*."""
    report, info = await job.wait(), await job.info()
    write_error = None
    if failed_lines is not None:
        try:
            failed_lines = _save_failed_lines(failed_lines, report, reading or Reading())
        except HaltError as error:
            todo = text("uploads.failed_lines_lost.todo", job=queue.job_number(job))
            failed_lines, write_error = None, ledger.lost_lines_error(error, report, todo)
    json_fields = {
        "job": queue.job_number(job),
        "state": str(info.state),
        "product": info.product_id,
        "base_url": settings.base_url(),
    }
    cancelled = info.state == "cancelled"
    ledger.print_report(
        report,
        place or (lambda line: f"{escape(info.name)}:{line}"),
        failed_lines=failed_lines,
        cancelled=cancelled,
        errors=[] if write_error is None else [write_error],
        facts=json_fields,
    )
    if write_error is not None:
        return write_error.status
    return Status.PARTLY if cancelled else ledger.report_status(report)


async def _read_infos(jobs: list[Job]) -> AsyncIterator[tuple[str, JobInfo]]:
    """Yield the number and info of each job. If a job can't be read, print a warning instead."""
    from gatepay_async.durable import DurableError, QueueUnavailableError

    for job in jobs:
        try:
            yield queue.job_number(job), await job.info()
        except QueueUnavailableError:
            raise
        except DurableError as error:
            warn(failures.headline(error))


def _save_failed_lines(path: Path, report: UploadReport, reading: Reading) -> Path | None:
    """
    Write the card keys that are not known to be on the server.

    Returns:
        *path*, or None if the existing file was kept because no line failed or the spool has lost card keys.
    """
    failed = [outcome for outcome in report.chunks if outcome.fate is not Fate.STORED]
    lost = sum(outcome.count - len(outcome.keys) for outcome in failed)
    if lost:
        warn(text("uploads.keys_gone", count=f"{lost:,}", path=escape(path)))
    if path.exists() and (lost or not failed):
        warn(text("uploads.kept", path=escape(path)))
        return None
    with atomic_write(path) as file:
        ledger.write_failed_lines(path, file, report, reading)
    return path


def _on_server(info: JobInfo) -> int:
    """Return how many card keys of the job are on the server."""
    return info.progress.stored + info.progress.already_there


def _job_as_json(number: str, info: JobInfo) -> dict[str, Any]:
    return {
        "job": number,
        "name": info.name,
        "product": info.product_id,
        "state": str(info.state),
        "created": info.created.isoformat(),
        "ended": None if info.ended is None else info.ended.isoformat(),
        "count": info.count,
        **info.progress.columns(),
        "to_come": info.progress.in_flight,
    }


def _job_facts(info: JobInfo) -> list[tuple[str, object]]:
    return [
        (text("uploads.job"), info.id.rpartition(":")[2]),
        (text("uploads.name"), info.name),
        (text("uploads.product"), info.product_id),
        (text("uploads.state"), text(f"uploads.{info.state}")),
        (text("uploads.keys"), f"{info.count:,}"),
        (text("uploads.created"), local_time(info.created)),
        *([(text("uploads.ended"), local_time(info.ended))] if info.ended is not None else []),
    ]


async def _print_state(job: Job) -> Status:
    info = await job.info()
    if wants_json():
        print_json(**_job_as_json(queue.job_number(job), info))
    else:
        print_line(
            text("uploads.is", job=escape(queue.job_number(job)[:_SHORT_CHARS]), state=text(f"uploads.{info.state}"))
        )
    return Status.DONE
