"""The ASGI application: what it answers, whatever comes; everything but being handled once."""

import functools
import logging
from collections.abc import MutableMapping
from datetime import timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import AsyncMock
from urllib.parse import parse_qsl, urlencode

import anyio
import httpx
import pytest
from delivering import PAID, SHOP, NoAnswerError, Shop, call, fields, query, word
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from waiting import until

from gatepay_async import (
    CallbackError,
    CallbackSignatureError,
    InvalidRequestError,
    MalformedCallbackError,
    StaleCallbackError,
)
from gatepay_async.callbacks import CallbackApp, CallbackEvent, Claim, EventKind, MemoryStore
from gatepay_async.protocol.models import Callback
from gatepay_async.protocol.signing import Credentials

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]


async def test_success(memory_shop: Shop) -> None:
    """A payment is handled and answered with the bare word, as plain text that nobody keeps."""
    answer = await call(memory_shop.app(), query())
    assert (answer.status, answer.body) == (200, b"success")
    assert answer.headers == {
        b"content-type": b"text/plain; charset=utf-8",
        b"content-length": b"7",
        b"cache-control": b"no-store",
    }
    (callback,) = memory_shop.handled
    assert (callback.order_id, callback.out_order_id, callback.price) == (67848, "T-1001-X", Decimal("10.23"))
    assert memory_shop.events == [CallbackEvent(EventKind.HANDLED, 67848, "T-1001-X")]


async def test_a_form(memory_shop: Shop) -> None:
    """A POST's form body is read like a GET's query, in one piece or in many."""
    body = query()
    whole = await call(memory_shop.app(), method="POST", parts=[{"type": "http.request", "body": body}])
    pieces: list[Any] = [bytes([byte]) for byte in body]
    many = await call(memory_shop.app(), method="POST", parts=[*pieces, {"type": "http.request"}])
    assert (whole.body, many.body) == (b"success", b"success")
    assert memory_shop.kinds == ["handled", "repeated"]


async def test_a_form_and_a_query(memory_shop: Shop) -> None:
    """What a POST has in its URL is not believed for its body."""
    answer = await call(memory_shop.app(), query(), method="POST")
    assert (answer.status, answer.body) == (400, b"fail")


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "get"])
async def test_another_method(memory_shop: Shop, method: str) -> None:
    """Another method is answered with 405 and what would be right; nothing is handled."""
    answer = await call(memory_shop.app(), query(), method=method)
    assert (answer.status, answer.body, answer.headers[b"allow"]) == (405, b"fail", b"GET, POST")
    assert (memory_shop.handled, memory_shop.events) == ([], [])


async def test_a_body_too_long(memory_shop: Shop) -> None:
    """Reading ends where a body is too long for a callback: the endless one is answered."""
    parts: list[Any] = [b"y=" + b"y" * 4094] + [b"y" * 4096] * 100
    answer = await call(memory_shop.app(), method="POST", parts=parts)
    assert (answer.status, answer.body) == (400, b"fail")
    assert str(memory_shop.events[0].error) == "callback: is longer than 8192 bytes"


async def test_a_longest_body(memory_shop: Shop) -> None:
    """A callback may be 8192 bytes long, the merchant's own parameters included."""
    body = query() + b"&y="
    body += b"y" * (8192 - len(body))
    assert (await call(memory_shop.app(), method="POST", parts=[body, {"type": "http.request"}])).body == b"success"


async def test_a_client_that_goes_away(memory_shop: Shop) -> None:
    """A body that breaks off is nothing: not handled, not answered, no event."""
    with pytest.raises(NoAnswerError):
        await call(memory_shop.app(), method="POST", parts=[query(), {"type": "http.disconnect"}])
    assert (memory_shop.handled, memory_shop.events) == ([], [])


async def test_a_slow_body(memory_shop: Shop) -> None:
    """A body that doesn't come is waited for no longer than the timeout."""
    answer = await call(memory_shop.app(timeout=0.01), method="POST", parts=[query()])
    assert (answer.status, answer.body) == (408, b"fail")
    assert memory_shop.handled == []


async def test_a_slow_handler_after_a_quick_body(memory_shop: Shop) -> None:
    """The bound of the body is not the handler's: each has its own."""
    app = memory_shop.app()
    parts = [{"type": "http.request", "body": query()}]
    assert (await call(app, method="POST", parts=parts)).body == b"success"


async def test_any_path(memory_shop: Shop) -> None:
    """In Starlette it answers at a route and below a mount; the merchant's own parameters may be there."""
    app = memory_shop.app()
    outer = Starlette(routes=[Mount("/mounted", app), Route("/routed", app)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(outer), base_url="http://shop") as client:
        paths = ("/routed", "/mounted/", "/mounted/deeper")
        answers = [await client.get(f"{path}?shop=1&{query().decode()}") for path in paths]
        answers.append(await client.post("/routed", data=fields()))
        # Why CallbackApp's documentation speaks of the slash.
        assert (await client.get(f"/mounted?{query().decode()}")).status_code == 307
    assert [(answer.status_code, answer.text) for answer in answers] == [(200, "success")] * 4
    assert memory_shop.kinds == ["handled", "repeated", "repeated", "repeated"]


async def lifespan(app: CallbackApp) -> list[str]:
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    return sent


async def test_lifespan(shop: Shop) -> None:
    """Served alone, it starts and stops with its server; a store that was closed so is opened again when needed."""
    app = shop.app()
    assert await word(app, query()) == "success"
    assert await lifespan(app) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert await word(app, query(order_id="1")) == "success"


async def test_a_server_that_stops_under_a_delivery(memory_shop: Shop) -> None:
    """A server that stops waits until the deliveries that it has cancelled have put their claims right."""
    order = []
    store = memory_shop.store
    release = store.release

    async def slow(claim: Claim) -> None:
        await anyio.sleep(0.05)
        await release(claim)
        order.append("released")

    async def aclose() -> None:
        order.append("closed")

    store.release, store.aclose = slow, aclose  # type: ignore[method-assign]  # watched
    app = memory_shop.app(hang)
    async with anyio.create_task_group() as tasks, anyio.create_task_group() as deliveries:
        deliveries.start_soon(call, app, query())
        await until(lambda: app._in_progress)
        tasks.start_soon(lifespan, app)
        deliveries.cancel_scope.cancel()
    assert order == ["released", "closed"]


async def hang(_: Callback) -> None:
    await anyio.sleep_forever()


async def test_a_delivery_that_does_not_end(memory_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stops waits for a bounded time."""
    monkeypatch.setattr("gatepay_async.callbacks.app._SHUTDOWN_TIMEOUT_S", 0.02)
    app = memory_shop.app(hang)
    async with anyio.create_task_group() as deliveries:
        deliveries.start_soon(call, app, query())
        await until(lambda: app._in_progress)
        assert (await lifespan(app))[-1] == "lifespan.shutdown.complete"
        deliveries.cancel_scope.cancel()


async def test_websocket(memory_shop: Shop) -> None:
    """A websocket is refused."""
    sent = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await memory_shop.app()({"type": "websocket"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_another_protocol(memory_shop: Shop) -> None:
    """A scope that it doesn't know raises, as ASGI wants it."""
    with pytest.raises(ValueError, match="handles http, not smoke"):
        await memory_shop.app()({"type": "smoke"}, AsyncMock(), AsyncMock())


# What is done to a genuine callback's fields, and the field that the error names.
HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    *((f"{name} missing", {name: None}, name) for name in (*fields(),)[1:]),
    *((f"{name} empty", {name: ""}, name if name != "extend" else "sign") for name in (*fields(),)),
    ("appkey altered", {"appkey": "gp-kez"}, "appkey"),
    ("order_id altered", {"order_id": "67849"}, "sign"),
    ("out_order_id altered", {"out_order_id": "T-1002-X"}, "sign"),
    ("price altered", {"price": "0.01"}, "sign"),
    ("realprice altered", {"realprice": "10.20"}, "sign"),
    ("type altered", {"type": "wechat"}, "sign"),
    ("paytime altered", {"paytime": str(PAID + 1)}, "sign"),
    ("extend altered", {"extend": "eve@example.com"}, "sign"),
    ("sign altered", {"sign": "0" * 32}, "sign"),
    ("appkey upper-cased", {"appkey": "GP-KEY"}, "appkey"),
    ("out_order_id lower-cased", {"out_order_id": "t-1001-x"}, "sign"),
    ("type upper-cased", {"type": "ALIPAY"}, "type"),
    ("extend upper-cased", {"extend": "TERRY@EXAMPLE.COM"}, "sign"),
    ("sign upper-cased", {"sign": fields()["sign"].upper()}, "sign"),
    ("price without decimals", {"price": "10"}, "price"),
    ("price with one decimal", {"price": "10.2"}, "price"),
    ("price with three decimals", {"price": "10.230"}, "price"),
    ("realprice without decimals", {"realprice": "10"}, "realprice"),
    ("realprice with one decimal", {"realprice": "10.2"}, "realprice"),
    ("price slid into realprice", {"price": "10.2", "realprice": "310.23"}, "price"),
    ("realprice slid into price", {"price": "10.231", "realprice": "0.23"}, "price"),
    ("realprice slid into type", {"realprice": "10.2", "type": "3alipay"}, "realprice"),
    ("type slid into paytime", {"type": "alipa", "paytime": f"y{PAID}"}, "type"),
    ("paytime slid into type", {"type": "alipay1", "paytime": str(PAID)[1:]}, "type"),
    ("extend slid into paytime", {"paytime": f"{PAID}t", "extend": "erry@example.com"}, "paytime"),
    ("paytime slid into extend", {"paytime": str(PAID)[:-1], "extend": "0terry@example.com"}, "paytime"),
    ("order_id slid into appkey", {"appkey": "gp-key6", "order_id": "7848"}, "appkey"),
    ("appkey slid into order_id", {"appkey": "gp-ke", "order_id": "y67848"}, "order_id"),
    ("out_order_id slid into order_id", {"order_id": "67848T", "out_order_id": "-1001-X"}, "order_id"),
    ("out_order_id slid into price", {"out_order_id": "T-1001-", "price": "X10.23"}, "price"),
]


@pytest.mark.uncounted
@pytest.mark.parametrize(("changes", "named"), [pytest.param(*rest, id=name) for name, *rest in HOSTILE])
async def test_hostile(memory_shop: Shop, changes: dict[str, str | None], named: str) -> None:
    """A field that is missing, altered, upper-cased, slid or without its decimals: fail, and an event names it."""
    changed = {**fields(), **changes}
    received = urlencode({name: value for name, value in changed.items() if value is not None}).encode()
    answer = await call(memory_shop.app(), received)
    assert (answer.status, answer.body) == (400, b"fail")
    (event,) = memory_shop.events
    assert (event.kind, event.order_id, event.out_order_id) == (EventKind.REFUSED, None, None)
    assert isinstance(event.error, CallbackError)
    assert event.error.field == named
    assert memory_shop.handled == []


@pytest.mark.uncounted
@pytest.mark.parametrize("name", [*fields()])
@pytest.mark.parametrize("value", ["same", "other"])
async def test_doubled(memory_shop: Shop, name: str, value: str) -> None:
    """A field that comes twice is refused, whatever its values."""
    twice = urlencode({name: fields()[name] if value == "same" else value}).encode()
    for received in (query() + b"&" + twice, twice + b"&" + query()):
        assert await word(memory_shop.app(), received) == "fail"
    errors = [event.error for event in memory_shop.events]
    assert [(type(error), getattr(error, "field", None)) for error in errors] == [(MalformedCallbackError, name)] * 2


async def test_several_secrets(memory_shop: Shop) -> None:
    """While the secret is changed, callbacks signed with either are believed, and with no third one."""
    other, third = Credentials(SHOP.appkey, "the-next-one"), Credentials(SHOP.appkey, "a-third-one")
    app = memory_shop.app(appsecret=[SHOP.appsecret, "the-next-one"])
    assert await word(app, query()) == "success"
    assert await word(app, query(shop=other, order_id="1")) == "success"
    assert await word(app, query(shop=third, order_id="2")) == "fail"
    assert isinstance(memory_shop.events[-1].error, CallbackSignatureError)


@pytest.mark.parametrize("handler", [lambda _: None, print, Callback, AsyncMock().__class__, None, object()])
def test_a_handler_that_is_not_async(handler: Any) -> None:
    """What is no async function is noticed when the application is made, not at the first payment."""
    with pytest.raises(InvalidRequestError, match=r"handler: must be an async function: async def handler\(…\)"):
        CallbackApp(handler, appkey="a", appsecret="b", store=MemoryStore())
    if handler is not None:
        with pytest.raises(InvalidRequestError, match="lookup: must be an async function"):
            CallbackApp(AsyncMock(), appkey="a", appsecret="b", store=MemoryStore(), lookup=handler)


class Handling:
    """An object that handles."""

    def __init__(self) -> None:
        self.handled: list[object] = []

    async def __call__(self, _first: object, callback: Callback | None = None) -> None:
        self.handled.append(callback or _first)

    async def method(self, callback: Callback) -> None:
        self.handled.append(callback)


async def test_handlers_of_all_kinds(memory_shop: Shop) -> None:
    """Async functions, methods, objects with an async call, and partials of them handle."""
    it = Handling()
    handlers: list[Any] = [it, it.method, functools.partial(it, "first"), functools.partial(functools.partial(it), "x")]
    for number, handler in enumerate(handlers):
        assert await word(memory_shop.app(handler), query(order_id=str(number))) == "success"
    assert [callback.order_id for callback in it.handled if isinstance(callback, Callback)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"appkey": ""}, "appkey"),
        ({"appkey": None}, "appkey"),
        ({"appsecret": " "}, "appsecret"),
        ({"appsecret": []}, "appsecret"),
        ({"appsecret": ["right", ""]}, "appsecret"),
        ({"appsecret": b"bytes"}, "appsecret"),
        ({"appsecret": None}, "appsecret"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": None}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": 3601}, "timeout"),
        ({"timeout": True}, "timeout"),
        ({"max_age": 0}, "max_age"),
        ({"max_age": timedelta(seconds=-1)}, "max_age"),
        ({"max_age": "1 h"}, "max_age"),
        ({"store": MemoryStore(keep=86400)}, "max_age"),
        ({"store": MemoryStore(keep=86400), "max_age": 86400 - 299}, "max_age"),
    ],
)
def test_arguments_that_cannot_be_right(memory_shop: Shop, options: dict[str, Any], field: str) -> None:
    """An argument that can't be right is named when the application is made."""
    with pytest.raises(InvalidRequestError) as caught:
        memory_shop.app(**options)
    assert caught.value.field == field


def test_a_store_that_forgets(memory_shop: Shop) -> None:
    """A store that forgets is taken where max_age refuses whatever it may have forgotten."""
    memory_shop.app(store=MemoryStore(keep=timedelta(days=1)), max_age=86400 - 300)


def test_its_repr(memory_shop: Shop) -> None:
    """Its repr tells whose callbacks it takes, and no secret."""
    assert repr(memory_shop.app()) == "<CallbackApp of 'gp-key'>"


@pytest.mark.parametrize("max_age", [3600, timedelta(hours=1)])
@pytest.mark.parametrize(
    ("now", "answer", "problem"),
    [
        (PAID, "success", None),
        (PAID + 3600, "success", None),
        (PAID + 3601, "fail", "callback: paytime: is more than 3600 s ago"),
        (PAID - 300, "success", None),
        (PAID - 301, "fail", "callback: paytime: is more than 300 s from now"),
    ],
)
async def test_max_age(memory_shop: Shop, max_age: Any, now: float, answer: str, problem: str | None) -> None:
    """What was paid too long ago is refused, and what was paid in the future, but for clocks that differ a little."""
    assert await word(memory_shop.app(max_age=max_age, clock=lambda: now), query()) == answer
    (event,) = memory_shop.events
    assert (event.error and str(event.error)) == problem
    assert event.error is None or type(event.error) is StaleCallbackError


async def test_lookup(memory_shop: Shop) -> None:
    """An order that the merchant doesn't have, or at another price, is refused; once it is there it is handled."""
    memory_shop.prices = {}
    app = memory_shop.app()
    assert await word(app, query()) == "fail"
    for other in ("10.24", "10.22"):
        memory_shop.prices["T-1001-X"] = Decimal(other)
        assert await word(app, query()) == "fail"
    memory_shop.prices["T-1001-X"] = Decimal("10.230")
    assert (await call(app, query())).status == 200
    assert memory_shop.kinds == ["refused", "refused", "refused", "handled"]
    unknown, price, _, _ = memory_shop.events
    assert (unknown.order_id, unknown.out_order_id) == (67848, "T-1001-X")
    assert str(unknown.error) == "callback: out_order_id: is not one of your orders"
    assert str(price.error) == "callback: price: is not your order's"
    assert len(memory_shop.handled) == 1


async def test_a_repetition_is_not_looked_up(memory_shop: Shop) -> None:
    """What was handled is answered with success, also when the merchant has put the order away since."""
    memory_shop.prices = {"T-1001-X": Decimal("10.23")}
    app = memory_shop.app()
    assert await word(app, query()) == "success"
    memory_shop.prices.clear()
    assert await word(app, query()) == "success"


@pytest.mark.parametrize("price", [10.23, "10.23", 10, True])
async def test_a_lookup_of_another_type(memory_shop: Shop, price: Any) -> None:
    """A price that is no Decimal is the merchant's mistake, and said to be: a float is never the same."""
    assert (await call(memory_shop.app(lookup=AsyncMock(return_value=price)), query())).status == 500
    assert "must return a Decimal or None" in str(memory_shop.events[0].error)


async def test_a_lookup_that_raises(memory_shop: Shop) -> None:
    """A lookup that raises is a fail of this side, and the next delivery is handled."""
    looked = AsyncMock(side_effect=[OSError("the database is away"), Decimal("10.23")])
    app = memory_shop.app(lookup=looked)
    assert (await call(app, query())).status == 500
    assert await word(app, query()) == "success"
    assert memory_shop.kinds == ["failed", "handled"]
    assert isinstance(memory_shop.events[0].error, OSError)


async def test_slid_digits_that_lookup_refuses(memory_shop: Shop) -> None:
    """A digit that slid between order_id, out_order_id and price is believed, but is no order at that price."""
    memory_shop.prices = {"A": Decimal("12.00")}
    app = memory_shop.app()
    genuine = fields(order_id="12", out_order_id="A", price="12.00", realprice="12.00")
    assert await word(app, urlencode(genuine).encode()) == "success"
    for slid in ({"out_order_id": "A1", "price": "2.00"}, {"order_id": "1", "out_order_id": "2A"}):
        assert await word(app, urlencode({**genuine, **slid}).encode()) == "fail"
    assert memory_shop.kinds == ["handled", "refused", "refused"]


async def test_on_event_async(memory_shop: Shop) -> None:
    """An async on_event is awaited before the answer."""
    told = AsyncMock()
    assert await word(memory_shop.app(on_event=told), query()) == "success"
    told.assert_awaited_once_with(CallbackEvent(EventKind.HANDLED, 67848, "T-1001-X"))


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_on_event_that_raises(memory_shop: Shop, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """What on_event raises is logged, and changes no answer."""

    def plain(_: CallbackEvent) -> None:
        raise RuntimeError("mine")

    app = memory_shop.app(on_event=plain if kind == "plain" else AsyncMock(side_effect=RuntimeError("mine")))
    assert [await word(app, received) for received in (query(), query(), b"")] == ["success", "success", "fail"]
    assert caplog.text.count("RuntimeError: mine") == 3
    assert "on_event raised, at a callback that was handled" in caplog.text


async def test_on_event_that_hangs(
    memory_shop: Shop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An on_event that doesn't end is waited for a moment only."""
    monkeypatch.setattr("gatepay_async.callbacks.events._ON_EVENT_TIMEOUT_S", 0.01)
    assert await word(memory_shop.app(on_event=lambda _: anyio.sleep_forever()), query()) == "success"
    assert "on_event took more than 0.01 s, at a callback that was handled" in caplog.text


async def test_the_log(memory_shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Without on_event the log tells: what was refused and why, and what failed with its traceback."""
    caplog.set_level(logging.INFO)
    memory_shop.failures.append(RuntimeError("mine"))
    app = memory_shop.app(on_event=None)
    for received in (query(), query(), query(), b"y=1"):
        await call(app, received)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "failed: the callback of order_id 67848"),
        ("INFO", "handled: the callback of order_id 67848"),
        ("INFO", "repeated: the callback of order_id 67848"),
        ("WARNING", "refused (order_id None): callback: order_id: is missing"),
    ]
    assert "RuntimeError: mine" in caplog.text


async def test_nothing_secret_is_told(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the secret nor a signature, the genuine or the expected one, is in an event or in the log."""
    caplog.set_level(logging.DEBUG, "gatepay_async")
    shop.failures.append(RuntimeError("mine"))
    shop.prices = {"T-1001-X": Decimal("10.23")}
    app = shop.app()
    forged = {**fields(), "price": "0.01"}
    received = [urlencode(forged).encode(), query(), query(), query(order_id="7", out_order_id="no"), query() + b"0"]
    for each in received:
        await call(app, each)
    assert shop.kinds == ["refused", "failed", "handled", "refused", "refused"]
    expected = fields(price="0.01")["sign"]
    for text in (caplog.text, repr(shop.events), repr(app), *(str(event.error) for event in shop.events)):
        for secret in (SHOP.appsecret, fields()["sign"], expected, "canary"):
            assert secret not in text


async def test_a_server_that_stops_under_a_body(memory_shop: Shop) -> None:
    """Cancelled while it reads a body, it ends; nothing is handled."""
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: call(memory_shop.app(), method="POST", parts=[query()]))
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    assert (memory_shop.handled, memory_shop.events) == ([], [])


PIECES = st.sampled_from([*query().split(b"&"), b"", b"=", b"&", b"%", b"%00", b"+", b"sign=", b"order_id=1", b"\xff"])


@given(st.one_of(st.binary(), st.lists(PIECES, max_size=12).map(b"&".join)), st.sampled_from(["GET", "POST"]))
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_anything(anyio_backend: str, received: bytes, method: str) -> None:
    """Whatever comes is answered with one of the two words, and only what is genuine with success."""
    shop = Shop(MemoryStore())

    async def deliver() -> bytes:
        parts = [{"type": "http.request", "body": received}]
        return (await call(shop.app(), received, method=method, parts=parts)).body

    answer = anyio.run(deliver)
    assert answer in (b"success", b"fail")
    if answer == b"success":
        assert {**dict(parse_qsl(received.decode(), keep_blank_values=True))}.items() >= fields().items()
