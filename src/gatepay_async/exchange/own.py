"""Over the client's own connections: its pool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import httpx

from gatepay_async.exchange.failures import NOBODY_ANSWERED, unanswered_error
from gatepay_async.exchange.headers import HEADERS, HEADERS_OF
from gatepay_async.exchange.permission import check_permitted, in_pytest
from gatepay_async.exchange.port import Watch
from gatepay_async.exchange.replies import MAX_REPLY_BYTES, read_body, reply_of, too_large_error
from gatepay_async.protocol.messages import Reply
from gatepay_async.protocol.observing import Connections

if TYPE_CHECKING:  # importing it takes as long as all the rest
    from gatepay_async.pool.answers import Exchange
    from gatepay_async.pool.transport import OriginPool, Post

REDIRECT = 300  # HTTP's own line
MOST_PREPARED = 64  # some three times as many as there are endpoints


class OverPool:
    """
    Over a pool of ours.

    Args:
        ours: It is the client's own: closed with it, and kept from calling elsewhere in a test.
    """

    def __init__(self, transport: OriginPool, *, ours: bool) -> None:
        self._transport = transport
        self._ours = ours
        self._is_guarded = ours and in_pytest()
        self._posts: dict[str, Post] = {}  # by URL; reading an address costs more than signing a form

    async def send(self, method: str, url: str, body: bytes, watch: Watch) -> Reply:
        """Make one attempt."""
        extensions: dict[str, Any] = {
            "on_wait": watch.waiting, "on_turn": watch.connected, "on_send": watch.sending,
        }  # fmt: skip
        if self._is_guarded:
            permit = partial(check_permitted, httpx.URL(url).host)
            # Before it connects, and, on a connection that was opened before, before it sends.
            extensions |= {"on_connect": permit, "on_send": partial(_check_on_send, permit, watch)}
        watch.reports_sending = True
        try:
            if method == "GET":  # its URL is never the same again, so nothing is prepared
                request = httpx.Request("GET", url, headers=HEADERS_OF["GET"], extensions=extensions)
                return await _read_response(await self._transport.handle_async_request(request))
            post = self._posts.get(url)
            if post is None:
                post = self._prepare(url)
            return await _read_answer(await post(body, extensions))
        except NOBODY_ANSWERED as error:
            failure = unanswered_error(error, proven=True)
        raise failure

    def connections(self) -> Connections | None:
        """Those of the pool."""
        slots = self._transport._slots  # noqa: SLF001 -- to be counted, and nothing else
        return Connections(busy=slots.busy, idle=slots.idle, waiting=slots.waiting)

    async def aclose(self) -> None:
        """Close the transport, if it is the client's own."""
        if self._ours:
            await self._transport.aclose()

    def _prepare(self, url: str) -> Post:
        if len(self._posts) == MOST_PREPARED:  # a path of send_raw() may be another one each time
            self._posts.clear()
        post = self._posts[url] = self._transport.prepare("POST", httpx.URL(url), HEADERS)
        return post


async def _read_response(response: httpx.Response) -> Reply:
    # It is ours: nobody else has read it.
    stream = cast("httpx.AsyncByteStream", response.stream)
    try:
        return reply_of(response, await read_body(response, stream))
    finally:
        await stream.aclose()


async def _read_answer(answer: Exchange) -> Reply:
    head = answer.head
    try:
        if head.status >= REDIRECT or b"content-encoding" in head.fields:
            response = httpx.Response(head.status, headers=head.headers)
            return reply_of(response, await read_body(response, _Parts(answer)))
        parts: list[bytes] = []
        size = 0
        while part := await answer.read():
            parts.append(part)
            size += len(part)
            if size > MAX_REPLY_BYTES:
                raise too_large_error(head.status)
    finally:
        await answer.aclose()
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    content_type = head.fields.get(b"content-type", b"").decode("latin-1")
    return Reply(head.status, body, None, content_type, head.headers)


class _Parts:
    """The body of an answer, part by part."""

    def __init__(self, answer: Exchange) -> None:
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        part = await self._answer.read()
        if not part:
            raise StopAsyncIteration
        return part


def _check_on_send(permit: Callable[[], None], watch: Watch) -> None:
    permit()
    watch.sending()
