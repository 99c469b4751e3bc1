"""TLS without I/O: encrypts and decrypts bytes in memory."""

import ssl
from contextlib import suppress
from typing import Final

from gatepay_async.pool.records import Records

# The most bytes that one read decrypts.
READ_BYTES: Final = 64 * 1024


class Tls:
    """
    The client's end of TLS.

    Attributes:
        object: Python's ``SSLObject``.
        ended: Whether the server has ended the connection (close_notify) or sent an invalid record.
        failure: The error for an invalid record, or None.
    """

    __slots__ = ("_incoming", "_outgoing", "_records", "ended", "failure", "object")

    def __init__(self, context: ssl.SSLContext, hostname: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self.ended = False
        self.failure: ssl.SSLError | None = None
        self._records = Records()

    @property
    def at_record_end(self) -> bool:
        """Whether the bytes so far end with a whole record, so that OpenSSL holds no part of one."""
        return self._records.at_record_end

    def shake_hands(self) -> bool:
        """
        Continue the handshake with the bytes received so far.

        Returns:
            Whether the handshake is complete.

        Raises:
            ssl.SSLError: The handshake failed, or the certificate is not trusted.
        """
        with suppress(ssl.SSLWantReadError):
            self.object.do_handshake()
            return True
        return False

    def feed(self, data: bytes) -> None:
        """Add *data*, bytes received from the network."""
        self._records.feed(data)
        self._incoming.write(data)

    def read(self) -> bytes:
        """Decrypt and return the bytes received so far; set `ended` and `failure`."""
        parts: list[bytes] = []
        try:
            while part := self.object.read(READ_BYTES):
                parts.append(part)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.ended, self.failure = True, error
        return b"".join(parts)

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt *data*; `drain` returns the result."""
        self.object.write(data)

    def drain(self) -> bytes:
        """Return the encrypted bytes to send, and remove them from the buffer."""
        return self._outgoing.read() if self._outgoing.pending else b""
