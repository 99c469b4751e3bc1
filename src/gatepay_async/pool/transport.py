"""
The connection pool: an httpx transport for one origin.

`slots` decides synchronously which connection to use. A connection (`port`) sends and reads: our own on asyncio
(`asyncio_wire`), httpcore's on trio (`over_httpcore`). This module connects the two. Every slot that is taken goes
back through `_return_slot()`, which releases it, and first closes a connection that can't be reused.

This transport doesn't support proxies: use `httpx.AsyncHTTPTransport(proxy=…)` for them.
"""

import math
import ssl
import time
from collections.abc import AsyncIterable, Callable
from contextlib import AsyncExitStack
from os import PathLike
from types import NoneType
from typing import Final, cast

import anyio
import anyio.lowlevel
import httpcore
import httpx
from attrs import fields

from gatepay_async.pool import turns
from gatepay_async.pool.answers import OpenResponse, ResponseBody
from gatepay_async.pool.opener import Opener, check_origin, origin_of
from gatepay_async.pool.over_httpcore import HttpcoreConnection
from gatepay_async.pool.owner import PROCESS, running_loop
from gatepay_async.pool.port import (
    Connection,
    Deadline,
    Head,
    Hooks,
    NotAvailableError,
    PoolClosedError,
    Prepared,
    Request,
    TooLateError,
    WholeResponse,
)
from gatepay_async.pool.requests import encode_head
from gatepay_async.pool.slots import Slot, Slots
from gatepay_async.words import arguments
from gatepay_async.words.arguments import Seconds
from gatepay_async.words.problem import Problem

# The most expired connections that one call closes before it sends. More of them would slow down the first call after
# a burst; the next calls close the rest.
MAX_EXPIRED_CLOSED_PER_CALL: Final = 4
HOOK_NAMES: Final = tuple(hook.name for hook in fields(Hooks))


class OriginPool(httpx.AsyncBaseTransport):
    """
    A pool of HTTP/1.1 connections to one origin.

    Callers wait first come, first served. The connection that was used last is used next. A connection that the server
    has closed meanwhile is replaced before anything is written to it. A request is never sent again once a byte of it
    may have left. A cancelled caller always releases its slot, on asyncio and on trio.

    Only the event loop and the process that opened a connection use it: elsewhere the pool opens other connections.

    A response holds its connection until it is read to its end or closed. Close every response that you don't read to
    its end; httpx's client does so for its callers.

    Besides `timeout` (`pool` limits the wait for a connection; None: no limit), `trace` and `sni_hostname`, the
    `extensions` of an httpx request may hold the functions of `Hooks`, by their names.

    Args:
        origin: A URL whose scheme, host and port are used; its path is ignored.
        max_connections: The most connections at once, including those that are being opened or closed.
        keepalive_expiry: Seconds, or a `timedelta`, after which an idle connection is closed instead of reused. There
            is no background task: later calls close it. 0: no connection is reused; `math.inf`: none expires.
        ssl_context: The TLS context. None: httpx's default, made once, in a thread, when the first connection is
            opened.
        uds: The path of a Unix socket to connect to, whatever the host.
        clock: Returns seconds that never go back.

    Raises:
        InvalidArgumentError: An argument is invalid. *origin* must be `http://` or `https://` with a host.
    """

    def __init__(
        self,
        origin: httpx.URL | str,
        *,
        max_connections: int = 100,
        keepalive_expiry: Seconds = 15.0,
        ssl_context: ssl.SSLContext | None = None,
        uds: str | PathLike[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._origin = check_origin(origin)
        arguments.check_whole("max_connections", max_connections, 1)
        self._keepalive_expiry = arguments.seconds_from_0("keepalive_expiry", keepalive_expiry)
        arguments.check_instance("ssl_context", ssl_context, ssl.SSLContext, NoneType)
        arguments.check_instance("uds", uds, str, PathLike, NoneType)
        arguments.check_callable("clock", clock)
        self._opener = Opener(self._origin, ssl_context, uds)
        self._clock = clock
        self._slots: Slots[Connection] = Slots(max_connections)
        self._forks = PROCESS.forks  # PROCESS.forks grows in a forked child process
        self._slots_of_parents: list[Slots[Connection]] = []

    def __repr__(self) -> str:
        slots = self._slots
        return (
            f"<OriginPool {self._origin}: {slots.busy} busy, {slots.idle} idle, limit {slots.limit}; "
            f"{slots.waiting} waiting{'; closed' if slots.closed else ''}>"
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """
        Send *request* and read the head of its response.

        Raises:
            PoolClosedError: The pool is closed. Nothing was sent.
            httpx.PoolTimeout: No connection became free in time. Nothing was sent.
            httpx.ConnectError: Connecting failed. Nothing was sent.
            httpx.ConnectTimeout: Connecting took too long. Nothing was sent.
            httpx.UnsupportedProtocol: *request* is for another origin. Nothing was sent.
            InvalidArgumentError: The body of *request* can only be read synchronously. Nothing was sent.
            httpx.TransportError: Any other failure; some of the request may have been sent.
        """
        exchange = await self._start(self._from_httpx(request))
        head = exchange.head
        return httpx.Response(
            head.status, headers=head.headers, stream=ResponseBody(exchange), extensions=head.extensions
        )

    def prepare(self, url: httpx.URL, headers: httpx.Headers) -> Prepared:
        """Parse the URL and encode the headers once, for all POST requests to *url*."""
        request = self._from_httpx(httpx.Request("POST", url, headers=headers))
        lines = [(name, value) for name, value in request.headers if name.lower() != b"content-length"]
        encoded_head = encode_head(request.method, request.target, lines) + b"Content-Length: "
        return Prepared(request.method, request.target, lines, encoded_head, request.closes_connection)

    async def post(self, prepared: Prepared, body: bytes, hooks: Hooks) -> OpenResponse:
        """Send *body* as ``handle_async_request`` does, without httpx's objects."""
        return await self._start(prepared.request(body, hooks))

    async def post_at_once(
        self, prepared: Prepared, body: bytes, *, on_send: Callable[[], object], deadline: float, max_bytes: int
    ) -> WholeResponse | None:
        """
        Send *body* over an idle connection, and read the whole response; see `port.Connection.try_exchange`.

        Returns:
            The response; or None if no idle connection can be used: nothing was sent, and the caller has to use `post`.
        """
        if self._opener.own_class is None or self._forks != PROCESS.forks or prepared.closes_connection or is_patched():
            return None
        slot = self._slots.acquire_last_used(released_after=self._clock() - self._keepalive_expiry)
        if slot is None:
            return None
        try:
            outgoing = b"%b%d\r\n\r\n%b" % (prepared.encoded_head, len(body), body)
            connection = cast("Connection", slot.connection)  # an idle slot has a connection
            return await connection.try_exchange(outgoing, on_send=on_send, deadline=deadline, max_bytes=max_bytes)
        finally:
            await self._return_slot(slot)

    async def post_in_turn(
        self, prepared: Prepared, body: bytes, hooks: Hooks, *, deadline: Deadline, max_bytes: int
    ) -> WholeResponse | None:
        """
        Wait for a connection, if all are busy; then send *body*, and read the response up to *max_bytes*.

        The deadline is `deadline.ends_at`, which `on_wait` and `on_turn` may move.

        Returns:
            The response; or None if not all connections are busy. Then nothing was sent, and the caller has to use
            `post`.

        Raises:
            TooLateError: The wait, or the exchange, was not complete at `deadline.ends_at`.
            httpx.TransportError: As `handle_async_request`.
        """
        loop = running_loop()
        if loop is None or self._forks != PROCESS.forks or not self._slots.all_busy or is_patched():
            return None
        hooks.on_wait()
        slot = await turns.wait_on_asyncio(loop, self._slots, deadline.ends_at, self._return_slot)
        try:
            hooks.on_turn()
            is_late = deadline.ends_at <= loop.time()  # then the CancelScope below ends this before anything is sent
            response = None
            if slot.connection is not None and not (prepared.closes_connection or is_late or is_patched()):
                outgoing = b"%b%d\r\n\r\n%b" % (prepared.encoded_head, len(body), body)
                response = await slot.connection.try_exchange(
                    outgoing, on_send=hooks.on_send, deadline=deadline.ends_at, max_bytes=max_bytes
                )
        except BaseException:
            await self._return_slot(slot)
            raise
        if response is not None:
            await self._return_slot(slot)
            return response
        with anyio.CancelScope(deadline=deadline.ends_at):
            exchange = await self._start_on(slot, prepared.request(body, hooks))
            return await exchange.read_whole(max_bytes=max_bytes)
        raise TooLateError

    async def _start(self, request: Request) -> OpenResponse:
        """Send *request* and read the head of its response."""
        if self._forks != PROCESS.forks:
            self._reset_after_fork()
        expired = self._slots.acquire_idle(released_by=self._clock() - self._keepalive_expiry)
        slot = self._slots.acquire() if expired is None else None
        if slot is None:
            slot = await self._acquire(request, expired)
        return await self._start_on(slot, request)

    async def _start_on(self, slot: Slot[Connection], request: Request) -> OpenResponse:
        """Send *request* like `_start`, on *slot*, which is released when the exchange ends or fails."""
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()  # sending on an open connection may not await anything
            connection, head = await self._send_request(slot, request)
        except BaseException:
            await self._return_slot(slot)
            raise
        return OpenResponse(head, slot, connection, self._return_slot)

    async def aclose(self) -> None:
        """
        Close the idle connections. Waiting callers raise `PoolClosedError`.

        Running calls end normally and then close their connections. Closing twice is harmless.
        """
        if self._forks != PROCESS.forks:
            self._reset_after_fork()
        self._slots.close()
        async with AsyncExitStack() as stack:
            # The stack calls every callback, even if this method is cancelled.
            while (slot := self._slots.acquire_idle(released_by=math.inf)) is not None:
                stack.push_async_callback(self._discard, slot)

    def _reset_after_fork(self) -> None:
        """
        Start with new slots after a fork: the connections and the waiting callers belong to the parent process.

        The old slots are kept for ever. Deleting them would close the connections, and with TLS that could send bytes
        over the parent's sockets.
        """
        self._forks = PROCESS.forks
        self._slots_of_parents.append(self._slots)
        self._slots = Slots(self._slots.limit, closed=self._slots.closed)
        self._opener.forget_tasks()

    def _from_httpx(self, request: httpx.Request) -> Request:
        """
        Convert *request* from httpx's class.

        Raises:
            httpx.UnsupportedProtocol: *request* is for another origin.
            InvalidArgumentError: The body of *request* can only be read synchronously.
        """
        if origin_of(request.url) != self._origin:
            raise httpx.UnsupportedProtocol(Problem("other_origin", origin=str(self._origin), host=request.url.host))
        body: object = request.stream
        if isinstance(body, httpx.ByteStream):
            body = b"".join(body)
        if not isinstance(body, bytes | AsyncIterable):
            raise arguments.InvalidArgumentError(field="request", problem=Problem("synchronous_body"))
        method, target, headers = request.method.encode("ascii"), request.url.raw_path, request.headers
        closes = "close" in headers.get("connection", "").lower().replace(" ", "").split(",")
        hooks = Hooks(
            **{name: request.extensions[name] for name in HOOK_NAMES if request.extensions.get(name) is not None}
        )
        return Request(method, target, headers.raw, body, hooks, request.extensions, closes_connection=closes)

    async def _acquire(self, request: Request, expired: Slot[Connection] | None) -> Slot[Connection]:
        """Close *expired* and a few more expired connections; then take a slot, waiting if all are busy."""
        for closes_left in reversed(range(MAX_EXPIRED_CLOSED_PER_CALL)):
            if expired is None:
                break
            await self._discard(expired)
            if closes_left:
                expired = self._slots.acquire_idle(released_by=self._clock() - self._keepalive_expiry)
        slot = self._slots.acquire()
        if slot is not None:
            return slot
        if self._slots.closed:
            raise PoolClosedError(turns.CLOSED)
        request.hooks.on_wait()
        slot = await turns.wait(self._slots, request.extensions.get("timeout", {}).get("pool"), self._return_slot)
        try:
            request.hooks.on_turn()
        except BaseException:
            await self._return_slot(slot)
            raise
        return slot

    async def _send_request(self, slot: Slot[Connection], request: Request) -> tuple[Connection, Head]:
        """Send *request* on the connection in *slot*, or on a new one if there is none or it can't be reused."""
        connection = slot.connection
        needs_httpcore = "trace" in request.extensions or is_patched()
        if connection is not None:
            has_right_class = isinstance(connection, HttpcoreConnection) == (
                needs_httpcore or self._opener.own_class is None
            )
            if not has_right_class and is_patched():
                # A patched httpcore (respx) opens no connection, so ours may stay open.
                return await self._send_without_slot(request)
            # The connection may have expired: _acquire() closes only MAX_EXPIRED_CLOSED_PER_CALL connections.
            is_fresh = slot.released_at > self._clock() - self._keepalive_expiry
            if has_right_class and is_fresh and connection.is_on_this_loop() and connection.is_reusable():
                try:
                    return connection, await connection.send(request)
                except NotAvailableError as error:
                    # Nothing was sent, so the new connection below doesn't send the request twice.
                    if not (error.body_unread or isinstance(request.body, bytes)):
                        raise
            slot.connection = None
            await connection.aclose()
        slot.connection = connection = await self._opener.new_connection(needs_httpcore=needs_httpcore)
        return connection, await connection.send(request)

    async def _send_without_slot(self, request: Request) -> tuple[Connection, Head]:
        """Send *request* on a connection of httpcore that has no slot and is closed after this exchange."""
        connection = await self._opener.new_connection(needs_httpcore=True)
        try:
            return connection, await connection.send(request)
        except BaseException:
            await connection.aclose()
            raise

    async def _return_slot(self, slot: Slot[Connection] | None) -> None:
        """Release *slot*, unless it is None. First close its connection if that can't be reused."""
        if slot is None:
            return
        connection = slot.connection
        if connection is None or not connection.is_reusable() or not self._slots.release_open(slot, now=self._clock()):
            await self._discard(slot)

    async def _discard(self, slot: Slot[Connection]) -> None:
        """Close the connection in *slot* and release the slot, even if closing fails or is cancelled."""
        try:
            if slot.connection is not None:
                await slot.connection.aclose()
        finally:
            self._slots.release_empty(slot)


def is_patched() -> bool:
    """Whether a method of httpcore's connections is patched, as respx does."""
    connection = httpcore.AsyncHTTPConnection
    return connection.handle_async_request.__module__ != connection.aclose.__module__
