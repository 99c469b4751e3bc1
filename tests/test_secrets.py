"""A canary in each place where a secret can be, and a look into every place where it must not come up."""

import logging
import pickle
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn, cast
from urllib.parse import quote_plus

import anyio
import httpx
import pytest
from anyio.abc import SocketStream
from servers import http, raw_server
from waiting import until

from gatepay_async import AsyncGatePay, CardKey, GatePayError, RetryPolicy, TransportError, UploadReport, parse_callback
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.messages import encode
from gatepay_async.protocol.signing import Credentials, sign
from gatepay_async.sandbox import Fault, FaultKind, Sandbox

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
# What servers answer with when they go wrong, repeating what they were told.
REPLIES = {
    "a debug page": f"<html><title>Error in {FORM}</title><body><pre>{FORM}</pre></body></html>",
    "a debug page of keys": f"<html><body>POST content = {' '.join(KEYS)} sign = {SIGNATURES[0]}</body></html>",
    "a refusal that repeats": (
        f'{{"code": 109, "msg": "{KEYS[0]} and {KEYS[1]}, {" ".join(SIGNATURES)}", "time": "1", "data": "{KEYS[0]}"}}'
    ),
    "a warning before the JSON": f'Warning: x in index.php {{"code": 100, "data": {{"ka": "{KEYS[0]}"}}}}',
    "keys of another type": (
        '{"code": 100, "msg": "", "time": "1", "data": {"ka": {"total": 1, "per_page": 50, "current_page": 1, '
        f'"last_page": 1, "data": [{{"id": "{KEYS[0]}", "content": ["{KEYS[1]}"]}}]}}}}}}'
    ),
    "cut JSON": f'{{"code": 100, "data": {{"ka": {{"data": [{{"content": "{KEYS[0]}',
    "no UTF-8": f'{{"code": 100, "msg": "{KEYS[0]} \udcff"}}',
    "an answer that repeats": f'{{"code": 100, "msg": "", "time": "1", "data": "成功录入:1条卡密 {KEYS[0]}"}}',
}


def texts_of(error: BaseException, seen: set[int] | None = None) -> Iterator[str]:
    """Whatever of *error* may come before somebody's eyes, its causes and their attributes included."""
    seen = set() if seen is None else seen
    if id(error) in seen:
        return
    seen.add(id(error))
    yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
    yield "".join(traceback.format_exception(error))
    request = getattr(error, "_request", None)
    if isinstance(request, httpx.Request):
        yield request.read().decode()
    for name in ("doc", "object"):  # of JSON's and Unicode's errors: all that was being read
        yield repr(getattr(error, name, ""))
    for linked in (error.__cause__, error.__context__):
        if linked is not None:
            yield from texts_of(linked, seen)


def look(text: str) -> None:
    for canary in CANARIES:
        assert canary not in text
        assert quote_plus(canary) not in text


async def provoke(gatepay: AsyncGatePay) -> list[object]:
    """Make every call; what it returns or raises."""

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


def look_at(result: object) -> None:
    if isinstance(result, UploadReport):
        look(repr(result))
        look(repr(result.chunks))
        for chunk in result.chunks:
            if chunk.error is not None:
                look_at(chunk.error)
    elif isinstance(result, BaseException):
        for text in texts_of(result):
            look(text)
        look(pickle.dumps(result).decode("latin-1"))
    else:
        look(repr(result))


@pytest.mark.asyncio  # what is looked for doesn't depend on the loop
@pytest.mark.parametrize("name", REPLIES)
@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error"])
async def test_strange_replies(name: str, status: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a server repeats of what it was told, no error, report or log line repeats it."""
    caplog.set_level(logging.DEBUG)

    async def answer(stream: SocketStream, _: int) -> None:
        about_keys = b" /api/ka/" in server.heads[-1]
        # Where no card keys travel, what there is to repeat is the form, and in it the signature.
        reply = REPLIES[name].encode("utf-8", "surrogateescape") if about_keys else b"<p>" + server.bodies[-1]
        await stream.send(http(reply, status=status))

    async with (
        raw_server(answer) as server,
        AsyncGatePay(APPKEY, SECRET, base_url=server.base_url, retry=RetryPolicy(attempts=1)) as gatepay,
    ):
        look(repr(gatepay))
        results = await provoke(gatepay)
    assert len(results) == 6
    for result in results:
        look_at(result)
    look(caplog.text)


@pytest.mark.asyncio  # what is looked for doesn't depend on the loop
@pytest.mark.parametrize("own_client", [False, True])
async def test_nobody_answers(caplog: pytest.LogCaptureFixture, *, own_client: bool) -> None:
    """Nor when the connection breaks: httpx hangs the request, with the signed form in it, on its errors."""
    caplog.set_level(logging.DEBUG)

    async def die(stream: SocketStream, _: int) -> None:
        raise ConnectionAbortedError

    async with (
        raw_server(die) as server,
        httpx.AsyncClient() as own,
        AsyncGatePay(
            APPKEY,
            SECRET,
            base_url=server.base_url,
            http_client=own if own_client else None,
            retry=RetryPolicy(attempts=1),
        ) as gatepay,
    ):
        results = await provoke(gatepay)
    assert sum(isinstance(result, GatePayError) for result in results) == 5
    for result in results:
        look_at(result)
    look(caplog.text)


@pytest.mark.asyncio  # what is looked for doesn't depend on the loop
async def test_a_transport_that_quotes_what_it_was_given() -> None:
    """A card key that looks like a word of a sentence comes up neither in the error nor in its cause."""
    key = "ses" + "ame"  # so that the lines of this file that a traceback quotes don't hold it

    def quote(_: httpx.Request) -> NoReturn:
        raise httpx.WriteError(f"the other end did not take {key}")

    transport = httpx.MockTransport(quote)
    async with AsyncGatePay(APPKEY, SECRET, transport=transport, retry=RetryPolicy(attempts=1)) as gatepay:
        with pytest.raises(TransportError, match="did not take") as caught:
            await gatepay.create_card_keys(8, [key])
    assert isinstance(caught.value.__cause__, httpx.WriteError)
    assert key not in "".join(texts_of(caught.value))


@pytest.mark.asyncio  # what is looked for doesn't depend on the loop
async def test_keys_in_models(caplog: pytest.LogCaptureFixture) -> None:
    """Card keys that were read are in no `repr`; nor are those that were uploaded in a log line."""
    caplog.set_level(logging.DEBUG)
    with Sandbox(seed=False) as sandbox:
        sandbox.fault(Fault(FaultKind.CUT_AFTER))
        async with sandbox.serve() as url, AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=url) as gatepay:
            results = await provoke(gatepay)
            page = await gatepay.list_card_keys(8)
            assert [key.content for key in page.keys] == KEYS
            look(repr(page))
    for result in results:
        look_at(result)
    look(caplog.text)
    assert sandbox.appsecret not in caplog.text


@pytest.mark.asyncio  # what is looked for doesn't depend on the loop
async def test_cancelled_upload() -> None:
    """The report on a cancellation shows no card key either."""

    async def never(*_: object) -> None:
        await anyio.sleep_forever()

    caught: list[BaseException] = []

    async def upload() -> None:
        try:
            await gatepay.upload_card_keys(8, KEYS)
        except BaseException as error:
            caught.append(error)
            raise

    async with (
        raw_server(never) as server,
        AsyncGatePay(APPKEY, SECRET, base_url=server.base_url) as gatepay,
        anyio.create_task_group() as group,
    ):
        group.start_soon(upload)
        await until(lambda: server.bodies)
        group.cancel_scope.cancel()
    [cancellation] = caught
    assert cast("Any", cancellation).report.unknown == len(KEYS)
    for text in texts_of(cancellation):
        look(text)


def test_callback() -> None:
    """A callback that is not believed: its error repeats neither its signature nor the right one."""
    fields = ["1", "T-1-X", "1.00", "1.00", "alipay", "1555750250", "custom"]
    right = sign(Credentials(APPKEY, SECRET), fields)
    query = (
        f"appkey={APPKEY}&order_id=1&out_order_id=T-1-X&price=1.00&realprice=1.00&type=alipay&paytime=1555750250"
        f"&extend=custom&sign={'0' * 32}"
    )
    with pytest.raises(GatePayError) as caught:
        parse_callback(query, appkey=APPKEY, appsecret=SECRET)
    for text in texts_of(caught.value):
        assert right not in text
        assert "0" * 32 not in text.replace(query, "")
        look(text)
