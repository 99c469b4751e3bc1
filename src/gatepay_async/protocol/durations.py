"""Checks durations that a user passes: a number of seconds or a ``timedelta``."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TypeAlias

from attrs import Attribute

from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

# A number of seconds, or a timedelta.
Seconds: TypeAlias = float | timedelta

_TOO_LONG = 2**63  # seconds


def to_seconds(name: str, value: object) -> float:
    """
    Return a duration above 0 in seconds.

    Raises:
        InvalidRequestError: *value* isn't a duration above 0. The error's ``.field`` is *name*.
    """
    seconds = _number(value)
    if seconds is None or not 0 < seconds < math.inf:
        raise InvalidRequestError(field=name, problem=Problem("not_seconds"))
    return seconds


def to_seconds_or_none(name: str, value: object) -> float | None:
    """Like ``to_seconds``, but None and ``math.inf`` are allowed, and return None: no limit."""
    seconds = math.inf if value is None else _number(value)
    if seconds is None or not seconds > 0:
        raise InvalidRequestError(field=name, problem=Problem("seconds_or_none"))
    return None if seconds == math.inf else seconds


def without_timedelta(value: Seconds) -> float:
    """Convert an attrs field from a ``timedelta`` to seconds. Other values are left to the validator."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def above_0(_: object, attribute: Attribute[float], value: object) -> None:
    """Validate an attrs field like ``to_seconds``."""
    to_seconds(attribute.name, value)


def from_0(_: object, attribute: Attribute[float], value: object) -> None:
    """Validate an attrs field like ``to_seconds``, but 0 and ``math.inf`` are allowed, too."""
    seconds = _number(value)
    if seconds is None or not seconds >= 0:
        raise InvalidRequestError(field=attribute.name, problem=Problem("seconds_from_0"))


def _number(value: object) -> float | None:
    """Return the seconds; None: *value* is neither a ``timedelta`` nor a number, or it is a huge finite number."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # max() keeps a huge negative integer from overflowing the float.
    return float(max(value, -1)) if value < _TOO_LONG or value == math.inf else None
