"""An exchange over the client's own connection pool."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import httpx
from attrs import asdict

from gatepay_async.exchange.failures import NO_REPLY_ERRORS, unanswered_error
from gatepay_async.exchange.headers import HEADERS, HEADERS_OF
from gatepay_async.exchange.permission import check_permitted, in_pytest
from gatepay_async.exchange.port import OutOfTimeError, Watch
from gatepay_async.exchange.replies import MAX_REPLY_BYTES, read_body, reply_of, too_large_error, unpack
from gatepay_async.pool.port import Hooks, Prepared, WholeResponse
from gatepay_async.pool.transport import OriginPool
from gatepay_async.protocol.messages import Reply
from gatepay_async.protocol.observing import Connections

FIRST_UNSUCCESSFUL_STATUS = 300  # an HTTP status; redirects and errors may have a Retry-After
MAX_PREPARED = 64  # prepared requests, one for each URL; about three times the number of endpoints


class OverPool:
    """
    An exchange over an ``OriginPool``.

    Args:
        transport: The pool.
        owns_transport: Whether the client created the pool. If so, ``aclose`` closes the pool, and tests may call only
            permitted hosts.
    """

    def __init__(self, transport: OriginPool, *, owns_transport: bool) -> None:
        self._transport = transport
        self._owns_transport = owns_transport
        self._is_guarded = owns_transport and in_pytest()  # whether to check that a test may call the host
        # Prepared requests by URL, because parsing a URL takes longer than signing a form.
        self._prepared: dict[str, Prepared] = {}

    async def post_at_once(self, url: str, body: bytes, watch: Watch) -> Reply | None:
        """
        Make one attempt over an open connection. If all are busy, wait for one.

        Returns:
            The reply; or None if nothing was sent, because a connection has to be opened or closed first, or because
            this is the first request to *url*.
        """
        prepared = self._prepared.get(url)
        if prepared is None:
            return None
        on_send = partial(_check_on_send, _host_check(url), watch) if self._is_guarded else watch.note_sending
        watch.reports_sending = True
        try:
            response = await self._transport.post_at_once(
                prepared, body, on_send=on_send, deadline=watch.ends_at, max_bytes=MAX_REPLY_BYTES
            )
            if response is None:
                response = await self._transport.post_in_turn(
                    prepared, body, self._hooks(url, watch), deadline=watch, max_bytes=MAX_REPLY_BYTES
                )
            return None if response is None else _to_reply(response)
        except httpx.ReadTimeout:  # raised only at the attempt's deadline: both functions have no other time limit
            failure: Exception = OutOfTimeError()
        except NO_REPLY_ERRORS as error:
            failure = unanswered_error(error, unsent_if_unreported=True)
        raise failure

    async def send(self, method: str, url: str, body: bytes, watch: Watch) -> Reply:
        """Make one attempt."""
        hooks = self._hooks(url, watch)
        watch.reports_sending = True
        try:
            if method == "GET":  # can't be prepared: the URL contains the query, which is different for each call
                request = httpx.Request("GET", url, headers=HEADERS_OF["GET"], extensions=asdict(hooks))
                return await _read_response(await self._transport.handle_async_request(request))
            prepared = self._prepared.get(url) or self._prepare(url)
            response = await self._transport.post(prepared, body, hooks)
            return _to_reply(await response.read_whole(max_bytes=MAX_REPLY_BYTES))
        except NO_REPLY_ERRORS as error:
            failure = unanswered_error(error, unsent_if_unreported=True)
        raise failure

    def _hooks(self, url: str, watch: Watch) -> Hooks:
        """Return the functions that the pool calls during a request."""
        hooks = Hooks(on_wait=watch.note_wait, on_turn=watch.note_connection, on_send=watch.note_sending)
        if self._is_guarded:
            # Check before connecting. Check before sending too, because an open connection may be used.
            hooks.on_connect = check_host = _host_check(url)
            hooks.on_send = partial(_check_on_send, check_host, watch)
        return hooks

    def connections(self) -> Connections | None:
        """Count the connections of the pool."""
        slots = self._transport._slots  # noqa: SLF001 -- only counts them
        return Connections(busy=slots.busy, idle=slots.idle, waiting=slots.waiting)

    async def aclose(self) -> None:
        """Close the pool, if the client made it."""
        if self._owns_transport:
            await self._transport.aclose()

    def _prepare(self, url: str) -> Prepared:
        if len(self._prepared) == MAX_PREPARED:  # send_raw() may use a new path for each call
            self._prepared.clear()
        prepared = self._prepared[url] = self._transport.prepare(httpx.URL(url), HEADERS)
        return prepared


async def _read_response(response: httpx.Response) -> Reply:
    # No hook or other transport can have read the response before.
    stream = cast("httpx.AsyncByteStream", response.stream)
    try:
        return reply_of(response, await read_body(response, stream))
    finally:
        await stream.aclose()


def _to_reply(response: WholeResponse) -> Reply:
    """Return the ``Reply`` for *response*. Most need no ``httpx.Response``, which is slow to create."""
    status, fields, body = response.status, response.fields, response.body
    if len(body) > MAX_REPLY_BYTES:
        raise too_large_error(status)
    if status >= FIRST_UNSUCCESSFUL_STATUS or b"content-encoding" in fields:
        httpx_response = httpx.Response(status, headers=response.headers)
        return reply_of(httpx_response, unpack(httpx_response, body))
    content_type = fields.get(b"content-type", b"").decode("latin-1")
    return Reply(status, body, None, content_type, response.headers)


def _host_check(url: str) -> Callable[[], None]:
    """Return a function that raises if a test may not call the host of *url*."""
    return partial(check_permitted, httpx.URL(url).host)


def _check_on_send(check_host: Callable[[], None], watch: Watch) -> None:
    """Call *check_host*, then report to *watch* that the first byte is about to leave."""
    check_host()
    watch.note_sending()
