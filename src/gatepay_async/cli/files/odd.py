"""Finds odd lines, which may be something else than a card key, and masks card keys for display."""

import re

from attrs import frozen

from gatepay_async.cli.files.reading import Digits

_SHOWN = 2  # characters at each end
_MIN_FULL_CHARS = 8  # of a shorter card key, fewer characters are shown
_KEPT_DIGITS = 15  # of a number in a spreadsheet
_MIN_ZEROS = 3  # card keys hardly end in so many by chance
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|&(?:[a-z]+|#\d+);")
_EXPONENT = re.compile(r"[+-]?\d(?:[.,]\d+)?E\+\d{2,}")  # as written by Excel and WPS

_SIGNED = re.compile(r"""['`]\d+|="[^"]*\"""")  # the sign keeps a spreadsheet from converting the text to a number
_QUOTED = re.compile('".*"')  # as in a CSV file, where the quotes don't belong to the value


@frozen
class Odd:
    """
    An odd line.

    Attributes:
        line: The number of the line.
        kind: Why it is odd: the last part of the key of a text, ``odd.…``.
        shown: The masked line.
    """

    line: int
    kind: str
    shown: str


def _odd_line(line: str) -> str:
    """Return why *line* of a text file is odd; empty: it isn't."""
    # Check for the characters first, which is fast: nearly all lines have none of them.
    if "," in line:
        return "comma"
    if "\t" in line and "\t" in line.strip():
        return "tab"
    if ("<" in line or "&" in line) and _MARKUP.search(line):
        return "markup"
    if '"' in line and _QUOTED.fullmatch(line.strip()):
        return "quotes"
    if is_exponent(line.strip()):
        return "exponent"
    return _signed(line)


def _signed(key: str) -> str:
    """Return ``sign`` if a cell starts with a sign that spreadsheets don't show; else empty."""
    return "sign" if ("'" in key or "`" in key or "=" in key) and _SIGNED.fullmatch(key.strip()) else ""


def is_exponent(key: str) -> bool:
    """Whether a spreadsheet has converted *key* to a number and lost digits: ``1.23E+15``."""
    return "E" in key and _EXPONENT.fullmatch(key) is not None


class Oddities:
    """
    Finds odd lines of a text file, or odd cells of a table.

    Some are only odd in comparison with the others: numbers of different lengths, because shorter ones may have lost
    zeros; and numbers with zeros after their 15th digit, if most are so, because a spreadsheet has rounded them.

    Args:
        table: Whether the keys are cells of a table.
    """

    def __init__(self, *, table: bool) -> None:
        self._table = table
        self._first = 0
        self._long = self._rounded = self._zeros = 0

    def of(self, key: str) -> str:
        """Return why *key* is odd; empty: it isn't."""
        if type(key) is Digits:
            self._first = self._first or len(key)
            return "" if len(key) == self._first else "zeros"
        found = _signed(key) if self._table else _odd_line(key)
        return found or ("rounded" if self._is_rounded(key.strip()) else "")

    def excused(self) -> str:
        """Return the kind that is not odd after all; empty: there is none. Call it after all keys."""
        many = 2 * self._rounded > self._long and self._zeros >= _MIN_ZEROS
        return "" if many else "rounded"

    def _is_rounded(self, key: str) -> bool:
        if not is_long_number(key):
            return False
        zeros = len(key) - _KEPT_DIGITS
        rounded = key.endswith("0" * zeros)
        self._long += 1
        self._rounded += rounded
        self._zeros += zeros * rounded
        return rounded


def is_long_number(key: str) -> bool:
    """Whether *key* is a number of more digits than a spreadsheet keeps."""
    return len(key) > _KEPT_DIGITS and key.isdecimal()


def masked(key: str) -> str:
    """Return only the first and last two characters of *key*; fewer of a short one."""
    key = key.strip()
    shown = min(_SHOWN, len(key) * _SHOWN // _MIN_FULL_CHARS)
    return f"{key[:shown]}…{key[len(key) - shown :]}"
