"""``gatepay keys upload``."""

from pathlib import Path

from attrs import frozen

from gatepay_async.cli import failures, ledger, sources
from gatepay_async.cli.language import say
from gatepay_async.cli.private_file import replacing
from gatepay_async.cli.screens import progress
from gatepay_async.cli.settings import client
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.protocol.bulk import UploadProgress, UploadReport
from gatepay_async.protocol.errors import InvalidRequestError


@frozen
class _Job:
    """What is uploaded, and where the lines go that are not known to be on the server."""

    reader: sources.Reader
    sources: list[sources.Source]
    encoding: str
    failed_lines: Path | None


async def upload(
    names: list[Path], product_id: int, concurrency: int, encoding: str, failed_lines: Path | None
) -> Status:
    """Upload all files as one, and show what became of each line; of an upload that ends half-way, too."""
    gatepay = client()
    found = sources.look_through(names, encoding)
    job = _Job(sources.Reader(found, encoding), found, encoding, failed_lines)
    known = [source.lines for source in found if source.lines is not None]
    total = sum(known) if len(known) == len(found) else None
    if failed_lines is not None:
        ledger.check_target(failed_lines, found)
    ended: BaseException | None = None
    with progress(say("upload.doing"), total=total) as update:

        def tell(so_far: UploadProgress) -> None:
            update(so_far.read - so_far.in_flight, total)

        try:
            async with gatepay:
                report = await gatepay.upload_card_keys(
                    product_id, job.reader, concurrency=concurrency, on_progress=tell
                )
        except BaseException as error:
            found_so_far = getattr(error, "report", None)
            if not isinstance(found_so_far, UploadReport):
                raise
            report, ended = found_so_far, error
    return _end(job, report, ended)


def _end(job: _Job, report: UploadReport, ended: BaseException | None) -> Status:
    """Show the ledger, then what ended the upload before its time."""
    left_out, unwritten = False, None
    try:
        left_out = _write_failed(job, report, whole=ended is None and report.stopped is None)
    except HaltError as error:
        unwritten = error
    interrupted = ended is not None
    ledger.show(report, job.reader.place, failed_lines=job.failed_lines, left_out=left_out, interrupted=interrupted)
    if unwritten is not None:
        failures.tell(unwritten)
    if ended is None:
        return ledger.status_of(report) if unwritten is None else Status.PARTLY
    if not isinstance(ended, HaltError | InvalidRequestError):
        raise ended
    failures.tell(ended)
    return Status.PARTLY if report.stored or report.already_there else Status.USAGE


def _write_failed(job: _Job, report: UploadReport, *, whole: bool) -> bool:
    """
    Write the card keys that are not known to be on the server, and the lines that were never read.

    Returns:
        Whether lines are left out: those behind what a pipe has given, or of a file that is gone.

    Raises:
        HaltError: It can't be written.
    """
    if job.failed_lines is None:
        return False
    with replacing(job.failed_lines) as file:
        ledger.write_failed(file, report, job.encoding)
        rest = iter(()) if whole else sources.unread(job.sources, job.encoding, after=report.read)
        if rest is None:
            return True
        try:
            file.writelines(sources.as_lines(rest, job.encoding))
        except HaltError:
            return True
    return False
