"""The stream by itself: what goes over it and when, and in whose words it fails."""

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

# So little that only what never comes can take longer, and so long that a test can wait for it.
MOMENT = 0.01


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[NetworkStream, ByteStream]]:
    """A stream that has connected, and its other end."""
    stream = NetworkStream()
    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener:
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 -- anyio's extra(), not Django's
        assert await stream.connect_tcp("127.0.0.1", port) is stream
        async with await listener.listeners[0].accept() as other_end:
            with anyio.fail_after(PATIENCE):
                yield stream, other_end
            await stream.aclose()


async def flood(stream: NetworkStream) -> None:
    """Write for ever, little at a time."""
    while True:
        await stream.write(b"x")
        await stream.write(b"", timeout=20)


async def never(*_: Any, **__: Any) -> None:
    await anyio.sleep_forever()


async def test_one_write() -> None:
    """What is written leaves with the empty write that ends it, in one piece; then on_send has been called."""
    events: list[str] = []
    async with connected() as (stream, other_end):
        stream.on_send = lambda: events.append("send")
        await stream.write(b"head, ")
        await stream.write(b"body")
        assert events == []
        await stream.write(b"")
        assert events == ["send"]
        assert await other_end.receive() == b"head, body"
        await stream.write(b"next")
        await stream.write(b"")
        assert await other_end.receive() == b"next"
        assert events == ["send"]


async def test_reading_lets_go() -> None:
    """What is held back leaves before anything is read, and not being able to send it doesn't stop the reading."""
    async with connected() as (stream, other_end):
        stream.request_begun = True  # the end of a request whose beginning has left
        await stream.write(b"question")
        await other_end.send(b"answer")
        assert await stream.read(100) == b"answer"
        assert await other_end.receive() == b"question"
        await stream.write(b"question")
        await stream.aclose()
        with pytest.raises(httpcore.ReadError):
            await stream.read(100)


async def test_what_the_event_loop_holds_before_the_request() -> None:
    """Bytes that the event loop has taken from a new connection are no reply to what has not been sent."""
    async with connected() as (stream, _):
        stream._queue = [b"HTTP/1.1 200 OK"]
        await stream.write(b"head")
        with pytest.raises(httpcore.ConnectionNotAvailable):
            await stream.write(b"")


async def test_empty_write() -> None:
    """With nothing held back there is nothing to send, and on_send isn't called."""
    events: list[str] = []
    async with connected() as (stream, _):
        stream.on_send = lambda: events.append("send")
        await stream.write(b"")
        assert events == []


async def test_much_to_write() -> None:
    """No more than a little is ever held back."""
    async with connected() as (stream, other_end):
        await stream.write(b"x" * MAX_COLLECTED_BYTES)
        assert await other_end.receive()


async def test_the_other_end_closes() -> None:
    """Once the other end has closed, the stream is readable, and there is nothing more to read."""
    async with connected() as (stream, other_end):
        assert stream.get_extra_info("is_readable") is False
        await other_end.aclose()
        assert stream.get_extra_info("is_readable") is True
        assert await stream.read(100) == b""


async def test_without_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the system has no poll(), as Windows hasn't."""
    monkeypatch.delattr(select, "poll")
    async with connected() as (stream, other_end):
        assert stream.get_extra_info("is_readable") is False
        await other_end.send(b"x")
        assert stream.get_extra_info("is_readable") is True


async def test_closing() -> None:
    """A closed stream counts as readable, knows nothing, can't be used, and may be closed again."""
    async with connected() as (stream, other_end):
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
            await other_end.receive()


async def test_what_it_knows() -> None:
    """A stream answers httpcore's questions, and None to one it doesn't know."""
    async with connected() as (stream, other_end):
        address = other_end.extra(SocketAttribute.local_address)  # noqa: S610 -- as above
        assert stream.get_extra_info("server_addr") == address
        assert stream.get_extra_info("socket").fileno() >= 0
        assert stream.get_extra_info("ssl_object") is None
        assert stream.get_extra_info("weather") is None


@pytest.mark.parametrize(
    ("name", "connect"),
    [
        ("connect_tcp", lambda stream: stream.connect_tcp("127.0.0.1", 1, timeout=MOMENT)),
        ("connect_unix", lambda stream: stream.connect_unix_socket("socket", timeout=MOMENT)),
    ],
)
async def test_slow_to_connect(
    name: str, connect: Callable[[NetworkStream], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not being connected in time is ConnectTimeout."""
    monkeypatch.setattr(anyio, name, never)
    with pytest.raises(httpcore.ConnectTimeout, match="not connected"):
        await connect(NetworkStream())


async def test_slow_tls() -> None:
    """Not getting to TLS in time is ConnectTimeout, and closing the stream still closes the socket."""
    async with connected() as (stream, other_end):
        with pytest.raises(httpcore.ConnectTimeout, match="no TLS"):
            await stream.start_tls(ssl.create_default_context(), "gatepay.example", timeout=MOMENT)
        await stream.aclose()
        # The end of what it received: b"".join() gets there only if there is one.
        assert b"".join([part async for part in other_end])


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_no_tls(answer: bytes) -> None:
    """Another end that hangs up, or speaks something else, is ConnectError."""
    async with connected() as (stream, other_end), anyio.create_task_group() as group:

        async def refuse() -> None:
            await other_end.receive()
            if answer:
                await other_end.send(answer)
            else:
                await other_end.aclose()

        group.start_soon(refuse)
        with pytest.raises(httpcore.ConnectError):
            await stream.start_tls(ssl.create_default_context(), "gatepay.example", timeout=20)


async def test_nothing_to_read() -> None:
    """Nothing to read in time is ReadTimeout."""
    async with connected() as (stream, _):
        with pytest.raises(httpcore.ReadTimeout, match="nothing to read"):
            await stream.read(100, timeout=MOMENT)


async def test_nothing_taken() -> None:
    """Another end that takes nothing in time is WriteTimeout; nothing more must be written then."""
    async with connected() as (stream, _):
        with pytest.raises(httpcore.WriteTimeout, match="nothing written"):
            await stream.write(b"x" * 50_000_000, timeout=MOMENT)
        assert not stream.is_quiet()


async def test_broken_before_it_is_used() -> None:
    """A connection that breaks before its first request gives no reply: it ends, or says why, and it may be closed."""
    async with connected() as (stream, other_end):
        theirs = other_end.extra(SocketAttribute.raw_socket)  # noqa: S610 -- as above
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed, it breaks
        await other_end.aclose()
        await until(lambda: stream.get_extra_info("is_readable"))
        with suppress(httpcore.WriteError, httpcore.ReadError):  # asyncio says so later than trio
            await stream.write(b"question")
            await stream.write(b"")
            assert await stream.read(100) == b""
        assert stream.get_extra_info("is_readable") is True


async def test_broken() -> None:
    """A connection that the other end has cut is WriteError to write to, spoiled, and counts as readable."""
    async with connected() as (stream, other_end):
        stream.request_begun = True
        await other_end.aclose()
        with pytest.raises(httpcore.WriteError):
            await flood(stream)
        assert stream.not_reusable
        assert stream.get_extra_info("is_readable") is True
