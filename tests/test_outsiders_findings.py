"""Regression tests for bugs that external testers found."""

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


def http_reply(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


async def upload_with_replies(*replies: bytes, keys: Any = ("KEY-1",)) -> Any:
    """Upload *keys* to a server that sends these replies, one per call. Return the report."""
    remaining = iter(replies)

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(next(remaining))

    async with (
        raw_server(answer) as server,
        AsyncGatePay("k", "s", base_url=server.base_url, retry=QUICK) as gatepay,
    ):
        return await gatepay.upload_card_keys(8, keys)


async def test_a_refusal_after_a_gateways_page_is_unknown() -> None:
    """After a gateway's error page the outcome is unknown, even if the retry is refused."""
    for first_reply in (
        http_reply("408 Request Timeout", b""),
        http_reply("429 Slow down", b""),
        http_reply("429 Slow down", STORED),
    ):
        report = await upload_with_replies(first_reply, http(REFUSED))
        assert (report.unknown, report.refused) == (1, 0), first_reply


async def test_an_order_with_an_error_status_is_unknown() -> None:
    """If a reply reports success with an error status, or a gateway timed out, the order's outcome is unknown."""
    for reply in (
        http_reply("404 Not Found", STORED),
        http_reply("408 Request Timeout", b""),
        http_reply("499 Closed", b""),
    ):

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


async def test_a_report_of_a_failed_input_is_not_ok(gatepay: AsyncGatePay) -> None:
    """If the input fails, the report is not `ok`, even if all lines read so far are stored."""

    def failing_keys() -> Iterator[str]:
        yield from (f"ONE-{number}" for number in range(500))
        raise OSError("the disk is gone")

    async def failing_async_keys() -> AsyncIterator[str]:
        for number in range(500):
            yield f"TWO-{number}"
        raise OSError("the disk is gone")

    for keys in (failing_keys(), failing_async_keys()):
        with pytest.raises(OSError, match="the disk is gone") as caught:
            await gatepay.upload_card_keys(8, keys)
        report: Any = caught.value.report  # type: ignore[attr-defined]  # an upload adds it
        assert (report.stored, report.whole, report.ok) == (500, False, False)
    assert (await gatepay.upload_card_keys(8, ["KEY-3"])).ok


async def test_masking_a_long_message_is_fast() -> None:
    """Masking looks only at the beginning of a message, so a million characters take no longer."""
    for text in ("1" * 10**6, "." * 10**6 + "x", "1 " * 10**6, "<" * 10**6, "Word " * 10**6):
        before = time.process_time()
        assert len(mask(text)) <= 200
        assert time.process_time() - before < 1, text[:10]


async def test_a_refusals_message_shows_no_changed_card_key() -> None:
    """If a refusal's message contains a card key in lower case or cut, the error doesn't show it."""
    for key, message in (
        ("ABCDEFGHJKLM", "dup abcdefghjklm"),
        ("qwertyuiopasdfghjklz", "Duplicate entry 'qwertyuiopasdfg'"),
    ):
        body = f'{{"code": 109, "msg": "{message}", "time": "1", "data": ""}}'.encode()
        report = await upload_with_replies(http(body), keys=[key])
        error = report.chunks[0].error
        assert isinstance(error, RefusedError)
        assert key[:10].lower() not in error.message.lower()


async def test_a_doubly_compressed_reply_is_refused() -> None:
    """A reply that is compressed twice is refused before it is decompressed, because it could fill the memory."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip, gzip\r\ncontent-length: 1\r\n\r\nx")

    async with (
        raw_server(answer) as server,
        AsyncGatePay("k", "s", base_url=server.base_url, retry=QUICK) as gatepay,
    ):
        with pytest.raises(ProtocolError, match="is compressed more than once"):
            await gatepay.list_products()
