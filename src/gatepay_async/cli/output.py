"""Plain output and JSON, with the standard library only, because importing Rich takes long."""

import io
import json
import os
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from io import TextIOWrapper
from typing import Any, cast

from gatepay_async.cli.language import text
from gatepay_async.cli.wrapping import columns_of, wrap_lines

_wants_json: ContextVar[bool] = ContextVar("json", default=False)
_chosen_fields: ContextVar[tuple[str, ...]] = ContextVar("fields", default=())
_unknown_fields: set[str] = set()  # names in --fields that don't exist, and for which a warning was printed

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))  # in the order of their file descriptors: 0, 1, 2
_closed: set[str] = set()  # the streams that were closed when the command started
_questions: list[str] = []  # the prompt of question(), until it is answered
_waiting_line: list[str] = []  # the text of show_waiting(), until it is removed


def open_closed_streams() -> None:
    """
    Connect closed standard streams (``>&-``) to /dev/null.

    Otherwise the next file that is opened, such as a database, would get their file descriptor, and output would be
    written to it.
    """
    for number, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            _closed.add(name)
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 -- stays open


def is_closed(name: str) -> bool:
    """Whether the standard stream of that name was closed when the command started."""
    return name in _closed


class _RecordingFile(io.FileIO):
    """A file that records the error of a failed write, such as a closed pipe or a full disk."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write *data*, and record an error."""
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


def watch_stdout() -> None:
    """Record write errors of standard output for ``stdout_error()``. An OSError itself doesn't name its file."""
    stdout = sys.stdout
    if isinstance(stdout, TextIOWrapper) and type(_raw(stdout)) is io.FileIO:
        recording = _RecordingFile(stdout.fileno(), "wb", closefd=False)
        is_buffered = _raw(stdout) is not _buffer(stdout)  # False with PYTHONUNBUFFERED
        buffer: Any = io.BufferedWriter(recording) if is_buffered else recording
        lines, through = stdout.line_buffering, stdout.write_through
        sys.stdout = TextIOWrapper(buffer, stdout.encoding, stdout.errors, line_buffering=lines, write_through=through)


def stdout_error() -> OSError | None:
    """Flush standard output. Return the error if writing to it has failed, else None."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error
    raw = _raw(sys.stdout)
    return raw.error if isinstance(raw, _RecordingFile) else None


def _raw(stream: Any) -> object:
    """Return the unbuffered file of a text stream."""
    buffer = _buffer(stream)
    return getattr(buffer, "raw", buffer)


def _buffer(stream: Any) -> object:
    """Return the binary file of a text stream, or None."""
    return getattr(stream, "buffer", None)


def configure(*, as_json: bool, fields: str = "") -> None:
    """
    Set the output format, and make standard output and standard error escape what they can't encode.

    Args:
        as_json: Whether to print JSON.
        fields: The names of the fields to print, separated by commas; empty: all.
    """
    _wants_json.set(as_json or bool(fields))
    _chosen_fields.set(tuple(fields.split(",")) if fields else ())
    _unknown_fields.clear()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def wants_json() -> bool:
    """Whether the output is JSON."""
    return _wants_json.get()


def print_json(**document: object) -> None:
    """
    Print a JSON object on one line.

    With ``--fields``, print only those fields of the object, or of its list items.
    """
    sys.stdout.write(json_line(document))
    sys.stdout.flush()


def json_line(document: dict[str, object]) -> str:
    """Return the line that ``print_json`` prints."""
    return _encoder().encode(_selected(document)) + "\n"


def fields() -> tuple[str, ...]:
    """Return the fields that ``--fields`` selects; empty: all."""
    return _chosen_fields.get()


def _selected(document: dict[str, object]) -> dict[str, object]:
    """Return *document* with only the selected fields. An error is printed completely."""
    selected = fields()
    if not selected or "error" in document:
        return document
    lists = {name: items for name, items in document.items() if _is_list_of_rows(items)}
    if len(lists) == len(document) == 1:
        [(name, rows)] = lists.items()
        return {name: [pick_fields(row, selected) for row in cast("list[dict[str, object]]", rows)]}
    return pick_fields(document, selected)


def _is_list_of_rows(items: object) -> bool:
    return isinstance(items, list) and all(isinstance(item, dict) for item in cast("list[object]", items))


def pick_fields(row: Mapping[str, object], selected: tuple[str, ...]) -> dict[str, object]:
    """Return the *selected* fields of *row*. Warn once about each unknown field."""
    # An unknown name is no error: the command has done its work already.
    for name in selected:
        if name not in row and name not in _unknown_fields:
            _unknown_fields.add(name)
            warn(text("output.no_field", name=escape(name), names=", ".join(row)))
    return {name: row.get(name) for name in selected}


def print_long_json(document: Mapping[str, object], lists: Mapping[str, Iterable[object]]) -> None:
    """Print *document* and *lists* as one JSON object. Write item by item, so that long lists need little memory."""
    encode = _encoder().encode
    selected = fields()
    if selected:
        pick_fields({**document, **lists}, selected)  # only for its warnings
        document = {name: value for name, value in document.items() if name in selected}
        lists = {name: items for name, items in lists.items() if name in selected}
    sys.stdout.write(encode(document)[:-1])
    separator = ", " if document else ""
    for name, items in lists.items():
        sys.stdout.write(f"{separator}{encode(name)}: [")
        separator = ", "
        for number, item in enumerate(items):
            sys.stdout.write(f"{', ' if number else ''}{encode(item)}")
        sys.stdout.write("]")
    sys.stdout.write("}\n")
    sys.stdout.flush()


def _encoder() -> json.JSONEncoder:
    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    return json.JSONEncoder(ensure_ascii=ascii_only, default=str)


def escape(message: object) -> str:
    """Escape control characters, which could move the cursor, change colours or hide text on a terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in str(message)
    )


def warn(message: str, *, unwrapped: bool = False) -> None:
    """
    Print *message* on standard error. Do nothing if standard error can't be written.

    Args:
        message: The text. On a terminal it is wrapped between words.
        unwrapped: Whether to print the text without wrapping.
    """
    clear_waiting()
    with suppress(OSError):
        if not unwrapped and sys.stderr.isatty():
            message = wrap_lines(message, columns_of(sys.stderr))
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


def show_waiting() -> None:
    """Print ``One moment…`` on the terminal at once, because imports and the server take a moment."""
    if not wants_json() and sys.stdout.isatty() and sys.stderr.isatty():
        _waiting_line.append(text("running.waiting"))
        with suppress(OSError):
            sys.stderr.write(_waiting_line[-1])
            sys.stderr.flush()


def clear_waiting() -> None:
    """Remove the line of ``show_waiting()``, before anything else is printed."""
    if _waiting_line:
        _waiting_line.clear()
        with suppress(OSError):
            sys.stderr.write(f"\r{' ' * (columns_of(sys.stderr) - 1)}\r")
            sys.stderr.flush()


@contextmanager
def question(message: str) -> Generator[None]:
    """Print *message*, and expect the answer on the same line. If the block raises, the question stays unanswered."""
    _questions.append(message)
    sys.stderr.write(message)
    sys.stderr.flush()
    yield
    _questions.clear()


def warn_interrupted(message: str) -> None:
    """Print *message* on standard error, in place of the terminal's ``^C`` or below an unanswered question."""
    clear_waiting()
    with suppress(OSError):
        if sys.stderr.isatty():
            sys.stderr.write("\n" if _questions else "\r  \r")
    _questions.clear()
    warn(message)


def discard_stdout() -> None:
    """Discard unwritten output, so that Python doesn't fail when it flushes standard output at exit."""
    raw = _raw(sys.stdout)
    if isinstance(raw, _RecordingFile):
        raw.error = None
    _redirect_to_null(sys.stdout)


def flush_stderr() -> None:
    """Flush standard error. If that fails, discard the unwritten output."""
    try:
        sys.stderr.flush()
    except OSError:
        _redirect_to_null(sys.stderr)


def _redirect_to_null(stream: Any) -> None:
    """Let all later output to *stream* disappear."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
