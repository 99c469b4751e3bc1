"""RecordStream, which tracks the boundaries of TLS records."""

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute

from gatepay_async.pool.records import RecordStream

pytestmark = [pytest.mark.fast, pytest.mark.anyio]

# Two TLS records with headers of five bytes; the bodies have three bytes and none.
TWO_RECORDS = b"\x17\x03\x03\x00\x03abc\x17\x03\x03\x00\x00"


class FakeStream(ByteStream):
    """Returns *parts* one after the other, and records the calls of its other methods."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = list(parts)
        self.calls: list[object] = []

    async def receive(self, max_bytes: int = 65536) -> bytes:  # noqa: ARG002 -- anyio's interface
        if not self.parts:
            raise anyio.EndOfStream
        return self.parts.pop(0)

    async def send(self, item: bytes) -> None:
        self.calls.append(item)

    async def send_eof(self) -> None:
        self.calls.append("eof")

    async def aclose(self) -> None:
        self.calls.append("closed")


async def test_at_record_end_is_true_only_where_a_record_ends() -> None:
    """Cut at any byte, ``at_record_end`` is true exactly where a record ends."""
    for cut in range(1, len(TWO_RECORDS)):
        stream = RecordStream(FakeStream(TWO_RECORDS[:cut], TWO_RECORDS[cut:]))
        assert stream.at_record_end
        assert await stream.receive() == TWO_RECORDS[:cut]
        assert stream.at_record_end == (cut == 8)
        assert await stream.receive() == TWO_RECORDS[cut:]
        assert stream.at_record_end


async def test_early_bytes_are_received_separately() -> None:
    """Bytes that arrived before the request was sent are received separately from later ones."""
    stream = RecordStream(FakeStream(TWO_RECORDS[:3], TWO_RECORDS[3:], b"\x17"))
    stream.early_bytes = 8
    received = [(await stream.receive(), stream.last_were_early, stream.at_record_end) for _ in range(4)]
    assert received == [
        (TWO_RECORDS[:3], True, False),
        (TWO_RECORDS[3:8], True, False),
        (TWO_RECORDS[8:], False, True),
        (b"\x17", False, False),
    ]
    with pytest.raises(anyio.EndOfStream):
        await stream.receive()


async def test_other_methods_are_forwarded() -> None:
    source = FakeStream()
    stream = RecordStream(source)
    await stream.send(b"x")
    await stream.send_eof()
    await stream.aclose()
    assert source.calls == [b"x", "eof", "closed"]
    assert stream.extra(SocketAttribute.local_port, None) is None  # noqa: S610 -- anyio's extra(), not Django's
