"""Whether a cell of a spreadsheet looks like what it holds, by its number format."""

import re

from attrs import frozen

# The formats without a code in the file that show what is stored: General, 0 and @. The others show dates, decimals,
# percentages and the like.
_BUILT_IN = frozenset({0, 1, 49})
# A code's parts: a text in quotes, a letter after a backslash, room that is left empty, brackets, any other letter.
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
    What is shown as it is stored.

    Attributes:
        number: A whole number above 0.
        zero: 0.
        text: A text.
    """

    number: bool = True
    zero: bool = True
    text: bool = True


AS_STORED = Shown()


def shown_by(number: int, code: str | None) -> Shown:
    """What the format of that *number* shows as it is stored; *code* is the file's own, if it has one."""
    if code is None:
        plain = number in _BUILT_IN
        return Shown(plain, plain, text=True)
    sections = _sections_of(code)
    plain = _WHOLE_NUMBER.fullmatch(sections[0]) is not None
    zero = plain and len(sections) <= 2 and not sections[0].startswith("#" * len(sections[0]))  # noqa: PLR2004 -- a third is for 0
    of_text = sections[-1] if len(sections) == _ALL_SECTIONS or "@" in sections[-1] else "@"
    return Shown(plain, zero, of_text in {"@", "General"})


def _sections_of(code: str) -> list[str]:
    """The sections of a *code*, without what shows nothing: colours, languages, and room that is left empty."""
    sections = [""]
    for part in _PART.findall(code):
        if part == ";":
            sections.append("")
        elif not (part[0] == "_" or part in {"* ", '""'} or _COLOUR.fullmatch(part) or _LANGUAGE.fullmatch(part)):
            sections[-1] += part
    return [section.strip(" ") for section in sections]
