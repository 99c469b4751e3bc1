"""
All that the product says, each text once: a table is name -> (English, 中文). A leaf: it imports nothing of ours.

A third language would be a third column, and a name in ``LANGUAGES``.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Lang: TypeAlias = Literal["en", "zh"]
Text: TypeAlias = tuple[str, str]

LANGUAGES: tuple[Lang, ...] = ("en", "zh")  # the columns of a table


def say(text: Text, lang: Lang, /, **values: object) -> str:
    """*text* in *lang*, with *values* in its holes."""
    return text[LANGUAGES.index(lang)].format(**values)
