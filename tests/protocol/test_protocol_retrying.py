"""After a failure: again or not, and when. No test waits."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import rows

from gatepay_async.protocol import errors
from gatepay_async.protocol.errors import GatePayError, ProtocolError, TransportError
from gatepay_async.protocol.retrying import (
    RetryPolicy,
    Sent,
    is_transient,
    read_retry_after,
    wait_after,
)

pytestmark = pytest.mark.fast

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
GONE = TransportError(endpoint="ka/show", sent=True, problem="cut")


def strange(status: int, *, path: str | None = None, retry_after: float | None = None) -> ProtocolError:
    return ProtocolError(endpoint="ka/show", http_status=status, problem="x", path=path, retry_after=retry_after)


def refused(cls: type[errors.RefusedError]) -> GatePayError:
    return cls(code=101, message="", endpoint="ka/create")


@rows(
    ("failure", "again"),
    [
        (GONE, True),
        (TransportError(endpoint="ka/show", sent=False, problem="refused"), True),
        (refused(errors.StorageFailedError), True),
        *((refused(cls), cls is errors.StorageFailedError) for cls in errors.RefusedError.__subclasses__()),
        (refused(errors.RefusedError), False),
        (errors.InvalidRequestError(field="page", problem="x"), False),
        (errors.OutcomeUnknownError(endpoint="pay/create", out_order_id="x"), False),
        *((strange(status), True) for status in (408, 425, 429, 500, 502, 503, 504)),
        *((strange(status, path="code"), True) for status in (408, 425, 429, 500, 502, 503, 504)),
        *((strange(status), False) for status in (199, 300, 302, 400, 401, 403, 404, 501, 505)),
        (strange(200), True),
        (strange(299), True),
        (strange(200, path="data.ka.data[0].id"), False),
        (strange(201, path="reply"), False),
    ],
)
def test_what_may_pass(failure: GatePayError, *, again: bool) -> None:
    """Nobody's answer, a cut reply, a gateway's trouble and 113 may pass; what is said clearly will be said again."""
    assert is_transient(failure) is again
    wait = wait_after(failure, attempt=1, policy=RetryPolicy(), jitter=0, left=math.inf)
    assert wait == (0.25 if again else None)


@rows(
    ("attempt", "jitter", "wait"),
    [
        (1, 0, 0.25),
        (1, 1, 0.125),
        (1, 0.5, 0.1875),
        (2, 0, 0.5),
        (3, 0, 1.0),
        (3, 1, 0.5),
        (5, 0, 4.0),
        (6, 0, 8.0),
        (7, 0, 8.0),
        (7, 1, 4.0),
        (5000, 0, 8.0),
        (9999, 0, 8.0),
        (10000, 0, None),
        (10001, 0, None),
    ],
)
def test_waits_double(attempt: int, jitter: float, wait: float | None) -> None:
    """Waits double from the first to the longest, shortened by up to a half, until the attempts are used up."""
    assert wait_after(GONE, attempt=attempt, policy=RetryPolicy(attempts=10000), jitter=jitter, left=math.inf) == wait


@rows(("attempt", "again"), [(1, True), (3, True), (4, False), (5, False)])
def test_attempts(attempt: int, *, again: bool) -> None:
    """By default a call is sent four times; attempts=1 is never again."""
    wait = wait_after(GONE, attempt=attempt, policy=RetryPolicy(), jitter=0, left=math.inf)
    assert (wait is not None) is again
    assert wait_after(GONE, attempt=attempt, policy=RetryPolicy(attempts=1), jitter=0, left=math.inf) is None


@rows(("asked", "wait"), [(None, 0.25), (0, 0.25), (0.1, 0.25), (7, 7), (30, 30), (30.5, None), (math.inf, None)])
def test_retry_after(asked: float | None, wait: float | None) -> None:
    """What the server asks for is waited, up to the ceiling; beyond it the call gives up."""
    failure = strange(429, retry_after=asked)
    assert wait_after(failure, attempt=1, policy=RetryPolicy(), jitter=0, left=math.inf) == wait


@rows(("left", "wait"), [(0.26, 0.25), (0.25, None), (0.1, None), (0, None), (-1, None)])
def test_a_wait_that_outlasts_the_deadline(left: float, wait: float | None) -> None:
    """A wait that would end at the deadline or after it is not begun."""
    assert wait_after(GONE, attempt=1, policy=RetryPolicy(), jitter=0, left=left) == wait
    assert wait_after(strange(503, retry_after=5), attempt=1, policy=RetryPolicy(), jitter=0, left=5) is None


def test_an_answer() -> None:
    """An answer holds the value and what it took."""
    assert (Sent("x", 3).value, Sent("x", 3).attempts) == ("x", 3)


@rows(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("0000000000007", 7),
        ("123456789012", 123456789012),
        ("9" * 5000, math.inf),
        ("Thu, 01 Jan 2026 12:01:00 GMT", 60),
        ("Thu, 01 Jan 2026 12:01:00 -0000", 60),
        ("Thu, 01 Jan 2026 13:01:00 +0100", 60),
        ("Thu, 01 Jan 2026 11:59:00 GMT", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Thursday, 01-Jan-26 12:01:00 GMT", 60),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("1e5", None),
        ("soon", None),
        ("7, 7", None),
        ("Thu, 32 Jan 2026 12:00:00 GMT", None),
        ("Thu, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Thu, 01 Jan 2026 00:00:00 +99999999999999", None),
        ("²", None),
    ],
)
def test_reading_retry_after(value: str | None, seconds: float | None) -> None:
    """Seconds and dates are read; the past is 0; junk, also of any size, is None."""
    assert read_retry_after(value, now=NOW) == seconds


@given(st.one_of(st.text(), st.from_regex(r"[A-Z][a-z]{2}, \d{1,30} Jan \d{1,30} \d+:\d+:\d+ [+-]\d+", fullmatch=True)))
def test_reading_anything(value: str) -> None:
    """Whatever the header says, the answer is None or a number from 0 on."""
    seconds: Any = read_retry_after(value, now=NOW + timedelta(days=1))
    assert seconds is None or seconds >= 0
