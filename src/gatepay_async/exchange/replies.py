"""An httpx response to a ``Reply``, by what httpx documents: hooks and transports may have read it already."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import AsyncGeneratorType

import anyio
import httpx

from gatepay_async.exchange.port import BadReplyError
from gatepay_async.protocol.retrying import read_retry_after
from gatepay_async.protocol.wire import Reply

LARGEST_REPLY = 32 * 2**20  # bytes; a page of 50 card keys has some 10,000

_SYNCHRONOUS = "your httpx transport returned a response with a synchronous stream; it must be an AsyncByteStream"


async def read_reply(response: httpx.Response) -> Reply:
    """
    Read *response*, or take what was read of it, and close it.

    Raises:
        BadReplyError: It has no end, or was iterated over without being kept.
        TypeError: It can't be read on an event loop.
        httpx.HTTPError: It broke off.
    """
    if not isinstance(response.stream, httpx.AsyncByteStream):
        response.close()
        raise TypeError(_SYNCHRONOUS)
    try:
        return reply_of(response, await read_part_by_part(response, response.aiter_bytes()))
    except httpx.StreamError:  # it was iterated over, or closed, and nothing of it kept
        pass
    finally:
        await response.aclose()
    problem = "was used up by a hook of your httpx client; call `await response.aread()` in it before anything else"
    raise BadReplyError(response.status_code, problem, retry_after=_retry_after(response))


async def read_part_by_part(response: httpx.Response, chunks: AsyncIterator[bytes]) -> bytes:
    """
    Join *chunks*, up to the largest reply that there can be.

    Raises:
        BadReplyError: There are more.
    """
    if "," in response.headers.get("content-encoding", ""):
        # Packed twice, a kilobyte unpacks to gigabytes, at once. We have asked for a reply that is not packed at all.
        problem = "is packed several times"
        raise BadReplyError(response.status_code, problem)
    parts: list[bytes] = []
    size = 0
    whole = False
    try:
        async for part in chunks:
            parts.append(part)
            size += len(part)
            if size > LARGEST_REPLY:
                break
        else:
            whole = True
    finally:
        # A generator of httpx's, left half-way, would be for the garbage collector; trio warns of that.
        if not whole and isinstance(chunks, AsyncGeneratorType):
            with anyio.CancelScope(shield=True):
                await chunks.aclose()
    if not whole:
        problem = f"is larger than {LARGEST_REPLY} bytes"
        raise BadReplyError(response.status_code, problem)
    return b"".join(parts)


def reply_of(response: httpx.Response, body: bytes) -> Reply:
    """The reply with that *body*."""
    content_type = response.headers.get("content-type", "")
    wait = None if response.status_code < 300 else _retry_after(response)  # noqa: PLR2004 -- HTTP's own line
    return Reply(response.status_code, body, wait, content_type)


def _retry_after(response: httpx.Response) -> float | None:
    return read_retry_after(response.headers.get("retry-after"), now=datetime.now(UTC))
