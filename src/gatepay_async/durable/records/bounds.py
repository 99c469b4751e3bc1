"""
Bounds for numbers and texts from the database. Pure.

Rows are not trusted, and we allocate memory, loop and print as they say.
"""

from __future__ import annotations

from typing import Any

from attrs import field

MAX_NUMBER = 2**48  # bytes or lines: more than any real input has


def whole(value: Any, *, least: int = 0, most: int = MAX_NUMBER) -> int:
    """
    Return *value*, a whole number within bounds.

    Raises:
        ValueError: It isn't a whole number from *least* to *most*. The message doesn't quote it.
    """
    if type(value) is int and least <= value <= most:
        return value
    raise ValueError("out of bounds")


def text(value: Any, *, longest: int) -> str:
    """
    Return *value*, a text.

    Raises:
        ValueError: It isn't a text of at most *longest* characters.
    """
    if isinstance(value, str) and len(value) <= longest:
        return value
    raise ValueError("out of bounds")


def _validate_number(_: object, attribute: Any, value: object) -> None:
    whole(value, **attribute.metadata)


def _validate_text(_: object, attribute: Any, value: object) -> None:
    text(value, **attribute.metadata)


def whole_field(**bounds: int) -> Any:
    """An attrs field that ``whole()`` validates."""
    return field(validator=_validate_number, metadata=bounds)


def text_field(longest: int) -> Any:
    """An attrs field that ``text()`` validates."""
    return field(validator=_validate_text, metadata={"longest": longest})
