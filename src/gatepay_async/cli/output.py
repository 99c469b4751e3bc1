"""Plain output: no library is needed for it."""

import io
import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from io import TextIOWrapper
from typing import Any, cast

from gatepay_async.cli.language import text

_wants_json: ContextVar[bool] = ContextVar("json", default=False)
_fields: ContextVar[tuple[str, ...]] = ContextVar("fields", default=())
_unknown: set[str] = set()  # fields that were asked for and are none, once they have been told of


_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))  # by their numbers: 0, 1, 2
_closed: set[str] = set()


def open_closed_streams() -> None:
    """
    Connect each standard stream that is closed (``>&-``) to nowhere.

    Else the next file that is opened, a database say, would get its number, and what is printed would go there.
    """
    for number, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            _closed.add(name)
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 -- a number


def is_closed(name: str) -> bool:
    """Whether the standard stream of that name was closed when the command began."""
    return name in _closed


class _RecordingFile(io.FileIO):
    """A file that remembers what kept it from being written: a closed pipe, a full disk."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        """As ``FileIO.write``."""
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


def watch_stdout() -> None:
    """Have ``stdout_error()`` know what becomes of standard output, as the error doesn't name its file."""
    now = sys.stdout
    if isinstance(now, TextIOWrapper) and type(_raw(now)) is io.FileIO:
        recording = _RecordingFile(now.fileno(), "wb", closefd=False)
        is_buffered = _raw(now) is not _buffer(now)  # not with PYTHONUNBUFFERED
        buffer: Any = io.BufferedWriter(recording) if is_buffered else recording
        lines, through = now.line_buffering, now.write_through
        sys.stdout = TextIOWrapper(buffer, now.encoding, now.errors, line_buffering=lines, write_through=through)


def stdout_error() -> OSError | None:
    """What keeps standard output from being written, or None."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error
    raw = _raw(sys.stdout)
    return raw.error if isinstance(raw, _RecordingFile) else None


def _raw(stream: Any) -> object:
    """The file below *stream*, if it is a usual one."""
    buffer = _buffer(stream)
    return getattr(buffer, "raw", buffer)


def _buffer(stream: Any) -> object:
    return getattr(stream, "buffer", None)


def configure(*, as_json: bool, fields: str = "") -> None:
    """
    Have both streams show what they can't encode, instead of raising.

    Args:
        as_json: Programs read the output.
        fields: The names of what they read of it, with commas between them; empty: all.
    """
    _wants_json.set(as_json or bool(fields))
    _fields.set(tuple(fields.split(",")) if fields else ())
    _unknown.clear()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def wants_json() -> bool:
    """Whether programs read the output."""
    return _wants_json.get()


def print_json(**document: object) -> None:
    """Write one JSON object, on a line of its own; for ``--json``. Of a list's items, the fields that are asked for."""
    sys.stdout.write(_encoder().encode(_selected(document)) + "\n")
    sys.stdout.flush()


def fields() -> tuple[str, ...]:
    """Those that ``--fields`` asks for; none: all."""
    return _fields.get()


def _selected(document: dict[str, object]) -> dict[str, object]:
    """The fields that are asked for; an error is always whole."""
    wanted = fields()
    if not wanted or "error" in document:
        return document
    lists = {name: items for name, items in document.items() if _is_list_of_rows(items)}
    if len(lists) == len(document) == 1:
        [(name, rows)] = lists.items()
        return {name: [pick_fields(row, wanted) for row in cast("list[dict[str, object]]", rows)]}
    return pick_fields(document, wanted)


def _is_list_of_rows(items: object) -> bool:
    return isinstance(items, list) and all(isinstance(each, dict) for each in cast("list[object]", items))


def pick_fields(row: Mapping[str, object], wanted: tuple[str, ...]) -> dict[str, object]:
    """Of *row*, the *wanted* fields; a name that is none is told of once."""
    # A name that is wrong is no reason to fail: the command has done its work.
    for name in wanted:
        if name not in row and name not in _unknown:
            _unknown.add(name)
            warn(text("output.no_field", name=escape(name), names=", ".join(row)))
    return {name: row.get(name) for name in wanted}


def print_long_json(document: Mapping[str, object], lists: Mapping[str, Iterable[object]]) -> None:
    """As ``print_json``, with *lists* that may be too long to be held as text: each item is written as it comes."""
    encode = _encoder().encode
    wanted = fields()
    if wanted:
        pick_fields({**document, **lists}, wanted)  # to tell of names that are none
        document = {name: value for name, value in document.items() if name in wanted}
        lists = {name: items for name, items in lists.items() if name in wanted}
    sys.stdout.write(encode(document)[:-1])
    between = ", " if document else ""
    for name, items in lists.items():
        sys.stdout.write(f"{between}{encode(name)}: [")
        between = ", "
        for number, item in enumerate(items):
            sys.stdout.write(f"{', ' if number else ''}{encode(item)}")
        sys.stdout.write("]")
    sys.stdout.write("}\n")
    sys.stdout.flush()


def _encoder() -> json.JSONEncoder:
    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    return json.JSONEncoder(ensure_ascii=ascii_only, default=str)


def escape(message: object) -> str:
    """*message* with nothing in it that moves a cursor, changes a colour or hides what stands beside it."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in str(message)
    )


def warn(message: str) -> None:
    """A line on standard error; nothing where that can't be written, as there is nobody to tell."""
    with suppress(OSError):
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


def discard_stdout() -> None:
    """Let what is still in standard output go nowhere, so that Python does not fail on it at its end."""
    raw = _raw(sys.stdout)
    if isinstance(raw, _RecordingFile):
        raw.error = None
    _redirect_to_null(sys.stdout)


def flush_stderr() -> None:
    """Write what is still in standard error, or let it go nowhere."""
    try:
        sys.stderr.flush()
    except OSError:
        _redirect_to_null(sys.stderr)


def _redirect_to_null(stream: Any) -> None:
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
