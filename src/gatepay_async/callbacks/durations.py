"""Times that a user gives: numbers of seconds, or a ``timedelta``."""

from __future__ import annotations

import math
from datetime import timedelta

from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem


def seconds_of(name: str, value: object) -> float | None:
    """
    Seconds, or None for None.

    Raises:
        InvalidRequestError: It is no number of seconds above 0 and no such ``timedelta``.
    """
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        problem = Problem("seconds_or_timedelta")
        raise InvalidRequestError(field=name, problem=problem)
    return float(seconds)
