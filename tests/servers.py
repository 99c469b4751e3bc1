"""Raw TCP servers, which can send any bytes, on either event loop; and free ports."""

import random
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.tls import TLSListener
from attrs import define, field

Answer = Callable[[SocketStream, int], Awaitable[None]]


@define
class RawServer:
    """The address of a raw server, the number of its connections, and the requests that it has received."""

    base_url: str
    connections: int = 0
    bodies: list[bytes] = field(factory=list)
    heads: list[bytes] = field(factory=list)


def free_port() -> int:
    """
    Return a port that is free, and stays free while its server restarts.

    It is outside the range of Linux's ephemeral ports. A connection to an ephemeral port on which nothing listens may
    get the same port as its local port, and then be connected to itself.
    """
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311 -- no secret
        with suppress(OSError), closing(socket.create_server(("127.0.0.1", port))):
            return port


async def read_request(stream: SocketStream) -> tuple[bytes, bytes]:
    """Read one request. Return its head and body, both empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            data += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return b"", b""
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].partition(b":")[2]) if lengths else 0
    while len(body) < length:
        body += await stream.receive()
    return head, body


def http(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    """Return a complete response."""
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


@asynccontextmanager
async def raw_server(
    answer: Answer, *, read: bool = True, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[RawServer]:
    """
    Serve on loopback. For each request, call *answer* with the stream and the number of the request, from 1.

    With ``read=False``, *answer* is called as soon as a connection is open. If it raises ``ConnectionAbortedError``,
    the connection is closed. With *tls*, the server's name is ``localhost``.
    """
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610 -- not Django's extra()
    server = RawServer(f"http://127.0.0.1:{port}/api/" if tls is None else f"https://localhost:{port}/api/")

    async def handle(stream: Any) -> None:
        server.connections += 1
        async with stream:
            try:
                while True:
                    if read:
                        head, body = await read_request(stream)
                        if not head:
                            return
                        server.heads.append(head)
                        server.bodies.append(body)
                    await answer(stream, len(server.bodies))
            except (ConnectionAbortedError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
                return

    async with listener, anyio.create_task_group() as group:
        group.start_soon((TLSListener(listener, tls, standard_compatible=False) if tls else listener).serve, handle)
        yield server
        group.cancel_scope.cancel()
