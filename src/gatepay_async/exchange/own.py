"""Over the client's own connections: its pool, or whatever else can prepare a request and tell when it sends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import httpx

from gatepay_async.exchange.failures import NOBODY_ANSWERED, unanswered_error
from gatepay_async.exchange.headers import HEADERS
from gatepay_async.exchange.permission import check_permitted, in_pytest
from gatepay_async.exchange.port import Watch
from gatepay_async.exchange.replies import read_body, reply_of
from gatepay_async.protocol.messages import Reply

Post = Callable[[bytes, dict[str, Any]], Awaitable[httpx.Response]]


@runtime_checkable
class Preparing(Protocol):
    """What our own transports do besides httpx's interface: they call a request's ``on_send`` in time."""

    def prepare(self, method: str, url: httpx.URL, headers: httpx.Headers) -> Post:
        """Do once what is the same for all requests of a kind."""
        ...

    async def aclose(self) -> None:
        """Close it."""


class OverPool:
    """
    Over a transport of ours.

    Args:
        ours: It is the client's own: closed with it, and kept from calling elsewhere in a test.
    """

    def __init__(self, transport: Preparing, *, ours: bool) -> None:
        self._transport = transport
        self._ours = ours
        self._posts: dict[str, Post] = {}  # by URL; reading an address costs more than signing a form

    async def post(self, url: str, body: bytes, watch: Watch) -> Reply:
        """Make one attempt."""
        watch.reports_sending(True)
        post = self._posts.get(url) or self._prepare_post(url)
        try:
            response = await post(body, self._extensions(url, watch))
            return await _read_response(response)
        except NOBODY_ANSWERED as error:
            failure = unanswered_error(error, proven=True)
        raise failure

    async def aclose(self) -> None:
        """Close the transport, if it is the client's own."""
        if self._ours:
            await self._transport.aclose()

    def _prepare_post(self, url: str) -> Post:
        self._posts[url] = self._transport.prepare("POST", httpx.URL(url), HEADERS)
        return self._posts[url]

    def _extensions(self, url: str, watch: Watch) -> dict[str, Any]:
        extensions: dict[str, Any] = {
            "on_wait": watch.waiting, "on_turn": watch.connected, "on_send": watch.sending,
        }  # fmt: skip
        if self._ours and in_pytest():
            # Called before it connects, and, on a connection that was opened before, before it sends.
            extensions["trace"] = partial(_check_on_trace, partial(check_permitted, httpx.URL(url).host))
        return extensions


async def _read_response(response: httpx.Response) -> Reply:
    # It is ours: nobody else has read it.
    stream = cast("httpx.AsyncByteStream", response.stream)
    try:
        return reply_of(response, await read_body(response, stream))
    finally:
        await stream.aclose()


async def _check_on_trace(permit: Callable[[], None], _event: str, _info: dict[str, Any]) -> None:
    permit()
