"""
Injects a fault into a request.

A :class:`~gatepay_async.sandbox.faults.FaultKind` determines whether the application handles the call, and what happens
to the reply. A fault that closes the connection finds the connection in the ASGI scope, where
:mod:`gatepay_async.sandbox.server` puts it. An in-process transport has no connection. There, such a fault raises
:class:`ConnectionResetError`, which the client sees as a network error.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import anyio
from attrs import define, field, frozen
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatepay_async.sandbox.faults import Fault, FaultKind

__all__ = ["CONNECTION_KEY", "FaultyExchange", "ServerConnection", "inject_fault"]

CONNECTION_KEY = "gatepay_async.sandbox.connection"
_BAD_GATEWAY_PAGE = (
    "<html>\n<head><title>502 Bad Gateway</title></head>\n"
    "<body><center><h1>502 Bad Gateway</h1></center></body>\n</html>\n"
)


class ServerConnection(Protocol):
    """The two methods of an asyncio transport that faults use."""

    def abort(self) -> None:
        """Close the connection at once."""
        ...

    def close(self) -> None:
        """Close the connection after the written data was sent."""
        ...


@frozen
class FaultyExchange:
    """
    One request, and the application that can handle it.

    Attributes:
        app: The application.
        refuse: Makes the refusal for a code.
        scope: The request's ASGI scope.
        receive: Receives the rest of the request.
        send: Sends the response.
    """

    app: ASGIApp
    refuse: Callable[[int], Response]
    scope: Scope
    receive: Receive
    send: Send

    async def drain(self) -> None:
        """Read the whole request, so that the fault comes after the client has sent everything."""
        message = await self.receive()
        while message.get("more_body", False):
            message = await self.receive()

    async def handle_call(self) -> "_BufferedReply":
        """Let the application handle the call. Return its reply without sending it."""
        reply = _BufferedReply()
        await self.app(self.scope, self.receive, reply.buffer)
        return reply

    async def reply(self, response: Response) -> None:
        """Read the whole request, and send *response* without calling the application."""
        await self.drain()
        await response(self.scope, self.receive, self.send)

    async def wait_until_closed(self) -> None:
        """Wait until either side closes the connection. Call this only after the whole request has been read."""
        await self.receive()  # ASGI: after the whole request, only http.disconnect can follow

    async def pause(self, seconds: float) -> bool:
        """Wait for *seconds*, or until the client disconnects. Return whether it is still connected."""
        with anyio.move_on_after(seconds) as waiting:
            await self.wait_until_closed()
        return waiting.cancelled_caught

    def connection(self) -> ServerConnection:
        """
        Return the connection, to close it.

        Raises:
            ConnectionResetError: There is no connection, because client and sandbox run in one process.
        """
        connection: ServerConnection | None = self.scope.get("state", {}).get(CONNECTION_KEY)
        if connection is None:
            raise ConnectionResetError("a sandbox fault closed the connection")
        return connection


@define
class _BufferedReply:
    """The application's reply, which has not been sent yet."""

    start: Message = field(factory=dict[str, object])
    body: bytes = b""

    async def buffer(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self.body += message.get("body", b"")

    def response(self, body: bytes) -> Response:
        """Return a complete response with *body*, and with the status and headers of the reply."""
        headers = {name.decode(): value.decode() for name, value in self.start["headers"]}
        del headers["content-length"]  # Response sets it to the length of *body*
        return Response(body, status_code=self.start["status"], headers=headers)


# One function for each FaultKind, which says what the fault does.


async def _cut_before(exchange: FaultyExchange, _fault: Fault) -> None:
    await exchange.drain()
    exchange.connection().abort()
    await exchange.wait_until_closed()


async def _cut_after(exchange: FaultyExchange, _fault: Fault) -> None:
    await exchange.handle_call()
    exchange.connection().abort()
    await exchange.wait_until_closed()


async def _half_body(exchange: FaultyExchange, _fault: Fault) -> None:
    reply = await exchange.handle_call()
    connection = exchange.connection()  # first: in process, this raises before a part of the reply is sent
    await exchange.send(reply.start)  # with the length of the whole body
    half = reply.body[: len(reply.body) // 2]
    await exchange.send({"type": "http.response.body", "body": half, "more_body": True})
    connection.close()
    await exchange.wait_until_closed()


async def _half_json(exchange: FaultyExchange, _fault: Fault) -> None:
    reply = await exchange.handle_call()
    response = reply.response(reply.body[: len(reply.body) // 2])
    await response(exchange.scope, exchange.receive, exchange.send)


async def _slow(exchange: FaultyExchange, fault: Fault) -> None:
    reply = await exchange.handle_call()
    if await exchange.pause(fault.seconds):
        await reply.response(reply.body)(exchange.scope, exchange.receive, exchange.send)


async def _drip(exchange: FaultyExchange, fault: Fault) -> None:
    reply = await exchange.handle_call()
    await exchange.send(reply.start)
    for index in range(len(reply.body)):
        if not await exchange.pause(fault.seconds):
            return
        byte = reply.body[index : index + 1]
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
        ConnectionResetError: The fault closes the connection, but an in-process transport has none.
    """
    await _INJECTIONS[fault.kind](exchange, fault)
