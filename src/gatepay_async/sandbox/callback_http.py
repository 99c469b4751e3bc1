"""Sends one callback: a GET or POST on its own connection, with limits on time and size, without redirects."""

import ssl
from urllib.parse import urlsplit

import anyio
import h11
from anyio.abc import ByteStream

from gatepay_async.sandbox.callback_urls import CallbackUrlError, Target, target_of
from gatepay_async.sandbox.deliveries import ACCEPTED, Answer

__all__ = ["MAX_ANSWER_BYTES", "call"]

MAX_ANSWER_BYTES = 4096  # more than enough for `success` and `fail`


async def call(
    url: str | None,
    body: str | None = None,
    *,
    beyond_loopback: bool,
    timeout: float,  # noqa: ASYNC109 -- a timeout is a result here, not an error
) -> Answer:
    """
    Send a callback, and return the merchant's answer. Whatever the merchant does, this raises no error.

    Args:
        url: The URL; for a GET, with the signed query. None: the shop has no callback URL.
        body: The signed form for a POST; None: send a GET.
        beyond_loopback: Whether *url* may lead to another machine.
        timeout: The seconds for the whole attempt, from connecting to the last byte.
    """
    if url is None:
        return Answer(problem="no_url")
    problem = "timeout"  # unless an error below replaces it: move_on_after() raises nothing
    with anyio.move_on_after(timeout):
        try:
            return await _send_to_target(url, body, target_of(url.partition("?")[0], beyond_loopback=beyond_loopback))
        except CallbackUrlError as error:
            problem = error.problem.name
        except ssl.SSLError:
            problem = "tls"
        except h11.RemoteProtocolError:
            problem = "no_http"
        except (OSError, anyio.BrokenResourceError):
            problem = "connection"
    return Answer(problem=problem)


async def _send_to_target(url: str, body: str | None, target: Target) -> Answer:
    connection = h11.Connection(h11.CLIENT)
    request = b"".join(connection.send(event) or b"" for event in _request(url, body, target))
    async with await _connect_to_target(target) as stream:
        await stream.send(request)
        return await _receive_answer(connection, stream)


def _request(url: str, body: str | None, target: Target) -> list[h11.Event]:
    """Return the request as events of h11."""
    parts = urlsplit(url)
    headers = [("Host", target.authority), ("User-Agent", "gatepay-sandbox"), ("Connection", "close")]
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    if body is None:
        return [h11.Request(method="GET", target=path, headers=headers), h11.EndOfMessage()]
    form = body.encode("ascii")
    headers += [("Content-Type", "application/x-www-form-urlencoded"), ("Content-Length", str(len(form)))]
    return [h11.Request(method="POST", target=path, headers=headers), h11.Data(form), h11.EndOfMessage()]


async def _connect_to_target(target: Target) -> ByteStream:
    """Connect to the first of the target's hosts that can be reached."""
    *others, last = target.hosts
    for host in others:
        try:
            return await _connect_to(host, target)
        except ssl.SSLError:  # an OSError, but the host was reached: don't try another address
            raise
        except OSError:
            continue
    return await _connect_to(last, target)


async def _connect_to(host: str, target: Target) -> ByteStream:
    if not target.tls:
        return await anyio.connect_tcp(host, target.port)
    # The certificate must be valid for the name in the URL, not for the address. "Standard compatible" would make an
    # error of a server that closes without TLS's closing message, as many do.
    return await anyio.connect_tcp(host, target.port, tls=True, tls_hostname=target.name, tls_standard_compatible=False)


async def _receive_answer(connection: h11.Connection, stream: ByteStream) -> Answer:
    """Receive the response to its end, or until it is too long."""
    status, body = 0, bytearray()
    while len(body) <= MAX_ANSWER_BYTES:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await _receive(stream))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
    return _evaluate_response(status, bytes(body))


async def _receive(stream: ByteStream) -> bytes:
    """Receive some bytes. Return ``b""`` at the end of the stream, as h11 expects."""
    try:
        return await stream.receive()
    except anyio.EndOfStream:
        return b""


def _evaluate_response(status: int, body: bytes) -> Answer:
    """Decide whether the response accepts the callback."""
    # 返回结果表: success 回调成功, fail 回调失败. The vendor doesn't mention the HTTP status. We require 2xx,
    # because an error page is no success, even if its text is `success`.
    text = body[:MAX_ANSWER_BYTES].decode("utf-8", "replace")
    if len(body) > MAX_ANSWER_BYTES:
        return Answer(status=status, text=text, problem="too_long")
    accepted = 200 <= status < 300 and text == ACCEPTED  # noqa: PLR2004 -- HTTP's codes for success
    return Answer(status=status, text=text, problem=None if accepted else "not_success")
