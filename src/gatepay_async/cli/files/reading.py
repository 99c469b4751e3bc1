"""How files are to be read, and what is wrong with one that can't be."""

from attrs import frozen

AUTO = "auto"


@frozen
class Reading:
    """
    What the user has said about the files.

    Attributes:
        encoding: Of text; ``AUTO``: what the file itself shows.
        column: Of tables: the name or the number of the column that holds the card keys; empty: not said.
        skip_heading: The first line is a heading.
        as_is: Each line is a card key as it stands, in tables too.
        hidden_rows: Of workbooks, what becomes of rows that nobody sees: ``upload`` or ``skip``; empty: not said.
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
        key: Of the text that says why.
        line: The line or row where; 0: all of the file.
        facts: For that text. None of them holds a card key.
    """

    def __init__(self, key: str, *, line: int = 0, **facts: object) -> None:
        super().__init__(key)
        self.key = key
        self.line = line
        self.facts = facts


@frozen
class Refused:
    """
    A cell that holds no card key that could be sent.

    Attributes:
        key: Of the text that says why.
        facts: For that text.
    """

    key: str
    facts: dict[str, object]


class Digits(str):
    """A card key that stood in a spreadsheet as a number: leading zeros may be gone."""

    __slots__ = ()


class HiddenRow(list[str | Refused]):
    """A row of a spreadsheet that a filter, or somebody, has hidden."""

    __slots__ = ()
