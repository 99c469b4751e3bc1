"""The errors of httpx and httpx2 to ours: whether a byte can have left, and what may be told of it."""

from __future__ import annotations

import anyio
import httpx

from gatepay_async.exchange.libraries import classes
from gatepay_async.exchange.port import UnansweredError
from gatepay_async.protocol.masking import mask

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


def describe_error(error: Exception) -> str:
    """What kind of error it is, and what it says, without what it quotes."""
    text = mask(str(error), strict=may_quote(error))
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def _without_request(error: Exception) -> Exception | None:
    """An error of the same class, to be chained: without the request, in whose body is the signed form, and masked."""
    for base in classes("RequestError"):
        if isinstance(error, base):
            copy: Exception = error.__class__.__new__(type(error))
            base.__init__(copy, mask(str(error)))
            return copy
    return None
