"""
Sends a call and retries it where that is safe.

``Caller.send`` makes a whole call and ``Attempts.make`` one attempt of it. A ``ClientObserver`` is called for each
call, an ``Observer`` for each attempt.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

import anyio
import httpx

from gatepay_async.event_loop import loop_getter
from gatepay_async.exchange.attempts import Attempts
from gatepay_async.exchange.port import ForeignError
from gatepay_async.log import log_end, log_retry
from gatepay_async.protocol.errors import (
    GatePayError,
    InvalidRequestError,
    OutcomeUnknownError,
    ProtocolError,
    RefusedError,
    TransportError,
)
from gatepay_async.protocol.frames import clear_frames
from gatepay_async.protocol.messages import Reply, encode
from gatepay_async.protocol.observing import ClientObserver, Connections, EndAttempt, Observer, combine_observers
from gatepay_async.protocol.raw import Outgoing, RawCall
from gatepay_async.protocol.retrying import RetryPolicy, Sent, wait_after
from gatepay_async.protocol.signing import Credentials
from gatepay_async.words.problem import Problem

T = TypeVar("T")
P = ParamSpec("P")
C = TypeVar("C", bound=Outgoing)

_RETRIES_PER_SUCCESS: Final = 0.5  # each successful call adds this to the client's budget of retries
_NO_LOOP: Final = object()  # in place of the event loop, while the client is not open
_NOBODY: Final[AbstractContextManager[None]] = nullcontext()  # used if there is no observer

# Shown in the errors about a client that isn't open.
_EXAMPLE = "    async with AsyncGatePay(appkey, appsecret) as gatepay:\n        await gatepay.list_products()"


def scrub_errors_async(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """
    Decorate an async method: remove secrets from the tracebacks of its errors, as ``scrub_errors`` does.

    Without this, local variables in the traceback's frames would hold the form, the card keys and the reply.
    """

    @wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except BaseException as error:
            del args, kwargs  # clear_frames() can't clear this running frame
            clear_frames(error)
            raise

    return call


class Caller:
    """
    Sends the calls of one client.

    Args:
        credentials: The appkey and the secret that sign the calls.
        attempts: Makes attempts at ``base_url``.
        cloud_attempts: Makes attempts at ``cloud_base_url``, or None. It is opened for the first call to the cloud:
            most shops never make one.
        deadline: Seconds for a whole call.
        policy: When a call is retried.

    Attributes:
        observer: Called for each call, or None.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        attempts: Attempts,
        cloud_attempts: Attempts | None,
        deadline: float,
        policy: RetryPolicy,
    ) -> None:
        self._credentials = credentials
        self._attempts = attempts
        self._cloud_attempts = cloud_attempts
        self._deadline = deadline
        self._policy = policy
        self.observer: ClientObserver | None = None
        self._retries_left = policy.budget
        self._loop: object = _NO_LOOP  # the event loop on which this was opened
        self._running_loop: Callable[[], object] = lambda: None
        self._was_opened = False
        self._closed = False

    async def open(self) -> None:
        """
        Open the client's own connections, or use the user's client or transport.

        Raises:
            InvalidRequestError: This was opened before.
        """
        if self._was_opened:
            raise _misuse_error(Problem("opened_twice"))
        self._was_opened = True
        self._running_loop = loop_getter()
        self._loop = self._running_loop()
        await self._attempts.open()

    async def aclose(self) -> None:
        """Close the connections. Running calls end after their current attempt."""
        self._closed = True
        self._loop = _NO_LOOP
        try:
            await self._attempts.aclose()
        finally:
            if self._cloud_attempts is not None:
                await self._cloud_attempts.aclose()

    def http(self) -> httpx.AsyncClient:
        """
        Return an httpx client over the connections to ``base_url``.

        Raises:
            InvalidRequestError: This is not open, or was opened on another event loop.
        """
        if self._loop is _NO_LOOP or self._loop != self._running_loop():
            raise self._not_usable_error()
        return self._attempts.http()

    def connections(self) -> Connections | None:
        """
        Count the connections to ``base_url``. Any thread may call this.

        Returns:
            The counts, or None if this is closed or the connections can't be counted.
        """
        return None if self._loop is _NO_LOOP else self._attempts.connections()

    @scrub_errors_async
    async def send(
        self,
        call: C,
        read: Callable[[C, Reply], T],
        *,
        retry_within: float = math.inf,
        observer: Observer | None = None,
    ) -> Sent[T]:
        """
        Send *call*, retry it where that is safe, and read its reply.

        Args:
            call: The call to send.
            read: Turns the reply into a value, or raises.
            retry_within: Don't retry later than this many seconds after the first attempt.
            observer: Called for each attempt.
        """
        if self._loop is _NO_LOOP or self._loop != self._running_loop():
            raise self._not_usable_error()
        form = encode(call, self._credentials)
        attempts = await self._open_cloud() if call.on_cloud else self._attempts
        started_at = attempts.now()
        deadline = started_at + self._deadline
        attempt = 0
        in_doubt = False  # whether an earlier attempt failed and may have been carried out
        with _NOBODY if self.observer is None else self.observer.call(call) as call_observer:
            if call_observer is not None:
                observer = combine_observers(observer, call_observer)
            while True:
                attempt += 1
                try:
                    reply = attempts.make(call, form, ends_at=deadline)
                    if observer is None:
                        value = read(call, await reply)
                    else:
                        value = await _read_and_report(observer(call, attempt), call, reply, read)
                except (RefusedError, ProtocolError, TransportError, ForeignError) as error:
                    failure = error
                else:
                    self._retries_left = min(self._policy.budget, self._retries_left + _RETRIES_PER_SUCCESS)
                    return Sent(value, attempts=attempt)
                if isinstance(failure, ForeignError):
                    _raise_foreign(call, failure, attempt=attempt, in_doubt=in_doubt)
                now = attempts.now()
                wait = (
                    None
                    if now - started_at > retry_within
                    else self._wait_after(call, failure, attempt, seconds_left=deadline - now)
                )
                if wait is None:
                    _raise_failure(call, failure, attempt=attempt, in_doubt=in_doubt)
                log_retry(call.path, failure, attempt=attempt, wait=wait)
                await anyio.sleep(wait)
                if self._closed:
                    _raise_failure(call, failure, attempt=attempt, in_doubt=in_doubt)
                # A reply that is not GatePay's (a proxy's error page, for example) may have replaced GatePay's reply.
                in_doubt = in_doubt or isinstance(failure, ProtocolError) or _may_have_been_done(failure)

    def _wait_after(
        self,
        call: Outgoing,
        failure: RefusedError | ProtocolError | TransportError,
        attempt: int,
        *,
        seconds_left: float,
    ) -> float | None:
        """Return the seconds to wait before the retry of *call*, or None if it must not be retried."""
        if self._closed or self._retries_left < 1:
            return None
        if not call.repeatable and not (isinstance(failure, TransportError) and not failure.sent):
            return None
        jitter = random.random()  # noqa: S311 -- spreads the retries of many clients; protects no secret
        wait = wait_after(failure, attempt=attempt, policy=self._policy, jitter=jitter, seconds_left=seconds_left)
        if wait is not None:
            self._retries_left -= 1
        return wait

    async def _open_cloud(self) -> Attempts:
        """Return the attempts at ``cloud_base_url``, and open them if needed."""
        attempts = self._cloud_attempts
        if attempts is None:
            raise InvalidRequestError(field="cloud_base_url", problem=Problem("cloud_not_set"))
        await attempts.open()
        if self._closed:  # aclose() ran meanwhile, perhaps before the attempts were open
            await attempts.aclose()
            raise self._not_usable_error()
        return attempts

    def _not_usable_error(self) -> InvalidRequestError:
        """Return the error that says why this can't send a call: it is closed, not open or on another event loop."""
        if self._closed:
            return _misuse_error(Problem("closed"))
        return _misuse_error(Problem("other_event_loop") if self._was_opened else Problem("not_open"))


async def _read_and_report(
    end_attempt: EndAttempt, call: C, reply: Awaitable[Reply], read: Callable[[C, Reply], T]
) -> T:
    """Await *reply*, read it, and report the end of the attempt to *end_attempt*."""
    http_status: int | None = None
    try:
        received = await reply
        http_status = received.status
        value = read(call, received)
    except BaseException as error:
        end_attempt(error, http_status)
        raise
    end_attempt(None, http_status)
    return value


def _raise_failure(
    call: Outgoing, failure: RefusedError | ProtocolError | TransportError, *, attempt: int, in_doubt: bool
) -> NoReturn:
    """Raise *failure* with the facts of all attempts; or ``OutcomeUnknownError``, if the outcome is unknown."""
    failure.attempts = attempt
    if isinstance(failure, RefusedError):
        failure.in_doubt = in_doubt
    if isinstance(failure, TransportError):
        failure.sent = failure.sent or in_doubt
    if call.repeatable or not _may_have_been_done(failure):
        log_end(call.path, failure, attempt=attempt)
        raise failure
    raise _outcome_unknown_error(call, attempt) from failure


def _raise_foreign(call: Outgoing, failure: ForeignError, *, attempt: int, in_doubt: bool) -> NoReturn:
    """Raise the error of the user's hook or transport. The call isn't retried: this is no network error."""
    error, sent = failure.error, failure.sent or in_doubt
    note = "the request may have arrived" if sent else "no byte of the request has left"
    error.add_note(f"gatepay-async: raised by your httpx client or transport during {call.path}; {note}")
    if sent and not call.repeatable:
        raise _outcome_unknown_error(call, attempt) from error
    # The hook made another call, which failed. The attributes of that call's error say nothing about this call.
    if isinstance(error, GatePayError):
        problem = Problem("foreign_error", kind=type(error).__name__)
        raise TransportError(endpoint=call.path, sent=sent, problem=problem, attempts=attempt) from error
    raise error


def _outcome_unknown_error(call: Outgoing, attempts: int) -> OutcomeUnknownError:
    """Log and return the error for a call that may or may not have been carried out."""
    # Any field of a raw call may be a secret.
    out_order_id = "" if isinstance(call, RawCall) else call.fields()["out_order_id"]
    error = OutcomeUnknownError(endpoint=call.path, out_order_id=out_order_id, attempts=attempts)
    log_end(call.path, error, attempt=attempts)
    return error


def _may_have_been_done(failure: RefusedError | ProtocolError | TransportError) -> bool:
    """Whether GatePay may have carried out the attempt that failed with *failure*."""
    if isinstance(failure, ProtocolError):
        return failure.may_have_been_done
    return isinstance(failure, TransportError) and failure.sent


def _misuse_error(problem: Problem) -> InvalidRequestError:
    """Return the error for *problem*, with an example of how to open a client."""
    return InvalidRequestError(field="client", problem=Problem("with_example", problem=problem, example=_EXAMPLE))
