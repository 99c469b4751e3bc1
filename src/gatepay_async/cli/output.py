"""Plain output: no library is needed for it."""

import json
import os
import sys
from contextlib import suppress
from contextvars import ContextVar
from io import TextIOWrapper

_json: ContextVar[bool] = ContextVar("json", default=False)


def prepare(*, as_json: bool) -> None:
    """Have both streams show what they can't encode, instead of raising."""
    _json.set(as_json)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def wants_json() -> bool:
    """Whether programs read the output."""
    return _json.get()


def emit(**document: object) -> None:
    """Write one JSON object, on a line of its own; for ``--json``."""
    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    sys.stdout.write(json.dumps(document, ensure_ascii=ascii_only, default=str) + "\n")
    sys.stdout.flush()


def plain(text: object) -> str:
    """*text* with nothing in it that moves a cursor, changes a colour or hides what stands beside it."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in str(text))


def complain(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def forget_output() -> None:
    """Nobody reads standard output any more: what is still in it goes nowhere, and says nothing when Python ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
