"""Lines of a text file that may be something else than one card key each; and how a card key is shown."""

import re

from attrs import frozen

from gatepay_async.cli.files.reading import Digits

_SHOWN = 2  # characters at each end
_ENOUGH = 8  # characters; a shorter card key shows fewer
_KEPT_DIGITS = 15  # of a number in a spreadsheet
_ENOUGH_ZEROS = 3  # which card keys hardly end in by chance
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|&(?:[a-z]+|#\d+);")
_EXPONENT = re.compile(r"[+-]?\d(?:[.,]\d+)?E\+\d{2,}")  # as Excel and WPS write them

_SIGNED = re.compile(r"""['`]\d+|="[^"]*\"""")  # so that a spreadsheet makes no number of it
_QUOTED = re.compile('".*"')  # as in a CSV file, where the quotes are no part of it


@frozen
class Odd:
    """
    What is odd.

    Attributes:
        line: Its number.
        kind: The end of the key of the text that says why.
        shown: The line, masked.
    """

    line: int
    kind: str
    shown: str


def _odd_line(line: str) -> str:
    """What is odd in *line* of a text file, or nothing."""
    # Nearly all lines have none of these letters, and cost no more than this.
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
    """What is odd in a cell that begins with a sign which a spreadsheet doesn't show, or nothing."""
    return "sign" if ("'" in key or "`" in key or "=" in key) and _SIGNED.fullmatch(key.strip()) else ""


def is_exponent(key: str) -> bool:
    """Whether a spreadsheet has made a number of *key* and lost its digits: ``1.23E+15``."""
    return "E" in key and _EXPONENT.fullmatch(key) is not None


class Oddities:
    """
    What is odd in the lines of a text file, or the cells of a table, of which some is so beside the others only.

    Numbers that differ in length: the shorter ones may have lost zeros. Numbers that end in zeros behind their 15th
    digit: if most do, a spreadsheet has put these there.

    Args:
        table: It has cells.
    """

    def __init__(self, *, table: bool) -> None:
        self._table = table
        self._first = 0
        self._long = self._rounded = self._zeros = 0

    def of(self, key: str) -> str:
        """What is odd about *key*, or nothing."""
        if type(key) is Digits:
            self._first = self._first or len(key)
            return "" if len(key) == self._first else "zeros"
        found = _signed(key) if self._table else _odd_line(key)
        return found or ("rounded" if self._is_rounded(key.strip()) else "")

    def excused(self) -> str:
        """What is not odd after all, once all have been seen; or nothing."""
        many = 2 * self._rounded > self._long and self._zeros >= _ENOUGH_ZEROS
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
    """*key* with its first and last two characters alone; fewer of a short one."""
    key = key.strip()
    shown = min(_SHOWN, len(key) * _SHOWN // _ENOUGH)
    return f"{key[:shown]}…{key[len(key) - shown :]}"
