"""What servers say of what they were told, without the secrets in it."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MASK = "***"
_SIGNATURE = re.compile(r"[0-9A-Fa-f]{32}")
# No word of a language: six or more letters, digits and hyphens, a digit or a hyphen among them.
_LIKE_A_KEY = re.compile(r"(?=[A-Za-z_]*[0-9-])[A-Za-z0-9_-]{6,}")


def mask(text: str, *, keys: Iterable[str] = (), about_keys: bool = False) -> str:
    """
    *text* without what was sent in confidence.

    Args:
        text: A message, a page, a sentence of the server's.
        keys: Card keys that it may repeat.
        about_keys: It may hold others as well: whatever looks like one goes, too.
    """
    for key in sorted(keys, key=len, reverse=True):  # one may be the beginning of another
        text = text.replace(key, _MASK)
    if about_keys:
        text = _LIKE_A_KEY.sub(_MASK, text)
    return _SIGNATURE.sub(_MASK, text)
