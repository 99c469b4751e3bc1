"""Lines of a text file that may be something else than one card key each; and how a card key is shown."""

import re

from attrs import frozen

from gatepay_async.cli.files.reading import Digits

_SHOWN = 2  # characters at each end
_ENOUGH = 8  # characters; a shorter card key shows fewer
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


def oddity(line: str) -> str:
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


class Lengths:
    """What is odd in a table: numbers that differ in length, of which the shorter ones may have lost zeros; signs."""

    def __init__(self) -> None:
        self._first = 0

    def oddity(self, key: str) -> str:
        """What is odd about *key*, or nothing."""
        if type(key) is not Digits:
            return _signed(key)
        self._first = self._first or len(key)
        return "" if len(key) == self._first else "zeros"


def masked(key: str) -> str:
    """*key* with its first and last two characters alone; fewer of a short one."""
    key = key.strip()
    shown = min(_SHOWN, len(key) * _SHOWN // _ENOUGH)
    return f"{key[:shown]}…{key[len(key) - shown :]}"
