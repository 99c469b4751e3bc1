"""Decides after a failed attempt whether to retry, and after how many seconds. No I/O; doesn't read the clock."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar

from attrs import field, frozen

from gatepay_async.protocol import checks
from gatepay_async.protocol.durations import from_0, without_timedelta
from gatepay_async.protocol.errors import GatePayError, ProtocolError, StorageFailedError, TransportError

T = TypeVar("T")

# HTTP statuses that are worth a retry: too slow, too early, too many requests, and errors of a gateway.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAX_WAIT_DOUBLINGS = 64  # enough to reach any `longest_wait`; 2.0 ** 1024 would overflow


@frozen(kw_only=True)
class RetryPolicy:
    """
    How often and when a call is retried, where that is safe. Waits are seconds; you may give a ``timedelta``.

    Attributes:
        attempts: The most attempts per call, including the first one; 1: no retries.
        first_wait: Seconds before the second attempt. The wait doubles for each further attempt, and is
            shortened at random by up to a half, so that many callers don't retry at the same moment.
        longest_wait: The upper limit of that wait, in seconds.
        longest_retry_after: The longest ``Retry-After``, in seconds, that the client waits for. If the server
            asks for more, the call raises at once, with the wait in the error.
        budget: Retries without a success, over all calls of one client; each successful call restores half
            a retry. This keeps the client from flooding a server that is down.

    Raises:
        InvalidRequestError: A number is out of range.
    """

    attempts: int = field(default=4, validator=checks.positive)
    first_wait: float = field(default=0.25, converter=without_timedelta, validator=from_0)
    longest_wait: float = field(default=8.0, converter=without_timedelta, validator=from_0)
    longest_retry_after: float = field(default=30.0, converter=without_timedelta, validator=from_0)
    budget: float = field(default=20, validator=checks.not_negative)


@frozen
class Sent(Generic[T]):
    """
    The result of a call that succeeded.

    Attributes:
        value: What the call returns.
        attempts: How many attempts it took.
    """

    value: T
    attempts: int


def is_transient(failure: GatePayError) -> bool:
    """Whether the same call is likely to succeed a moment later."""
    if isinstance(failure, ProtocolError):
        # Without a path, the reply wasn't complete JSON: it was cut short, or a web page. With a path, the reply
        # was complete, and would be the same again.
        is_cut_short = 200 <= failure.http_status < 300 and failure.path is None  # noqa: PLR2004 -- HTTP's success range
        return is_cut_short or failure.http_status in TRANSIENT
    # 113 is the only refusal that isn't final: GatePay's database failed.
    return isinstance(failure, TransportError | StorageFailedError)


def wait_after(
    failure: GatePayError, *, attempt: int, policy: RetryPolicy, jitter: float, seconds_left: float
) -> float | None:
    """
    Return the seconds to wait before the next attempt, or None to give up.

    Args:
        failure: The error of the attempt that has just ended.
        attempt: The number of that attempt, from 1.
        policy: The client's policy.
        jitter: Random, from 0 to 1. It shortens the wait by up to a half.
        seconds_left: Seconds until the call's deadline. If the wait would take longer, the result is None.
    """
    if attempt >= policy.attempts or not is_transient(failure):
        return None
    doubled = policy.first_wait * 2.0 ** min(attempt - 1, _MAX_WAIT_DOUBLINGS)
    wait = min(policy.longest_wait, doubled) * (1 - jitter / 2)
    retry_after = failure.retry_after if isinstance(failure, ProtocolError) else None
    if retry_after is not None:
        if retry_after > policy.longest_retry_after:
            return None
        wait = max(wait, retry_after)
    return wait if wait < seconds_left else None


def read_retry_after(value: str | None, *, now: datetime) -> float | None:
    """
    Return the seconds in a ``Retry-After`` header (RFC 9110, 10.2.3: seconds, or an HTTP date).

    Args:
        value: The header, or None.
        now: The current time, with a time zone. It is used if the header is a date.

    Returns:
        The seconds, at least 0. None: there is no header, or it is invalid.
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)  # infinity if there are too many digits
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # OverflowError: a year or a zone out of range
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())
