"""The interface between the pool and a connection: `asyncio_wire` on asyncio, `over_httpcore` on trio."""

from collections.abc import AsyncIterable, Callable
from functools import partial
from typing import Any, Protocol

import httpx
from attrs import define, field, frozen

from gatepay_async.words.problem import Problem

HeaderLines = list[tuple[bytes, bytes]]  # the names and values of headers
RequestBody = bytes | AsyncIterable[bytes]


class NotAvailableError(httpx.ConnectError):
    """
    The connection can't carry the request, and has written nothing of it.

    Attributes:
        body_unread: Whether nothing of the request's body was read either.
    """

    def __init__(self, message: str, *, body_unread: bool) -> None:
        super().__init__(message)
        self.body_unread = body_unread

    def __reduce__(self) -> tuple[object, ...]:
        # By default, unpickling calls the class without keyword arguments.
        return partial(type(self), body_unread=self.body_unread), self.args


class PoolClosedError(httpx.ConnectError):
    """The client was closed before this request got a connection. Nothing was sent. A retry fails too."""


class TooLateError(httpx.ReadTimeout):
    """The response was not complete in time."""

    def __init__(self) -> None:
        super().__init__(Problem("deadline_passed"))

    def __reduce__(self) -> tuple[object, ...]:
        # By default, unpickling calls the class with the message, which `__init__` doesn't take.
        return type(self), ()


def do_nothing() -> None:
    """Do nothing. The default of each function of `Hooks`."""


@define
class Hooks:
    """
    Functions that the pool calls during a request, without arguments. If one raises, the request raises that exception.

    Attributes:
        on_wait: All connections are busy; the request starts to wait.
        on_turn: The request has waited and has got a connection.
        on_connect: A connection is about to be opened.
        on_send: The first byte of the request is about to leave. Before this call, no byte has left.
    """

    on_wait: Callable[[], object] = do_nothing
    on_turn: Callable[[], object] = do_nothing
    on_connect: Callable[[], object] = do_nothing
    on_send: Callable[[], object] = do_nothing


@define
class Request:
    """
    An HTTP request.

    Attributes:
        target: The path and the query.
        headers: All headers, with Content-Length or Transfer-Encoding.
        hooks: Functions to call during the request.
        extensions: httpx's own extensions: time-outs, for example.
        encoded_head: The head, encoded, up to the value of Content-Length. Empty if the request wasn't `Prepared`.
        closes_connection: Whether the request has `Connection: close`.
    """

    method: bytes
    target: bytes
    headers: HeaderLines = field(repr=False)
    body: RequestBody = field(repr=False)
    hooks: Hooks = field(factory=Hooks, repr=False)
    extensions: dict[str, Any] = field(factory=dict[str, Any], repr=False)
    encoded_head: bytes = field(default=b"", repr=False)
    closes_connection: bool = False


@frozen
class Prepared:
    """
    The part of a `Request` that is the same for all calls to one URL: everything but the body and the hooks.

    Attributes:
        headers: All headers but Content-Length.
        encoded_head: As in `Request`.
        closes_connection: As in `Request`.
    """

    method: bytes
    target: bytes
    headers: HeaderLines = field(repr=False)
    encoded_head: bytes = field(repr=False)
    closes_connection: bool

    def request(self, body: bytes, hooks: Hooks) -> Request:
        """Return the whole request."""
        return Request(
            self.method,
            self.target,
            self.headers,
            body,
            hooks,
            encoded_head=self.encoded_head,
            closes_connection=self.closes_connection,
        )


@define
class Head:
    """
    The status and headers of a response.

    Attributes:
        headers: As received.
        fields: The headers' values by lower-case name. If a name comes twice, this has the last value.
        extensions: httpx's extensions of a response.
    """

    status: int
    headers: HeaderLines = field(repr=False)
    fields: dict[bytes, bytes] = field(repr=False)
    extensions: dict[str, Any] = field(repr=False)


@define
class WholeResponse:
    """
    A whole response.

    Attributes:
        headers: As received.
        fields: The headers' values by lower-case name; see `Head`.
        body: As received. A body that exceeds the caller's limit may be cut off, somewhere after the limit.
    """

    status: int
    headers: HeaderLines = field(repr=False)
    fields: dict[bytes, bytes] = field(repr=False)
    body: bytes = field(repr=False)


class Deadline(Protocol):
    """
    The deadline of a call. The request's hooks may move it.

    Attributes:
        ends_at: The time on the event loop's clock.
    """

    ends_at: float


class Connection(Protocol):
    """
    One connection, which carries one exchange after the other.

    For an exchange, call either `try_exchange`; or `send`, then `read` any number of times, then `finish`.
    """

    def is_reusable(self) -> bool:
        """Whether the connection can carry another request. This doesn't check the socket for unread bytes."""
        ...

    def is_on_this_loop(self) -> bool:
        """Whether the connection was opened in this process, on the running event loop. If not, don't use it."""
        ...

    async def try_exchange(
        self, outgoing: bytes, *, on_send: Callable[[], object], deadline: float, max_bytes: int
    ) -> WholeResponse | None:
        """
        Send a request and read its whole response, if the request can be sent without waiting.

        Args:
            outgoing: The encoded request.
            on_send: Called before the first byte leaves.
            deadline: The time on the event loop's clock.
            max_bytes: Stop reading once the body has more than this number of bytes.

        Returns:
            The response. None: nothing was sent, and the caller has to use `send`.

        Raises:
            TooLateError: The response was not complete at *deadline*.
            httpx.TransportError: Any other failure.
        """
        ...

    async def send(self, request: Request) -> Head:
        """
        Connect if need be, send *request*, and read the head of its response.

        Raises:
            NotAvailableError: Nothing was sent. The caller may use another connection.
            httpx.TransportError: Any other failure.
        """
        ...

    async def read(self) -> bytes:
        """Read the next part of the body. At the end of the body the part is empty."""
        ...

    async def finish(self) -> None:
        """End the exchange. If the response was not read to its end, the connection can't be reused."""
        ...

    async def aclose(self) -> None:
        """
        Close the connection at once; a cancellation can't interrupt this.

        On another event loop or in another process, only forget the connection: its socket belongs to the loop and the
        process that opened it.
        """
        ...
