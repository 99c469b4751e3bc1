"""
The faults that a test or a user can add: their kinds, and which requests they hit.

:mod:`gatepay_async.sandbox.fault_injection` injects them.
"""

import math
from datetime import timedelta
from enum import StrEnum
from functools import partial
from random import Random
from threading import Lock

from attrs import define, field, frozen

from gatepay_async.sandbox.arguments import checked_by, optional
from gatepay_async.sandbox.endpoints import ENDPOINTS
from gatepay_async.words.arguments import (
    MAX_INT64,
    InvalidArgumentError,
    check_choice,
    check_number,
    check_text,
    check_whole,
    seconds_from_0,
    without_timedelta,
)
from gatepay_async.words.problem import Problem

__all__ = ["ArmedFault", "Fault", "FaultKind", "FaultQueue"]


class FaultKind(StrEnum):
    """What goes wrong, and whether the call is carried out first."""

    CUT_BEFORE = "cut_before"
    """The connection is cut. The call is not carried out, and no byte is sent back."""
    CUT_AFTER = "cut_after"
    """The call is carried out and stored. Then the connection is cut before a byte is sent back."""
    HALF_BODY = "half_body"
    """The call is carried out. The connection is closed after half of the JSON."""
    HALF_JSON = "half_json"
    """The call is carried out. The HTTP response is complete, but its JSON is cut in half."""
    SLOW = "slow"
    """The call is carried out. The response comes after ``seconds``."""
    DRIP = "drip"
    """The call is carried out. The body of the response comes one byte every ``seconds``."""
    RATE_LIMITED = "rate_limited"
    """HTTP 429 with ``Retry-After``. The call is not carried out."""
    BAD_GATEWAY = "bad_gateway"
    """HTTP 502 with an HTML page. The call is not carried out."""
    CODE = "code"
    """The refusal ``code`` with the endpoint's text. The call is not carried out."""


def _to_kind(kind: FaultKind | str) -> FaultKind:
    check_choice("kind", kind, FaultKind)
    return FaultKind(kind)


def _to_retry_after(value: int | timedelta | str) -> int | str:
    """Convert a ``timedelta`` to whole seconds, rounded up. Other values are left to the validator."""
    return math.ceil(value.total_seconds()) if isinstance(value, timedelta) else value


def _check_retry_after(name: str, value: object) -> None:
    (check_text if isinstance(value, str) else partial(check_whole, least=0))(name, value)


@frozen
class Fault:
    """
    A fault for one or more requests.

    Args:
        kind: What goes wrong.
        endpoint: The endpoint that it hits, such as ``ka/create``; None: all.
        times: How many requests it hits; None: all.
        probability: The probability that it hits a matching request, from 0 to 1.
        seed: The seed of the random numbers for *probability*. The same seed hits the same requests.
        skip: How many matching requests to let pass first.
        seconds: The delay of SLOW and DRIP, as a number or a ``timedelta``.
        retry_after: The ``Retry-After`` of RATE_LIMITED: whole seconds, a ``timedelta``, or the text of the header.
        code: The code of CODE, which requires it.

    Raises:
        InvalidArgumentError: An argument is invalid, *endpoint* doesn't exist, or *kind* is CODE and *code* is missing.
    """

    kind: FaultKind = field(converter=_to_kind)
    endpoint: str | None = field(
        default=None, validator=checked_by(optional(check_choice), tuple(ENDPOINTS)), kw_only=True
    )
    times: int | None = field(default=1, validator=checked_by(optional(check_whole), 0), kw_only=True)
    probability: float = field(default=1.0, validator=checked_by(check_number, 0, 1), kw_only=True)
    seed: int = field(default=0, validator=checked_by(check_whole, -MAX_INT64), kw_only=True)
    skip: int = field(default=0, validator=checked_by(check_whole, 0), kw_only=True)
    seconds: float = field(default=1.0, converter=without_timedelta, validator=checked_by(seconds_from_0), kw_only=True)
    retry_after: int | str = field(
        default=1, converter=_to_retry_after, validator=checked_by(_check_retry_after), kw_only=True
    )
    code: int = field(default=0, validator=checked_by(check_whole, 0), kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.kind is FaultKind.CODE and not self.code:
            raise InvalidArgumentError(field="code", problem=Problem("fault_without_code"))


@frozen
class ArmedFault:
    """
    A copy of an entry of the queue, to read from outside.

    Attributes:
        number: Its number, from 1, in the order added.
        fault: The fault.
        applied: How many requests it has hit.
    """

    number: int
    fault: Fault
    applied: int


@define
class _QueuedFault:
    """An entry of the queue: a fault with its counters and its random numbers."""

    number: int
    fault: Fault
    random: Random
    matched: int = 0  # requests to the endpoint, until the fault is used up
    applied: int = 0  # requests that the fault has hit

    def hits_next(self, endpoint: str) -> bool:
        """Count this request, and return whether the fault hits it."""
        if self.fault.endpoint not in (None, endpoint) or self.applied == self.fault.times:
            return False
        self.matched += 1
        if self.matched <= self.fault.skip or self.random.random() >= self.fault.probability:
            return False
        self.applied += 1
        return True


class FaultQueue:
    """The faults in the order added. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._queued_faults: list[_QueuedFault] = []
        self._added = 0

    def add(self, fault: Fault) -> None:
        """Add *fault* after the others."""
        random = Random(fault.seed)  # noqa: S311 -- reproducible on purpose, and nothing secret depends on it
        with self._lock:
            self._added += 1
            self._queued_faults.append(_QueuedFault(self._added, fault, random))

    def read(self) -> list[ArmedFault]:
        """Return all faults, used up or not, in the order added."""
        with self._lock:
            return [ArmedFault(queued.number, queued.fault, queued.applied) for queued in self._queued_faults]

    def remove(self, number: int) -> None:
        """Remove the fault with that number, if it exists."""
        with self._lock:
            self._queued_faults = [queued for queued in self._queued_faults if queued.number != number]

    def clear(self) -> None:
        """Remove all faults, used up or not."""
        with self._lock:
            self._queued_faults.clear()

    def pick(self, endpoint: str) -> Fault | None:
        """Return the first fault that hits this request to *endpoint*, or None. This also updates the counters."""
        with self._lock:
            return next((queued.fault for queued in self._queued_faults if queued.hits_next(endpoint)), None)
