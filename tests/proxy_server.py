"""A proxy on loopback that works, or that fails in a given way."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, SocketAttribute, SocketStream
from attrs import define, field
from servers import read_request

REFUSALS = {
    "403": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    "407": b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
    "502": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nnope",
    "garbage": b"\x00\x01\x02 this is no HTTP\r\n\r\n",
    "half": b"HTTP/1.1 200 Conn",
    "closes": b"",
    "tunnel to nowhere": b"HTTP/1.1 200 Connection established\r\n\r\n",
}
"""Responses to CONNECT. The proxy then closes the connection and forwards nothing."""


@define
class ProxyServer:
    """The proxy's address, its behaviour (a key of ``REFUSALS``, ``hangs`` or ``works``), and the received requests."""

    host: str
    behaviour: str
    tunnel_port: int = 0
    request_lines: list[str] = field(factory=list)

    @property
    def url(self) -> str:
        """The value for HTTPS_PROXY and similar variables."""
        return f"http://{self.host}"


@asynccontextmanager
async def proxy_server(behaviour: str = "works", *, tunnel_port: int = 0) -> AsyncGenerator[ProxyServer]:
    """
    Serve a proxy.

    Args:
        behaviour: See ``ProxyServer``.
        tunnel_port: The port on loopback to which each tunnel connects, whatever the requested host.
    """
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    server = ProxyServer(f"127.0.0.1:{listener.extra(SocketAttribute.local_port)}", behaviour, tunnel_port)  # noqa: S610 -- anyio's

    async def handle(stream: SocketStream) -> None:
        async with stream:
            head, _ = await read_request(stream)
            server.request_lines.append(head.partition(b" HTTP")[0].decode())
            if server.behaviour == "hangs":
                await anyio.sleep_forever()
            if server.behaviour == "works":
                await _tunnel(stream, server.tunnel_port)
            elif REFUSALS[server.behaviour]:
                await stream.send(REFUSALS[server.behaviour])

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        yield server
        group.cancel_scope.cancel()


async def _tunnel(stream: SocketStream, port: int) -> None:
    await stream.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
    async with await anyio.connect_tcp("127.0.0.1", port) as destination, anyio.create_task_group() as group:
        group.start_soon(_pass, stream, destination, group.cancel_scope)
        group.start_soon(_pass, destination, stream, group.cancel_scope)


async def _pass(source: ByteReceiveStream, sink: ByteSendStream, scope: anyio.CancelScope) -> None:
    try:
        while True:
            await sink.send(await source.receive())
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        scope.cancel()
