"""What the pool asks of a connection, whoever talks over it: `asyncio_wire` on asyncio, `over_httpcore` elsewhere."""

from collections.abc import AsyncIterable, Callable
from typing import Any, Protocol

import httpx
from attrs import define, field, frozen

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


class TooLateError(httpx.ReadTimeout):
    """The response was not there in time."""


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


@frozen
class Prepared:
    """
    What is the same for all requests of a kind: the fields of `Request` but for body and extensions.

    Attributes:
        headers: Without Content-Length.
    """

    method: bytes
    target: bytes
    headers: Lines = field(repr=False)
    start: bytes = field(repr=False)
    is_last: bool


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


@define
class Answer:
    """
    A whole response.

    Attributes:
        headers: As they came.
        fields: As those of `Head`.
        body: As it came; longer than the most that was wanted, if there was more.
    """

    status: int
    headers: Lines = field(repr=False)
    fields: dict[bytes, bytes] = field(repr=False)
    body: bytes = field(repr=False)


class Connection(Protocol):
    """One connection, for one exchange after the other: `send`, `read` to the end or not, `finish`; or `ask`."""

    def is_fit(self) -> bool:
        """Whether it may carry another request, as far as is known without asking the system."""
        ...

    def is_here(self) -> bool:
        """Whether it was opened in this process, on the event loop that runs now. Any other leaves it alone."""
        ...

    async def ask(self, outgoing: bytes, *, on_send: Callable[[], object], until: float, most: int) -> Answer | None:
        """
        Make a whole exchange, if that needs no wait but the one for the response.

        Args:
            outgoing: The request.
            on_send: Called before the first byte leaves.
            until: When the wait ends, on the event loop's clock.
            most: Read no further once there are more bytes than these.

        Returns:
            The response, or None: nothing was sent, and `send` may do it.

        Raises:
            TooLateError: It is later than *until*.
            httpx.TransportError: As `send` and `read`.
        """
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
