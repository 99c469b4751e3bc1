"""``gatepay keys upload`` without ``--durable``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from attrs import frozen

from gatepay_async.cli import checking, failures, ledger, settings, sources
from gatepay_async.cli.files.reading import Reading
from gatepay_async.cli.language import text
from gatepay_async.cli.private_file import atomic_write
from gatepay_async.cli.screens import progress
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.protocol.bulk import UploadProgress, UploadReport
from gatepay_async.protocol.errors import GatePayError


@frozen
class _UploadCommand:
    """The input of an upload, and the file for the card keys that are not known to be on the server."""

    product_id: int
    reader: sources.Reader
    sources: list[sources.InputSource]
    reading: Reading
    failed_lines: Path | None

    @property
    def line_count(self) -> int | None:
        """The number of lines, or None if it is unknown because one of the sources is a pipe."""
        counts = [source.line_count for source in self.sources if source.line_count is not None]
        return sum(counts) if len(counts) == len(self.sources) else None


async def upload(
    names: list[Path],
    product_id: int,
    concurrency: int | Literal["auto"],
    reading: Reading,
    failed_lines: Path | None,
    *,
    yes: bool,
) -> Status:
    """Upload all files as one input, and print the report, even if the upload is interrupted."""
    gatepay = settings.client()
    if failed_lines is not None:
        ledger.check_failed_lines(failed_lines, sources.find_sources(names))
    inputs = await checking.read_inputs(names, reading, yes=yes)
    command = _UploadCommand(product_id, sources.Reader(inputs), inputs, reading, failed_lines)
    total = command.line_count
    early_error: BaseException | None = None
    with progress(text("upload.doing"), total=total) as update:

        def report_progress(so_far: UploadProgress) -> None:
            update(so_far.read - so_far.in_flight, total)

        try:
            async with gatepay:
                report = await gatepay.upload_card_keys(
                    product_id, command.reader, concurrency=concurrency, on_progress=report_progress
                )
        except BaseException as error:
            partial_report = getattr(error, "report", None)
            if not isinstance(partial_report, UploadReport):
                raise
            report, early_error = partial_report, error
    return _finish(command, report, early_error)


def _finish(command: _UploadCommand, report: UploadReport, early_error: BaseException | None) -> Status:
    """Print the report, and the error that ended the upload early, if any. Return the exit status."""
    lines_are_missing, write_error = False, None
    errors: list[HaltError | GatePayError] = []
    if isinstance(early_error, HaltError | GatePayError):
        errors.append(early_error)
    try:
        was_completed = early_error is None and report.stopped is None
        lines_are_missing = _save_unsent_lines(command, report, was_completed=was_completed)
    except HaltError as error:
        write_error = ledger.lost_lines_error(error, report, text("upload.failed_lines_lost.todo"))
        errors.append(write_error)
    interrupted = early_error is not None
    ledger.print_target(command.product_id)
    ledger.print_report(
        report,
        command.reader.place,
        failed_lines=command.failed_lines if write_error is None else None,
        as_is=command.reading.as_is,
        lines_are_missing=lines_are_missing,
        interrupted=interrupted,
        # A file that grew during the upload has more lines than were counted.
        not_read=None if command.line_count is None else max(0, command.line_count - report.read),
        errors=errors,
        facts={"product": command.product_id, "base_url": settings.base_url()},
    )
    if early_error is None:
        return ledger.report_status(report) if write_error is None else Status.NO_OUTPUT
    if early_error not in errors:
        raise early_error
    return Status.PARTLY if report.stored or report.already_there else failures.status_of(errors[0])


def _save_unsent_lines(command: _UploadCommand, report: UploadReport, *, was_completed: bool) -> bool:
    """
    Write the card keys that are not known to be on the server, and the lines that were never read.

    Returns:
        Whether unread lines are missing: the rest of a pipe can't be read, and a file may have been deleted.

    Raises:
        HaltError: The file can't be written.
    """
    if command.failed_lines is None:
        return False
    unread = _UnreadLines(sources.unread_lines(command.sources, after=report.read) if not was_completed else iter(()))
    with atomic_write(command.failed_lines) as file:
        ledger.write_failed_lines(command.failed_lines, file, report, command.reading, unread)
    return unread.lines_are_missing


class _UnreadLines:
    """
    The lines that the upload has not read.

    Args:
        lines: The lines, or None if they come from a pipe, which can't be read again.
    """

    def __init__(self, lines: Iterator[str] | None) -> None:
        self._lines = lines
        self.lines_are_missing = lines is None

    def __iter__(self) -> Iterator[str]:
        try:
            yield from self._lines or ()
        except HaltError:  # a file was deleted or changed
            self.lines_are_missing = True
