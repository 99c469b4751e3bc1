"""Faults that people found who had not written the code: each stays fixed."""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from anyio.abc import SocketStream
from servers import http, raw_server

from gatepay_async import AsyncGatePay, OutcomeUnknownError, ProtocolError, RefusedError, RetryPolicy
from gatepay_async.protocol.masking import mask

pytestmark = [pytest.mark.sockets, pytest.mark.anyio, pytest.mark.usefixtures("impatient_uploads")]

QUICK = RetryPolicy(first_wait=0, longest_wait=0)
STORED = '{"code": 100, "msg": "", "time": "1", "data": "成功录入:1条卡密"}'.encode()
REFUSED = b'{"code": 109, "msg": "", "time": "1", "data": ""}'


def page(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


async def upload_after(*replies: bytes, keys: Any = ("KEY-1",)) -> Any:
    """The report of an upload whose calls are answered so, one after the other."""
    left = iter(replies)

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(next(left))

    async with (
        raw_server(answer) as server,
        AsyncGatePay("k", "s", base_url=server.base_url, retry=QUICK) as gatepay,
    ):
        return await gatepay.upload_card_keys(8, keys)


async def test_a_page_in_the_place_of_a_reply_leaves_doubt() -> None:
    """Whatever a gateway says, GatePay may have stored the card keys before: a later refusal does not settle it."""
    for first in (page("408 Request Timeout", b""), page("429 Slow down", b""), page("429 Slow down", STORED)):
        report = await upload_after(first, http(REFUSED))
        assert (report.unknown, report.refused) == (1, 0), first


async def test_a_success_under_another_status_is_no_refusal() -> None:
    """An order that the reply itself calls made, or that a gateway gave up waiting for, may be there."""
    for reply in (page("404 Not Found", STORED), page("408 Request Timeout", b""), page("499 Closed", b"")):

        async def answer(stream: SocketStream, _: int, reply: bytes = reply) -> None:
            await stream.send(reply)

        async with (
            raw_server(answer) as server,
            AsyncGatePay("k", "s", base_url=server.base_url, retry=QUICK) as gatepay,
        ):
            with pytest.raises(OutcomeUnknownError):
                await gatepay.create_payment(
                    product_id=8, product_num=1, pay_type="alipay", out_order_id="T-1-X", custom="c"
                )


async def test_ok_means_that_the_input_was_read(gatepay: AsyncGatePay) -> None:
    """The report of an upload whose input broke off is not `ok`, though all that was read is stored."""

    def broken() -> Iterator[str]:
        yield from (f"ONE-{number}" for number in range(500))
        raise OSError("the disk is gone")

    async def broken_too() -> AsyncIterator[str]:
        for number in range(500):
            yield f"TWO-{number}"
        raise OSError("the disk is gone")

    for keys in (broken(), broken_too()):
        with pytest.raises(OSError, match="the disk is gone") as caught:
            await gatepay.upload_card_keys(8, keys)
        report: Any = caught.value.report  # type: ignore[attr-defined]  # an upload adds it
        assert (report.stored, report.whole, report.ok) == (500, False, False)
    assert (await gatepay.upload_card_keys(8, ["KEY-3"])).ok


async def test_long_messages_take_no_time() -> None:
    """A message of a million digits, or of anything, blocks nothing: only its beginning is looked at."""
    for text in ("1" * 10**6, "." * 10**6 + "x", "1 " * 10**6, "<" * 10**6, "Word " * 10**6):
        before = time.process_time()
        assert len(mask(text)) <= 200
        assert time.process_time() - before < 1, text[:10]


async def test_a_refusal_does_not_repeat_keys_in_another_form() -> None:
    """A refusal that changes a card key's case, or cuts it, shows nothing of it."""
    for key, said in (
        ("ABCDEFGHJKLM", "dup abcdefghjklm"),
        ("qwertyuiopasdfghjklz", "Duplicate entry 'qwertyuiopasdfg'"),
    ):
        body = f'{{"code": 109, "msg": "{said}", "time": "1", "data": ""}}'.encode()
        report = await upload_after(http(body), keys=[key])
        error = report.chunks[0].error
        assert isinstance(error, RefusedError)
        assert key[:10].lower() not in error.message.lower()


async def test_a_reply_that_was_packed_twice() -> None:
    """A reply that unpacks to gigabytes is refused before it is unpacked."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip, gzip\r\ncontent-length: 1\r\n\r\nx")

    async with (
        raw_server(answer) as server,
        AsyncGatePay("k", "s", base_url=server.base_url, retry=QUICK) as gatepay,
    ):
        with pytest.raises(ProtocolError, match="is compressed more than once"):
            await gatepay.list_products()
