"""Plants secrets wherever one can occur, and checks that no error, repr, log line or pickle contains them."""

import logging
import pickle
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn, cast
from urllib.parse import quote_plus

import anyio
import pytest
from anyio.abc import SocketStream
from selected_httpx import httpx
from servers import http, raw_server
from waiting import until

from gatepay_async import AsyncGatePay, CardKey, GatePayError, RetryPolicy, TransportError, UploadReport, parse_callback
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.messages import encode
from gatepay_async.protocol.signing import Credentials, sign
from gatepay_async.sandbox import Fault, FaultKind, Sandbox

# With `impatient_uploads`, an upload ends after eight failed calls in a row.
pytestmark = [pytest.mark.sockets, pytest.mark.usefixtures("impatient_uploads")]

SECRET = "canary-of-the-appsecret"
KEYS = ["CANARY-KEY-0001", "CANARY-KEY-0002"]
APPKEY = "public-appkey"
SIGNATURES = [
    sign(Credentials(APPKEY, SECRET), ["8", "\n".join(KEYS)]),
    sign(Credentials(APPKEY, SECRET), ["8"]),
    sign(Credentials(APPKEY, SECRET), []),
    sign(Credentials(APPKEY, SECRET), ["8", "1", "alipay", "T-1-X", "custom"]),
]
CANARIES = [SECRET, "CANARY-KEY", *SIGNATURES]
FORM = encode(KaCreate(8, KEYS), Credentials(APPKEY, SECRET)).decode()
# Replies of broken servers that repeat the request or contain card keys.
REPLIES = {
    "a debug page with the form": f"<html><title>Error in {FORM}</title><body><pre>{FORM}</pre></body></html>",
    "a debug page with card keys": f"<html><body>POST content = {' '.join(KEYS)} sign = {SIGNATURES[0]}</body></html>",
    "a refusal with card keys": (
        f'{{"code": 109, "msg": "{KEYS[0]} and {KEYS[1]}, {" ".join(SIGNATURES)}", "time": "1", "data": "{KEYS[0]}"}}'
    ),
    "a warning before the JSON": f'Warning: x in index.php {{"code": 100, "data": {{"ka": "{KEYS[0]}"}}}}',
    "card keys of another type": (
        '{"code": 100, "msg": "", "time": "1", "data": {"ka": {"total": 1, "per_page": 50, "current_page": 1, '
        f'"last_page": 1, "data": [{{"id": "{KEYS[0]}", "content": ["{KEYS[1]}"]}}]}}}}}}'
    ),
    "cut JSON": f'{{"code": 100, "data": {{"ka": {{"data": [{{"content": "{KEYS[0]}',
    "invalid UTF-8": f'{{"code": 100, "msg": "{KEYS[0]} \udcff"}}',
    "a success with a card key": f'{{"code": 100, "msg": "", "time": "1", "data": "成功录入:1条卡密 {KEYS[0]}"}}',
}


def all_texts_of(error: BaseException, seen: set[int] | None = None) -> Iterator[str]:
    """Yield every text of *error* that may be displayed or logged, including its attributes and its chain."""
    seen = set() if seen is None else seen
    if id(error) in seen:
        return
    seen.add(id(error))
    yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
    yield "".join(traceback.format_exception(error))
    request = getattr(error, "_request", None)
    if isinstance(request, httpx.Request):
        yield request.read().decode()
    for name in ("doc", "object"):  # the input of a JSONDecodeError or a UnicodeDecodeError
        yield repr(getattr(error, name, ""))
    for linked in (error.__cause__, error.__context__):
        if linked is not None:
            yield from all_texts_of(linked, seen)


def assert_no_canary(text: str) -> None:
    """Check that *text* contains no canary, neither plain nor URL-encoded."""
    for canary in CANARIES:
        assert canary not in text
        assert quote_plus(canary) not in text


async def results_of_all_calls(gatepay: AsyncGatePay) -> list[object]:
    """Make every call of the client. Return what each returns or raises."""

    async def walk() -> list[CardKey]:
        return [key async for key in gatepay.list_card_keys(8, prefetch=2)]

    async def upload() -> UploadReport:
        return await gatepay.upload_card_keys(8, [*KEYS, "CANARY-KEY\nbroken", "CANARY-KEY-\ud800", b"CANARY-KEY\xff"])

    calls: list[Any] = [
        gatepay.list_products,
        walk,
        upload,
        lambda: gatepay.create_card_keys(8, KEYS),
        lambda: gatepay.create_payment(
            product_id=8, product_num=1, pay_type="alipay", out_order_id="T-1-X", custom="custom"
        ),
        lambda: gatepay.send_raw("ka/create", {"product_id": "8", "content": "\n".join(KEYS)}, signed=("content",)),
    ]
    results: list[object] = []
    for call in calls:
        try:
            results.append(await call())
        except GatePayError as error:
            results.append(error)
    return results


def assert_result_is_clean(result: object) -> None:
    """Check that a result or an error, with its chunks and causes, contains no canary."""
    if isinstance(result, UploadReport):
        assert_no_canary(repr(result))
        assert_no_canary(repr(result.chunks))
        for chunk in result.chunks:
            if chunk.error is not None:
                assert_result_is_clean(chunk.error)
    elif isinstance(result, BaseException):
        for text in all_texts_of(result):
            assert_no_canary(text)
        assert_no_canary(pickle.dumps(result).decode("latin-1"))
    else:
        assert_no_canary(repr(result))


@pytest.mark.asyncio  # the texts don't depend on the event loop
@pytest.mark.parametrize("name", REPLIES)
@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error"])
async def test_no_secret_of_a_reply_is_repeated(name: str, status: str, caplog: pytest.LogCaptureFixture) -> None:
    """If a server's reply repeats secrets, no error, report or log line contains them."""
    caplog.set_level(logging.DEBUG)

    async def send_reply(stream: SocketStream, _: int) -> None:
        is_about_keys = b" /api/ka/" in server.heads[-1]
        # Other requests contain no card keys, so the reply repeats their form with the signature.
        reply = REPLIES[name].encode("utf-8", "surrogateescape") if is_about_keys else b"<p>" + server.bodies[-1]
        await stream.send(http(reply, status=status))

    async with (
        raw_server(send_reply) as server,
        AsyncGatePay(APPKEY, SECRET, base_url=server.base_url, retry=RetryPolicy(attempts=1)) as gatepay,
    ):
        assert_no_canary(repr(gatepay))
        results = await results_of_all_calls(gatepay)
    assert len(results) == 6
    for result in results:
        assert_result_is_clean(result)
    assert_no_canary(caplog.text)


@pytest.mark.asyncio  # the texts don't depend on the event loop
@pytest.mark.parametrize("with_users_client", [False, True])
async def test_no_secret_after_a_broken_connection(
    caplog: pytest.LogCaptureFixture, *, with_users_client: bool
) -> None:
    """Errors after a broken connection contain no secret, although httpx's errors refer to the signed request."""
    caplog.set_level(logging.DEBUG)

    async def break_connection(stream: SocketStream, _: int) -> None:
        raise ConnectionAbortedError

    async with (
        raw_server(break_connection) as server,
        httpx.AsyncClient() as http_client,
        AsyncGatePay(
            APPKEY,
            SECRET,
            base_url=server.base_url,
            http_client=http_client if with_users_client else None,
            retry=RetryPolicy(attempts=1),
        ) as gatepay,
    ):
        results = await results_of_all_calls(gatepay)
    assert sum(isinstance(result, GatePayError) for result in results) == 5  # all calls but upload(), which reports
    for result in results:
        assert_result_is_clean(result)
    assert_no_canary(caplog.text)


@pytest.mark.asyncio  # the texts don't depend on the event loop
async def test_no_card_key_of_a_transports_error_is_repeated() -> None:
    """If a transport's error quotes a card key, our error doesn't contain it, even if it looks like a word."""
    key = "ses" + "ame"  # in two parts, because a traceback quotes the lines of this file

    def raise_with_key(_: httpx.Request) -> NoReturn:
        raise httpx.WriteError(f"the server did not accept {key}")

    transport = httpx.MockTransport(raise_with_key)
    async with AsyncGatePay(APPKEY, SECRET, transport=transport, retry=RetryPolicy(attempts=1)) as gatepay:
        with pytest.raises(TransportError, match="did not accept") as caught:
            await gatepay.create_card_keys(8, [key])
    assert isinstance(caught.value.__cause__, httpx.WriteError)
    assert key not in "".join(all_texts_of(caught.value))


@pytest.mark.asyncio  # the texts don't depend on the event loop
async def test_no_card_key_in_reprs_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    """The reprs of fetched card keys, and the log of an upload, contain no card key."""
    caplog.set_level(logging.DEBUG)
    with Sandbox(seed=False) as sandbox:
        sandbox.fault(Fault(FaultKind.CUT_AFTER))
        async with sandbox.serve() as url, AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=url) as gatepay:
            results = await results_of_all_calls(gatepay)
            page = await gatepay.list_card_keys(8)
            assert [key.content for key in page.keys] == KEYS
            assert_no_canary(repr(page))
    for result in results:
        assert_result_is_clean(result)
    assert_no_canary(caplog.text)
    assert sandbox.appsecret not in caplog.text


@pytest.mark.asyncio  # the texts don't depend on the event loop
async def test_no_card_key_in_a_cancelled_uploads_report() -> None:
    """The report of a cancelled upload contains no card key in its texts."""

    async def never_reply(*_: object) -> None:
        await anyio.sleep_forever()

    caught: list[BaseException] = []

    async def upload() -> None:
        try:
            await gatepay.upload_card_keys(8, KEYS)
        except BaseException as error:
            caught.append(error)
            raise

    async with (
        raw_server(never_reply) as server,
        AsyncGatePay(APPKEY, SECRET, base_url=server.base_url) as gatepay,
        anyio.create_task_group() as group,
    ):
        group.start_soon(upload)
        await until(lambda: server.bodies)
        group.cancel_scope.cancel()
    [cancellation] = caught
    assert cast("Any", cancellation).report.unknown == len(KEYS)
    for text in all_texts_of(cancellation):
        assert_no_canary(text)


def test_no_signature_in_a_rejected_callbacks_error() -> None:
    """The error for an invalid callback contains neither its signature nor the correct one."""
    fields = ["1", "T-1-X", "1.00", "1.00", "alipay", "1555750250", "custom"]
    correct_sign = sign(Credentials(APPKEY, SECRET), fields)
    query = (
        f"appkey={APPKEY}&order_id=1&out_order_id=T-1-X&price=1.00&realprice=1.00&type=alipay&paytime=1555750250"
        f"&extend=custom&sign={'0' * 32}"
    )
    with pytest.raises(GatePayError) as caught:
        parse_callback(query, appkey=APPKEY, appsecret=SECRET)
    for text in all_texts_of(caught.value):
        assert correct_sign not in text
        assert "0" * 32 not in text.replace(query, "")
        assert_no_canary(text)
