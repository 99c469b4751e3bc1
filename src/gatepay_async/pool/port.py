"""What the pool asks of a connection, whoever talks over it: `asyncio_wire` on asyncio, `over_httpcore` elsewhere."""

from collections.abc import AsyncIterable
from typing import Any, Protocol

import httpx
from attrs import define, field

Lines = list[tuple[bytes, bytes]]
Body = bytes | AsyncIterable[bytes]


class NotAvailableError(httpx.ConnectError):
    """
    The connection has written nothing of the request, and won't.

    Attributes:
        untouched: Nothing of the request's body was read either.
    """

    def __init__(self, message: str, *, untouched: bool) -> None:
        super().__init__(message)
        self.untouched = untouched


@define
class Request:
    """
    What goes out.

    Attributes:
        target: Path and query.
        headers: Those that frame the body included.
        extensions: httpx's, and those of `OriginPool`.
        start: The head as bytes, up to the value of Content-Length, where that was made before; or empty.
        is_last: Its head says that the connection ends with it.
    """

    method: bytes
    target: bytes
    headers: Lines = field(repr=False)
    body: Body = field(repr=False)
    extensions: dict[str, Any] = field(repr=False)
    start: bytes = field(default=b"", repr=False)
    is_last: bool = False


@define
class Head:
    """
    What comes back before the body.

    Attributes:
        headers: As they came.
        fields: Their values by lower-case name; the last one, where a name comes twice.
        extensions: httpx's.
    """

    status: int
    headers: Lines = field(repr=False)
    fields: dict[bytes, bytes] = field(repr=False)
    extensions: dict[str, Any] = field(repr=False)


class Connection(Protocol):
    """One connection, for one exchange after the other: `send`, `read` to the end or not, `finish`."""

    def is_fit(self) -> bool:
        """Whether it may carry another request, as far as is known without asking the system."""
        ...

    def is_here(self) -> bool:
        """Whether it was opened in this process, on the event loop that runs now. Any other leaves it alone."""
        ...

    async def send(self, request: Request) -> Head:
        """
        Connect if need be, send *request*, and read the head of its response.

        Raises:
            NotAvailableError: Nothing was sent; another connection may do.
            httpx.TransportError: Any other failure.
        """
        ...

    async def read(self) -> bytes:
        """Read some of the body; nothing at its end."""
        ...

    async def finish(self) -> None:
        """End the exchange. One that isn't at its end leaves the connection unfit."""
        ...

    async def aclose(self) -> None:
        """Close it, at once and whatever comes; where it is not at home, let go of it."""
        ...
