"""Where records of TLS begin and end, read from outside."""

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute

from gatepay_async.pool.records import RecordStream

pytestmark = [pytest.mark.fast, pytest.mark.anyio]

# Two records: five bytes of head each, three and no bytes of body.
TWO = b"\x17\x03\x03\x00\x03abc\x17\x03\x03\x00\x00"


class Source(ByteStream):
    """Gives what it was given, part by part, and notes what is done to it."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = list(parts)
        self.done: list[object] = []

    async def receive(self, max_bytes: int = 65536) -> bytes:  # noqa: ARG002 -- anyio's interface
        if not self.parts:
            raise anyio.EndOfStream
        return self.parts.pop(0)

    async def send(self, item: bytes) -> None:
        self.done.append(item)

    async def send_eof(self) -> None:
        self.done.append("eof")

    async def aclose(self) -> None:
        self.done.append("closed")


async def test_every_cut() -> None:
    """Cut anywhere, the stream is at rest exactly where a record has ended."""
    for cut in range(1, len(TWO)):
        stream = RecordStream(Source(TWO[:cut], TWO[cut:]))
        assert stream.at_record_end
        assert await stream.receive() == TWO[:cut]
        assert stream.at_record_end == (cut == 8)
        assert await stream.receive() == TWO[cut:]
        assert stream.at_record_end


async def test_early_bytes() -> None:
    """What had come before the request is given by itself, and is told from the rest."""
    stream = RecordStream(Source(TWO[:3], TWO[3:], b"\x17"))
    stream.early = 8
    given = [(await stream.receive(), stream.only_early, stream.at_record_end) for _ in range(4)]
    assert given == [
        (TWO[:3], True, False),
        (TWO[3:8], True, False),
        (TWO[8:], False, True),
        (b"\x17", False, False),
    ]
    with pytest.raises(anyio.EndOfStream):
        await stream.receive()


async def test_the_rest() -> None:
    """All else goes to the stream below."""
    source = Source()
    stream = RecordStream(source)
    await stream.send(b"x")
    await stream.send_eof()
    await stream.aclose()
    assert source.done == [b"x", "eof", "closed"]
    assert stream.extra(SocketAttribute.local_port, None) is None  # noqa: S610 -- anyio's extra(), not Django's
