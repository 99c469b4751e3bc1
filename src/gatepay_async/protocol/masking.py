"""What may be repeated of text that others wrote: servers, proxies, the system, libraries that quote them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial

from gatepay_async.protocol.vocabulary import PHRASES, WORDS

MASK = "***"
_EXCERPT_CHARS = 200  # characters of such a text
_SCANNED_CHARS = 2000  # so many of it are looked at: what follows would not be shown, and may be megabytes

# Numbers side by side, as printed on a card: 1234 5678, 1234-5678.
_GROUPS = re.compile(r"[0-9]+([ \t-]+[0-9]+)+")
# What stands between blanks and Chinese letters; wide letters and digits (U+FF10 to U+FF5A) are never ordinary.
_RUN = re.compile(r"[!-~\uff10-\uff5a]+")
_CORE = re.compile(r"""([(\[{<"'`]*)(.*?)([)\]}>"'`.,:;!?]*)""", re.DOTALL)
_SMALL_NUMBER = re.compile(r"-?[0-9]{1,5}(\.[0-9]{1,2})?%?")
# A word of a language, or a name of a program: out_order_id, orderPrice. No digits, no capitals in a row.
_WORD = re.compile(r"[A-Z]?[a-z]{0,19}([A-Z][a-z]{2,19}|_[a-z]{1,19}){0,3}('[a-z]{1,2})?")
_CHINESE = re.compile("|".join(PHRASES))
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_MASKS = re.compile(r"\*{3}([ \t]*\*{3})+")


def mask(text: str, *, keys: Iterable[str] = (), strict: bool = False) -> str:
    """
    *text* without what may be a secret: card keys, signatures, numbers of orders and of people.

    What was sent in confidence goes first. Then only what looks like words and small numbers stays, and Chinese.
    Control characters are escaped; what is longer than 200 characters is cut.

    Args:
        text: A message of the server's, or of whoever stands between.
        keys: Card keys that were sent, which it may repeat.
        strict: Only the words of a list stay: the text may hold card keys that were not sent, in any form.
    """
    if len(text) > _SCANNED_CHARS:
        text = hide_keys(text[: 2 * _SCANNED_CHARS], keys)[:_SCANNED_CHARS]
        text = text[: max(map(text.rfind, " \t\n")) + 1] + MASK  # what is cut in the middle is not recognised
    text = hide_keys(text, keys)
    text = _GROUPS.sub(MASK, text)
    if strict:
        text = _NOT_ASCII.sub(_mask_chinese, text)
    text = _RUN.sub(partial(_mask_run, strict), text)
    text = _MASKS.sub(MASK, "".join(map(_escape_control, text)))
    return text if len(text) <= _EXCERPT_CHARS else text[: _EXCERPT_CHARS - 1] + "…"


def hide_keys(text: str, keys: Iterable[str]) -> str:
    """*text* without *keys*."""
    for key in sorted(keys, key=len, reverse=True):  # one may be the beginning of another
        text = text.replace(key, MASK)
    return text


def is_ordinary(word: str, *, strict: bool = False) -> bool:
    """Whether *word* may be shown by itself."""
    if word.lower() in WORDS or _SMALL_NUMBER.fullmatch(word) is not None:
        return True
    return not strict and _WORD.fullmatch(word) is not None


def _mask_run(strict: bool, run: re.Match[str]) -> str:  # noqa: FBT001 -- private, for partial()
    parts = _CORE.fullmatch(run[0])
    before, core, after = ("", run[0], "") if parts is None else parts.groups()
    pieces = re.split(r"([:/=,|])", core)  # 成功录入:1, text/html, a=b
    shown = [piece if len(piece) <= 1 and not piece.isalnum() else _mask_word(piece, strict=strict) for piece in pieces]
    if any(piece == MASK for piece in shown):
        return before + MASK + after  # what belongs together goes together
    return before + "".join(shown) + after


def _mask_word(word: str, *, strict: bool) -> str:
    return word if word in ("", MASK) or is_ordinary(word, strict=strict) else MASK


def _mask_chinese(run: re.Match[str]) -> str:
    listed = "".join(_CHINESE.findall(run[0]))
    return listed if listed == run[0] else f"{listed}{MASK}"


def _escape_control(letter: str) -> str:
    return letter if letter.isprintable() or letter in " \n\t" else letter.encode("unicode_escape").decode()
