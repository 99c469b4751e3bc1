"""
Invisible characters, which are copied along from spreadsheets, chats and web pages.

A card key with such a character looks right and gets sold, but doesn't work. At the ends of a line, invisible
characters are stripped. Within a card key, they may be intended, so they are kept and reported.
"""

from __future__ import annotations

import unicodedata
from itertools import chain

# Default_Ignorable_Code_Point of the Unicode Character Database (DerivedCoreProperties.txt, 16.0), including reserved
# code points. Python's unicodedata doesn't have this property.
_DEFAULT_IGNORABLE = (
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
# Characters of the category Cf (format) that are not default-ignorable but invisible: interlinear annotations and
# format controls of Egyptian hieroglyphs. The rest of Cf, Prepended_Concatenation_Mark, is visible around digits.
_FORMAT = ((0xFFF9, 0xFFFB), (0x13430, 0x1343F))
# The category Cc (control), without tab and line ends, which are blanks, and without NUL, which is refused: it occurs
# in files in UTF-16.
_CONTROL = ((0x01, 0x08), (0x0B, 0x0C), (0x0E, 0x1F), (0x7F, 0x9F))
_BRAILLE_BLANK = ((0x2800, 0x2800),)  # of the category So, but without dots
# Line and paragraph separators, at which files of card keys are not split, and spaces that look like a plain space or
# have no width: a customer wouldn't type them. The ideographic space isn't listed: it is common in Chinese text.
_SEPARATORS = ((0x2028, 0x2029),)
_SPACES = ((0x00A0, 0x00A0), (0x2000, 0x200A), (0x202F, 0x202F), (0x205F, 0x205F))

_INVISIBLE = frozenset(
    chr(code)
    for first, last in (*_DEFAULT_IGNORABLE, *_FORMAT, *_CONTROL, *_BRAILLE_BLANK, *_SEPARATORS, *_SPACES)
    for code in range(first, last + 1)
)
# The invisible characters for which str.isprintable() is true: their categories are letters, marks or symbols.
_PRINTABLE = frozenset(letter for letter in _INVISIBLE if letter.isprintable())

# Invisible characters that may modify a visible one: joiners between letters, variation selectors after a character,
# and tags after the black flag, which make it a region's flag. A keycap is a digit, a selector and U+20E3.
_NON_JOINER, _JOINER = "\u200c", "\u200d"
_SELECTORS = frozenset(
    map(chr, chain(range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0), range(0x180B, 0x180E), (0x180F,)))
)
_TAGS = frozenset(map(chr, range(0xE0020, 0xE0080)))
_FLAG, _KEYCAP = "\U0001f3f4", "\u20e3"
# The scripts in which a joiner changes how letters look: Arabic and its neighbours, the scripts of India and South-East
# Asia, Mongolian (The Unicode Standard, 23.2, Cursive Connection and Ligatures).
_JOINING = (
    (0x0600, 0x109F), (0x1780, 0x18AF), (0x1A20, 0x1C4F), (0xA800, 0xABFF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFE),
    (0x10A00, 0x11FFF),
)  # fmt: skip
_EMOJI = frozenset({"So", "Sk", "Sm"})  # the categories of emoji, of skin tones, and of some symbols


def may_have_invisible(text: str) -> bool:
    """A quick check: False means that *text* has no invisible characters. It is False for nearly all texts."""
    return not text.isprintable() or not (text.isascii() or _PRINTABLE.isdisjoint(text))


def strip(text: str) -> str:
    """Strip blanks and invisible characters from both ends of *text*, except those that modify a visible character."""
    start, end = 0, len(text)
    while start < end and (text[start].isspace() or text[start] in _INVISIBLE):
        start += 1
    while end > start and (text[end - 1].isspace() or _is_alone(text, end - 1, start)):
        end -= 1
    return text[start:end]


def holds_any(text: str) -> bool:
    """Whether *text* has an invisible character that doesn't modify a visible one."""
    return any(_is_alone(text, place, 0) for place in range(len(text)))


def first_code_point(text: str) -> str | None:
    """
    Return the first invisible character of an appkey, appsecret or URL, such as ``U+200B``; None: there is none.

    Unlike ``holds_any``, this function also finds line breaks, NUL, and all spaces except the plain one.
    """
    hidden = (
        letter
        for place, letter in enumerate(text)
        if letter != " " and (letter.isspace() or letter == "\0" or _is_alone(text, place, 0))
    )
    return next((f"U+{ord(letter):04X}" for letter in hidden), None)


def _is_alone(text: str, place: int, start: int) -> bool:
    """Whether the character at *place* is invisible and modifies no visible character between *start* and *place*."""
    letter = text[place]
    if letter not in _INVISIBLE:
        return False
    before = place - 1
    while before >= start and (text[before] in _SELECTORS or text[before] in _TAGS):
        before -= 1
    if before < start:
        return True
    base, after = text[before], text[place + 1 : place + 2]
    if letter in _SELECTORS:
        return not (after == _KEYCAP if base.isascii() else _is_visible(base))
    if letter in _TAGS:
        return base != _FLAG
    if letter not in (_JOINER, _NON_JOINER):
        return True
    is_in_joining_script = any(first <= ord(base) <= last for first, last in _JOINING)
    return not is_in_joining_script and not (letter == _JOINER and _is_emoji(base) and _is_emoji(after))


def _is_visible(letter: str) -> bool:
    return letter not in _INVISIBLE and not letter.isspace()


def _is_emoji(letter: str) -> bool:
    return letter != "" and not letter.isascii() and unicodedata.category(letter) in _EMOJI
