"""Compressed replies are decompressed by the library itself, up to the size limit of a reply."""

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import pytest
from selected_httpx import httpx

from gatepay_async.exchange.over_pool import _read_response
from gatepay_async.exchange.port import BadReplyError
from gatepay_async.exchange.replies import read_reply

pytestmark = [pytest.mark.fast, pytest.mark.anyio]

LIMIT = 100_000
READERS = (read_reply, _read_response)  # for the user's httpx objects, and for the library's own connections


class Stream(httpx.AsyncByteStream):
    """A body that arrives in one part."""

    def __init__(self, part: bytes) -> None:
        self._part = part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._part


def response(coding: str, body: bytes) -> httpx.Response:
    return httpx.Response(200, headers={"content-encoding": coding}, stream=Stream(body))


def raw_deflate(data: bytes) -> bytes:
    """Compress *data* without zlib's header, as some servers do for "deflate"."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


async def test_gzip_and_deflate_are_decompressed() -> None:
    """Gzip and both kinds of deflate are decompressed. Bodies with no coding or an unknown one stay unchanged."""
    content = b'{"code": 100}'
    rows = {
        "gzip": gzip.compress(content), "GZIP": gzip.compress(content), "deflate": zlib.compress(content),
        "identity": content, "utf-8": content, "": content,
    }  # fmt: skip
    wrong = []
    for read in READERS:
        for coding, body in (*rows.items(), ("deflate", raw_deflate(content))):
            received = (await read(response(coding, body))).body
            if received != content:
                wrong.append((read.__name__, coding, received))
    assert not wrong


async def test_compression_bomb_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 kB that decompress to 8 MB are rejected, and decompressing them takes less than 1 MB of memory."""
    monkeypatch.setattr("gatepay_async.exchange.replies.MAX_REPLY_BYTES", LIMIT)
    zeros = bytes(2**23)
    bombs = {"gzip": gzip.compress(zeros), "deflate": zlib.compress(zeros)}
    del zeros
    for read in READERS:
        for coding, bomb in bombs.items():
            tracemalloc.start()
            try:
                with pytest.raises(BadReplyError, match=f"is larger than {LIMIT} bytes"):
                    await read(response(coding, bomb))
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert peak < 1_000_000, (read.__name__, coding)


async def test_httpx_does_not_decompress(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body in brotli or zstd stays compressed. Where httpx supports them, 2 kB could become a gigabyte."""

    def fail(*_: Any) -> NoReturn:
        pytest.fail("httpx was asked to decompress")

    monkeypatch.setattr(httpx.Response, "aiter_bytes", fail)
    for read in READERS:
        for coding in ("br", "zstd"):
            assert (await read(response(coding, b"packed"))).body == b"packed"


async def test_invalid_compression_is_rejected() -> None:
    """A body that isn't compressed as its header says, is incomplete, or is followed by other bytes is rejected."""
    content = b'{"code": 100}'
    kinds = [("gzip", gzip.compress(content)), ("deflate", zlib.compress(content)), ("deflate", raw_deflate(content))]
    for read in READERS:
        for coding, compressed in kinds:
            for body in (content, compressed[:-1], compressed[:-8], compressed + b"x", compressed * 2):
                with pytest.raises(BadReplyError, match="can't be decompressed"):
                    await read(response(coding, body))
            assert (await read(response(coding, b""))).body == b""


async def test_body_read_by_a_hook_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that the user's hook has read is used, unless it is too large."""
    read = httpx.Response(200, content=b"x" * 11)
    assert (await read_reply(read)).body == b"x" * 11
    monkeypatch.setattr("gatepay_async.exchange.replies.MAX_REPLY_BYTES", 10)
    with pytest.raises(BadReplyError, match="is larger than 10 bytes"):
        await read_reply(read)
