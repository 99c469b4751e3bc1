"""
Converts errors of httpx and httpx2 to ``UnansweredError``.

It says whether a byte of the request may have left, and never quotes a reply.
"""

from __future__ import annotations

import socket
import ssl
from errno import errorcode
from functools import partial
from typing import Any, cast

import anyio
import httpx

from gatepay_async.exchange.libraries import classes
from gatepay_async.exchange.port import UnansweredError
from gatepay_async.protocol.masking import mask
from gatepay_async.words.problem import Problem, message_of
from gatepay_async.words.problems import HTTPX_ERRORS, OS_ERRORS

# Errors of httpx that are always raised before the first byte of a request is written.
_NEVER_SENT = ("ConnectError", "PoolTimeout", "ProxyError", "UnsupportedProtocol")
# Errors of lower layers, which a transport should have translated to httpx's.
LOWER_LAYER_ERRORS = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)
# The errors of our own transports if no reply comes. These transports never use httpx2.
NO_REPLY_ERRORS = (httpx.HTTPError, httpx.StreamError, *LOWER_LAYER_ERRORS)

# The text of these errors comes from the system or from our pool. The texts of all other errors may quote a reply, also
# a proxy's: h11 has "illegal header line: bytearray(b'…')", and a ProxyError contains the proxy's status line.
_NEVER_QUOTING = ("NetworkError", "TimeoutException")

# Subclasses of OSError whose error numbers are not those of `errno`.
_WITH_OTHER_NUMBERS = (ssl.SSLError, socket.gaierror, socket.herror)


def is_unanswered(error: Exception) -> bool:
    """Whether *error* means that no reply came."""
    return isinstance(error, (*classes("HTTPError", "StreamError"), *LOWER_LAYER_ERRORS))


def unanswered_error(error: Exception, *, unsent_if_unreported: bool) -> UnansweredError:
    """
    Return the error to raise for *error*.

    Args:
        error: The error of a transport.
        unsent_if_unreported: Whether the transport reports when it begins to send; see ``UnansweredError``.
    """
    cause = None if may_quote(error) else _without_request(error)
    unsent_if_unreported = unsent_if_unreported or isinstance(error, classes(*_NEVER_SENT))
    return UnansweredError(describe_error(error), cause=cause, unsent_if_unreported=unsent_if_unreported)


def may_quote(error: Exception) -> bool:
    """Whether *error*, or an error that it is chained to, may quote a reply."""
    return not isinstance(error, (*classes(*_NEVER_QUOTING), *LOWER_LAYER_ERRORS))


def describe_error(error: Exception) -> Problem:
    """Return the class of *error* and its reason, with possible quotes from replies masked."""
    hide = partial(mask, strict=may_quote(error))
    text = _text_of_cause(error)
    reason = text.with_facts(hide) if isinstance(text, Problem) else hide(text)
    name = type(error).__name__
    kind = Problem(name) if name in HTTPX_ERRORS else name
    return Problem("error_says", kind=kind, reason=reason) if reason else Problem("error", kind=kind)


def _without_request(error: Exception) -> Exception | None:
    """Copy *error* for chaining: masked, and without the request, whose body is the signed form."""
    base_class: Any = next((kind for kind in classes("RequestError") if isinstance(error, kind)), None)
    if base_class is None:
        return None
    copy = base_class.__new__(type(error))  # not type(error)(…): a subclass may require other arguments
    base_class.__init__(copy, mask(_text_of_cause(error)))
    return cast("Exception", copy)


def _text_of_cause(error: Exception) -> str:
    """
    Return the ``Problem`` of the operating system that has caused *error*, or else the text of *error*.

    That text may say less: "All connection attempts failed", or "Connect call failed" with an address to be masked.
    """
    seen: list[BaseException] = []
    unseen: list[BaseException] = [error]
    while unseen:
        cause = unseen.pop(0)
        if isinstance(cause, OSError) and isinstance(cause.errno, int) and not isinstance(cause, _WITH_OTHER_NUMBERS):
            name = errorcode.get(cause.errno)
            if name in OS_ERRORS:
                return Problem(name)
        seen.append(cause)
        unseen += [other for other in _causes_of(cause) if not any(other is known for known in (*seen, *unseen))]
    return message_of(error)


def _causes_of(error: BaseException) -> list[BaseException]:
    """
    Return the errors that *error* was raised for: its cause, its first argument, or the members of a group.

    ``__context__`` may be an error that the user's program was handling when it made the call.
    """
    causes = [error.__cause__, *error.args[:1]]  # httpcore raises `ConnectError(cause) from None`
    if isinstance(error, BaseExceptionGroup):
        causes += cast("BaseExceptionGroup[BaseException]", error).exceptions
    return [cause for cause in causes if isinstance(cause, BaseException)]
