"""TLS without I/O: bytes of the network in, bytes of the other end out, and the other way round."""

import ssl
from contextlib import suppress
from typing import Final

from gatepay_async.pool.records import Records

AT_A_TIME: Final = 64 * 1024


class Tls:
    """
    The client's end of TLS.

    Attributes:
        object: Python's own.
        ended: Nothing more will come: the other end has said so, or sent what is no record of this connection.
        failure: The latter, or None.
    """

    __slots__ = ("_incoming", "_outgoing", "_records", "ended", "failure", "object")

    def __init__(self, context: ssl.SSLContext, hostname: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self.ended = False
        self.failure: ssl.SSLError | None = None
        self._records = Records()

    @property
    def at_rest(self) -> bool:
        """Whether all that came are whole records: no byte waits in OpenSSL for the rest of its own."""
        return self._records.at_rest

    def shake_hands(self) -> bool:
        """
        Go on agreeing; True: there is an agreement.

        Raises:
            ssl.SSLError: There is none, or the certificate is not to be believed.
        """
        with suppress(ssl.SSLWantReadError):
            self.object.do_handshake()
            return True
        return False

    def feed(self, data: bytes) -> None:
        """Take *data*, which has come over the network."""
        self._records.feed(data)
        self._incoming.write(data)

    def read(self) -> bytes:
        """Open what has come; see whether it has ended."""
        parts: list[bytes] = []
        try:
            while part := self.object.read(AT_A_TIME):
                parts.append(part)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.ended, self.failure = True, error
        return b"".join(parts)

    def write(self, data: bytes | memoryview) -> None:
        """Seal *data*, which is to go over the network."""
        self.object.write(data)

    def drain(self) -> bytes:
        """Take what is to go over the network."""
        return self._outgoing.read() if self._outgoing.pending else b""
