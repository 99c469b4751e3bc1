"""Characters that nobody sees, and that come along when a key or an address is copied from a page or a file."""

from __future__ import annotations

import unicodedata

# Controls, formats (U+200B, U+FEFF, U+00AD, U+202E), separators (U+00A0, U+2028, U+3000), and code points without
# a character.
_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Zl", "Zp", "Zs"})
# Unicode calls these letters or marks, and shows nothing: fillers, variation selectors, a joiner, an empty Braille.
_RANGES = (
    (0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2800, 0x2800), (0x3164, 0x3164),
    (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF),
)  # fmt: skip


# Two joiners and the variation selectors: after a visible character they are a part of it (👩‍💻).
_BELONGING = ((0x200C, 0x200D), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))


def is_invisible(character: str) -> bool:
    """Whether *character* leaves no ink; a space leaves none."""
    if unicodedata.category(character) in _CATEGORIES:
        return True
    return _is_in(character, _RANGES)


def strip_invisible(text: str) -> str:
    """*text* without what is invisible at its ends."""
    start, end = 0, len(text)
    while start < end and is_invisible(text[start]):
        start += 1
    while end > start and is_invisible(text[end - 1]):
        end -= 1
    return text[start:end]


def first_invisible(text: str) -> str | None:
    """
    The first invisible character in *text*, as ``U+200B``; or None.

    Plain spaces are left out, and joiners and variation selectors that belong to a visible character.
    """
    before = " "
    for character in text:
        if is_invisible(character) and character != " ":
            if is_invisible(before) or not _is_in(character, _BELONGING):
                return f"U+{ord(character):04X}"
        else:
            before = character
    return None


def _is_in(character: str, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= ord(character) <= last for first, last in ranges)
