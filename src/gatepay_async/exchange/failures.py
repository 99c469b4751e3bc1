"""The errors of httpx and httpx2 to ours: whether a byte can have left, and what may be told of it."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import anyio
import httpx

from gatepay_async.exchange.libraries import classes
from gatepay_async.exchange.port import UnansweredError
from gatepay_async.protocol.masking import mask
from gatepay_async.words.problem import Problem, message_of
from gatepay_async.words.problems import HTTPX_ERRORS

# Raised before the first byte of a request is written, whoever raises them.
_NEVER_SENT = ("ConnectError", "PoolTimeout", "ProxyError", "UnsupportedProtocol")
# What lies below httpx's errors, where a transport forgot to translate.
BELOW_HTTPX = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)
NOBODY_ANSWERED = (httpx.HTTPError, httpx.StreamError, *BELOW_HTTPX)  # of our own transports

# What these say is the system's, or our pool's. All others may quote a reply, or a proxy's: h11 says "illegal header
# line: bytearray(b'…')", a ProxyError is the proxy's own status line.
_NEVER_QUOTING = ("NetworkError", "TimeoutException")


def is_unanswered(error: Exception) -> bool:
    """Whether *error* says that nobody answered."""
    return isinstance(error, (*classes("HTTPError", "StreamError"), *BELOW_HTTPX))


def unanswered_error(error: Exception, *, proven: bool) -> UnansweredError:
    """
    What to raise for *error*.

    Args:
        error: What was raised.
        proven: Whoever raised it has told before sending anything; see ``UnansweredError``.
    """
    cause = None if may_quote(error) else _without_request(error)
    proven = proven or isinstance(error, classes(*_NEVER_SENT))
    return UnansweredError(describe_error(error), cause=cause, proven=proven)


def may_quote(error: Exception) -> bool:
    """Whether *error*, or what it is chained to, may quote a reply."""
    return not isinstance(error, (*classes(*_NEVER_QUOTING), *BELOW_HTTPX))


def describe_error(error: Exception, message: str | None = None) -> Problem:
    """What kind of error it is, and what it says (or *message* does), without what it quotes."""
    hide = partial(mask, strict=may_quote(error))
    said = message_of(error) if message is None else message
    reason = said.with_facts(hide) if isinstance(said, Problem) else hide(said)
    name = type(error).__name__
    kind = Problem(name) if name in HTTPX_ERRORS else name
    return Problem("error_says", kind=kind, reason=reason) if reason else Problem("error", kind=kind)


def _without_request(error: Exception) -> Exception | None:
    """An error of the same class, to be chained: without the request, in whose body is the signed form, and masked."""
    base: Any = next((each for each in classes("RequestError") if isinstance(error, each)), None)
    if base is None:
        return None
    copy = base.__new__(type(error))
    base.__init__(copy, mask(str(error)))
    return cast("Exception", copy)
