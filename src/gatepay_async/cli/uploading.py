"""``gatepay keys upload``."""

import re
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from attrs import frozen

from gatepay_async.cli import failing, sources
from gatepay_async.cli.output import emit, plain, wants_json
from gatepay_async.cli.private_file import check_replaceable, replacing
from gatepay_async.cli.screens import line, progress, show, table
from gatepay_async.cli.settings import client
from gatepay_async.cli.speech import say
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.protocol.bulk import ChunkOutcome, Fate, UploadProgress, UploadReport
from gatepay_async.protocol.errors import InvalidRequestError

_COLUMNS = ("read", "blank", "duplicates", "stored", "already_there", "refused", "unknown", "not_sent")
_WHERE = re.compile(r"line \d+ |lines \d+ to \d+: each ")
_SHOWN = 20  # outcomes; the file of failed lines has them all


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
        _check_target(failed_lines, found)
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


def _check_target(failed_lines: Path, found: list[sources.Source]) -> None:
    """
    While there is nothing to lose yet: whether the failed lines can be written, and to no file that they come from.

    Raises:
        HaltError: They can't.
    """
    if sources.are_among(found, failed_lines):
        raise HaltError(say("upload.failed_lines_read", path=failed_lines), todo=say("upload.failed_lines_read.todo"))
    check_replaceable(failed_lines)


def _end(job: _Job, report: UploadReport, ended: BaseException | None) -> Status:
    """Show the ledger, then what ended the upload before its time."""
    left_out, unwritten = False, None
    try:
        left_out = _write_failed(job, report, whole=ended is None and report.stopped is None)
    except HaltError as error:
        unwritten = error
    _show(job, report, ended, left_out=left_out)
    if unwritten is not None:
        failing.tell(unwritten)
    if ended is None:
        return _status(report) if unwritten is None else Status.PARTLY
    if not isinstance(ended, HaltError | InvalidRequestError):
        raise ended
    failing.tell(ended)
    return Status.PARTLY if report.stored or report.already_there else Status.USAGE


def _status(report: UploadReport) -> Status:
    if report.ok:
        return Status.DONE
    if report.stored or report.already_there:
        return Status.PARTLY
    errors = (outcome.error for outcome in report.chunks if outcome.error is not None)
    return failing.status_of(report.stopped or next(errors))


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
        for outcome in report.chunks:
            file.writelines(_as_lines(outcome.keys))
        rest = iter(()) if whole else sources.unread(job.sources, job.encoding, after=report.read)
        if rest is None:
            return True
        try:
            file.writelines(_as_lines(rest))
        except HaltError:
            return True
    return False


def _as_lines(keys: Iterable[str]) -> Iterable[bytes]:
    return (key.encode("utf-8", "surrogateescape") + b"\n" for key in keys)


def _show(job: _Job, report: UploadReport, ended: BaseException | None, *, left_out: bool) -> None:
    told = [_told(job, outcome) for outcome in report.chunks]
    troubles = [each for each in told if each["fate"] != Fate.STORED]
    counts = {name: getattr(report, name) for name in _COLUMNS}
    if wants_json():
        interrupted = ended is not None
        written = None if job.failed_lines is None else str(job.failed_lines)
        stopped = None if report.stopped is None else type(report.stopped).__name__
        emit(
            **counts,
            ok=report.ok and not interrupted,
            stopped=stopped,
            interrupted=interrupted,
            chunks=len(report.chunks),
            troubles=troubles,
            failed_lines=written,
        )
        return
    rows = table(say("upload.column"), say("upload.lines"), right=(1,))
    for name, count in counts.items():
        if count or name in ("read", "stored"):
            rows.add_row(say(f"upload.{name}"), f"{count:,}", style="red" if _is_trouble(name) else "")
    show(rows)
    if troubles:
        _show_troubles(_together(report, told))
    if report.ok and ended is None:
        line(say("upload.ok"), style="green")
        return
    if report.stopped is not None:
        line(say("upload.stopped"), stream=sys.stderr)
    if job.failed_lines is not None:
        line(say("upload.failed_lines_at", path=plain(job.failed_lines)))
        if left_out:
            line(say("upload.left_out"))
    line(say("upload.again"))


def _is_trouble(column: str) -> bool:
    return column in ("refused", "unknown", "not_sent")


def _told(job: _Job, outcome: ChunkOutcome) -> dict[str, Any]:
    first, last = job.reader.place(outcome.first_line), job.reader.place(outcome.last_line)
    cause, todo = say("upload.cut_off"), ""
    if outcome.error is not None:
        known = failing.explain(outcome.error)
        cause, todo = known.cause, known.remedy
        if isinstance(outcome.error, InvalidRequestError):
            # Where it stands is said beside it, by file.
            cause = failing.worded(_WHERE.sub("", outcome.error.problem))
    return {
        "first": first,
        "last": last,
        "count": outcome.count,
        "fate": str(outcome.fate),
        "cause": cause,
        "todo": todo,
        "error": None if outcome.error is None else type(outcome.error).__name__,
    }


def _together(report: UploadReport, told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbouring chunks that met the same, as one. What is stored is no trouble, but it parts neighbours."""
    troubles: list[dict[str, Any]] = []

    def met(pair: tuple[ChunkOutcome, dict[str, Any]]) -> tuple[Fate, str, int]:
        # Lines that never got into a chunk have others between them: each is named.
        outcome, each = pair
        return outcome.fate, each["cause"], outcome.first_line if outcome.index < 0 else 0

    for (fate, _, _), alike in groupby(zip(report.chunks, told, strict=True), key=met):
        one = [each for _, each in alike]
        if fate is not Fate.STORED:
            troubles.append(one[0] | {"last": one[-1]["last"], "count": sum(each["count"] for each in one)})
    return troubles


def _show_troubles(troubles: list[dict[str, Any]]) -> None:
    rows = table(*(say(f"upload.{name}") for name in ("where", "lines", "fate", "why")), right=(1,))
    for each in troubles[:_SHOWN]:
        rows.add_row(
            _range(each["first"], each["last"]),
            f"{each['count']:,}",
            say(f"upload.{each['fate']}"),
            plain(each["cause"]),
        )
    show(rows)
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
