"""The user's options for reading files, and the problems of files and cells."""

from attrs import frozen

AUTO = "auto"  # the value of --encoding for: guess the encoding


@frozen
class Reading:
    """
    The user's options for reading files.

    Attributes:
        encoding: The encoding of text; ``AUTO``: guess it from the file.
        column: For tables, the name or the number of the column with the card keys; empty: find it.
        skip_heading: Whether the first line is a heading.
        as_is: Whether each line is a card key without changes, also in tables.
        hidden_rows: For workbooks, what to do with hidden rows: ``upload`` or ``skip``; empty: not chosen.
    """

    encoding: str = AUTO
    column: str = ""
    skip_heading: bool = False
    as_is: bool = False
    hidden_rows: str = ""


class FileProblemError(Exception):
    """
    A file can't be read as card keys.

    Args:
        key: The key of the text in ``words/command.py`` that says why.
        line: The line or row with the problem; 0: the whole file.
        facts: The values in that text. None of them holds a card key.
    """

    def __init__(self, key: str, *, line: int = 0, **facts: object) -> None:
        super().__init__(key)
        self.key = key
        self.line = line
        self.facts = facts


@frozen
class Refused:
    """
    A cell that can't be sent as a card key.

    Attributes:
        key: The key of the text in ``words/command.py`` that says why.
        facts: The values in that text.
    """

    key: str
    facts: dict[str, object]


class NumberCell(str):
    """A card key that a spreadsheet stores as a number. It may have lost leading zeros."""

    __slots__ = ()


class HiddenRow(list[str | Refused]):
    """A row of a spreadsheet that is hidden, by a filter or by hand."""

    __slots__ = ()
