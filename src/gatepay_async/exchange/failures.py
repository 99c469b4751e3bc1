"""httpx's errors to ours: whether a byte can have left, and what may be told of it."""

from __future__ import annotations

from functools import partial

import anyio
import httpx

from gatepay_async.exchange.port import UnansweredError
from gatepay_async.protocol.masking import mask
from gatepay_async.words.problem import Problem, message_of
from gatepay_async.words.problems import HTTPX_ERRORS

# Raised before the first byte of a request is written, whoever raises them.
_NEVER_SENT = (httpx.ConnectError, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
# What lies below httpx's errors, where a transport forgot to translate.
BELOW_HTTPX = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)
NOBODY_ANSWERED = (httpx.HTTPError, httpx.StreamError, *BELOW_HTTPX)

# What these say is the system's, or our pool's. All others may quote a reply, or a proxy's: h11 says "illegal header
# line: bytearray(b'…')", a ProxyError is the proxy's own status line.
_NEVER_QUOTING = (httpx.NetworkError, httpx.TimeoutException, *BELOW_HTTPX)


def unanswered_error(error: Exception, *, proven: bool) -> UnansweredError:
    """
    What to raise for *error*.

    Args:
        error: What was raised.
        proven: Whoever raised it has told before sending anything; see ``UnansweredError``.
    """
    cause = None if may_quote(error) else _without_request(error)
    return UnansweredError(describe_error(error), cause=cause, proven=proven or isinstance(error, _NEVER_SENT))


def may_quote(error: Exception) -> bool:
    """Whether *error*, or what it is chained to, may quote a reply."""
    return not isinstance(error, _NEVER_QUOTING)


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
    if not isinstance(error, httpx.RequestError):
        return None
    copy = httpx.RequestError.__new__(type(error))
    httpx.RequestError.__init__(copy, mask(str(error)))
    return copy
