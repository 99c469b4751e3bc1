"""Whether and when a call is retried after a failure. No test really waits."""

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
LOST_REPLY = TransportError(endpoint="ka/show", sent=True, problem="cut")


def unexpected_reply(status: int, *, path: str | None = None, retry_after: float | None = None) -> ProtocolError:
    return ProtocolError(endpoint="ka/show", http_status=status, problem="x", path=path, retry_after=retry_after)


def make_refusal(cls: type[errors.RefusedError]) -> GatePayError:
    return cls(code=101, message="", endpoint="ka/create")


@rows(
    ("failure", "is_retried"),
    [
        (LOST_REPLY, True),
        (TransportError(endpoint="ka/show", sent=False, problem="refused"), True),
        (make_refusal(errors.StorageFailedError), True),
        *((make_refusal(cls), cls is errors.StorageFailedError) for cls in errors.RefusedError.__subclasses__()),
        (make_refusal(errors.RefusedError), False),
        (errors.InvalidRequestError(field="page", problem="x"), False),
        (errors.OutcomeUnknownError(endpoint="pay/create", out_order_id="x"), False),
        *((unexpected_reply(status), True) for status in (408, 425, 429, 500, 502, 503, 504)),
        *((unexpected_reply(status, path="code"), True) for status in (408, 425, 429, 500, 502, 503, 504)),
        *((unexpected_reply(status), False) for status in (199, 300, 302, 400, 401, 403, 404, 501, 505)),
        (unexpected_reply(200), True),
        (unexpected_reply(299), True),
        (unexpected_reply(200, path="data.ka.data[0].id"), False),
        (unexpected_reply(201, path="reply"), False),
    ],
)
def test_only_transient_failures_are_retried(failure: GatePayError, *, is_retried: bool) -> None:
    """Transient: no reply, a cut reply, a gateway's error, and code 113. GatePay would repeat any other refusal."""
    assert is_transient(failure) is is_retried
    wait = wait_after(failure, attempt=1, policy=RetryPolicy(), jitter=0, seconds_left=math.inf)
    assert wait == (0.25 if is_retried else None)


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
def test_wait_doubles_up_to_the_longest_wait(attempt: int, jitter: float, wait: float | None) -> None:
    """Jitter shortens a wait by up to a half. After the last attempt there is no wait."""
    assert (
        wait_after(
            LOST_REPLY, attempt=attempt, policy=RetryPolicy(attempts=10000), jitter=jitter, seconds_left=math.inf
        )
        == wait
    )


@rows(("attempt", "is_retried"), [(1, True), (3, True), (4, False), (5, False)])
def test_call_gives_up_after_the_policys_attempts(attempt: int, *, is_retried: bool) -> None:
    """The default is four attempts. ``attempts=1`` means no retries."""
    wait = wait_after(LOST_REPLY, attempt=attempt, policy=RetryPolicy(), jitter=0, seconds_left=math.inf)
    assert (wait is not None) is is_retried
    assert (
        wait_after(LOST_REPLY, attempt=attempt, policy=RetryPolicy(attempts=1), jitter=0, seconds_left=math.inf) is None
    )


@rows(("asked", "wait"), [(None, 0.25), (0, 0.25), (0.1, 0.25), (7, 7), (30, 30), (30.5, None), (math.inf, None)])
def test_retry_after_is_obeyed_up_to_the_limit(asked: float | None, wait: float | None) -> None:
    """If the server asks for a longer wait, the call gives up."""
    failure = unexpected_reply(429, retry_after=asked)
    assert wait_after(failure, attempt=1, policy=RetryPolicy(), jitter=0, seconds_left=math.inf) == wait


@rows(("left", "wait"), [(0.26, 0.25), (0.25, None), (0.1, None), (0, None), (-1, None)])
def test_call_gives_up_if_the_wait_would_reach_the_deadline(left: float, wait: float | None) -> None:
    """There is no wait that ends at the deadline or later."""
    assert wait_after(LOST_REPLY, attempt=1, policy=RetryPolicy(), jitter=0, seconds_left=left) == wait
    assert (
        wait_after(unexpected_reply(503, retry_after=5), attempt=1, policy=RetryPolicy(), jitter=0, seconds_left=5)
        is None
    )


def test_sent_holds_the_value_and_the_number_of_attempts() -> None:
    """``Sent`` is the result of a call that succeeded."""
    assert (Sent("x", attempts=3).value, Sent("x", attempts=3).attempts) == ("x", 3)


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
def test_retry_after_header_is_read_as_seconds_or_date(value: str | None, seconds: float | None) -> None:
    """A date in the past is 0. An invalid header is None."""
    assert read_retry_after(value, now=NOW) == seconds


@given(st.one_of(st.text(), st.from_regex(r"[A-Z][a-z]{2}, \d{1,30} Jan \d{1,30} \d+:\d+:\d+ [+-]\d+", fullmatch=True)))
def test_any_retry_after_header_is_none_or_at_least_0(value: str) -> None:
    """Whatever the header contains, reading it raises no error."""
    seconds: Any = read_retry_after(value, now=NOW + timedelta(days=1))
    assert seconds is None or seconds >= 0
