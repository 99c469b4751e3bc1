"""
Doing what a fault says to one request.

A fault stands around the application as a layer of ASGI. It carries the call out first, or it doesn't (see
:class:`~gatepay_async.sandbox.faults.FaultKind`), and then spoils the answer. Cutting needs the connection
itself, which :mod:`gatepay_async.sandbox.server` puts into the scope; under an in-process transport there is
none, and what a client would meet is raised as a :class:`ConnectionResetError`.
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
    """The end of a socket: what of asyncio's transport is needed here."""

    def abort(self) -> None:
        """End it at once."""
        ...

    def close(self) -> None:
        """End it when what was written has left."""
        ...


@frozen
class FaultyExchange:
    """One request on its way, and the application that can carry it out."""

    app: ASGIApp
    refuse: Callable[[int], Response]
    scope: Scope
    receive: Receive
    send: Send

    async def drain(self) -> None:
        """Read the request to its end, so that the client has sent all before it is let down."""
        message = await self.receive()
        while message.get("more_body", False):
            message = await self.receive()

    async def carry_out(self) -> "_KeptAnswer":
        """Let the application do it and keep what it answers."""
        answer = _KeptAnswer()
        await self.app(self.scope, self.receive, answer.keep)
        return answer

    async def reply(self, response: Response) -> None:
        """Read the request to its end, and answer *response* in the application's place."""
        await self.drain()
        await response(self.scope, self.receive, self.send)

    async def until_gone(self) -> None:
        """Return when the client has gone, or the connection was ended here. For when the request is read."""
        await self.receive()  # ASGI: after the whole request comes nothing but http.disconnect

    async def pause(self, seconds: float) -> bool:
        """Wait; says whether the client is still there, and returns at once when it is not."""
        with anyio.move_on_after(seconds) as waiting:
            await self.until_gone()
        return waiting.cancelled_caught

    def connection(self) -> Connection:
        """Give the connection to end.

        Raises:
            ConnectionResetError: There is none: both ends are in one process.
        """
        connection: Connection | None = self.scope.get("state", {}).get(CONNECTION)
        if connection is None:
            raise ConnectionResetError("the sandbox cut the connection, as a fault asked it to")
        return connection


@define
class _KeptAnswer:
    """What the application answered, kept instead of sent."""

    start: Message = field(factory=dict[str, object])
    body: bytes = b""

    async def keep(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self.body += message.get("body", b"")

    def response(self, body: bytes) -> Response:
        """Make a complete reply of *body* with the answer's status and content type."""
        headers = {name.decode(): value.decode() for name, value in self.start["headers"]}
        del headers["content-length"]  # Response counts anew
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
    await exchange.send(answer.start)  # with the whole body's length
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
    Do to the request what *fault* says.

    Raises:
        ConnectionResetError: A connection should be cut and there is none (in-process transport).
    """
    await _INJECTIONS[fault.kind](exchange, fault)
