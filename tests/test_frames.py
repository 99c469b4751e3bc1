"""Tracebacks hold no card key, signature or appsecret in the local variables of frames, which Sentry would show."""

import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import sniffio
from anyio.abc import SocketStream
from servers import http, raw_server

from gatepay_async import AsyncGatePay, GatePayError, InvalidRequestError, RetryPolicy, parse_callback
from gatepay_async.callbacks import CallbackApp, CallbackEvent, MemoryStore
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.frames import clear_frames, scrub_errors
from gatepay_async.protocol.messages import Reply, encode_form
from gatepay_async.protocol.signing import Credentials, sign
from gatepay_async.testing import signed_callback

pytestmark = pytest.mark.sockets

# Built from parts: a traceback quotes lines of this file, which must not contain the whole text.
CANARY = f"CANARY-{1234}"
SECRET = f"appsecret-{1234}"
KEYS = [f"{CANARY}-{number}" for number in range(3)]
SHOP = Credentials("shop", SECRET)
# The signatures of the calls in calls_of(): product/show, ka/show, ka/create and pay/create.
SIGNATURES = [
    sign(SHOP, parts) for parts in ([], ["8"], ["8", "\n".join(KEYS)], ["8", "1", "alipay", "T-1-X", "terry"])
]


def format_with_locals(error: BaseException) -> str:
    """Return what an error reporter shows for *error*: every frame with its locals, except those of this file."""
    lines: list[str] = []
    first = traceback.TracebackException.from_exception(error, capture_locals=True)
    remaining: list[traceback.TracebackException | None] = [first]
    while remaining:
        current = remaining.pop()
        if current is None:
            continue
        lines += [*current.format_exception_only(), str(current.__notes__)]
        lines += [f"{frame.name} {frame.locals}" for frame in current.stack if frame.filename != __file__]
        remaining += [current.__cause__, current.__context__, *(current.exceptions or ())]
    return "\n".join(lines)


def leaks(error: BaseException | None) -> list[str]:
    """Return the lines of ``format_with_locals`` that contain a secret."""
    assert error is not None
    canaries = [CANARY, SECRET, *SIGNATURES]
    return [line[:300] for line in format_with_locals(error).splitlines() if any(canary in line for canary in canaries)]


async def error_of(call: Callable[[], Awaitable[object]]) -> BaseException | None:
    try:
        await call()
    except Exception as error:  # noqa: BLE001 -- the caller checks any error
        return error
    return None


def calls_of(gatepay: AsyncGatePay) -> dict[str, Callable[[], Awaitable[object]]]:
    async def walk(prefetch: int) -> list[object]:
        return [key async for key in gatepay.list_card_keys(8, prefetch=prefetch)]

    async def upload() -> None:
        report = await gatepay.upload_card_keys(8, KEYS)
        for chunk in report.chunks:
            if chunk.error is not None:
                raise chunk.error

    async def pay() -> object:
        return await gatepay.create_payment(
            product_id=8, product_num=1, pay_type="alipay", out_order_id="T-1-X", custom="terry"
        )

    return {
        "pay/create": pay,
        "product/show": gatepay.list_products,
        "ka/show": lambda: gatepay.list_card_keys(8),
        "a walk": lambda: walk(1),
        "a walk with prefetch": lambda: walk(2),
        "ka/create": lambda: gatepay.create_card_keys(8, KEYS),
        "an upload": upload,
    }


# A row, and a page of card keys without its rows.
ROW = {"id": 1, "admin_id": 1, "pay_product_id": 8, "pay_order_id": 0, "content": CANARY, "status": "soldin"}
PAGE = {"total": 1, "per_page": 50, "current_page": 1, "last_page": 1}


def reply(data: object, code: int = 100) -> bytes:
    return http(json.dumps({"code": code, "msg": CANARY, "time": "1", "data": data}).encode())


# Responses that make a call fail, each at another stage.
BAD_RESPONSES: dict[str, bytes] = {
    "nothing": b"",
    "no HTTP": f"{CANARY}\r\n\r\n".encode(),
    "a bad header": f"HTTP/1.1 200 OK\r\n{CANARY}\r\n\r\n".encode(),
    "half a body": reply(CANARY)[:-9],
    "a bad chunk": f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{CANARY}\r\n".encode(),
    "a bad encoding": http(CANARY.encode(), headers="content-encoding: gzip\r\n"),
    "no JSON": http(f"<title>{CANARY}</title>".encode()),
    "no UTF-8": http(b'{"code": 100, "data": "' + CANARY.encode() + b'\xff"}'),
    "another shape": reply({"ka": {**PAGE, "data": [{**ROW, "createtime": CANARY, "updatetime": 1}]}}),
    "a field too few": reply({"ka": PAGE, "order_type": CANARY, "category": [CANARY]}),
    "a page too late": reply({"ka": {**PAGE, "current_page": 9, "data": [{**ROW, "createtime": 1, "updatetime": 1}]}}),
    "a refusal": reply(CANARY, code=109),
    "an unknown refusal": reply({CANARY: CANARY}, code=999),
}


@pytest.mark.anyio
@pytest.mark.usefixtures("impatient_uploads")
async def test_failed_call_leaves_no_secret_in_its_traceback() -> None:
    """At whatever stage a call fails, no frame holds a card key, a signature, the form or the reply."""
    problem = ""

    async def answer(stream: SocketStream, _: int) -> None:
        if BAD_RESPONSES[problem]:
            await stream.send(BAD_RESPONSES[problem])
        raise ConnectionAbortedError

    wrong: list[str] = []
    failures = 0
    async with raw_server(answer) as server, httpx.AsyncClient() as users_client:
        for client in (None, users_client):
            async with AsyncGatePay(
                "shop", SECRET, base_url=server.base_url, http_client=client, retry=RetryPolicy(attempts=1)
            ) as gatepay:
                for problem in BAD_RESPONSES:
                    if problem == "a bad encoding" and sniffio.current_async_library() == "trio":
                        continue  # httpx leaves a generator unfinished there
                    for name, call in calls_of(gatepay).items():
                        error = await error_of(call)
                        if error is not None:
                            failures += 1
                            wrong += [f"{problem}, {name}: {line}" for line in leaks(error)]
    assert failures > 150  # of 182: 2 clients, 13 responses and 7 calls
    assert not wrong, "\n".join(wrong)


def frames_with_data(error: BaseException | None) -> list[str]:
    """Return the names of the frames that still hold a request body or a reply."""
    assert error is not None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return [frame.f_code.co_name for frame in frames if {"body", "reply"} & set(frame.f_locals)]


@pytest.mark.anyio
async def test_frames_of_a_refused_call_hold_no_form_or_reply() -> None:
    """Neither a ``body`` nor a ``reply`` is left in any frame, even if a tool wouldn't show it."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(BAD_RESPONSES["a refusal"])

    async with (
        raw_server(answer) as server,
        AsyncGatePay("shop", SECRET, base_url=server.base_url, retry=RetryPolicy(attempts=1)) as gatepay,
    ):
        for name in ("pay/create", "product/show", "ka/show", "ka/create"):
            assert frames_with_data(await error_of(calls_of(gatepay)[name])) == [], name


@pytest.mark.anyio
async def test_failed_connection_leaves_no_secret_in_the_traceback() -> None:
    """Nothing listens at the address, so no call can connect."""
    wrong: list[str] = []
    async with AsyncGatePay("shop", SECRET, base_url="http://127.0.0.1:1", retry=RetryPolicy(attempts=1)) as gatepay:
        for name, call in calls_of(gatepay).items():
            wrong += [f"{name}: {line}" for line in leaks(await error_of(call))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.anyio
async def test_invalid_arguments_leave_no_secret_in_the_traceback() -> None:
    """An invalid argument is rejected before anything is sent. An input that breaks ends the upload with its error."""

    class NotAList:
        def __repr__(self) -> str:
            return CANARY

    async def failing_async_input() -> AsyncIterator[str]:
        yield CANARY
        raise OSError("disk failed")

    def failing_input() -> Iterator[str]:
        yield CANARY
        raise OSError("disk failed")

    not_a_list: Any = NotAList()
    async with AsyncGatePay("shop", SECRET, base_url="http://127.0.0.1:1", retry=RetryPolicy(attempts=1)) as gatepay:
        attempts: dict[str, Callable[[], Awaitable[object]]] = {
            "twice": lambda: gatepay.create_card_keys(8, [CANARY, CANARY]),
            "one text": lambda: gatepay.create_card_keys(8, CANARY),  # type: ignore[arg-type]  # the error is tested
            "not a list": lambda: gatepay.create_card_keys(8, not_a_list),
            "a lone surrogate": lambda: gatepay.create_card_keys(8, [CANARY, f"{CANARY}\ud800"]),
            "no product": lambda: gatepay.create_card_keys(0, [CANARY]),
            "too many": lambda: gatepay.create_card_keys(8, [f"{CANARY}{number}" for number in range(501)]),
            "an upload of one text": lambda: gatepay.upload_card_keys(8, CANARY),
            "an upload of something else": lambda: gatepay.upload_card_keys(8, not_a_list),
            "an upload to no product": lambda: gatepay.upload_card_keys(0, [CANARY]),
            "an input that breaks": lambda: gatepay.upload_card_keys(8, failing_input()),
            "an input that breaks later": lambda: gatepay.upload_card_keys(8, failing_async_input()),
        }
        wrong = [f"{name}: {line}" for name, call in attempts.items() for line in leaks(await error_of(call))]
    assert not wrong, "\n".join(wrong)


async def accept(_: object) -> None: ...


def test_functions_that_take_secrets_leave_none_in_the_traceback() -> None:
    """No error holds the appsecret, the card keys or the signature that a function got as an argument."""
    query = signed_callback(appkey="shop", appsecret=SECRET)
    SIGNATURES.append(query[-32:])  # the last field of a callback is its signature, in 32 hex digits
    attempts: dict[str, Callable[[], object]] = {
        "a client": lambda: AsyncGatePay("shop", f"{SECRET}\0{SECRET}"),
        "a client with a wrong timeout": lambda: AsyncGatePay("shop", SECRET, timeout=-1),
        "credentials": lambda: Credentials("shop", f"{SECRET}\0{SECRET}"),
        "a call": lambda: KaCreate(0, [CANARY]),
        "a forged callback": lambda: parse_callback(query + "1", appkey="shop", appsecret=SECRET),
        "another's callback": lambda: parse_callback(query, appkey="other", appsecret=SECRET),
        "a forged callback to a client": lambda: AsyncGatePay("shop", SECRET).parse_callback(query + "1"),
        "several secrets": lambda: parse_callback(query, appkey="shop", appsecret=[SECRET, ""]),
        "an application": lambda: CallbackApp(accept, appkey="", appsecret=SECRET, store=MemoryStore()),
        "a signed callback": lambda: signed_callback(appkey="", appsecret=SECRET),
    }
    wrong: list[str] = []
    for name, attempt in attempts.items():
        with pytest.raises(GatePayError) as caught:
            attempt()
        wrong += [f"{name}: {line}" for line in leaks(caught.value)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.anyio
async def test_rejected_or_failed_callback_leaves_no_secret_in_events_or_log(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the errors passed to ``on_event`` nor the log hold the signature or the appsecret."""
    caplog.set_level("DEBUG", "gatepay_async")
    shop: dict[str, Any] = {"appkey": "shop", "appsecret": SECRET}
    genuine = signed_callback(**shop, paid_at=1_600_000_000)
    signature = genuine[-32:]
    SIGNATURES.append(signature)
    reported: dict[str, list[BaseException]] = {}

    async def deliver(name: str, query: str, handler: Callable[[object], Awaitable[None]], **options: Any) -> None:
        def record(event: CallbackEvent) -> None:
            assert event.error is not None
            reported.setdefault(name, []).append(event.error)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": query.encode()}

        app = CallbackApp(handler, **shop, store=MemoryStore(), on_event=record, **options)
        # A CallbackApp is called in one of two ways: with the query string, or with an ASGI request.
        with suppress(KeyboardInterrupt):
            await app.receive(query)
        with suppress(KeyboardInterrupt):
            await app({"type": "http", "method": "POST", "headers": []}, receive, send)

    async def send(_: object) -> None: ...

    async def fail(_: object) -> None:
        raise OSError("database failed")

    async def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    async def find_no_order(_: object) -> None:
        return None

    for name, query in {
        "another price": genuine.replace("price=1.00", "price=0.01"), "another's": f"appkey=other&{genuine}",
        "a name twice": f"{genuine}&price=1.00", "too long": genuine + "x" * 9000, "a bad escape": f"{genuine}%zz",
        "no UTF-8": f"x=%ff&{genuine}", "no signature": genuine.replace("sign=", "sgin="), "too short": genuine[:-1],
    }.items():  # fmt: skip
        await deliver(name, query, accept)
    await deliver("too old", genuine, accept, max_age=60)
    await deliver("no order", genuine, accept, lookup=find_no_order)
    await deliver("a handler that fails", genuine, fail)
    await deliver("a handler that ends the program", genuine, interrupt)
    assert len(reported) == 12
    wrong = [f"{name}: {line}" for name, errors in reported.items() for error in errors for line in leaks(error)]
    assert not wrong, "\n".join(wrong)
    assert caplog.records
    assert signature not in caplog.text
    assert SECRET not in caplog.text


def test_repr_of_a_reply_shows_neither_body_nor_content_type() -> None:
    """Body and content type may hold a card key."""
    reply_with_secrets = Reply(200, body=CANARY.encode(), content_type=CANARY)
    assert repr(reply_with_secrets) == "Reply(status=200, retry_after=None)"


def test_locals_of_the_users_own_frames_are_kept() -> None:
    """The locals are kept even if our code has called the user's function."""

    def users_function() -> None:
        text = "still here"
        raise OSError(len(text))

    @scrub_errors
    def our_function() -> None:
        users_function()

    with pytest.raises(OSError, match="10") as caught:
        our_function()
    stack = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    assert [frame.locals for frame in stack if frame.name == "users_function"] == [{"text": "'still here'"}]


def make_leaking_error() -> Exception:
    """Return an error whose frames hold a card key."""
    with pytest.raises(InvalidRequestError) as caught:
        KaCreate.__init__.__wrapped__(KaCreate(1, ["x"]), 0, [CANARY])  # type: ignore[attr-defined]  # added by functools.wraps()
    return caught.value


def test_errors_in_an_exception_group_are_cleared() -> None:
    """The frames of each error in the group are cleared."""
    group = ExceptionGroup("several", [make_leaking_error(), make_leaking_error()])
    assert leaks(group)
    clear_frames(group)
    assert not leaks(group)


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_chained_errors_are_cleared(link: str) -> None:
    """The frames of an error's cause and of its context are cleared."""
    error = OSError("later")
    setattr(error, link, make_leaking_error())
    assert leaks(error)
    clear_frames(error)
    assert not leaks(error)


def test_repr_of_a_form_shows_only_its_length() -> None:
    """The form is bytes with card keys. Only its length is shown."""
    form = encode_form({"content": CANARY})
    assert (repr(form), f"{form}", str(form)) == ("<form of 19 bytes>",) * 3
    assert form == b"content=" + CANARY.encode()
