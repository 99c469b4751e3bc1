"""``CallbackApp``: its responses, events and arguments. test_callbacks_once.py tests repeated deliveries."""

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
from delivering import CREDENTIALS, PAID_AT, NoAnswerError, Shop, call, query, reply_to, signed_fields
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


async def test_payment_is_handled_and_answered_with_success(memory_shop: Shop) -> None:
    """A payment is handled, and the response is the text ``success``, which must not be cached."""
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


async def test_post_with_a_form_is_handled(memory_shop: Shop) -> None:
    """The form of a POST is read like the query of a GET, in one chunk or many."""
    body = query()
    answer_to_one_chunk = await call(memory_shop.app(), method="POST", parts=[{"type": "http.request", "body": body}])
    pieces: list[Any] = [bytes([byte]) for byte in body]
    answer_to_many_chunks = await call(memory_shop.app(), method="POST", parts=[*pieces, {"type": "http.request"}])
    assert (answer_to_one_chunk.body, answer_to_many_chunks.body) == (b"success", b"success")
    assert memory_shop.event_kinds == ["handled", "repeated"]


async def test_query_of_a_post_is_ignored(memory_shop: Shop) -> None:
    """A POST with the fields in its URL and an empty body is refused."""
    answer = await call(memory_shop.app(), query(), method="POST")
    assert (answer.status, answer.body) == (400, b"fail")


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "get"])
async def test_methods_other_than_get_and_post_get_405(memory_shop: Shop, method: str) -> None:
    """The response names the allowed methods, and nothing is handled."""
    answer = await call(memory_shop.app(), query(), method=method)
    assert (answer.status, answer.body, answer.headers[b"allow"]) == (405, b"fail", b"GET, POST")
    assert (memory_shop.handled, memory_shop.events) == ([], [])


async def test_body_that_is_too_long_is_refused(memory_shop: Shop) -> None:
    """A body of more than 8192 bytes is refused."""
    parts: list[Any] = [b"y=" + b"y" * 4094] + [b"y" * 4096] * 100
    answer = await call(memory_shop.app(), method="POST", parts=parts)
    assert (answer.status, answer.body) == (400, b"fail")
    assert str(memory_shop.events[0].error) == "callback: is longer than 8192 bytes"


async def test_body_of_the_maximum_length_is_handled(memory_shop: Shop) -> None:
    """A callback of 8192 bytes, including the merchant's own parameters, is handled."""
    body = query() + b"&y="
    body += b"y" * (8192 - len(body))
    assert (await call(memory_shop.app(), method="POST", parts=[body, {"type": "http.request"}])).body == b"success"


async def test_incomplete_body_gets_no_response(memory_shop: Shop) -> None:
    """If the client disconnects before the end of the body, there is no response, no handling and no event."""
    with pytest.raises(NoAnswerError):
        await call(memory_shop.app(), method="POST", parts=[query(), {"type": "http.disconnect"}])
    assert (memory_shop.handled, memory_shop.events) == ([], [])


async def test_slow_body_gets_408(memory_shop: Shop) -> None:
    """If the body doesn't arrive within the timeout, the response has status 408."""
    answer = await call(memory_shop.app(timeout=0.01), method="POST", parts=[query()])
    assert (answer.status, answer.body) == (408, b"fail")
    assert memory_shop.handled == []


async def test_body_without_more_body_is_complete(memory_shop: Shop) -> None:
    """A form whose first message is its last, without ``more_body``, is handled."""
    app = memory_shop.app()
    parts = [{"type": "http.request", "body": query()}]
    assert (await call(app, method="POST", parts=parts)).body == b"success"


async def test_app_works_as_a_route_and_as_a_mount(memory_shop: Shop) -> None:
    """Starlette can serve the app as a route and as a mount, also with the merchant's own parameters in the URL."""
    app = memory_shop.app()
    outer = Starlette(routes=[Mount("/mounted", app), Route("/routed", app)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(outer), base_url="http://shop") as client:
        paths = ("/routed", "/mounted/", "/mounted/deeper")
        answers = [await client.get(f"{path}?shop=1&{query().decode()}") for path in paths]
        answers.append(await client.post("/routed", data=signed_fields()))
        # Starlette redirects a mount's path without a slash. CallbackApp's documentation mentions it.
        assert (await client.get(f"/mounted?{query().decode()}")).status_code == 307
    assert [(answer.status_code, answer.text) for answer in answers] == [(200, "success")] * 4
    assert memory_shop.event_kinds == ["handled", "repeated", "repeated", "repeated"]


async def run_lifespan(app: CallbackApp) -> list[str]:
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    replies: list[str] = []

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        replies.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    return replies


async def test_lifespan_closes_the_store_and_later_deliveries_reopen_it(shop: Shop) -> None:
    """The app handles ASGI's lifespan. Shutdown closes the store; a later delivery opens it again."""
    app = shop.app()
    assert await reply_to(app, query()) == "success"
    assert await run_lifespan(app) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert await reply_to(app, query(order_id="1")) == "success"


async def test_shutdown_waits_until_cancelled_deliveries_release_their_claims(memory_shop: Shop) -> None:
    """Shutdown closes the store only after cancelled deliveries have released their claims."""
    order = []
    store = memory_shop.store
    release = store.release

    async def release_slowly(claim: Claim) -> None:
        await anyio.sleep(0.05)
        await release(claim)
        order.append("released")

    async def aclose() -> None:
        order.append("closed")

    store.release, store.aclose = release_slowly, aclose  # type: ignore[method-assign]  # records the order
    app = memory_shop.app(hang)
    async with anyio.create_task_group() as tasks, anyio.create_task_group() as deliveries:
        deliveries.start_soon(call, app, query())
        await until(lambda: app._in_progress)
        tasks.start_soon(run_lifespan, app)
        deliveries.cancel_scope.cancel()
    assert order == ["released", "closed"]


async def hang(_: Callback) -> None:
    await anyio.sleep_forever()


async def test_shutdown_stops_waiting_after_a_timeout(memory_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shutdown waits for deliveries in progress only until its timeout."""
    monkeypatch.setattr("gatepay_async.callbacks.app._SHUTDOWN_TIMEOUT_S", 0.02)
    app = memory_shop.app(hang)
    async with anyio.create_task_group() as deliveries:
        deliveries.start_soon(call, app, query())
        await until(lambda: app._in_progress)
        assert (await run_lifespan(app))[-1] == "lifespan.shutdown.complete"
        deliveries.cancel_scope.cancel()


async def test_websocket_is_refused(memory_shop: Shop) -> None:
    """A websocket is closed with code 1008 (policy violation)."""
    messages = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        messages.append(message)

    await memory_shop.app()({"type": "websocket"}, receive, send)
    assert messages == [{"type": "websocket.close", "code": 1008}]


async def test_unknown_scope_type_raises_value_error(memory_shop: Shop) -> None:
    """A scope of an unknown type raises ``ValueError``, as the ASGI specification requires."""
    with pytest.raises(ValueError, match="handles http, not smoke"):
        await memory_shop.app()({"type": "smoke"}, AsyncMock(), AsyncMock())


# Each row: a name, the changes to the fields of a genuine callback, and the field that the error must name. The first
# field, the appkey, may be missing. An empty ``extend`` is allowed, so only the signature shows that it was changed.
INVALID_CALLBACKS: list[tuple[str, dict[str, Any], str]] = [
    *((f"{name} missing", {name: None}, name) for name in (*signed_fields(),)[1:]),
    *((f"{name} empty", {name: ""}, name if name != "extend" else "sign") for name in (*signed_fields(),)),
    ("appkey altered", {"appkey": "gp-kez"}, "appkey"),
    ("order_id altered", {"order_id": "67849"}, "sign"),
    ("out_order_id altered", {"out_order_id": "T-1002-X"}, "sign"),
    ("price altered", {"price": "0.01"}, "sign"),
    ("realprice altered", {"realprice": "10.20"}, "sign"),
    ("type altered", {"type": "wechat"}, "sign"),
    ("paytime altered", {"paytime": str(PAID_AT + 1)}, "sign"),
    ("extend altered", {"extend": "eve@example.com"}, "sign"),
    ("sign altered", {"sign": "0" * 32}, "sign"),
    ("appkey upper-cased", {"appkey": "GP-KEY"}, "appkey"),
    ("out_order_id lower-cased", {"out_order_id": "t-1001-x"}, "sign"),
    ("type upper-cased", {"type": "ALIPAY"}, "type"),
    ("extend upper-cased", {"extend": "TERRY@EXAMPLE.COM"}, "sign"),
    ("sign upper-cased", {"sign": signed_fields()["sign"].upper()}, "sign"),
    ("price without decimals", {"price": "10"}, "price"),
    ("price with one decimal", {"price": "10.2"}, "price"),
    ("price with three decimals", {"price": "10.230"}, "price"),
    ("realprice without decimals", {"realprice": "10"}, "realprice"),
    ("realprice with one decimal", {"realprice": "10.2"}, "realprice"),
    ("character of price moved into realprice", {"price": "10.2", "realprice": "310.23"}, "price"),
    ("character of realprice moved into price", {"price": "10.231", "realprice": "0.23"}, "price"),
    ("character of realprice moved into type", {"realprice": "10.2", "type": "3alipay"}, "realprice"),
    ("character of type moved into paytime", {"type": "alipa", "paytime": f"y{PAID_AT}"}, "type"),
    ("character of paytime moved into type", {"type": "alipay1", "paytime": str(PAID_AT)[1:]}, "type"),
    ("character of extend moved into paytime", {"paytime": f"{PAID_AT}t", "extend": "erry@example.com"}, "paytime"),
    (
        "character of paytime moved into extend",
        {"paytime": str(PAID_AT)[:-1], "extend": "0terry@example.com"},
        "paytime",
    ),
    ("character of order_id moved into appkey", {"appkey": "gp-key6", "order_id": "7848"}, "appkey"),
    ("character of appkey moved into order_id", {"appkey": "gp-ke", "order_id": "y67848"}, "order_id"),
    ("character of out_order_id moved into order_id", {"order_id": "67848T", "out_order_id": "-1001-X"}, "order_id"),
    ("character of out_order_id moved into price", {"out_order_id": "T-1001-", "price": "X10.23"}, "price"),
]


@pytest.mark.without_coverage
@pytest.mark.parametrize(("changes", "field"), [pytest.param(*rest, id=name) for name, *rest in INVALID_CALLBACKS])
async def test_changed_field_is_refused_and_named_in_the_event(
    memory_shop: Shop, changes: dict[str, str | None], field: str
) -> None:
    """A callback with a missing or changed field gets ``fail``, and the error of the event names the field."""
    changed = {**signed_fields(), **changes}
    received = urlencode({name: value for name, value in changed.items() if value is not None}).encode()
    answer = await call(memory_shop.app(), received)
    assert (answer.status, answer.body) == (400, b"fail")
    (event,) = memory_shop.events
    assert (event.kind, event.order_id, event.out_order_id) == (EventKind.REFUSED, None, None)
    assert isinstance(event.error, CallbackError)
    assert event.error.field == field
    assert memory_shop.handled == []


@pytest.mark.without_coverage
@pytest.mark.parametrize("name", [*signed_fields()])
@pytest.mark.parametrize("value", ["same", "other"])
async def test_repeated_field_is_refused(memory_shop: Shop, name: str, value: str) -> None:
    """A callback with the same field twice is refused, whether the values differ or not."""
    second = urlencode({name: signed_fields()[name] if value == "same" else value}).encode()
    for received in (query() + b"&" + second, second + b"&" + query()):
        assert await reply_to(memory_shop.app(), received) == "fail"
    errors = [event.error for event in memory_shop.events]
    assert [(type(error), getattr(error, "field", None)) for error in errors] == [(MalformedCallbackError, name)] * 2


async def test_callbacks_signed_with_any_of_several_secrets_are_accepted(memory_shop: Shop) -> None:
    """With two secrets, callbacks signed with either are accepted. A third secret is refused."""
    second, third = Credentials(CREDENTIALS.appkey, "the-next-one"), Credentials(CREDENTIALS.appkey, "a-third-one")
    app = memory_shop.app(appsecret=[CREDENTIALS.appsecret, "the-next-one"])
    assert await reply_to(app, query()) == "success"
    assert await reply_to(app, query(credentials=second, order_id="1")) == "success"
    assert await reply_to(app, query(credentials=third, order_id="2")) == "fail"
    assert isinstance(memory_shop.events[-1].error, CallbackSignatureError)


@pytest.mark.parametrize("handler", [lambda _: None, print, Callback, AsyncMock().__class__, None, object()])
def test_handler_that_is_not_async_is_refused(handler: Any) -> None:
    """A handler or lookup that isn't an async function raises an error when the application is created."""
    with pytest.raises(InvalidRequestError, match=r"handler: must be an async function: async def handler\(…\)"):
        CallbackApp(handler, appkey="a", appsecret="b", store=MemoryStore())
    if handler is not None:
        with pytest.raises(InvalidRequestError, match="lookup: must be an async function"):
            CallbackApp(AsyncMock(), appkey="a", appsecret="b", store=MemoryStore(), lookup=handler)


class CallableHandler:
    """A handler that is an object with an async ``__call__`` and an async method."""

    def __init__(self) -> None:
        self.handled: list[object] = []

    async def __call__(self, first: object, callback: Callback | None = None) -> None:
        self.handled.append(callback or first)

    async def method(self, callback: Callback) -> None:
        self.handled.append(callback)


async def test_handler_can_be_any_async_callable(memory_shop: Shop) -> None:
    """Async methods, objects with an async ``__call__``, and partials of these can be handlers."""
    target = CallableHandler()
    handlers: list[Any] = [
        target,
        target.method,
        functools.partial(target, "first"),
        functools.partial(functools.partial(target), "first"),
    ]
    for number, handler in enumerate(handlers):
        assert await reply_to(memory_shop.app(handler), query(order_id=str(number))) == "success"
    assert [callback.order_id for callback in target.handled if isinstance(callback, Callback)] == [0, 1, 2, 3]


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
        ({"store": None}, "store"),
        ({"store": MemoryStore}, "store"),
        ({"on_event": 3}, "on_event"),
        ({"store": MemoryStore(keep=86400), "max_age": 86400 - 299}, "max_age"),
    ],
)
def test_invalid_argument_is_named_in_the_error(memory_shop: Shop, options: dict[str, Any], field: str) -> None:
    """``CallbackApp`` raises ``InvalidRequestError`` for an invalid argument, with the argument's name."""
    with pytest.raises(InvalidRequestError) as caught:
        memory_shop.app(**options)
    assert caught.value.field == field


def test_max_age_300_s_shorter_than_the_stores_keep_is_accepted(memory_shop: Shop) -> None:
    """300 s is the minimum. ``test_invalid_argument_is_named_in_the_error`` has a difference of 299 s."""
    memory_shop.app(store=MemoryStore(keep=timedelta(days=1)), max_age=86400 - 300)


def test_repr_names_the_appkey_and_no_secret(memory_shop: Shop) -> None:
    """The ``repr`` of the app contains the appkey, but not the secret."""
    assert repr(memory_shop.app()) == "<CallbackApp of 'gp-key'>"


@pytest.mark.parametrize("max_age", [3600, timedelta(hours=1)])
@pytest.mark.parametrize(
    ("now", "answer", "problem"),
    [
        (PAID_AT, "success", None),
        (PAID_AT + 3600, "success", None),
        (PAID_AT + 3601, "fail", "callback: paytime: is more than 3600 s ago"),
        (PAID_AT - 300, "success", None),
        (PAID_AT - 301, "fail", "callback: paytime: is more than 300 s from now"),
    ],
)
async def test_max_age_refuses_old_and_future_callbacks(
    memory_shop: Shop, max_age: Any, now: float, answer: str, problem: str | None
) -> None:
    """A callback paid more than ``max_age`` ago, or more than 300 s in the future, is refused."""
    assert await reply_to(memory_shop.app(max_age=max_age, clock=lambda: now), query()) == answer
    (event,) = memory_shop.events
    assert (event.error and str(event.error)) == problem
    assert event.error is None or type(event.error) is StaleCallbackError


async def test_lookup_refuses_unknown_orders_and_other_prices(memory_shop: Shop) -> None:
    """A callback is refused if ``lookup`` finds no order or another price. Once they match, it is handled."""
    memory_shop.prices = {}
    app = memory_shop.app()
    assert await reply_to(app, query()) == "fail"
    for price in ("10.24", "10.22"):
        memory_shop.prices["T-1001-X"] = Decimal(price)
        assert await reply_to(app, query()) == "fail"
    memory_shop.prices["T-1001-X"] = Decimal("10.230")
    assert (await call(app, query())).status == 200
    assert memory_shop.event_kinds == ["refused", "refused", "refused", "handled"]
    unknown_order, other_price, _, _ = memory_shop.events
    assert (unknown_order.order_id, unknown_order.out_order_id) == (67848, "T-1001-X")
    assert str(unknown_order.error) == "callback: out_order_id: is not one of your orders"
    assert str(other_price.error) == "callback: price: is not your order's"
    assert len(memory_shop.handled) == 1


async def test_repeated_callback_is_not_looked_up(memory_shop: Shop) -> None:
    """A repeated callback is answered with success, even if ``lookup`` no longer finds the order."""
    memory_shop.prices = {"T-1001-X": Decimal("10.23")}
    app = memory_shop.app()
    assert await reply_to(app, query()) == "success"
    memory_shop.prices.clear()
    assert await reply_to(app, query()) == "success"


@pytest.mark.parametrize("price", [10.23, "10.23", 10, True])
async def test_lookup_that_returns_no_decimal_fails_the_delivery(memory_shop: Shop, price: Any) -> None:
    """A price that isn't a Decimal fails the delivery, with an error that says so, because floats aren't exact."""
    assert (await call(memory_shop.app(lookup=AsyncMock(return_value=price)), query())).status == 500
    assert "must return a Decimal or None" in str(memory_shop.events[0].error)


async def test_lookup_that_raises_fails_the_delivery(memory_shop: Shop) -> None:
    """If ``lookup`` raises, the delivery fails with status 500, and the next delivery is handled."""
    lookup = AsyncMock(side_effect=[OSError("the database is away"), Decimal("10.23")])
    app = memory_shop.app(lookup=lookup)
    assert (await call(app, query())).status == 500
    assert await reply_to(app, query()) == "success"
    assert memory_shop.event_kinds == ["failed", "handled"]
    assert isinstance(memory_shop.events[0].error, OSError)


async def test_lookup_refuses_digits_moved_between_fields(memory_shop: Shop) -> None:
    """Moving a digit between neighbouring fields keeps the signature valid, but ``lookup`` refuses the order."""
    memory_shop.prices = {"A": Decimal("12.00")}
    app = memory_shop.app()
    genuine = signed_fields(order_id="12", out_order_id="A", price="12.00", realprice="12.00")
    assert await reply_to(app, urlencode(genuine).encode()) == "success"
    for moved in ({"out_order_id": "A1", "price": "2.00"}, {"order_id": "1", "out_order_id": "2A"}):
        assert await reply_to(app, urlencode({**genuine, **moved}).encode()) == "fail"
    assert memory_shop.event_kinds == ["handled", "refused", "refused"]


async def test_async_on_event_is_awaited(memory_shop: Shop) -> None:
    """An async ``on_event`` is awaited before the response is sent."""
    on_event = AsyncMock()
    assert await reply_to(memory_shop.app(on_event=on_event), query()) == "success"
    on_event.assert_awaited_once_with(CallbackEvent(EventKind.HANDLED, 67848, "T-1001-X"))


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_exception_of_on_event_is_logged_only(
    memory_shop: Shop, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception raised by ``on_event`` is logged, and doesn't change the response."""

    def raise_error(_: CallbackEvent) -> None:
        raise RuntimeError("expected")

    app = memory_shop.app(on_event=raise_error if kind == "plain" else AsyncMock(side_effect=RuntimeError("expected")))
    assert [await reply_to(app, received) for received in (query(), query(), b"")] == ["success", "success", "fail"]
    assert caplog.text.count("RuntimeError: expected") == 3
    assert "on_event raised, at a callback that was handled" in caplog.text


async def test_on_event_is_cancelled_after_a_timeout(
    memory_shop: Shop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ``on_event`` that doesn't end is cancelled after its timeout, and the timeout is logged."""
    monkeypatch.setattr("gatepay_async.callbacks.events._ON_EVENT_TIMEOUT_S", 0.01)
    assert await reply_to(memory_shop.app(on_event=lambda _: anyio.sleep_forever()), query()) == "success"
    assert "on_event took more than 0.01 s, at a callback that was handled" in caplog.text


async def test_without_on_event_deliveries_are_logged(memory_shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Without ``on_event``, each delivery is logged: refusals with the reason, failures with the traceback."""
    caplog.set_level(logging.INFO)
    memory_shop.failures.append(RuntimeError("expected"))
    app = memory_shop.app(on_event=None)
    for received in (query(), query(), query(), b"y=1"):
        await call(app, received)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "failed: the callback of order_id 67848"),
        ("INFO", "handled: the callback of order_id 67848"),
        ("INFO", "repeated: the callback of order_id 67848"),
        ("WARNING", "refused (order_id None): callback: order_id: is missing"),
    ]
    assert "RuntimeError: expected" in caplog.text


async def test_events_and_logs_contain_no_secret(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Events and logs contain neither the secret nor a received or expected signature."""
    caplog.set_level(logging.DEBUG, "gatepay_async")
    shop.failures.append(RuntimeError("expected"))
    shop.prices = {"T-1001-X": Decimal("10.23")}
    app = shop.app()
    forged = {**signed_fields(), "price": "0.01"}
    received = [urlencode(forged).encode(), query(), query(), query(order_id="7", out_order_id="no"), query() + b"0"]
    for query_string in received:
        await call(app, query_string)
    assert shop.event_kinds == ["refused", "failed", "handled", "refused", "refused"]
    expected_signature = signed_fields(price="0.01")["sign"]
    # "canary" is the beginning of the appsecret.
    for text in (caplog.text, repr(shop.events), repr(app), *(str(event.error) for event in shop.events)):
        for secret in (CREDENTIALS.appsecret, signed_fields()["sign"], expected_signature, "canary"):
            assert secret not in text


async def test_delivery_cancelled_while_reading_the_body_is_not_handled(memory_shop: Shop) -> None:
    """A delivery that is cancelled while its body is read ends without handling and without an event."""
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: call(memory_shop.app(), method="POST", parts=[query()]))
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    assert (memory_shop.handled, memory_shop.events) == ([], [])


QUERY_PARTS = st.sampled_from(
    [*query().split(b"&"), b"", b"=", b"&", b"%", b"%00", b"+", b"sign=", b"order_id=1", b"\xff"]
)


@given(st.one_of(st.binary(), st.lists(QUERY_PARTS, max_size=12).map(b"&".join)), st.sampled_from(["GET", "POST"]))
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
def test_arbitrary_input_gets_success_only_if_genuine(anyio_backend: str, received: bytes, method: str) -> None:
    """Any input gets ``success`` or ``fail``, and ``success`` only if it contains the genuine callback's fields."""
    shop = Shop(MemoryStore())

    async def deliver() -> bytes:
        parts = [{"type": "http.request", "body": received}]
        return (await call(shop.app(), received, method=method, parts=parts)).body

    answer = anyio.run(deliver)
    assert answer in (b"success", b"fail")
    if answer == b"success":
        assert {**dict(parse_qsl(received.decode(), keep_blank_values=True))}.items() >= signed_fields().items()
