"""Finds out from a number format whether a spreadsheet shows a cell's value unchanged."""

import re

from attrs import frozen

# The numbers of the built-in formats General, 0 and @, which show a value unchanged. The other built-in formats show
# dates, decimals, percentages and the like.
_BUILT_IN = frozenset({0, 1, 49})
# The parts of a format code: quoted text, an escaped character, a space as wide as a character (_x), a fill (*x),
# brackets, any other character.
_PART = re.compile(r'"[^"]*"|\\.|_.|\*.|\[[^\]]*\]|.', re.DOTALL)
_COLOURS = (
    r"black|blue|cyan|green|magenta|red|white|yellow|color ?\d+|黑色|蓝色|青色|绿色|洋红|红色|白色|黄色|颜色 ?\d+"
)
_COLOUR = re.compile(rf"\[(?:{_COLOURS})\]", re.IGNORECASE)
_LANGUAGE = re.compile(r"\[\$-[0-9A-Fa-f]{1,4}\]")
_WHOLE_NUMBER = re.compile(r"General|G/通用格式|#*0|#+|@", re.IGNORECASE)
_ALL_SECTIONS = 4


@frozen
class Shown:
    """
    Which values a format shows unchanged.

    Attributes:
        number: Whether it shows whole numbers above 0 unchanged.
        zero: Whether it shows 0 unchanged.
        text: Whether it shows texts unchanged.
    """

    number: bool = True
    zero: bool = True
    text: bool = True


AS_STORED = Shown()


def shown_by(number: int, code: str | None) -> Shown:
    """Return what a format shows unchanged. *code* is None for a built-in format, which has only a *number*."""
    if code is None:
        plain = number in _BUILT_IN
        return Shown(plain, plain, text=True)
    sections = _sections_of(code)
    plain = _WHOLE_NUMBER.fullmatch(sections[0]) is not None
    zero = plain and len(sections) <= 2 and not sections[0].startswith("#" * len(sections[0]))  # noqa: PLR2004 -- a third is for 0
    of_text = sections[-1] if len(sections) == _ALL_SECTIONS or "@" in sections[-1] else "@"
    return Shown(plain, zero, of_text in {"@", "General"})


def _sections_of(code: str) -> list[str]:
    """Return the sections of a *code*, without the parts that show no characters: colours, languages and spaces."""
    sections = [""]
    for part in _PART.findall(code):
        if part == ";":
            sections.append("")
        elif not (part[0] == "_" or part in {"* ", '""'} or _COLOUR.fullmatch(part) or _LANGUAGE.fullmatch(part)):
            sections[-1] += part
    return [section.strip(" ") for section in sections]
