"""What became of each line of an upload: the ledger, what went wrong and where, and the lines to be uploaded again."""

import sys
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

from gatepay_async.cli import failures, sources
from gatepay_async.cli.language import say
from gatepay_async.cli.output import emit, plain, wants_json
from gatepay_async.cli.private_file import check_replaceable
from gatepay_async.cli.screens import line, table
from gatepay_async.cli.screens import show as draw
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.protocol.bulk import ChunkOutcome, Counts, Fate, UploadProgress, UploadReport

_ALWAYS = ("read", "stored")  # also where there are none
_TROUBLES = ("refused", "unknown", "not_sent")
_SHOWN = 20  # outcomes; the file of failed lines has them all

Place = Callable[[int], str]  # where line number N of the input stands: ``keys.txt:7``
Trouble = dict[str, Any]


def status_of(report: UploadReport) -> Status:
    """What the command ends with."""
    if report.ok:
        return Status.DONE
    if report.stored or report.already_there:
        return Status.PARTLY
    errors = (outcome.error for outcome in report.chunks if outcome.error is not None)
    return failures.status_of(report.stopped or next(errors))


def check_target(failed_lines: Path, read: list[sources.Source]) -> None:
    """
    While there is nothing to lose yet: whether the failed lines can be written, and to no file that they come from.

    Raises:
        HaltError: They can't.
    """
    if sources.are_among(read, failed_lines):
        raise HaltError(say("upload.failed_lines_read", path=failed_lines), todo=say("upload.failed_lines_read.todo"))
    check_replaceable(failed_lines)


def write_failed(file: BinaryIO, report: UploadReport, encoding: str) -> None:
    """Write the card keys that are not known to be on the server, in *encoding*, ready to be uploaded again."""
    for outcome in report.chunks:
        file.writelines(sources.as_lines(outcome.keys, encoding))


def show(
    report: UploadReport,
    place: Place,
    *,
    failed_lines: Path | None,
    left_out: bool = False,
    interrupted: bool = False,
    cancelled: bool = False,
    facts: Mapping[str, object] | None = None,
) -> None:
    """
    Show what became of an upload that has ended.

    Args:
        report: What became of it.
        place: Where a line stands.
        failed_lines: Where the card keys are that are not known to be on the server.
        left_out: Lines are missing there, which were never read.
        interrupted: It was broken off.
        cancelled: So it was on purpose.
        facts: More of it, for programs.
    """
    told = [_told(place, outcome) for outcome in report.chunks]
    troubles = [each for each in told if each["fate"] != Fate.STORED]
    if wants_json():
        emit(
            **report.columns(),
            ok=report.ok and not interrupted,
            stopped=None if report.stopped is None else type(report.stopped).__name__,
            interrupted=interrupted,
            chunks=len(report.chunks),
            troubles=troubles,
            invisible_lines=[place(each) for each in report.invisible],
            failed_lines=None if failed_lines is None else str(failed_lines),
            **(facts or {}),
        )
        return
    show_counts(report)
    if troubles:
        _show_troubles(_together(report, told))
    show_invisible([place(each) for each in report.invisible[:_SHOWN]], of=len(report.invisible))
    if report.ok and not interrupted:
        line(say("upload.ok" if report.stored or report.already_there else "upload.empty"), style="green")
        return
    if report.stopped is not None and not cancelled:
        line(say("upload.stopped"), stream=sys.stderr)
    if failed_lines is not None:
        line(say("upload.failed_lines_at", path=plain(failed_lines)))
        if left_out:
            line(say("upload.left_out"))
    line(say("upload.again"))


def show_invisible(places: list[str], *, of: int) -> None:
    """Where card keys hold invisible characters: at *places*, the first ones *of* so many."""
    for each in places:
        line(say("upload.invisible", line=each))
    if of > len(places):
        line(say("upload.more", count=of - len(places)))


def show_counts(of: Counts) -> None:
    """A table of the columns; of an upload that goes on, what is still to come, too."""
    rows = table(say("upload.column"), say("upload.lines"), right=(1,))
    for name, count in of.columns().items():
        if count or name in _ALWAYS:
            rows.add_row(say(f"upload.{name}"), f"{count:,}", style="red" if name in _TROUBLES else "")
    if isinstance(of, UploadProgress) and of.in_flight:
        rows.add_row(say("upload.to_come"), f"{of.in_flight:,}")
    draw(rows)


def _told(place: Place, outcome: ChunkOutcome) -> Trouble:
    cause, todo = say("upload.cut_off"), ""
    if outcome.error is not None:
        cause, todo = failures.why(outcome.error)
    return {
        "first": place(outcome.first_line),
        "last": place(outcome.last_line),
        "count": outcome.count,
        "fate": str(outcome.fate),
        "cause": cause,
        "todo": todo,
        "error": None if outcome.error is None else type(outcome.error).__name__,
    }


def _together(report: UploadReport, told: list[Trouble]) -> list[Trouble]:
    """Neighbouring chunks that met the same, as one. What is stored is no trouble, but it parts neighbours."""
    troubles: list[Trouble] = []

    def met(pair: tuple[ChunkOutcome, Trouble]) -> tuple[Fate, str, int]:
        # Lines that never got into a chunk have others between them: each is named.
        outcome, each = pair
        return outcome.fate, each["cause"], outcome.first_line if outcome.index < 0 else 0

    for (fate, _, _), alike in groupby(zip(report.chunks, told, strict=True), key=met):
        one = [each for _, each in alike]
        if fate is not Fate.STORED:
            troubles.append(one[0] | {"last": one[-1]["last"], "count": sum(each["count"] for each in one)})
    return troubles


def _show_troubles(troubles: list[Trouble]) -> None:
    rows = table(*(say(f"upload.{name}") for name in ("where", "lines", "fate", "why")), right=(1,))
    for each in troubles[:_SHOWN]:
        where = _range(each["first"], each["last"])
        rows.add_row(where, f"{each['count']:,}", say(f"upload.{each['fate']}"), plain(each["cause"]))
    draw(rows)
    if len(troubles) > _SHOWN:
        line(say("upload.more", count=len(troubles) - _SHOWN))
    for todo in dict.fromkeys(each["todo"] for each in troubles if each["todo"]):
        line(f"{say('failing.todo')}{todo}")


def _range(first: str, last: str) -> str:
    """``keys.txt:1 – 500``; from one file to another, both with their names."""
    name, _, number = last.rpartition(":")
    if first == last:
        return first
    return f"{first} – {number}" if first.rpartition(":")[0] == name else f"{first} – {last}"
