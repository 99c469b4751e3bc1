"""After a failure: give up, or wait so long. Pure: the number of the attempt and the jitter come in."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar

from attrs import field, frozen

from gatepay_async.protocol import checks
from gatepay_async.protocol.durations import from_0, without_timedelta
from gatepay_async.protocol.errors import GatePayError, ProtocolError, StorageFailedError, TransportError

T = TypeVar("T")

# Whoever answers so is asked again: too slow, too early, too often, and a gateway's troubles.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAX_DOUBLINGS = 64  # a wait of millions of years; a float ends at 1024


@frozen(kw_only=True)
class RetryPolicy:
    """
    When a call that may be sent again is sent again. Waits are seconds; you may give a ``timedelta``.

    Attributes:
        attempts: How often altogether, the first included; 1: never again.
        first_wait: Seconds before the second attempt; doubled for each one after it, and made
            shorter at random by up to a half, so that many callers don't come back at once.
        longest_wait: Seconds that no such wait exceeds.
        longest_retry_after: Seconds of a server's ``Retry-After`` that are waited for; asked for
            more, the call raises, with the wait in the error.
        budget: Attempts beyond the first that one client may make while nothing succeeds, over all its
            calls; each call that succeeds gives half of one back. So a dead server is not stormed.

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
    What a call came to.

    Attributes:
        value: What it promises.
        attempts: How often it was sent for that.
    """

    value: T
    attempts: int


def is_transient(failure: GatePayError) -> bool:
    """Whether the same call may well succeed a moment later."""
    if isinstance(failure, ProtocolError):
        # No path: it was no whole JSON, so a reply cut short or a page in its place. With one, the
        # server says what it means, and will say it again.
        cut = 200 <= failure.http_status < 300 and failure.path is None  # noqa: PLR2004 -- HTTP's own lines
        return cut or failure.http_status in TRANSIENT
    # 113 is the only refusal that isn't final: GatePay's database failed.
    return isinstance(failure, TransportError | StorageFailedError)


def wait_after(failure: GatePayError, *, attempt: int, policy: RetryPolicy, jitter: float, left: float) -> float | None:
    """
    Seconds to wait before the call is sent again, or None to give up.

    Args:
        failure: Of the attempt that has just ended.
        attempt: Its number, from 1.
        policy: The client's.
        jitter: Random, 0 to 1.
        left: Seconds until the call's deadline; a wait that would outlast it is not begun.
    """
    if attempt >= policy.attempts or not is_transient(failure):
        return None
    doubled = policy.first_wait * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS)
    wait = min(policy.longest_wait, doubled) * (1 - jitter / 2)
    asked = failure.retry_after if isinstance(failure, ProtocolError) else None
    if asked is not None:
        if asked > policy.longest_retry_after:
            return None
        wait = max(wait, asked)
    return wait if wait < left else None


def read_retry_after(value: str | None, *, now: datetime) -> float | None:
    """
    Seconds from a ``Retry-After`` header (RFC 9110, 10.2.3: seconds, or an HTTP date).

    Args:
        value: The header, or None.
        now: Aware; for a date.

    Returns:
        At least 0; None where there is no header or it can't be read.
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)  # infinite, where the digits have no end
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # the latter for a year, or a zone, without measure
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())
