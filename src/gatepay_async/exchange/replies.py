"""
Turns a response of httpx or httpx2 into a ``Reply``, using only documented attributes.

The user's hooks and transports may have read the response already.
"""

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

MAX_REPLY_BYTES = 32 * 2**20  # a page of 50 card keys has about 10,000 bytes

# The window bits with which zlib decompresses each content coding, in the order to try them. For "deflate", some
# servers send raw data without zlib's header.
_WINDOW_BITS = {
    "gzip": (16 + zlib.MAX_WBITS,),
    "x-gzip": (16 + zlib.MAX_WBITS,),
    "deflate": (zlib.MAX_WBITS, -zlib.MAX_WBITS),
}

_SYNC_STREAM_MESSAGE = (
    "your httpx transport returned a response with a synchronous stream; it must be an AsyncByteStream"
)


async def read_reply(response: AnyResponse) -> Reply:
    """
    Read *response*, unless it was read already, and close it.

    Raises:
        BadReplyError: The body can't be decompressed or is too large, or a hook consumed it without keeping it.
        TypeError: The response's stream is synchronous.
        httpx.HTTPError: The connection failed before the end of the response.
    """
    if not isinstance(response.stream, classes("AsyncByteStream")):
        response.close()
        raise TypeError(_SYNC_STREAM_MESSAGE)
    try:
        body = _already_read(response)
        if body is None:
            body = await read_body(response, response.aiter_raw())
        return reply_of(response, body)
    except errors("StreamError"):  # a hook or a transport consumed or closed it without keeping the body
        pass
    finally:
        await response.aclose()
    problem = Problem("used_up_by_hook")
    raise BadReplyError(response.status_code, problem, retry_after=_retry_after(response))


def _already_read(response: AnyResponse) -> bytes | None:
    """Return the body if a hook or a transport has read it whole, else None."""
    try:
        body = response.content
    except errors("ResponseNotRead"):
        return None
    return _check_size(response, body)


async def read_body(response: AnyResponse, raw: AsyncIterable[bytes]) -> bytes:
    """
    Read *raw*, the body of *response* as received, and decompress it.

    httpx would decompress each part without a limit: 2 kB of brotli can become a gigabyte.

    Raises:
        BadReplyError: The body is larger than ``MAX_REPLY_BYTES`` or can't be decompressed.
    """
    return unpack(response, await _read_parts(response, aiter(raw)))


def unpack(response: AnyResponse, body: bytes) -> bytes:
    """
    Decompress *body*, the whole body of *response* as received.

    Raises:
        BadReplyError: *body* can't be decompressed, or is too large.
    """
    coding = response.headers.get("content-encoding", "").strip().lower()
    if "," in coding:
        # Several codings at once are not supported, because our requests ask for no compression at all.
        raise BadReplyError(response.status_code, Problem("packed_several_times"))
    return _check_size(response, _decompress(response, body, _WINDOW_BITS[coding]) if coding in _WINDOW_BITS else body)


async def _read_parts(response: AnyResponse, stream_of_parts: AsyncIterator[bytes]) -> bytes:
    parts: list[bytes] = []
    size = 0
    is_complete = False
    try:
        async for part in stream_of_parts:
            parts.append(part)
            size += len(part)
            if size > MAX_REPLY_BYTES:
                raise too_large_error(response.status_code)
        is_complete = True
    finally:
        # A generator that isn't closed is left to the garbage collector, and trio warns about that.
        if not is_complete and isinstance(stream_of_parts, AsyncGeneratorType):
            with anyio.CancelScope(shield=True):
                await stream_of_parts.aclose()
    return b"".join(parts)


def _decompress(response: AnyResponse, body: bytes, window_bits_to_try: tuple[int, ...]) -> bytes:
    """
    Decompress *body*, and stop once the result is too large.

    If the compressed data is cut off, or other bytes follow it, this raises ``BadReplyError``, because no checksum
    protects such a body. RFC 1952 allows a second gzip member, but we ask for no compression, and curl refuses a
    second member too.
    """
    if not body:
        return body
    for window_bits in window_bits_to_try:
        with suppress(zlib.error):
            decompressor = zlib.decompressobj(window_bits)
            decompressed = decompressor.decompress(body, MAX_REPLY_BYTES + 1)
            if len(decompressed) > MAX_REPLY_BYTES or (decompressor.eof and not decompressor.unused_data):
                return decompressed
    problem = Problem("unpackable")
    raise BadReplyError(response.status_code, problem)


def _check_size(response: AnyResponse, body: bytes) -> bytes:
    """Return *body*, or raise if it is too large."""
    if len(body) > MAX_REPLY_BYTES:
        raise too_large_error(response.status_code)
    return body


def too_large_error(status: int) -> BadReplyError:
    """Return the error for a reply with this *status* that is larger than ``MAX_REPLY_BYTES``."""
    problem = Problem("reply_too_large", most=MAX_REPLY_BYTES)
    return BadReplyError(status, problem)


def reply_of(response: AnyResponse, body: bytes) -> Reply:
    """Return the ``Reply`` for *response*, with the decompressed *body*."""
    content_type = response.headers.get("content-type", "")
    retry_after = None if response.status_code < 300 else _retry_after(response)  # noqa: PLR2004 -- an HTTP status
    return Reply(response.status_code, body, retry_after, content_type, response.headers.raw)


def _retry_after(response: AnyResponse) -> float | None:
    return read_retry_after(response.headers.get("retry-after"), now=datetime.now(UTC))
