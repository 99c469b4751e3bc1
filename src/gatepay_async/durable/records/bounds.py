"""
Checks numbers and texts from the database. No I/O.

Rows are not trusted: without bounds, a damaged row could make a worker allocate, loop or print without end.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from attrs import field

MAX_NUMBER = 2**48  # bytes or lines: more than any real input has


def check_number(value: Any, *, minimum: int = 0, maximum: int = MAX_NUMBER) -> int:
    """
    Return *value*, a whole number within bounds.

    Raises:
        ValueError: It isn't a whole number from *minimum* to *maximum*. The message doesn't quote it.
    """
    if type(value) is int and minimum <= value <= maximum:
        return value
    raise ValueError("out of bounds")


def check_text(value: Any, *, max_chars: int) -> str:
    """
    Return *value*, a text.

    Raises:
        ValueError: It isn't a text of at most *max_chars* characters.
    """
    if isinstance(value, str) and len(value) <= max_chars:
        return value
    raise ValueError("out of bounds")


def number_field(**bounds: int) -> Any:
    """An attrs field whose values pass through ``check_number()``."""
    check: Any = partial(check_number, **bounds)
    return field(converter=check)


def text_field(max_chars: int) -> Any:
    """An attrs field whose values pass through ``check_text()``."""
    check: Any = partial(check_text, max_chars=max_chars)
    return field(converter=check)
