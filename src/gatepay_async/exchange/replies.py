"""A response to a ``Reply``, by what httpx and httpx2 document: hooks and transports may have read it already."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from types import AsyncGeneratorType
from typing import TYPE_CHECKING

import anyio

from gatepay_async.exchange.libraries import classes, errors
from gatepay_async.exchange.port import BadReplyError
from gatepay_async.protocol.messages import Reply
from gatepay_async.protocol.retrying import read_retry_after
from gatepay_async.words.problem import Problem

if TYPE_CHECKING:
    from gatepay_async.exchange.libraries import AnyResponse

MAX_REPLY_BYTES = 32 * 2**20  # bytes; a page of 50 card keys has some 10,000

# How zlib finds the beginning of what it unpacks. Of the second kind some servers send the inside alone.
_WINDOW_BITS = {
    "gzip": (16 + zlib.MAX_WBITS,),
    "x-gzip": (16 + zlib.MAX_WBITS,),
    "deflate": (zlib.MAX_WBITS, -zlib.MAX_WBITS),
}

_SYNCHRONOUS = "your httpx transport returned a response with a synchronous stream; it must be an AsyncByteStream"


async def read_reply(response: AnyResponse) -> Reply:
    """
    Read *response*, or take what was read of it, and close it.

    Raises:
        BadReplyError: It has no end, or was iterated over without being kept.
        TypeError: It can't be read on an event loop.
        httpx.HTTPError: It broke off.
    """
    if not isinstance(response.stream, classes("AsyncByteStream")):
        response.close()
        raise TypeError(_SYNCHRONOUS)
    try:
        body = _already_read(response)
        if body is None:
            body = await read_body(response, response.aiter_raw())
        return reply_of(response, body)
    except errors("StreamError"):  # it was iterated over, or closed, and nothing of it kept
        pass
    finally:
        await response.aclose()
    problem = Problem("used_up_by_hook")
    raise BadReplyError(response.status_code, problem, retry_after=_retry_after(response))


def _already_read(response: AnyResponse) -> bytes | None:
    """What a hook or a transport has read, if it has read all."""
    try:
        body = response.content
    except errors("ResponseNotRead"):
        return None
    return _check_size(response, body)


async def read_body(response: AnyResponse, raw: AsyncIterable[bytes]) -> bytes:
    """
    Join *raw*, the bytes of *response* as they came, and unpack them; up to the largest reply that there can be.

    httpx and aiohttp would unpack each part whole: of 2 kB, packed by brotli, they make a gigabyte.

    Raises:
        BadReplyError: There are more, or they can't be unpacked.
    """
    return unpack(response, await _read_parts(response, aiter(raw)))


def unpack(response: AnyResponse, body: bytes) -> bytes:
    """
    Unpack *body*, which is all that came of *response*.

    Raises:
        BadReplyError: It can't be unpacked, or there is too much of it.
    """
    coding = response.headers.get("content-encoding", "").strip().lower()
    if "," in coding:
        # We have asked for a reply that is not packed at all.
        raise BadReplyError(response.status_code, Problem("packed_several_times"))
    return _check_size(response, _decompress(response, body, _WINDOW_BITS[coding]) if coding in _WINDOW_BITS else body)


async def _read_parts(response: AnyResponse, chunks: AsyncIterator[bytes]) -> bytes:
    parts: list[bytes] = []
    size = 0
    whole = False
    try:
        async for part in chunks:
            parts.append(part)
            size += len(part)
            if size > MAX_REPLY_BYTES:
                raise too_large_error(response.status_code)
        whole = True
    finally:
        # A generator of httpx's, left half-way, would be for the garbage collector; trio warns of that.
        if not whole and isinstance(chunks, AsyncGeneratorType):
            with anyio.CancelScope(shield=True):
                await chunks.aclose()
    return b"".join(parts)


def _decompress(response: AnyResponse, body: bytes, formats: tuple[int, ...]) -> bytes:
    """
    *body*, unpacked; no more of it than proves that it is too large.

    One that has no end, or goes on behind it, is no reply: nothing vouches for the rest. RFC 1952 allows a second
    member there. We have asked for none at all, and curl takes no second one either.
    """
    if not body:
        return body
    for each in formats:
        with suppress(zlib.error):
            unpacking = zlib.decompressobj(each)
            unpacked = unpacking.decompress(body, MAX_REPLY_BYTES + 1)
            if len(unpacked) > MAX_REPLY_BYTES or (unpacking.eof and not unpacking.unused_data):
                return unpacked
    problem = Problem("unpackable")
    raise BadReplyError(response.status_code, problem)


def _check_size(response: AnyResponse, body: bytes) -> bytes:
    if len(body) > MAX_REPLY_BYTES:
        raise too_large_error(response.status_code)
    return body


def too_large_error(status: int) -> BadReplyError:
    """The error for a reply with that *status* that is larger than any there can be."""
    problem = Problem("reply_too_large", most=MAX_REPLY_BYTES)
    return BadReplyError(status, problem)


def reply_of(response: AnyResponse, body: bytes) -> Reply:
    """The reply with that *body*."""
    content_type = response.headers.get("content-type", "")
    wait = None if response.status_code < 300 else _retry_after(response)  # noqa: PLR2004 -- HTTP's own line
    return Reply(response.status_code, body, wait, content_type, response.headers.raw)


def _retry_after(response: AnyResponse) -> float | None:
    return read_retry_after(response.headers.get("retry-after"), now=datetime.now(UTC))
