"""Counts the records of TLS, so that bytes inside OpenSSL can't hide; and a socket's stream that does so."""

from collections.abc import Mapping
from typing import Any, Final, cast

from anyio import EndOfStream
from anyio.abc import ByteStream

# RFC 8446, 5.1: type, version (2), length (2); then as many bytes as the length says.
HEAD: Final = 5


class Records:
    """
    Where records begin and end, read from outside.

    OpenSSL keeps part of a record without saying so: neither ``SSLObject.pending()`` nor the BIO shows it.
    """

    __slots__ = ("_head", "_missing")

    def __init__(self) -> None:
        self._head = b""
        self._missing = 0

    @property
    def at_rest(self) -> bool:
        """Whether all that came are whole records."""
        return not (self._missing or self._head)

    def feed(self, data: bytes) -> None:
        """Go on by *data*."""
        place = 0
        while place < len(data):
            if self._missing:
                step = min(self._missing, len(data) - place)
                self._missing -= step
            else:
                step = min(HEAD - len(self._head), len(data) - place)
                self._head += data[place : place + step]
                if len(self._head) == HEAD:
                    self._missing = int.from_bytes(self._head[3:])
                    self._head = b""
            place += step


class RecordStream(ByteStream):
    """
    A stream below TLS.

    Args:
        stream: Over the socket.

    Attributes:
        early: How many of the bytes to come had arrived before the request left. They are handed to TLS by
            themselves, so that what is read from them can be told from the reply.
        only_early: What came last was early.
        fed: TLS has been given something since this was last set to False.
        ended: Nothing more comes. Where TLS has said so before, this isn't asked and stays False.
    """

    def __init__(self, stream: ByteStream) -> None:
        self.early = 0
        self.only_early = False
        self.fed = True  # by the handshake
        self.ended = False
        self._stream = stream
        self._held = b""
        self._records = Records()

    @property
    def at_rest(self) -> bool:
        """Whether all that came are whole records, and TLS has been given all of it."""
        return self._records.at_rest and not self._held

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive what comes next; never early bytes together with others."""
        try:
            data, self._held = self._held or await self._stream.receive(max_bytes), b""
        except EndOfStream:
            self.ended = True
            raise
        self.only_early = self.early > 0
        if self.early:
            data, self._held = data[: self.early], data[self.early :]
            self.early -= len(data)
        self._records.feed(data)
        self.fed = True
        return data

    async def send(self, item: bytes) -> None:
        """Send *item*."""
        await self._stream.send(item)

    async def send_eof(self) -> None:
        """Say that nothing more will be sent."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the socket."""
        await self._stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Any]:
        """What is known of the socket."""
        attributes: Mapping[Any, Any] = cast("Any", self._stream).extra_attributes
        return attributes
