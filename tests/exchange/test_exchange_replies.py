"""A reply that is packed is unpacked by the library itself, and never beyond the largest reply that there can be."""

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import pytest
from own_httpx import httpx

from gatepay_async.exchange.over_pool import _read_response
from gatepay_async.exchange.port import BadReplyError
from gatepay_async.exchange.replies import read_reply

pytestmark = [pytest.mark.fast, pytest.mark.anyio]

MOST = 100_000
READERS = (read_reply, _read_response)  # of your httpx objects, and of the library's own connections


class Stream(httpx.AsyncByteStream):
    """One part of a body."""

    def __init__(self, part: bytes) -> None:
        self._part = part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._part


def response(coding: str, body: bytes) -> httpx.Response:
    return httpx.Response(200, headers={"content-encoding": coding}, stream=Stream(body))


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


async def test_what_is_packed_is_unpacked() -> None:
    """Gzip and both kinds of deflate are unpacked; what names no packing, or one that is unknown, stays as it is."""
    plain = b'{"code": 100}'
    rows = {
        "gzip": gzip.compress(plain), "GZIP": gzip.compress(plain), "deflate": zlib.compress(plain),
        "identity": plain, "utf-8": plain, "": plain,
    }  # fmt: skip
    wrong = []
    for read in READERS:
        for coding, body in (*rows.items(), ("deflate", raw_deflate(plain))):
            got = (await read(response(coding, body))).body
            if got != plain:
                wrong.append((read.__name__, coding, got))
    assert not wrong


async def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 kB that would unpack to 8 MB are refused, and what is unpacked of them takes less than a megabyte."""
    monkeypatch.setattr("gatepay_async.exchange.replies.MAX_REPLY_BYTES", MOST)
    zeros = bytes(2**23)
    bombs = {"gzip": gzip.compress(zeros), "deflate": zlib.compress(zeros)}
    del zeros
    for read in READERS:
        for coding, bomb in bombs.items():
            tracemalloc.start()
            try:
                with pytest.raises(BadReplyError, match=f"is larger than {MOST} bytes"):
                    await read(response(coding, bomb))
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert peak < 1_000_000, (read.__name__, coding)


async def test_nothing_else_unpacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Httpx unpacks nothing: it knows brotli and zstd where they are installed, and 2 kB of those make a gigabyte."""

    def unpack(*_: Any) -> NoReturn:
        pytest.fail("httpx was asked to unpack")

    monkeypatch.setattr(httpx.Response, "aiter_bytes", unpack)
    for read in READERS:
        for coding in ("br", "zstd"):
            assert (await read(response(coding, b"packed"))).body == b"packed"


async def test_what_cannot_be_unpacked() -> None:
    """What says that it is packed and isn't, or not to its end, or goes on behind that, is no reply."""
    plain = b'{"code": 100}'
    kinds = [("gzip", gzip.compress(plain)), ("deflate", zlib.compress(plain)), ("deflate", raw_deflate(plain))]
    for read in READERS:
        for coding, packed in kinds:
            for body in (plain, packed[:-1], packed[:-8], packed + b"x", packed * 2):
                with pytest.raises(BadReplyError, match="can't be decompressed"):
                    await read(response(coding, body))
            assert (await read(response(coding, b""))).body == b""


async def test_what_a_hook_has_read_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply that your hook has read is taken as it was read, unless it is too large."""
    read = httpx.Response(200, content=b"x" * 11)
    assert (await read_reply(read)).body == b"x" * 11
    monkeypatch.setattr("gatepay_async.exchange.replies.MAX_REPLY_BYTES", 10)
    with pytest.raises(BadReplyError, match="is larger than 10 bytes"):
        await read_reply(read)
