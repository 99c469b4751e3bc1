"""Determines from a number format whether a spreadsheet shows a cell's value unchanged."""

import re

from attrs import frozen

# The IDs of the built-in formats General, 0 and @, which show a value unchanged. The others show dates, decimals,
# percentages and so on.
_PLAIN_FORMAT_IDS = frozenset({0, 1, 49})
# The parts of a format code: quoted text, an escaped character, a space as wide as x (_x), a fill of x (*x), anything
# in brackets, or any other character.
_FORMAT_PART = re.compile(r'"[^"]*"|\\.|_.|\*.|\[[^\]]*\]|.', re.DOTALL)
_COLOURS = (
    r"black|blue|cyan|green|magenta|red|white|yellow|color ?\d+|黑色|蓝色|青色|绿色|洋红|红色|白色|黄色|颜色 ?\d+"
)
_COLOUR = re.compile(rf"\[(?:{_COLOURS})\]", re.IGNORECASE)
_LANGUAGE = re.compile(r"\[\$-[0-9A-Fa-f]{1,4}\]")
# A section of a format code that shows whole numbers above 0 unchanged.
_WHOLE_NUMBER = re.compile(r"General|G/通用格式|#*0|#+|@", re.IGNORECASE)
_ZERO_SECTION, _ALL_SECTIONS = 3, 4  # a code has up to 4: for positive numbers, negative numbers, 0 and texts


@frozen
class ShownUnchanged:
    """
    Which kinds of values a number format shows unchanged.

    Attributes:
        number: Whether it shows whole numbers above 0 unchanged.
        zero: Whether it shows 0 unchanged.
        text: Whether it shows texts unchanged.
    """

    number: bool = True
    zero: bool = True
    text: bool = True


AS_STORED = ShownUnchanged()


def shown_unchanged(format_id: int, code: str | None) -> ShownUnchanged:
    """Return which values a format shows unchanged. *code* is None for a built-in format, which has only an ID."""
    if code is None:
        shows_numbers = format_id in _PLAIN_FORMAT_IDS
        return ShownUnchanged(shows_numbers, shows_numbers, text=True)
    sections = _sections_of(code)
    shows_numbers = _WHOLE_NUMBER.fullmatch(sections[0]) is not None
    # A third section replaces the first one for 0. A section that consists of "#" shows 0 as an empty cell.
    shows_zero = shows_numbers and len(sections) < _ZERO_SECTION and not sections[0].startswith("#" * len(sections[0]))
    text_section = sections[-1] if len(sections) == _ALL_SECTIONS or "@" in sections[-1] else "@"
    return ShownUnchanged(shows_numbers, shows_zero, text=text_section in {"@", "General"})


def _sections_of(code: str) -> list[str]:
    """Return the sections of *code*, without the parts that show no characters: colours, languages and spaces."""
    sections = [""]
    for part in _FORMAT_PART.findall(code):
        if part == ";":
            sections.append("")
        elif not (part[0] == "_" or part in {"* ", '""'} or _COLOUR.fullmatch(part) or _LANGUAGE.fullmatch(part)):
            sections[-1] += part
    return [section.strip(" ") for section in sections]
