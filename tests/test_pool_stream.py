"""NetworkStream, httpcore's network backend: what it sends and when, and which errors it raises."""

import select
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import httpcore
import pytest
from anyio.abc import ByteStream, SocketAttribute
from waiting import PATIENCE, until

from gatepay_async.pool.stream import ATTRIBUTES, MAX_COLLECTED_BYTES, NetworkStream

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

# Seconds: a time-out for operations that would never end.
SHORT = 0.01


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[NetworkStream, ByteStream]]:
    """Open a connection. Yield the client's stream and the server's."""
    stream = NetworkStream()
    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener:
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 -- anyio's extra(), not Django's
        assert await stream.connect_tcp("127.0.0.1", port) is stream
        async with await listener.listeners[0].accept() as server_end:
            with anyio.fail_after(PATIENCE):
                yield stream, server_end
            await stream.aclose()


async def write_forever(stream: NetworkStream) -> None:
    """Write one byte at a time, for ever."""
    while True:
        await stream.write(b"x")
        await stream.write(b"", timeout=20)


async def never(*_: Any, **__: Any) -> None:
    await anyio.sleep_forever()


async def test_empty_write_sends_everything_in_one_piece() -> None:
    """Written bytes are sent together by an empty write. `on_send` is called once, before the first byte."""
    events: list[str] = []
    async with connected() as (stream, server_end):
        stream.on_send = lambda: events.append("send")
        await stream.write(b"head, ")
        await stream.write(b"body")
        assert events == []
        await stream.write(b"")
        assert events == ["send"]
        assert await server_end.receive() == b"head, body"
        await stream.write(b"next")
        await stream.write(b"")
        assert await server_end.receive() == b"next"
        assert events == ["send"]


async def test_reading_sends_collected_bytes_first() -> None:
    """Reading first sends the collected bytes. If sending fails, it reads anyway: an error is a ReadError."""
    async with connected() as (stream, server_end):
        stream.request_begun = True  # the beginning of the request was sent
        await stream.write(b"question")
        await server_end.send(b"answer")
        assert await stream.read(100) == b"answer"
        assert await server_end.receive() == b"question"
        await stream.write(b"question")
        await stream.aclose()
        with pytest.raises(httpcore.ReadError):
            await stream.read(100)


async def test_bytes_read_ahead_before_the_request_are_rejected() -> None:
    """If the event loop has read bytes before the first request, the connection isn't used: they can't be its reply."""
    async with connected() as (stream, _):
        stream._queue = [b"HTTP/1.1 200 OK"]
        await stream.write(b"head")
        with pytest.raises(httpcore.ConnectionNotAvailable):
            await stream.write(b"")


async def test_empty_write_without_collected_bytes_does_nothing() -> None:
    """Without collected bytes, an empty write sends nothing and doesn't call `on_send`."""
    events: list[str] = []
    async with connected() as (stream, _):
        stream.on_send = lambda: events.append("send")
        await stream.write(b"")
        assert events == []


async def test_collected_bytes_are_sent_at_the_limit() -> None:
    """Once the collected bytes reach the limit, they are sent."""
    async with connected() as (stream, server_end):
        await stream.write(b"x" * MAX_COLLECTED_BYTES)
        assert await server_end.receive()


async def test_stream_closed_by_the_server_is_readable() -> None:
    """After the server has closed the connection, the stream is readable, and reading returns no bytes."""
    async with connected() as (stream, server_end):
        assert stream.get_extra_info("is_readable") is False
        await server_end.aclose()
        assert stream.get_extra_info("is_readable") is True
        assert await stream.read(100) == b""


async def test_is_readable_works_without_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system without ``select.poll()``, such as Windows, ``is_readable`` works as well."""
    monkeypatch.delattr(select, "poll")
    async with connected() as (stream, server_end):
        assert stream.get_extra_info("is_readable") is False
        await server_end.send(b"x")
        assert stream.get_extra_info("is_readable") is True


async def test_closed_stream_raises_and_is_readable() -> None:
    """A closed stream counts as readable, has no extra info, and raises when used. Closing it twice is harmless."""
    async with connected() as (stream, server_end):
        assert stream.get_extra_info("server_addr") is not None
        await stream.aclose()
        await stream.aclose()
        assert stream.get_extra_info("is_readable") is True
        assert [stream.get_extra_info(info) for info in (*ATTRIBUTES, "weather")] == [None] * 5
        with pytest.raises(httpcore.ReadError, match="Closed"):
            await stream.read(100)
        await stream.write(b"x")
        with pytest.raises(httpcore.WriteError, match="Closed"):
            await stream.write(b"")
        with pytest.raises(anyio.EndOfStream):
            await server_end.receive()


async def test_extra_info_has_httpcores_names() -> None:
    """A stream returns httpcore's extra info, and None for unknown names."""
    async with connected() as (stream, server_end):
        address = server_end.extra(SocketAttribute.local_address)  # noqa: S610 -- anyio's extra(), not Django's
        assert stream.get_extra_info("server_addr") == address
        assert stream.get_extra_info("socket").fileno() >= 0
        assert stream.get_extra_info("ssl_object") is None
        assert stream.get_extra_info("weather") is None


@pytest.mark.parametrize(
    ("name", "connect"),
    [
        ("connect_tcp", lambda stream: stream.connect_tcp("127.0.0.1", 1, timeout=SHORT)),
        ("connect_unix", lambda stream: stream.connect_unix_socket("socket", timeout=SHORT)),
    ],
)
async def test_slow_connect_raises_connect_timeout(
    name: str, connect: Callable[[NetworkStream], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anyio, name, never)
    with pytest.raises(httpcore.ConnectTimeout, match="not connected"):
        await connect(NetworkStream())


async def test_slow_tls_handshake_raises_connect_timeout() -> None:
    """A slow TLS handshake raises ConnectTimeout, and closing the stream still closes the socket."""
    async with connected() as (stream, server_end):
        with pytest.raises(httpcore.ConnectTimeout, match="no TLS"):
            await stream.start_tls(ssl.create_default_context(), "gatepay.example", timeout=SHORT)
        await stream.aclose()
        # Reading to the end finishes only if the client has closed the socket.
        assert b"".join([part async for part in server_end])


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_failed_tls_handshake_raises_connect_error(answer: bytes) -> None:
    """A server that closes the connection, or doesn't use TLS, raises ConnectError."""
    async with connected() as (stream, server_end), anyio.create_task_group() as group:

        async def refuse() -> None:
            await server_end.receive()
            if answer:
                await server_end.send(answer)
            else:
                await server_end.aclose()

        group.start_soon(refuse)
        with pytest.raises(httpcore.ConnectError):
            await stream.start_tls(ssl.create_default_context(), "gatepay.example", timeout=20)


async def test_slow_reply_raises_read_timeout() -> None:
    async with connected() as (stream, _):
        with pytest.raises(httpcore.ReadTimeout, match="nothing to read"):
            await stream.read(100, timeout=SHORT)


async def test_slow_receiver_raises_write_timeout() -> None:
    """If the server reads nothing, writing raises WriteTimeout and the connection can't be reused."""
    async with connected() as (stream, _):
        with pytest.raises(httpcore.WriteTimeout, match="nothing written"):
            await stream.write(b"x" * 50_000_000, timeout=SHORT)
        assert not stream.is_open_without_unread_bytes()


async def test_connection_reset_before_the_first_request_has_no_reply() -> None:
    """If the server resets a connection before the first request, reading returns no bytes or raises an error."""
    async with connected() as (stream, server_end):
        server_socket = server_end.extra(SocketAttribute.raw_socket)  # noqa: S610 -- anyio's extra(), not Django's
        server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() sends a reset
        await server_end.aclose()
        await until(lambda: stream.get_extra_info("is_readable"))
        with suppress(httpcore.WriteError, httpcore.ReadError):  # trio raises earlier than asyncio
            await stream.write(b"question")
            await stream.write(b"")
            assert await stream.read(100) == b""
        assert stream.get_extra_info("is_readable") is True


async def test_writing_to_a_closed_connection_raises_write_error() -> None:
    """After the server has closed the connection, writing raises WriteError, and the connection can't be reused."""
    async with connected() as (stream, server_end):
        stream.request_begun = True
        await server_end.aclose()
        with pytest.raises(httpcore.WriteError):
            await write_forever(stream)
        assert stream.not_reusable
        assert stream.get_extra_info("is_readable") is True
