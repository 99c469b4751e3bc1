"""
A small HTTP server for health checks and metrics. It runs while the command does its work.

Each connection gets one short response and is closed. A client that hangs or sends garbage is disconnected after a few
seconds. Only a few clients are served at once. If one more connects, the one that has waited longest is disconnected,
so that idle connections don't make a probe fail. The rest of the command never waits for clients.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address

import anyio
from anyio.abc import Listener, SocketAttribute, SocketStream
from attrs import frozen

from gatepay_async.cli.language import text
from gatepay_async.cli.output import warn
from gatepay_async.cli.status import HaltError
from gatepay_async.words.problem import os_reason

_MAX_CLIENTS = 16  # at once
_REQUEST_TIMEOUT_S = 5.0  # for a request and its response
_MAX_HEAD_BYTES = 8192
_RESTART_DELAY_S = 1.0  # after an error of the listener, for example when the system has no sockets left
_REQUEST_LINE = re.compile(rb"([!-~]+) ([!-~]+) HTTP/1\.[01]\r?\n")
_METHODS = (b"GET", b"HEAD")
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed\r\nAllow: GET, HEAD",  # with the header that HTTP requires for this status
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@frozen
class Page:
    """The response to a request for a path."""

    body: str
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"


Pages = Mapping[str, Callable[[], Page]]  # by path, such as ``/metrics``


@frozen
class HealthAddress:
    """The address to listen on."""

    host: str
    port: int

    @classmethod
    def parse(cls, address: str) -> HealthAddress:
        """
        Parse ``PORT``, ``ADDRESS:PORT`` or ``[ADDRESS]:PORT``.

        Raises:
            ValueError: *address* is invalid.
        """
        host, _, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host or "127.0.0.1"
        if address.startswith(":") or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:  # noqa: PLR2004 -- the highest TCP port
            raise ValueError(address)
        return cls("127.0.0.1" if host == "localhost" else str(ip_address(host)), int(port))


@asynccontextmanager
async def serve_health(address: HealthAddress, pages: Pages) -> AsyncGenerator[None]:
    """
    Serve *pages* at *address* until the end of the block.

    Raises:
        HaltError: The port is taken, or the address doesn't belong to this machine.
    """
    try:
        listeners = await anyio.create_tcp_listener(local_host=address.host, local_port=address.port)
    except OSError as error:
        problem = text("health.taken", port=address.port, reason=os_reason(error))
        raise HaltError(problem, todo=text("health.taken.todo")) from None
    async with listeners:
        (listener,) = listeners.listeners
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 -- a method of anyio, not a database query
        shown_address = f"[{address.host}]:{port}" if ":" in address.host else f"{address.host}:{port}"
        warn(text("health.open", address=shown_address))
        if not ip_address(address.host).is_loopback:
            warn(text("health.not_loopback"))
        # Not a task group, because it would wrap the block's exceptions in an exception group.
        serving = asyncio.create_task(_serve_pages(listener, _Responder(pages)))
        try:
            yield
        finally:
            serving.cancel()
            await asyncio.wait([serving])


async def _serve_pages(listener: Listener[SocketStream], responder: _Responder) -> None:
    """Serve clients until cancelled. Continue after an error of the listener."""
    while True:
        try:
            await listener.serve(responder.respond)
        except* OSError:
            await anyio.sleep(_RESTART_DELAY_S)


class _Responder:
    """Responds to clients, to at most ``_MAX_CLIENTS`` at once."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._clients: list[anyio.CancelScope] = []  # starting with the oldest

    async def respond(self, stream: SocketStream) -> None:
        """Respond to one request, unless it takes too long to arrive."""
        async with stream:
            with anyio.move_on_after(_REQUEST_TIMEOUT_S) as scope:
                if len(self._clients) == _MAX_CLIENTS:
                    self._clients.pop(0).cancel()
                self._clients.append(scope)
                try:
                    await stream.send(self._response_to(await _read_head(stream)))
                except (anyio.BrokenResourceError, anyio.EndOfStream, OSError):
                    pass  # the client has disconnected
                finally:
                    if scope in self._clients:
                        self._clients.remove(scope)

    def _response_to(self, head: bytes) -> bytes:
        request = _REQUEST_LINE.match(head)
        if request is None:
            return _encode_page(Page("bad request\n", 400))
        if request[1] not in _METHODS:
            return _encode_page(Page("method not allowed\n", 405))
        try:
            page = self._pages.get(request[2].partition(b"?")[0].decode("ascii"), _no_such_page)()
        except Exception:  # noqa: BLE001 -- a page that fails must not end the server
            page = Page("internal error\n", 500)
        return _encode_page(page, with_body=request[1] == b"GET")


async def _read_head(stream: SocketStream) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head and len(head) <= _MAX_HEAD_BYTES:
        head += await stream.receive()
    return head


def _no_such_page() -> Page:
    return Page("not found\n", 404)


def _encode_page(page: Page, *, with_body: bool = True) -> bytes:
    body = page.body.encode()
    head = (
        f"HTTP/1.1 {page.status} {_REASONS[page.status]}\r\nContent-Type: {page.content_type}\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + (body if with_body else b"")
