"""Masks possible secrets in text from outside: from servers, proxies, the OS, and libraries that quote these."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial

from gatepay_async.protocol.vocabulary import PHRASES, WORDS

MASK = "***"
_EXCERPT_CHARS = 200
_SCANNED_CHARS = 2000  # the rest, which may be megabytes, wouldn't be shown anyway

# Groups of digits, as printed on a card: 1234 5678, 1234-5678.
_GROUPS = re.compile(r"[0-9]+([ \t-]+[0-9]+)+")
# Text between blanks and Chinese characters. Full-width letters and digits (U+FF10 to U+FF5A) are always masked.
_RUN = re.compile(r"[!-~\uff10-\uff5a]+")
# Such text without the brackets, quotes and punctuation around it.
_CORE = re.compile(r"""([(\[{<"'`]*)(.*?)([)\]}>"'`.,:;!?]*)""", re.DOTALL)
_SMALL_NUMBER = re.compile(r"-?[0-9]{1,5}(\.[0-9]{1,2})?%?")
# A word, or an identifier such as out_order_id or orderPrice: without digits or consecutive capitals.
_WORD = re.compile(r"[A-Z]?[a-z]{0,19}([A-Z][a-z]{2,19}|_[a-z]{1,19}){0,3}('[a-z]{1,2})?")
_CHINESE = re.compile("|".join(PHRASES))
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
# Several masks in a row, which are shown as one.
_MASKS = re.compile(r"\*{3}([ \t]*\*{3})+")


def mask(text: str, *, keys: Iterable[str] = (), strict: bool = False) -> str:
    """
    Mask what may be a secret: card keys, signatures, numbers of orders and of people.

    First, the *keys* are masked. Then everything is masked that doesn't look like words, small numbers or Chinese.
    Control characters are escaped. The result has at most 200 characters.

    Args:
        text: A message from a server or from something in between.
        keys: Card keys that were sent, and that *text* may repeat.
        strict: Keep only the words of a list, because *text* may hold card keys that were not sent, in any form.
    """
    if len(text) > _SCANNED_CHARS:
        text = hide_keys(text[: 2 * _SCANNED_CHARS], keys)[:_SCANNED_CHARS]
        text = text[: max(map(text.rfind, " \t\n")) + 1] + MASK  # a secret that is cut in half wouldn't be recognised
    text = hide_keys(text, keys)
    text = _GROUPS.sub(MASK, text)
    if strict:
        text = _NOT_ASCII.sub(_mask_chinese, text)
    text = _RUN.sub(partial(_mask_run, strict), text)
    text = _MASKS.sub(MASK, "".join(map(_escape_control, text)))
    return text if len(text) <= _EXCERPT_CHARS else text[: _EXCERPT_CHARS - 1] + "…"


def hide_keys(text: str, keys: Iterable[str]) -> str:
    """Mask each of *keys* in *text*."""
    for key in sorted(keys, key=len, reverse=True):  # longest first: one card key may be the start of another
        text = text.replace(key, MASK)
    return text


def is_ordinary(word: str, *, strict: bool = False) -> bool:
    """Whether *word* can't be a secret, and may be shown."""
    if word.lower() in WORDS or _SMALL_NUMBER.fullmatch(word) is not None:
        return True
    return not strict and _WORD.fullmatch(word) is not None


def _mask_run(strict: bool, run: re.Match[str]) -> str:  # noqa: FBT001 -- private, for partial()
    """Mask a text between blanks, unless all of its words are ordinary."""
    parts = _CORE.fullmatch(run[0])
    before, core, after = ("", run[0], "") if parts is None else parts.groups()
    pieces = re.split(r"([:/=,|])", core)  # 成功录入:1, text/html, a=b
    shown = [piece if len(piece) <= 1 and not piece.isalnum() else _mask_word(piece, strict=strict) for piece in pieces]
    if any(piece == MASK for piece in shown):
        return before + MASK + after  # mask the whole text, not only a part of it
    return before + "".join(shown) + after


def _mask_word(word: str, *, strict: bool) -> str:
    return word if word in ("", MASK) or is_ordinary(word, strict=strict) else MASK


def _mask_chinese(run: re.Match[str]) -> str:
    """Keep only the listed phrases of a text that isn't ASCII."""
    listed = "".join(_CHINESE.findall(run[0]))
    return listed if listed == run[0] else f"{listed}{MASK}"


def _escape_control(letter: str) -> str:
    """Return *letter*, escaped if it is a control character."""
    return letter if letter.isprintable() or letter in " \n\t" else letter.encode("unicode_escape").decode()
