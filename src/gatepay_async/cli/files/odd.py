"""Finds odd lines, which may not be card keys, and masks card keys for display."""

import re

from attrs import frozen

from gatepay_async.cli.files.reading import NumberCell

_END_CHARS = 2  # characters to show at each end of a card key
_MIN_CHARS_FOR_FULL_ENDS = 8  # of a shorter card key, fewer characters are shown
_KEPT_DIGITS = 15  # the digits of a number that a spreadsheet keeps
_MIN_ZEROS = 3  # in all rounded numbers together; fewer may be coincidence
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|&(?:[a-z]+|#\d+);")
_EXPONENT = re.compile(r"[+-]?\d(?:[.,]\d+)?E\+\d{2,}")  # as written by Excel and WPS

_KEPT_AS_TEXT = re.compile(r"""['`]\d+|="[^"]*\"""")  # a sign before a number keeps a spreadsheet from converting it
_QUOTED = re.compile('".*"')  # in a CSV file, such quotes don't belong to the value


@frozen
class Odd:
    """
    An odd line.

    Attributes:
        line: The number of the line.
        kind: Why it is odd. The user is shown the text ``odd.<kind>`` of ``words/command.py``.
        shown: The masked line.
    """

    line: int
    kind: str
    shown: str


def _kind_of_line(line: str) -> str:
    """Return why *line* of a text file is odd, or an empty string."""
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
    return _kind_of_sign(line)


def _kind_of_sign(key: str) -> str:
    """Return ``sign`` if a cell starts with a sign that spreadsheets don't show, otherwise an empty string."""
    return "sign" if ("'" in key or "`" in key or "=" in key) and _KEPT_AS_TEXT.fullmatch(key.strip()) else ""


def is_exponent(key: str) -> bool:
    """Whether a spreadsheet has converted *key* to a number and lost digits: ``1.23E+15``."""
    return "E" in key and _EXPONENT.fullmatch(key) is not None


class Oddities:
    """
    Finds odd lines of a text file, or odd cells of a table.

    Some numbers are odd only in comparison with the others. If numbers have different lengths, the shorter ones may
    have lost zeros. If most long numbers have only zeros after their 15th digit, a spreadsheet has rounded them.

    Args:
        is_table: Whether the keys are cells of a table.
    """

    def __init__(self, *, is_table: bool) -> None:
        self._is_table = is_table
        self._first_length = 0  # of the first cell that is stored as a number
        self._long_numbers = self._rounded_numbers = 0
        self._rounded_zeros = 0  # the zeros after the 15th digit of all rounded numbers

    def kind_of(self, key: str) -> str:
        """Return why *key* is odd, or an empty string."""
        if type(key) is NumberCell:
            self._first_length = self._first_length or len(key)
            return "" if len(key) == self._first_length else "zeros"
        kind = _kind_of_sign(key) if self._is_table else _kind_of_line(key)
        return kind or ("rounded" if self._is_rounded(key.strip()) else "")

    def kind_to_ignore(self) -> str:
        """After the last key: return the kind whose keys turned out not to be odd, or an empty string."""
        have_lost_digits = 2 * self._rounded_numbers > self._long_numbers and self._rounded_zeros >= _MIN_ZEROS
        return "" if have_lost_digits else "rounded"

    def _is_rounded(self, key: str) -> bool:
        if not is_long_number(key):
            return False
        zeros = len(key) - _KEPT_DIGITS
        rounded = key.endswith("0" * zeros)
        self._long_numbers += 1
        self._rounded_numbers += rounded
        self._rounded_zeros += zeros * rounded
        return rounded


def is_long_number(key: str) -> bool:
    """Whether *key* is a number with more digits than a spreadsheet keeps."""
    return len(key) > _KEPT_DIGITS and key.isdecimal()


def masked(key: str) -> str:
    """Return the first and last two characters of *key*, or fewer if it is short."""
    key = key.strip()
    shown = min(_END_CHARS, len(key) * _END_CHARS // _MIN_CHARS_FOR_FULL_ENDS)
    return f"{key[:shown]}…{key[len(key) - shown :]}"
