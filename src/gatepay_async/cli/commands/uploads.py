"""``gatepay uploads``: the jobs that were submitted; what became of them, and what is to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatepay_async.cli import failures, ledger, queue
from gatepay_async.cli.language import say
from gatepay_async.cli.output import complain, emit, plain, wants_json
from gatepay_async.cli.private_file import replacing
from gatepay_async.cli.screens import facts, line, progress, show, table
from gatepay_async.cli.status import Status
from gatepay_async.protocol.bulk import Fate

if TYPE_CHECKING:
    from gatepay_async.durable import Job, JobInfo
    from gatepay_async.protocol.bulk import UploadReport

_SHORT = 8  # of a job's number, in a list


async def listing() -> Status:
    """All jobs of the shop, the newest first."""
    async with queue.submitting() as submit:
        infos = [found async for found in _infos(await submit.jobs())]
    if wants_json():
        emit(jobs=[_document(number, info) for number, info in infos])
        return Status.DONE
    if not infos:
        line(say("uploads.none"))
        return Status.DONE
    columns = ("job", "name", "product", "state", "keys", "there", "created")
    rows = table(*(say(f"uploads.{name}") for name in columns), right=(2, 4, 5))
    for number, info in infos:
        rows.add_row(
            plain(number[:_SHORT]),
            plain(info.name),
            str(info.product_id),
            say(f"uploads.{info.state}"),
            f"{info.count:,}",
            f"{_there(info):,}",
            f"{info.created:%Y-%m-%d %H:%M}",
        )
    show(rows)
    return Status.DONE


async def details(wanted: str, failed_lines: Path | None) -> Status:
    """One job: its ledger, so far or in the end."""
    async with queue.submitting() as submit:
        job = await queue.find(submit, wanted)
        info = await job.info()
        if not wants_json():
            show(facts(_facts(info)))
            line("")
        if info.state == "working":
            await show_so_far(job)
            return Status.DONE
        return await show_end(job, failed_lines)


async def watch(wanted: str, failed_lines: Path | None) -> Status:
    """Follow a job until it has ended; who works at it is elsewhere."""
    async with queue.submitting() as submit:
        job = await queue.find(submit, wanted)
        await follow(job)
        return await show_end(job, failed_lines)


async def cancel(wanted: str) -> Status:
    """Send nothing more of a job."""
    async with queue.submitting() as submit:
        job = await queue.find(submit, wanted)
        await job.cancel()
        return await _tell_state(job)


async def resume(wanted: str) -> Status:
    """Send what was not sent."""
    async with queue.submitting() as submit:
        job = await queue.find(submit, wanted)
        await job.resume()
        return await _tell_state(job)


async def forget(wanted: str) -> Status:
    """Clean a job away that has ended."""
    async with queue.submitting() as submit:
        job = await queue.find(submit, wanted)
        await job.forget()
        if wants_json():
            emit(job=queue.number_of(job), forgotten=True)
        else:
            line(say("uploads.forgotten", job=queue.number_of(job)))
        return Status.DONE


async def follow(job: Job) -> None:
    """A bar, until nothing more of *job* is to be sent."""
    total = (await job.info()).count
    with progress(say("upload.doing"), total=total) as update:
        async for so_far in job.progress():
            update(total - so_far.in_flight, total)


async def show_so_far(job: Job) -> None:
    """The ledger of a job that goes on."""
    info = await job.info()
    if wants_json():
        emit(**_document(queue.number_of(job), info))
        return
    ledger.show_counts(info.progress)


async def show_end(
    job: Job, failed_lines: Path | None, place: ledger.Place | None = None, encoding: str = "utf-8"
) -> Status:
    """The ledger of a job that has ended, and the lines to upload again."""
    report, info = await job.wait(), await job.info()
    if failed_lines is not None:
        failed_lines = _write_failed(failed_lines, report, encoding)
    more = {"job": queue.number_of(job), "state": str(info.state)}
    cancelled = info.state == "cancelled"
    ledger.show(
        report,
        place or (lambda at: f"{plain(info.name)}:{at}"),
        failed_lines=failed_lines,
        cancelled=cancelled,
        facts=more,
    )
    return Status.PARTLY if cancelled else ledger.status_of(report)


async def _infos(jobs: list[Job]) -> AsyncIterator[tuple[str, JobInfo]]:
    """What is known of each. One that can't be read is told of, and doesn't hide the others."""
    from gatepay_async.durable import DurableError, QueueUnavailableError

    for job in jobs:
        try:
            yield queue.number_of(job), await job.info()
        except QueueUnavailableError:
            raise
        except DurableError as error:
            complain(failures.headline(error))


def _write_failed(path: Path, report: UploadReport, encoding: str) -> Path | None:
    """
    Write the card keys that are not known to be on the server.

    Returns:
        *path*, or None where it was not written: what was there stays, if nothing failed, or if card keys are gone.
    """
    failed = [outcome for outcome in report.chunks if outcome.fate is not Fate.STORED]
    gone = sum(outcome.count - len(outcome.keys) for outcome in failed)
    if gone:
        complain(say("uploads.keys_gone", count=f"{gone:,}", path=plain(path)))
    if path.exists() and (gone or not failed):
        complain(say("uploads.kept", path=plain(path)))
        return None
    with replacing(path) as file:
        ledger.write_failed(file, report, encoding)
    return path


def _there(info: JobInfo) -> int:
    return info.progress.stored + info.progress.already_there


def _document(number: str, info: JobInfo) -> dict[str, Any]:
    return {
        "job": number,
        "name": info.name,
        "product": info.product_id,
        "state": str(info.state),
        "created": info.created.isoformat(),
        "count": info.count,
        **info.progress.columns(),
        "to_come": info.progress.in_flight,
    }


def _facts(info: JobInfo) -> list[tuple[str, object]]:
    return [
        (say("uploads.job"), info.id.rpartition(":")[2]),
        (say("uploads.name"), info.name),
        (say("uploads.product"), info.product_id),
        (say("uploads.state"), say(f"uploads.{info.state}")),
        (say("uploads.keys"), f"{info.count:,}"),
        (say("uploads.created"), f"{info.created:%Y-%m-%d %H:%M:%S %z}"),
    ]


async def _tell_state(job: Job) -> Status:
    info = await job.info()
    if wants_json():
        emit(**_document(queue.number_of(job), info))
    else:
        line(say("uploads.is", job=plain(queue.number_of(job)[:_SHORT]), state=say(f"uploads.{info.state}")))
    return Status.DONE
