"""httpx's errors to ours: whether a byte can have left, and what may be told of it."""

from __future__ import annotations

import re

import anyio
import httpx

from gatepay_async.exchange.port import UnansweredError

# Raised before the first byte of a request is written, whoever raises them.
_NEVER_SENT = (httpx.ConnectError, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
# What lies below httpx's errors, where a transport forgot to translate.
BELOW_HTTPX = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)
NOBODY_ANSWERED = (httpx.HTTPError, httpx.StreamError, *BELOW_HTTPX)

# These quote what was read, or sent: h11 says "illegal header line: bytearray(b'…')".
_QUOTING = (httpx.ProtocolError, httpx.DecodingError)
_QUOTED = re.compile(r"[:\s]*(\bbytearray\(|\b[bB]?['\"]).*", re.DOTALL)


def unanswered(error: Exception, *, proven: bool) -> UnansweredError:
    """
    What to raise for *error*.

    Args:
        error: What was raised.
        proven: Whoever raised it has told before sending anything; see ``UnansweredError``.
    """
    if isinstance(error, httpx.RequestError):
        # httpx hangs the request on its errors, and in its body is the signed form.
        error.request = httpx.Request("POST", "https://request.invalid/")
    cause = None if is_quoting(error) else error
    return UnansweredError(worded(error), cause=cause, proven=proven or isinstance(error, _NEVER_SENT))


def is_quoting(error: Exception) -> bool:
    """Whether *error*, or what it is chained to, may quote a reply."""
    return isinstance(error, _QUOTING)


def worded(error: Exception) -> str:
    """What kind of error it is, and what it says, without what it quotes."""
    said = _QUOTED.sub("", str(error)) if is_quoting(error) else str(error)
    return f"{type(error).__name__}: {said}".removesuffix(": ")
