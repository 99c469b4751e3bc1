"""
The error for wrong arguments, and the checks of arguments that have nothing to do with GatePay's protocol.

They are here because every part of the package may import ``words``: `pool` and `sandbox` must not import `protocol`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias, cast

from gatepay_async.words.problem import Problem

__all__ = [
    "MAX_INT64",
    "InvalidArgumentError",
    "Seconds",
    "check_aware",
    "check_bool",
    "check_callable",
    "check_choice",
    "check_instance",
    "check_number",
    "check_str",
    "check_text",
    "check_whole",
    "seconds_above_0",
    "seconds_from_0",
    "seconds_or_none",
    "without_timedelta",
]

# A number of seconds, or a timedelta.
Seconds: TypeAlias = float | timedelta

MAX_INT64 = 2**63 - 1  # the largest integer of most databases
_TOO_LONG = 2**63  # seconds; a finite duration of this length or more is refused


class InvalidArgumentError(ValueError):
    """
    An argument is invalid. Nothing was done.

    ``InvalidRequestError``, which the client and ``callbacks`` raise, is a subclass.

    Attributes:
        field: The name of the parameter at fault, such as ``"max_connections"``.
        problem: What is wrong with it. Never repeats a value that may be secret.
    """

    def __init__(self, *, field: str, problem: str) -> None:
        self.field = field
        self.problem = Problem.of(problem)
        super().__init__(f"{field}: {problem}")

    def __reduce__(self) -> tuple[object, ...]:
        # By default, unpickling calls the class with `args`, but this class takes keyword arguments.
        return partial(type(self), field=self.field, problem=self.problem), (), self.__dict__


def check_instance(
    name: str, value: object, *kinds: type, error: type[InvalidArgumentError] = InvalidArgumentError
) -> None:
    """Require that the parameter *name* is an instance of one of *kinds*. ``True`` is no ``int``."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise error(field=name, problem=Problem("not_instance", wanted=wanted, kind=type(value).__name__))


def check_callable(name: str, value: object, *, error: type[InvalidArgumentError] = InvalidArgumentError) -> None:
    """Require that the parameter *name* can be called."""
    if not callable(value):
        raise error(field=name, problem=Problem("not_callable", kind=type(value).__name__))


def check_bool(name: str, value: object, *, error: type[InvalidArgumentError] = InvalidArgumentError) -> None:
    """Require True or False. 0 and 1 are refused."""
    if not isinstance(value, bool):
        raise error(field=name, problem=Problem("not_bool", kind=type(value).__name__))


def check_str(name: str, value: object, *, error: type[InvalidArgumentError] = InvalidArgumentError) -> None:
    """Require a text of any contents."""
    if not isinstance(value, str):
        raise error(field=name, problem=Problem("not_text", kind=type(value).__name__))


def check_text(name: str, value: object) -> None:
    """Require a text that isn't empty and that UTF-8 can encode."""
    check_str(name, value)
    if not value:
        raise InvalidArgumentError(field=name, problem=Problem("empty"))
    if any("\ud800" <= letter <= "\udfff" for letter in cast("str", value)):
        raise InvalidArgumentError(field=name, problem=Problem("lone_surrogate"))


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Require one of *choices*, which may be the members of a ``StrEnum``."""
    choices = tuple(choices)
    if not isinstance(value, str):
        problem = Problem("no_choice", choices=", ".join(choices), kind=type(value).__name__)
        raise InvalidArgumentError(field=name, problem=problem)
    if value not in choices:
        raise InvalidArgumentError(field=name, problem=Problem("not_one_of", choices=", ".join(choices)))


def check_whole(name: str, value: object, least: int, most: int = MAX_INT64) -> None:
    """Require a whole number from *least* to *most*. ``True`` is refused."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgumentError(field=name, problem=Problem("not_whole", kind=type(value).__name__))
    if not least <= value <= most:
        raise InvalidArgumentError(field=name, problem=Problem("not_in_range", least=least, most=most))


def check_number(name: str, value: object, least: float, most: float) -> None:
    """Require a number from *least* to *most*. ``True`` is refused."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgumentError(field=name, problem=Problem("not_number", kind=type(value).__name__))
    if not least <= value <= most:
        raise InvalidArgumentError(field=name, problem=Problem("not_in_range", least=least, most=most))


def check_aware(name: str, value: datetime) -> None:
    """Require that a ``datetime`` has a time zone."""
    if value.utcoffset() is None:
        raise InvalidArgumentError(field=name, problem=Problem("naive_datetime"))


def seconds_above_0(name: str, value: object, *, error: type[InvalidArgumentError] = InvalidArgumentError) -> float:
    """Return a duration above 0 in seconds, or raise *error*."""
    seconds = _read_seconds(value)
    if seconds is None or not 0 < seconds < math.inf:
        raise error(field=name, problem=Problem("not_seconds"))
    return seconds


def seconds_or_none(
    name: str, value: object, *, error: type[InvalidArgumentError] = InvalidArgumentError
) -> float | None:
    """Like ``seconds_above_0``, but None and ``math.inf`` are allowed, and return None: no limit."""
    seconds = math.inf if value is None else _read_seconds(value)
    if seconds is None or not seconds > 0:
        raise error(field=name, problem=Problem("seconds_or_none"))
    return None if seconds == math.inf else seconds


def seconds_from_0(name: str, value: object, *, error: type[InvalidArgumentError] = InvalidArgumentError) -> float:
    """Like ``seconds_above_0``, but 0 and ``math.inf`` are allowed, too."""
    seconds = _read_seconds(value)
    if seconds is None or not seconds >= 0:
        raise error(field=name, problem=Problem("seconds_from_0"))
    return seconds


def without_timedelta(value: Seconds) -> float:
    """Convert a ``timedelta`` to seconds, as the converter of an attrs field. Other values are left to the validator."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def _read_seconds(value: object) -> float | None:
    """Return the seconds; None: *value* is neither a ``timedelta`` nor a number, or it is a huge finite number."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # max() keeps a huge negative integer from overflowing the float.
    return float(max(value, -1)) if value < _TOO_LONG or value == math.inf else None
