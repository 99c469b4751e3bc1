"""
Injects a fault into a request.

Depending on its :class:`~gatepay_async.sandbox.faults.FaultKind`, the call is carried out or not, and then the answer
is damaged. To cut the connection, a fault needs the connection itself, which :mod:`gatepay_async.sandbox.server` puts
into the ASGI scope. With an in-process transport there is no connection: then the fault raises
:class:`ConnectionResetError`, which the client sees as a network error.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import anyio
from attrs import define, field, frozen
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatepay_async.sandbox.faults import Fault, FaultKind

__all__ = ["CONNECTION", "Connection", "FaultyExchange", "inject_fault"]

CONNECTION = "gatepay_async.sandbox.connection"
_BAD_GATEWAY_PAGE = (
    "<html>\n<head><title>502 Bad Gateway</title></head>\n"
    "<body><center><h1>502 Bad Gateway</h1></center></body>\n</html>\n"
)


class Connection(Protocol):
    """The methods of asyncio's transports that are needed here."""

    def abort(self) -> None:
        """Close the connection at once."""
        ...

    def close(self) -> None:
        """Close the connection after the written data was sent."""
        ...


@frozen
class FaultyExchange:
    """One request, and the application that can carry it out."""

    app: ASGIApp
    refuse: Callable[[int], Response]
    scope: Scope
    receive: Receive
    send: Send

    async def drain(self) -> None:
        """Read the request to its end, so that the client has sent everything before the fault."""
        message = await self.receive()
        while message.get("more_body", False):
            message = await self.receive()

    async def carry_out(self) -> "_BufferedAnswer":
        """Have the application carry out the call, and return its answer without sending it."""
        answer = _BufferedAnswer()
        await self.app(self.scope, self.receive, answer.buffer)
        return answer

    async def reply(self, response: Response) -> None:
        """Read the request to its end, and send *response* instead of calling the application."""
        await self.drain()
        await response(self.scope, self.receive, self.send)

    async def until_gone(self) -> None:
        """Wait until the connection is closed by either side. The request must have been read."""
        await self.receive()  # ASGI: after the whole request, only http.disconnect can follow

    async def pause(self, seconds: float) -> bool:
        """Wait for *seconds*, or until the client disconnects. Return whether it is still connected."""
        with anyio.move_on_after(seconds) as waiting:
            await self.until_gone()
        return waiting.cancelled_caught

    def connection(self) -> Connection:
        """
        Return the connection, to close it.

        Raises:
            ConnectionResetError: There is no connection, because client and sandbox run in one process.
        """
        connection: Connection | None = self.scope.get("state", {}).get(CONNECTION)
        if connection is None:
            raise ConnectionResetError("a fault of the sandbox closed the connection")
        return connection


@define
class _BufferedAnswer:
    """The answer of the application, kept instead of sent."""

    start: Message = field(factory=dict[str, object])
    body: bytes = b""

    async def buffer(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self.body += message.get("body", b"")

    def response(self, body: bytes) -> Response:
        """Return a complete response with *body* and the answer's status and content type."""
        headers = {name.decode(): value.decode() for name, value in self.start["headers"]}
        del headers["content-length"]  # Response computes the one of *body*
        return Response(body, status_code=self.start["status"], headers=headers)


async def _cut_before(exchange: FaultyExchange, _fault: Fault) -> None:
    await exchange.drain()
    exchange.connection().abort()
    await exchange.until_gone()


async def _cut_after(exchange: FaultyExchange, _fault: Fault) -> None:
    await exchange.carry_out()
    exchange.connection().abort()
    await exchange.until_gone()


async def _half_body(exchange: FaultyExchange, _fault: Fault) -> None:
    answer = await exchange.carry_out()
    connection = exchange.connection()
    await exchange.send(answer.start)  # with the length of the whole body
    half = answer.body[: len(answer.body) // 2]
    await exchange.send({"type": "http.response.body", "body": half, "more_body": True})
    connection.close()
    await exchange.until_gone()


async def _half_json(exchange: FaultyExchange, _fault: Fault) -> None:
    answer = await exchange.carry_out()
    response = answer.response(answer.body[: len(answer.body) // 2])
    await response(exchange.scope, exchange.receive, exchange.send)


async def _slow(exchange: FaultyExchange, fault: Fault) -> None:
    answer = await exchange.carry_out()
    if await exchange.pause(fault.seconds):
        await answer.response(answer.body)(exchange.scope, exchange.receive, exchange.send)


async def _drip(exchange: FaultyExchange, fault: Fault) -> None:
    answer = await exchange.carry_out()
    await exchange.send(answer.start)
    for place in range(len(answer.body)):
        if not await exchange.pause(fault.seconds):
            return
        byte = answer.body[place : place + 1]
        await exchange.send({"type": "http.response.body", "body": byte, "more_body": True})
    await exchange.send({"type": "http.response.body", "body": b""})


async def _rate_limited(exchange: FaultyExchange, fault: Fault) -> None:
    headers = {"Retry-After": str(fault.retry_after)}
    await exchange.reply(PlainTextResponse("Too Many Requests", status_code=429, headers=headers))


async def _bad_gateway(exchange: FaultyExchange, _fault: Fault) -> None:
    await exchange.reply(HTMLResponse(_BAD_GATEWAY_PAGE, status_code=502))


async def _code(exchange: FaultyExchange, fault: Fault) -> None:
    await exchange.reply(exchange.refuse(fault.code))


_Injection: TypeAlias = Callable[[FaultyExchange, Fault], Awaitable[None]]

_INJECTIONS: dict[FaultKind, _Injection] = {
    FaultKind.CUT_BEFORE: _cut_before,
    FaultKind.CUT_AFTER: _cut_after,
    FaultKind.HALF_BODY: _half_body,
    FaultKind.HALF_JSON: _half_json,
    FaultKind.SLOW: _slow,
    FaultKind.DRIP: _drip,
    FaultKind.RATE_LIMITED: _rate_limited,
    FaultKind.BAD_GATEWAY: _bad_gateway,
    FaultKind.CODE: _code,
}


async def inject_fault(exchange: FaultyExchange, fault: Fault) -> None:
    """
    Handle the request as *fault* says.

    Raises:
        ConnectionResetError: The connection is to be cut, but with an in-process transport there is none.
    """
    await _INJECTIONS[fault.kind](exchange, fault)
