"""Durations that a user gives: a number of seconds or a ``timedelta``, checked in one place."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TypeAlias

from attrs import Attribute

from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

# A number of seconds, or a timedelta.
Seconds: TypeAlias = float | timedelta

_TOO_LONG = 2**63  # more seconds than any clock counts


def to_seconds(name: str, value: object) -> float:
    """
    A duration above 0, in seconds.

    Raises:
        InvalidRequestError: It is not one; ``.field`` is *name*.
    """
    seconds = _number(value)
    if seconds is None or not 0 < seconds < math.inf:
        raise InvalidRequestError(field=name, problem=Problem("not_seconds"))
    return seconds


def to_seconds_or_none(name: str, value: object) -> float | None:
    """As ``to_seconds``; None for None or ``math.inf``, which both mean that there is no bound."""
    seconds = math.inf if value is None else _number(value)
    if seconds is None or not seconds > 0:
        raise InvalidRequestError(field=name, problem=Problem("seconds_or_none"))
    return None if seconds == math.inf else seconds


def without_timedelta(value: Seconds) -> float:
    """For an attrs field: seconds of a ``timedelta``; anything else is left to the validator."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def above_0(_: object, attribute: Attribute[float], value: object) -> None:
    """Validate an attrs field: as ``to_seconds``."""
    to_seconds(attribute.name, value)


def from_0(_: object, attribute: Attribute[float], value: object) -> None:
    """Likewise; 0 and ``math.inf`` are right, too."""
    seconds = _number(value)
    if seconds is None or not seconds >= 0:
        raise InvalidRequestError(field=attribute.name, problem=Problem("seconds_from_0"))


def _number(value: object) -> float | None:
    """Seconds, infinite if no clock counts so many; None if *value* is neither a number nor a ``timedelta``."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return math.inf if value >= _TOO_LONG else float(max(value, -1))
