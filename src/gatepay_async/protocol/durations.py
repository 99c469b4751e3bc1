"""Checks durations that a user passes: a number of seconds or a ``timedelta``. `words.arguments` reads them."""

from __future__ import annotations

from attrs import Attribute

from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words import arguments
from gatepay_async.words.arguments import Seconds, without_timedelta

__all__ = ["Seconds", "above_0", "from_0", "to_seconds", "to_seconds_or_none", "without_timedelta"]


def to_seconds(name: str, value: object) -> float:
    """
    Return a duration above 0 in seconds.

    Raises:
        InvalidRequestError: *value* isn't a duration above 0. The error's ``.field`` is *name*.
    """
    return arguments.seconds_above_0(name, value, error=InvalidRequestError)


def to_seconds_or_none(name: str, value: object) -> float | None:
    """
    Return a duration above 0 in seconds. None and ``math.inf`` mean no limit: for them, the result is None.

    Raises:
        InvalidRequestError: *value* isn't a duration above 0. The error's ``.field`` is *name*.
    """
    return arguments.seconds_or_none(name, value, error=InvalidRequestError)


def above_0(_: object, attribute: Attribute[float], value: object) -> None:
    """Require that an attrs field is a duration above 0, as ``to_seconds`` does."""
    to_seconds(attribute.name, value)


def from_0(_: object, attribute: Attribute[float], value: object) -> None:
    """Require that an attrs field is a duration of at least 0. ``math.inf`` is allowed."""
    arguments.seconds_from_0(attribute.name, value, error=InvalidRequestError)
