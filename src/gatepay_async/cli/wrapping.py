"""Wraps text to the width of a terminal. A Chinese character fills two columns."""

import os
import re
from typing import IO
from unicodedata import east_asian_width

_CLOSING = "，。；：、）”」？！),"  # never starts a line after a Chinese character
_OPENING = "（“「￥("  # never ends a line before a Chinese character or a number
_DEFAULT_COLUMNS = 80
# What wrap() doesn't break: spaces; a word or a Chinese character, with the punctuation around it; opening punctuation.
_PIECE = re.compile(
    rf"\s+|[{_OPENING}]*(?:[⺀-￯]|[^\s⺀-￯{_OPENING}]+(?:\([^\s⺀-￯]*)*)(?:[{_CLOSING}]|[.;:!?](?!\w))*|[{_OPENING}]+"
)


def columns_of(stream: IO[str]) -> int:
    """Return the width of the terminal that *stream* writes to. ``COLUMNS`` takes precedence."""
    setting = os.environ.get("COLUMNS", "")
    if setting.isdecimal() and int(setting):
        return int(setting)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _DEFAULT_COLUMNS
    except (OSError, ValueError):
        return _DEFAULT_COLUMNS


def width_of(message: str) -> int:
    """Return the width of *message* in columns."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in message)


def longest_piece(message: str) -> int:
    """Return the width of the longest piece of *message* that ``wrap`` doesn't break."""
    return max(map(width_of, _pieces(message)), default=0)


def _pieces(message: str) -> list[str]:
    """Split *message* into words, single Chinese characters with the punctuation around them, and spaces."""
    return _PIECE.findall(message)


def wrap(message: str, width: int) -> list[str]:
    """Split *message* into lines of at most *width* columns, at spaces and between Chinese characters."""
    lines = [""]
    for piece in _pieces(message):
        if width_of(lines[-1] + piece.rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    return [line.rstrip() for line in lines]


def wrap_lines(message: str, width: int) -> str:
    """Wrap each line of *message* to *width* columns, and keep its indentation. Longer words are not broken."""
    folded: list[str] = []
    for line in message.split("\n"):
        indent = " " * (len(line) - len(line.lstrip(" ")))
        folded.extend(f"{indent}{part}".rstrip() for part in wrap(line.strip(), max(1, width - len(indent))))
    return "\n".join(folded)
