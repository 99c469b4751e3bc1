"""
What a number, or a text, from the database can be. Pure.

A row may hold anything: what it says is allocated, looped over, or shown.
"""

from __future__ import annotations

from typing import Any

from attrs import field

MAX_NUMBER = 2**48  # bytes, or lines: what is more, somebody else wrote


def whole(value: Any, *, least: int = 0, most: int = MAX_NUMBER) -> int:
    """
    *value*, if it is a whole number within bounds.

    Raises:
        ValueError: It is no whole number from *least* to *most*.
    """
    if type(value) is int and least <= value <= most:
        return value
    raise ValueError("out of bounds")  # and not quoted


def text(value: Any, *, longest: int) -> str:
    """
    *value*, if it is a text that is short enough.

    Raises:
        ValueError: It is no text of at most so many characters.
    """
    if isinstance(value, str) and len(value) <= longest:
        return value
    raise ValueError("out of bounds")


def _validate_number(_: object, attribute: Any, value: object) -> None:
    whole(value, **attribute.metadata)


def _validate_text(_: object, attribute: Any, value: object) -> None:
    text(value, **attribute.metadata)


def whole_field(**bounds: int) -> Any:
    """A field that holds a ``whole()``."""
    return field(validator=_validate_number, metadata=bounds)


def text_field(longest: int) -> Any:
    """A field that holds a ``text()``."""
    return field(validator=_validate_text, metadata={"longest": longest})
