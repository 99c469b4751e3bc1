"""
All texts for users, in tables: name -> (English, 中文). No other part of gatepay_async is imported here.

To add a language, add a column and a name in ``LANGUAGES``.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Lang: TypeAlias = Literal["en", "zh"]
Text: TypeAlias = tuple[str, str]

LANGUAGES: tuple[Lang, ...] = ("en", "zh")  # the columns of a table


def say(text: Text, lang: Lang, /, **values: object) -> str:
    """Return *text* in *lang*, with its placeholders replaced by *values*."""
    return text[LANGUAGES.index(lang)].format(**values)
