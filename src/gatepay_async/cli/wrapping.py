"""Wrapping text to the width of a terminal. A Chinese letter fills two columns."""

import os
import re
from typing import IO
from unicodedata import east_asian_width

_CLOSING = "，。；：、）”」？！),"  # never begins a line after a Chinese letter
_OPENING = "（“「￥("  # never ends a line before a Chinese letter or a number
_USUAL_COLUMNS = 80
_PIECE = re.compile(rf"\s+|[{_OPENING}]*(?:[⺀-￯]|[^\s⺀-￯{_OPENING}]+(?:\([^\s⺀-￯]*)*)[{_CLOSING}]*|[{_OPENING}]+")


def columns_of(stream: IO[str]) -> int:
    """The width of the terminal that *stream* writes to."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said):
        return int(said)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_COLUMNS
    except (OSError, ValueError):
        return _USUAL_COLUMNS


def width_of(message: str) -> int:
    """The width of *message* in columns."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in message)


def longest_piece(message: str) -> int:
    """The width of the longest piece of *message* that ``wrap`` keeps whole."""
    return max(map(width_of, _pieces(message)), default=0)


def _pieces(message: str) -> list[str]:
    """Split *message* into words, single Chinese letters with the punctuation around them, and blanks."""
    return _PIECE.findall(message)


def wrap(message: str, width: int) -> list[str]:
    """Split *message* into lines of at most *width* columns, at blanks and between Chinese letters."""
    lines = [""]
    for piece in _pieces(message):
        if width_of(lines[-1] + piece.rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    return [line.rstrip() for line in lines]


def fold(message: str, width: int) -> str:
    """Wrap each line of *message* to *width* columns, and keep its indentation. Longer words stay whole."""
    folded: list[str] = []
    for line in message.split("\n"):
        indent = " " * (len(line) - len(line.lstrip(" ")))
        folded.extend(f"{indent}{part}".rstrip() for part in wrap(line.strip(), max(1, width - len(indent))))
    return "\n".join(folded)
