"""Tracks the boundaries of TLS records, to know whether OpenSSL holds part of a record."""

from collections.abc import Mapping
from typing import Any, Final, cast

from anyio import EndOfStream
from anyio.abc import ByteStream

# The bytes before a record's content (RFC 8446, 5.1): type (1), version (2), length (2).
HEADER_BYTES: Final = 5


class Records:
    """
    Tracks where TLS records begin and end.

    OpenSSL doesn't report that it holds part of a record: neither ``SSLObject.pending()`` nor the BIO shows it.
    """

    __slots__ = ("_head", "_missing")

    def __init__(self) -> None:
        self._head = b""  # the bytes before a record's content, until all of them have arrived
        self._missing = 0  # bytes of the current record's content that have not arrived yet

    @property
    def at_record_end(self) -> bool:
        """Whether the bytes so far end with a whole record."""
        return not (self._missing or self._head)

    def feed(self, data: bytes) -> None:
        """Count *data*, the next bytes received."""
        position = 0
        while position < len(data):
            if self._missing:
                length = min(self._missing, len(data) - position)
                self._missing -= length
            else:
                length = min(HEADER_BYTES - len(self._head), len(data) - position)
                self._head += data[position : position + length]
                if len(self._head) == HEADER_BYTES:
                    self._missing = int.from_bytes(self._head[3:])  # the length
                    self._head = b""
            position += length


class RecordStream(ByteStream):
    """
    The encrypted stream, between the socket and TLS.

    Args:
        stream: The stream over the socket.

    Attributes:
        early_bytes: The number of bytes that arrived before the request was sent, and that TLS has not received yet.
            TLS gets them separately from later bytes, so that their content can't be taken for the reply.
        last_were_early: Whether the bytes received last had arrived before the request was sent.
        has_new_bytes: Whether TLS has received bytes since this was last set to False.
        ended: Whether TCP ended without TLS's close_notify. After a close_notify this stays False.
    """

    def __init__(self, stream: ByteStream) -> None:
        self.early_bytes = 0
        self.last_were_early = False
        self.has_new_bytes = True  # the bytes of the handshake
        self.ended = False
        self._stream = stream
        self._held = b""  # bytes after the early ones, for the next receive()
        self._records = Records()

    @property
    def at_record_end(self) -> bool:
        """Whether the bytes so far end with a whole record, and TLS has received all of them."""
        return self._records.at_record_end and not self._held

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive the next bytes. They are either all early (see `early_bytes`), or all later."""
        try:
            data, self._held = self._held or await self._stream.receive(max_bytes), b""
        except EndOfStream:
            self.ended = True
            raise
        self.last_were_early = self.early_bytes > 0
        if self.early_bytes:
            data, self._held = data[: self.early_bytes], data[self.early_bytes :]
            self.early_bytes -= len(data)
        self._records.feed(data)
        self.has_new_bytes = True
        return data

    async def send(self, item: bytes) -> None:
        """Send *item*."""
        await self._stream.send(item)

    async def send_eof(self) -> None:
        """Close the sending half of the socket."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the socket."""
        await self._stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Any]:
        """The socket's attributes (anyio's interface)."""
        attributes: Mapping[Any, Any] = cast("Any", self._stream).extra_attributes
        return attributes
