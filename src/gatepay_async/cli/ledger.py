"""Prints the report of an upload, and writes the file with the card keys to upload again."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, BinaryIO

from gatepay_async.cli import failures, settings, sources
from gatepay_async.cli.files import writing
from gatepay_async.cli.files.columns import EXPORTED_COLUMN
from gatepay_async.cli.files.reading import AUTO, Reading
from gatepay_async.cli.language import text
from gatepay_async.cli.output import escape, print_json, wants_json
from gatepay_async.cli.private_file import check_replaceable
from gatepay_async.cli.screens import print_line, print_table, table
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.protocol.bulk import ChunkOutcome, Counts, Fate, UploadProgress, UploadReport
from gatepay_async.protocol.errors import GatePayError

_ALWAYS_SHOWN = ("read", "stored")  # even if the count is 0
_FAILURE_COLUMNS = ("refused", "unknown", "not_sent")  # of the report; printed in red
_MAX_ROWS = 20  # failed chunks to print; the file of failed lines is complete

Place = Callable[[int], str]  # turns a line number of the whole input into the file and its line: ``keys.txt:7``
Trouble = dict[str, Any]  # a chunk in the report: its place, number of lines, fate, cause and remedy


def report_status(report: UploadReport) -> Status:
    """Return the exit status for *report*."""
    if report.ok:
        return Status.DONE
    if report.stored or report.already_there:
        return Status.PARTLY
    errors = (outcome.error for outcome in report.chunks if outcome.error is not None)
    return failures.error_status(report.stopped or next(errors))


def check_failed_lines(failed_lines: Path, inputs: list[sources.InputSource]) -> None:
    """
    Check, before anything is sent, that *failed_lines* can be written, and isn't one of the input files.

    Raises:
        HaltError: *failed_lines* can't be written, or is an input file.
    """
    if sources.includes_file(inputs, failed_lines):
        raise HaltError(text("upload.failed_lines_read", path=failed_lines), todo=text("upload.failed_lines_read.todo"))
    check_replaceable(failed_lines)


def lost_lines_error(error: HaltError, report: UploadReport, todo: str) -> HaltError:
    """
    Return the error to print if the failed lines can't be written. *error* is the original error.

    If there were failed lines, the result says that they are lost, with the remedy *todo*.
    """
    if report.ok:  # there were no failed lines
        return error
    problem = text("upload.failed_lines_lost", reason=error.problem)
    return HaltError(problem, todo=error.todo or todo, status=Status.NO_OUTPUT)


def write_failed_lines(
    path: Path, file: BinaryIO, report: UploadReport, reading: Reading, rest: Iterable[str] = ()
) -> None:
    """
    Write the card keys that are not known to be on the server, ready to be uploaded again with the same options.

    Args:
        path: The name of the file. Its suffix decides the format.
        file: The open file.
        report: The report of the upload.
        reading: How the input was read.
        rest: Lines of the input that were not read.

    Raises:
        HaltError: The format can't hold one of the card keys.
    """
    encoding = "utf-8" if reading.encoding == AUTO else reading.encoding
    keys = chain.from_iterable(outcome.keys for outcome in report.chunks)
    name = path.with_suffix(".txt") if reading.as_is else path  # with --as-is, a heading would count as a card key
    with_heading = reading.skip_heading and not reading.as_is
    with (
        sources.explain_format(),
        writing.open_writer(name, file, (EXPORTED_COLUMN,), encoding=encoding, with_heading=with_heading) as writer,
    ):
        writer.write((key,) for key in chain(keys, rest))


def print_target(product_id: int) -> None:
    """Print which product on which server the card keys are for, so that a wrong one is noticed."""
    if not wants_json():
        print_line(text("upload.target", product=product_id, url=escape(settings.base_url())))


def print_report(
    report: UploadReport,
    place: Place,
    *,
    failed_lines: Path | None,
    as_is: bool = False,
    lines_are_missing: bool = False,
    interrupted: bool = False,
    cancelled: bool = False,
    not_read: int | None = 0,
    errors: Sequence[HaltError | GatePayError] = (),
    facts: Mapping[str, object] | None = None,
) -> None:
    """
    Print the report of an upload that has ended.

    Args:
        report: The report.
        place: Turns a line number of the whole input into the file and its line.
        failed_lines: The file with the card keys that are not known to be on the server; None: it was not written.
        as_is: Whether *failed_lines* is a text file without a heading, whatever its suffix is.
        lines_are_missing: Whether lines that were not read are missing in *failed_lines*.
        interrupted: Whether the upload was interrupted.
        cancelled: Whether the job was cancelled on purpose.
        not_read: The number of lines that were not read; None: unknown.
        errors: The errors to print after the report: why the upload ended early, and why *failed_lines* wasn't written.
        facts: More values for the JSON output.
    """
    described = [_describe_outcome(place, outcome) for outcome in report.chunks]
    troubles = [trouble for trouble in described if trouble["fate"] != Fate.STORED]
    if wants_json():
        print_json(
            **report.columns(),
            not_read=not_read,
            ok=report.ok and not interrupted,
            stopped=None if report.stopped is None else type(report.stopped).__name__,
            interrupted=interrupted,
            chunks=len(report.chunks),
            troubles=troubles,
            invisible_lines=[place(line) for line in report.invisible],
            failed_lines=None if failed_lines is None else str(failed_lines),
            **(facts or {}),
            **_errors_as_json(errors),
        )
        return
    print_counts(report, not_read=not_read or 0)
    if troubles:
        _print_troubles(_merge_neighbours(report, described))
    print_invisible([place(line) for line in report.invisible[:_MAX_ROWS]], total=len(report.invisible))
    if report.ok and not interrupted:
        print_line(text("upload.ok" if report.stored or report.already_there else "upload.empty"), style="green")
    else:
        _print_next_step(report, failed_lines, as_is=as_is, lines_are_missing=lines_are_missing, cancelled=cancelled)
    for error in errors:
        failures.show_error(error)


def _errors_as_json(errors: Sequence[HaltError | GatePayError]) -> dict[str, object]:
    """Return the first error as ``error``, with the second one, if any, as its ``also``."""
    document: dict[str, object] = {}
    for error in reversed(errors):
        also = {"also": document["error"]} if document else {}
        document = {"error": failures.error_as_json(error) | also}
    return document


def _print_next_step(
    report: UploadReport, failed_lines: Path | None, *, as_is: bool, lines_are_missing: bool, cancelled: bool
) -> None:
    """Say where the card keys are that may not be on the server, and that they can be uploaded again."""
    if report.stopped is not None and not cancelled:
        print_line(text("upload.stopped"), stream=sys.stderr)
    if failed_lines is not None:
        print_line(text("upload.failed_lines_as_is" if as_is else "upload.failed_lines_at", path=escape(failed_lines)))
        if lines_are_missing:
            print_line(text("upload.left_out"))
    print_line(text("upload.again"))


def print_invisible(places: list[str], *, total: int) -> None:
    """Print *places*, the first lines with invisible characters, and how many of the *total* are left out."""
    for line in places:
        print_line(text("upload.invisible", line=line))
    if total > len(places):
        print_line(text("upload.more", count=total - len(places)))


def print_counts(counts: Counts, *, not_read: int = 0) -> None:
    """Print the counts as a table. Those of an upload in progress include the card keys in flight."""
    rows = table(text("upload.column"), text("upload.lines"), number_columns=(1,))
    for name, count in counts.columns().items():
        if count or name in _ALWAYS_SHOWN:
            rows.add_row(text(f"upload.{name}"), f"{count:,}", style="red" if name in _FAILURE_COLUMNS else "")
    if isinstance(counts, UploadProgress) and counts.in_flight:
        rows.add_row(text("upload.to_come"), f"{counts.in_flight:,}")
    if not_read:
        rows.add_row(text("upload.not_read"), f"{not_read:,}")
    print_table(rows)


def _describe_outcome(place: Place, outcome: ChunkOutcome) -> Trouble:
    error, interrupted_text = outcome.error, text("upload.cut_off")
    cause, todo = (interrupted_text, "") if error is None else failures.cause_and_remedy(error)
    return {
        "first": place(outcome.first_line),
        "last": place(outcome.last_line),
        "count": outcome.count,
        "fate": str(outcome.fate),
        "cause": cause,
        "todo": todo,
        "error": None if error is None else type(error).__name__,
        "problem": failures.text_as_json(interrupted_text if error is None else error.problem),
        **failures.existing_attributes(error, ("code", "message")),
    }


def _merge_neighbours(report: UploadReport, described: list[Trouble]) -> list[Trouble]:
    """Merge consecutive failed chunks with the same cause. Stored chunks are left out."""
    troubles: list[Trouble] = []

    def group_key(pair: tuple[ChunkOutcome, Trouble]) -> tuple[Fate, str, int]:
        # Refused lines that are not in a chunk are not merged: there are other lines between them.
        outcome, trouble = pair
        return outcome.fate, trouble["cause"], outcome.first_line if outcome.index < 0 else 0

    for (fate, _, _), group in groupby(zip(report.chunks, described, strict=True), key=group_key):
        rows = [trouble for _, trouble in group]
        if fate is not Fate.STORED:
            troubles.append(rows[0] | {"last": rows[-1]["last"], "count": sum(row["count"] for row in rows)})
    return troubles


def _print_troubles(troubles: list[Trouble]) -> None:
    rows = table(*(text(f"upload.{name}") for name in ("where", "lines", "fate", "why")), number_columns=(1,))
    for trouble in troubles[:_MAX_ROWS]:
        where = _line_range(trouble["first"], trouble["last"])
        rows.add_row(where, f"{trouble['count']:,}", text(f"upload.{trouble['fate']}"), escape(trouble["cause"]))
    print_table(rows)
    if len(troubles) > _MAX_ROWS:
        print_line(text("upload.more", count=len(troubles) - _MAX_ROWS))
    for todo in dict.fromkeys(trouble["todo"] for trouble in troubles if trouble["todo"]):
        print_line(f"{text('failing.todo')}{todo}")


def _line_range(first: str, last: str) -> str:
    """Format a range of lines: ``keys.txt:1 – 500``, or ``a.txt:7 – b.txt:3`` from one file to another."""
    name, _, number = last.rpartition(":")
    if first == last:
        return first
    return f"{first} – {number}" if first.rpartition(":")[0] == name else f"{first} – {last}"
