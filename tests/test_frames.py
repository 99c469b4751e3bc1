"""Card keys, signatures and the appsecret in the locals of frames, which tools such as Sentry print."""

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

# Put together, so that the lines of this file that a traceback quotes don't hold it.
CANARY = f"CANARY-{1234}"
SECRET = f"appsecret-{1234}"
KEYS = [f"{CANARY}-{number}" for number in range(3)]
SHOP = Credentials("shop", SECRET)
SIGNATURES = [
    sign(SHOP, parts) for parts in ([], ["8"], ["8", "\n".join(KEYS)], ["8", "1", "alipay", "T-1-X", "terry"])
]


def shown(error: BaseException) -> str:
    """What a tool prints of *error*: every frame with its locals, except this file's."""
    told: list[str] = []
    first = traceback.TracebackException.from_exception(error, capture_locals=True)
    left: list[traceback.TracebackException | None] = [first]
    while left:
        each = left.pop()
        if each is None:
            continue
        told += [*each.format_exception_only(), str(each.__notes__)]
        told += [f"{frame.name} {frame.locals}" for frame in each.stack if frame.filename != __file__]
        left += [each.__cause__, each.__context__, *(each.exceptions or ())]
    return "\n".join(told)


def leaks(error: BaseException | None) -> list[str]:
    """The lines that a secret stands in."""
    assert error is not None
    canaries = [CANARY, SECRET, *SIGNATURES]
    return [line[:300] for line in shown(error).splitlines() if any(canary in line for canary in canaries)]


async def raised(call: Callable[[], Awaitable[object]]) -> BaseException | None:
    try:
        await call()
    except Exception as error:  # noqa: BLE001 -- whatever it is
        return error
    return None


def calls(gatepay: AsyncGatePay) -> dict[str, Callable[[], Awaitable[object]]]:
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


ROW = {"id": 1, "admin_id": 1, "pay_product_id": 8, "pay_order_id": 0, "content": CANARY, "status": "soldin"}
KA = {"total": 1, "per_page": 50, "current_page": 1, "last_page": 1}


def reply(data: object, code: int = 100) -> bytes:
    return http(json.dumps({"code": code, "msg": CANARY, "time": "1", "data": data}).encode())


# At which stage a call fails: what comes back.
STAGES: dict[str, bytes] = {
    "nothing": b"",
    "no HTTP": f"{CANARY}\r\n\r\n".encode(),
    "a bad header": f"HTTP/1.1 200 OK\r\n{CANARY}\r\n\r\n".encode(),
    "half a body": reply(CANARY)[:-9],
    "a bad chunk": f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{CANARY}\r\n".encode(),
    "a bad coding": http(CANARY.encode(), headers="content-encoding: gzip\r\n"),
    "no JSON": http(f"<title>{CANARY}</title>".encode()),
    "no UTF-8": http(b'{"code": 100, "data": "' + CANARY.encode() + b'\xff"}'),
    "another shape": reply({"ka": {**KA, "data": [{**ROW, "createtime": CANARY, "updatetime": 1}]}}),
    "a field too few": reply({"ka": KA, "order_type": CANARY, "category": [CANARY]}),
    "a page too late": reply({"ka": {**KA, "current_page": 9, "data": [{**ROW, "createtime": 1, "updatetime": 1}]}}),
    "a refusal": reply(CANARY, code=109),
    "an unknown refusal": reply({CANARY: CANARY}, code=999),
}


@pytest.mark.anyio
@pytest.mark.usefixtures("impatient_uploads")
async def test_every_stage() -> None:
    """Wherever a call fails, no frame of its error shows a card key, a signature, the form or the reply."""
    stage = ""

    async def answer(stream: SocketStream, _: int) -> None:
        if STAGES[stage]:
            await stream.send(STAGES[stage])
        raise ConnectionAbortedError

    wrong: list[str] = []
    failures = 0
    async with raw_server(answer) as server, httpx.AsyncClient() as own:
        for client in (None, own):
            async with AsyncGatePay(
                "shop", SECRET, base_url=server.base_url, http_client=client, retry=RetryPolicy(attempts=1)
            ) as gatepay:
                for stage in STAGES:
                    if stage == "a bad coding" and sniffio.current_async_library() == "trio":
                        continue  # httpx leaves a generator half-way
                    for name, call in calls(gatepay).items():
                        error = await raised(call)
                        if error is not None:
                            failures += 1
                            wrong += [f"{stage}, {name}: {line}" for line in leaks(error)]
    assert failures > 150
    assert not wrong, "\n".join(wrong)


def kept(error: BaseException | None) -> list[str]:
    """The frames that still hold what was sent or came back."""
    assert error is not None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return [frame.f_code.co_name for frame in frames if {"body", "reply"} & set(frame.f_locals)]


@pytest.mark.anyio
async def test_a_refused_call_keeps_nothing() -> None:
    """No frame of a refused call holds the form or the reply, shown or not."""

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(STAGES["a refusal"])

    async with (
        raw_server(answer) as server,
        AsyncGatePay("shop", SECRET, base_url=server.base_url, retry=RetryPolicy(attempts=1)) as gatepay,
    ):
        for name in ("pay/create", "product/show", "ka/show", "ka/create"):
            assert kept(await raised(calls(gatepay)[name])) == [], name


@pytest.mark.anyio
async def test_a_connection_that_cannot_be_made() -> None:
    """Nor where there is no connection, or it is cut while the form is being written."""
    wrong: list[str] = []
    async with AsyncGatePay("shop", SECRET, base_url="http://127.0.0.1:1", retry=RetryPolicy(attempts=1)) as gatepay:
        for name, call in calls(gatepay).items():
            wrong += [f"{name}: {line}" for line in leaks(await raised(call))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.anyio
async def test_arguments_that_cannot_be_right() -> None:
    """Nor where nothing is sent, as the arguments can't be right."""

    class Odd:
        def __repr__(self) -> str:
            return CANARY

    async def late() -> AsyncIterator[str]:
        yield CANARY
        raise OSError("a disk")

    def early() -> Iterator[str]:
        yield CANARY
        raise OSError("a disk")

    odd: Any = Odd()
    async with AsyncGatePay("shop", SECRET, base_url="http://127.0.0.1:1", retry=RetryPolicy(attempts=1)) as gatepay:
        attempts: dict[str, Callable[[], Awaitable[object]]] = {
            "twice": lambda: gatepay.create_card_keys(8, [CANARY, CANARY]),
            "one text": lambda: gatepay.create_card_keys(8, CANARY),  # type: ignore[arg-type]  # on purpose
            "no list": lambda: gatepay.create_card_keys(8, odd),
            "half a letter": lambda: gatepay.create_card_keys(8, [CANARY, f"{CANARY}\ud800"]),
            "no product": lambda: gatepay.create_card_keys(0, [CANARY]),
            "too many": lambda: gatepay.create_card_keys(8, [f"{CANARY}{number}" for number in range(501)]),
            "an upload of one text": lambda: gatepay.upload_card_keys(8, CANARY),
            "an upload of nothing": lambda: gatepay.upload_card_keys(8, odd),
            "an upload to no product": lambda: gatepay.upload_card_keys(0, [CANARY]),
            "an input that breaks": lambda: gatepay.upload_card_keys(8, early()),
            "an input that breaks later": lambda: gatepay.upload_card_keys(8, late()),
        }
        wrong = [f"{name}: {line}" for name, call in attempts.items() for line in leaks(await raised(call))]
    assert not wrong, "\n".join(wrong)


async def handle(_: object) -> None: ...


def test_secrets_as_arguments() -> None:
    """Nor does the frame of what takes the appsecret, or a callback's query with its signature."""
    query = signed_callback(appkey="shop", appsecret=SECRET)
    SIGNATURES.append(query[-32:])
    attempts: dict[str, Callable[[], object]] = {
        "a client": lambda: AsyncGatePay("shop", f"{SECRET}\0{SECRET}"),
        "a client with a wrong timeout": lambda: AsyncGatePay("shop", SECRET, timeout=-1),
        "credentials": lambda: Credentials("shop", f"{SECRET}\0{SECRET}"),
        "a call": lambda: KaCreate(0, [CANARY]),
        "a forged callback": lambda: parse_callback(query + "1", appkey="shop", appsecret=SECRET),
        "another's callback": lambda: parse_callback(query, appkey="other", appsecret=SECRET),
        "a forged callback to a client": lambda: AsyncGatePay("shop", SECRET).parse_callback(query + "1"),
        "several secrets": lambda: parse_callback(query, appkey="shop", appsecret=[SECRET, ""]),
        "an application": lambda: CallbackApp(handle, appkey="", appsecret=SECRET, store=MemoryStore()),
        "a signed callback": lambda: signed_callback(appkey="", appsecret=SECRET),
    }
    wrong: list[str] = []
    for name, attempt in attempts.items():
        with pytest.raises(GatePayError) as caught:
            attempt()
        wrong += [f"{name}: {line}" for line in leaks(caught.value)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.anyio
async def test_a_callback_that_is_not_handled(caplog: pytest.LogCaptureFixture) -> None:
    """Nor do the errors that ``on_event`` and the log are told, whatever is wrong with a callback or its handler."""
    caplog.set_level("DEBUG", "gatepay_async")
    shop: dict[str, Any] = {"appkey": "shop", "appsecret": SECRET}
    genuine = signed_callback(**shop, paid_at=1_600_000_000)
    signature = genuine[-32:]
    SIGNATURES.append(signature)
    said: dict[str, list[BaseException]] = {}

    async def deliver(name: str, query: str, handler: Callable[[object], Awaitable[None]], **options: Any) -> None:
        def note(event: CallbackEvent) -> None:
            assert event.error is not None
            said.setdefault(name, []).append(event.error)

        async def body() -> dict[str, Any]:
            return {"type": "http.request", "body": query.encode()}

        app = CallbackApp(handler, **shop, store=MemoryStore(), on_event=note, **options)
        with suppress(KeyboardInterrupt):
            await app.receive(query)
        with suppress(KeyboardInterrupt):
            await app({"type": "http", "method": "POST", "headers": []}, body, send)

    async def send(_: object) -> None: ...

    async def fail(_: object) -> None:
        raise OSError("a database")

    async def stop(_: object) -> None:
        raise KeyboardInterrupt

    async def nothing(_: object) -> None:
        return None

    for name, query in {
        "another price": genuine.replace("price=1.00", "price=0.01"), "another's": f"appkey=other&{genuine}",
        "a name twice": f"{genuine}&price=1.00", "too long": genuine + "x" * 9000, "a bad escape": f"{genuine}%zz",
        "no UTF-8": f"x=%ff&{genuine}", "no signature": genuine.replace("sign=", "sgin="), "too short": genuine[:-1],
    }.items():  # fmt: skip
        await deliver(name, query, handle)
    await deliver("too old", genuine, handle, max_age=60)
    await deliver("no order", genuine, handle, lookup=nothing)
    await deliver("a handler that fails", genuine, fail)
    await deliver("a handler that ends the program", genuine, stop)
    assert len(said) == 12
    wrong = [f"{name}: {line}" for name, errors in said.items() for error in errors for line in leaks(error)]
    assert not wrong, "\n".join(wrong)
    assert caplog.records
    assert signature not in caplog.text
    assert SECRET not in caplog.text


def test_a_reply() -> None:
    """A reply does not show its body, nor what names its kind."""
    assert repr(Reply(200, CANARY.encode(), None, CANARY)) == "Reply(status=200, retry_after=None)"


def test_users_frames_stay() -> None:
    """The locals of the user's own frames stay, down to those that our code has called."""

    def theirs() -> None:
        mine = "still here"
        raise OSError(len(mine))

    @scrub_errors
    def ours() -> None:
        theirs()

    with pytest.raises(OSError, match="10") as caught:
        ours()
    stack = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    assert [frame.locals for frame in stack if frame.name == "theirs"] == [{"mine": "'still here'"}]


def leaking() -> Exception:
    """An error that nobody has emptied yet."""
    with pytest.raises(InvalidRequestError) as caught:
        KaCreate.__init__.__wrapped__(KaCreate(1, ["x"]), 0, [CANARY])  # type: ignore[attr-defined]  # functools.wraps()
    return caught.value


def test_groups() -> None:
    """The members of groups are emptied as well."""
    group = ExceptionGroup("several", [leaking(), leaking()])
    assert leaks(group)
    clear_frames(group)
    assert not leaks(group)


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_what_an_error_hangs_on(link: str) -> None:
    """So are the errors that caused one, or that it came in the middle of."""
    error = OSError("later")
    setattr(error, link, leaking())
    assert leaks(error)
    clear_frames(error)
    assert not leaks(error)


def test_forms() -> None:
    """A form shows its length, and nothing of what is in it."""
    form = encode_form({"content": CANARY})
    assert (repr(form), f"{form}", str(form)) == ("<form of 19 bytes>",) * 3
    assert form == b"content=" + CANARY.encode()
