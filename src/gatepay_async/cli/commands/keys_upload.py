"""``gatepay keys upload``."""

from pathlib import Path
from typing import Literal

from attrs import frozen

from gatepay_async.cli import failures, ledger, sources
from gatepay_async.cli.language import text
from gatepay_async.cli.private_file import atomic_write
from gatepay_async.cli.screens import progress
from gatepay_async.cli.settings import client
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.protocol.bulk import UploadProgress, UploadReport
from gatepay_async.protocol.errors import InvalidRequestError


@frozen
class _UploadCommand:
    """What is uploaded, and where the lines go that are not known to be on the server."""

    reader: sources.Reader
    sources: list[sources.Source]
    encoding: str
    failed_lines: Path | None


async def upload(
    names: list[Path], product_id: int, concurrency: int | Literal["auto"], encoding: str, failed_lines: Path | None
) -> Status:
    """Upload all files as one, and show what became of each line; of an upload that ends half-way, too."""
    gatepay = client()
    inputs = sources.check_sources(names, encoding)
    job = _UploadCommand(sources.Reader(inputs, encoding), inputs, encoding, failed_lines)
    line_counts = [source.lines for source in inputs if source.lines is not None]
    total = sum(line_counts) if len(line_counts) == len(inputs) else None
    if failed_lines is not None:
        ledger.check_failed_lines(failed_lines, inputs)
    ended: BaseException | None = None
    with progress(text("upload.doing"), total=total) as update:

        def report_progress(so_far: UploadProgress) -> None:
            update(so_far.read - so_far.in_flight, total)

        try:
            async with gatepay:
                report = await gatepay.upload_card_keys(
                    product_id, job.reader, concurrency=concurrency, on_progress=report_progress
                )
        except BaseException as error:
            partial_report = getattr(error, "report", None)
            if not isinstance(partial_report, UploadReport):
                raise
            report, ended = partial_report, error
    return _finish(job, report, ended)


def _finish(job: _UploadCommand, report: UploadReport, ended: BaseException | None) -> Status:
    """Show the ledger, then what ended the upload before its time."""
    left_out, unwritten = False, None
    try:
        left_out = _save_unsent_lines(job, report, whole=ended is None and report.stopped is None)
    except HaltError as error:
        unwritten = error
    interrupted = ended is not None
    ledger.print_report(
        report, job.reader.place, failed_lines=job.failed_lines, left_out=left_out, interrupted=interrupted
    )
    if unwritten is not None:
        failures.show_error(unwritten)
    if ended is None:
        return ledger.report_status(report) if unwritten is None else Status.PARTLY
    if not isinstance(ended, HaltError | InvalidRequestError):
        raise ended
    failures.show_error(ended)
    return Status.PARTLY if report.stored or report.already_there else Status.USAGE


def _save_unsent_lines(job: _UploadCommand, report: UploadReport, *, whole: bool) -> bool:
    """
    Write the card keys that are not known to be on the server, and the lines that were never read.

    Returns:
        Whether lines are left out: those behind what a pipe has given, or of a file that is gone.

    Raises:
        HaltError: It can't be written.
    """
    if job.failed_lines is None:
        return False
    with atomic_write(job.failed_lines) as file:
        ledger.write_failed_lines(file, report, job.encoding)
        rest = iter(()) if whole else sources.unread_lines(job.sources, job.encoding, after=report.read)
        if rest is None:
            return True
        try:
            file.writelines(sources.encode_lines(rest, job.encoding))
        except HaltError:
            return True
    return False
