"""Telemetry of clients and callbacks, with OpenTelemetry's own SDK: names, parents, numbers, and nothing secret."""

import importlib
import json
import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
import anyio.lowlevel
import pytest
from canaries import replies
from opentelemetry import metrics, trace
from own_httpx import httpx
from waiting import until

from gatepay_async import (
    AsyncGatePay,
    GatePayError,
    InvalidRequestError,
    OutcomeUnknownError,
    RefusedError,
    RetryPolicy,
    UploadIncomplete,
)
from gatepay_async.callbacks import CallbackApp, MemoryStore
from gatepay_async.otel import instrument, spans
from gatepay_async.otel.telemetry import OpenTelemetry
from gatepay_async.protocol.observing import ClientFacts, Connections
from gatepay_async.testing import signed_callback

if TYPE_CHECKING:
    from telemetry_exported import Exported

pytestmark = [pytest.mark.fast, pytest.mark.anyio, pytest.mark.usefixtures("impatient_uploads")]

SECRET = "canary-of-the-appsecret"
URL = "http://127.0.0.1:8765/api/"
SHOWN = {"code": 100, "msg": "CANARY", "time": "1", "data": {"category": []}}
STORED = {"code": 100, "msg": "", "time": "1", "data": "成功录入:1条卡密"}
REFUSED = {**SHOWN, "code": 106, "data": None}
ORDER: dict[str, Any] = {
    "product_id": 8,
    "product_num": 1,
    "pay_type": "alipay",
    "out_order_id": "CANARY-ORDER-X",
    "custom": "CANARY-CUSTOM",
}
SERVER = {"server.address": "127.0.0.1", "server.port": 8765}
REQUEST = {"http.request.method": "POST", **SERVER, "url.template": "/api/product/show"}


def client(answer: Callable[..., Any], **more: Any) -> AsyncGatePay:
    retry = RetryPolicy(attempts=2, first_wait=0, longest_wait=0)
    return AsyncGatePay("key", SECRET, base_url=URL, transport=httpx.MockTransport(answer), retry=retry, **more)


def replying(*queue: tuple[int, object]) -> Callable[[Any], Any]:
    left = list(queue)

    def answer(_: Any) -> Any:
        status, body = left.pop(0)
        return httpx.Response(status, content=json.dumps(body))

    return answer


async def test_a_call_that_is_retried(exported: "Exported") -> None:
    """A span for the call and one for each attempt, named as the conventions say; the caller's span is the parent."""
    answer = replying((503, "CANARY"), (200, SHOWN), (200, REFUSED))
    tracer = exported.tracer_provider.get_tracer("test")
    async with instrument(client(answer), **exported.providers) as gatepay:
        with tracer.start_as_current_span("shop"):
            await gatepay.list_products()
        with pytest.raises(RefusedError):
            await gatepay.list_products()
    attempts, calls = exported.spans("POST"), exported.spans("gatepay")
    assert exported.parents() == {
        "shop": {None},
        "gatepay product/show": {"shop", None},
        "POST /api/product/show": {"gatepay product/show"},
    }
    shown = {**REQUEST, "url.full": f"{URL}product/show"}
    answered = {**shown, "http.response.status_code": 200}
    assert [dict(span.attributes or {}) for span in attempts] == [
        {**shown, "http.response.status_code": 503, "error.type": "ProtocolError"},
        {**answered, "http.request.resend_count": 1},
        {**answered, "gatepay.code": 106},
    ]
    assert [span.kind.name for span in (*attempts, *calls)] == ["CLIENT"] * 3 + ["INTERNAL"] * 2
    assert [span.status.status_code.name for span in (*attempts, *calls)] == [
        "ERROR",
        "UNSET",
        "UNSET",
        "UNSET",
        "ERROR",
    ]
    endpoint = {"gatepay.endpoint": "product/show"}
    refused = {**endpoint, "gatepay.outcome": "refused", "error.type": "RefusedError"}
    success = {**endpoint, "gatepay.outcome": "success"}
    assert [dict(span.attributes or {}) for span in calls] == [
        {**success, "gatepay.attempts": 2},
        {**refused, "gatepay.attempts": 1, "gatepay.code": 106},
    ]
    assert exported.points("gatepay.client.call.duration") == [(success, 1), (refused, 1)]
    assert exported.points("gatepay.client.retries") == [(endpoint, 1)]
    assert exported.points("http.client.request.duration") == [
        ({**REQUEST, "http.response.status_code": 503, "error.type": "ProtocolError"}, 1),
        ({**REQUEST, "http.response.status_code": 200}, 2),
    ]
    assert exported.points("http.client.open_connections") == []  # they are the transport's, and httpx doesn't say


async def test_an_upload(exported: "Exported") -> None:
    """Calls of an upload are its children, in their own tasks, too; the span has the report, also if it raises."""
    gate = anyio.Event()

    async def answer(_: Any) -> Any:
        await gate.wait()
        return httpx.Response(200, content=json.dumps(STORED))

    async def release() -> None:
        await until(lambda: exported.points("gatepay.upload.active_chunks") == [({}, 3)])
        gate.set()

    def broken() -> Any:
        yield "A"
        raise KeyError("CANARY")

    keys = [f"CANARY-{number}" for number in range(1001)]
    async with instrument(client(answer), **exported.providers) as gatepay, anyio.create_task_group() as group:
        group.start_soon(release)
        await gatepay.upload_card_keys(8, keys, concurrency="auto")
        await gatepay.create_card_keys(8, ["A"])  # no chunk of an upload
        with pytest.raises(KeyError):
            await gatepay.upload_card_keys(8, broken())
    assert exported.points("gatepay.upload.active_chunks") == [({}, 0)]
    whole, raised = exported.spans("gatepay upload")
    assert exported.parents()["gatepay ka/create"] == {"gatepay upload", None}
    assert (whole.attributes or {})["gatepay.upload.stored"] == 3
    assert (whole.attributes or {})["gatepay.upload.read"] == 1001
    assert (raised.attributes or {})["gatepay.upload.read"] == 1
    assert (raised.attributes or {})["error.type"] == "builtins.KeyError"


async def test_an_upload_that_is_refused(exported: "Exported") -> None:
    """The span of an upload that a refusal has stopped says which."""
    async with instrument(client(replying((200, REFUSED))), **exported.providers) as gatepay:
        report = await gatepay.upload_card_keys(8, ["A"])
    (span,) = exported.spans("gatepay upload")
    with pytest.raises(UploadIncomplete):
        report.raise_for_failures()
    assert (span.attributes or {})["error.type"] == "SignatureRejectedError"
    assert span.status.status_code.name == "ERROR"


async def test_pages_fetched_ahead(exported: "Exported") -> None:
    """Pages fetched side by side belong to the span that was current where the listing is iterated."""
    ka = {"total": 150, "per_page": 50, "last_page": 3}
    row = {"admin_id": 1, "pay_product_id": 8, "pay_order_id": 0, "content": "CANARY", "createtime": 1, "updatetime": 1}

    def answer(request: Any) -> Any:
        page = int(dict(httpx.QueryParams(request.content.decode()))["page"])
        rows = [{**row, "id": 50 * page + number, "status": "soldin"} for number in range(50)]
        body = {**SHOWN, "data": {"ka": {**ka, "current_page": page, "data": rows if page < 4 else []}}}
        return httpx.Response(200, content=json.dumps(body))

    tracer = exported.tracer_provider.get_tracer("test")
    async with instrument(client(answer), **exported.providers) as gatepay:
        with tracer.start_as_current_span("export"):
            keys = [key async for key in gatepay.list_card_keys(8, prefetch=3)]
    assert len(keys) == 150
    assert len(exported.spans("gatepay ka/show")) >= 3
    assert exported.parents()["gatepay ka/show"] == {"export"}


async def test_a_cancelled_call(exported: "Exported") -> None:
    """A call that is cancelled ends its spans, and leaves the caller's span the current one."""
    began = anyio.Event()

    async def answer(_: Any) -> NoReturn:
        began.set()
        await anyio.sleep_forever()
        raise AssertionError

    tracer = exported.tracer_provider.get_tracer("test")
    with tracer.start_as_current_span("shop") as shop:
        async with instrument(client(answer), **exported.providers) as gatepay, anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                group.start_soon(began.wait)
                group.start_soon(cancel, began, scope)
                await gatepay.list_products()
        assert trace.get_current_span() is shop
    (call,), (attempt,) = exported.spans("gatepay"), exported.spans("POST")
    assert (call.attributes or {})["gatepay.outcome"] == "cancelled"
    assert "ancel" in str((attempt.attributes or {})["error.type"])
    assert exported.parents()["POST /api/product/show"] == {"gatepay product/show"}


async def cancel(began: anyio.Event, scope: anyio.CancelScope) -> None:
    await began.wait()
    scope.cancel()


@pytest.mark.uncounted
async def test_no_secret_is_exported(exported: "Exported") -> None:
    """No canary of a request, a reply or an exception comes up in any span or metric."""
    bodies = [body for _, body in replies("CANARY-KEY-0001")][::2]

    def answer(request: Any) -> Any:
        if len(bodies) % 3 == 0:
            bodies.pop()
            raise httpx.ReadError(f"CANARY of {request.url} {request.content!r}", request=request)
        if len(bodies) % 7 == 0:
            bodies.pop()
            raise KeyError("CANARY", SECRET)
        return httpx.Response(200, content=bodies.pop().partition(b"\r\n\r\n")[2])

    tracer = exported.tracer_provider.get_tracer("test")
    failed = 0
    async with instrument(client(answer, cloud_base_url="https://127.0.0.1/cloud/"), **exported.providers) as gatepay:
        sign = "feedfeedfeedfeedfeedfeedfeedfeed"
        calls: list[Callable[[], Any]] = [
            lambda: gatepay.list_card_keys(8),
            lambda: gatepay.create_card_keys(8, ["CANARY-KEY-0001"]),
            lambda: gatepay.upload_card_keys(8, ["CANARY-KEY-0001"]),
            lambda: gatepay.create_payment(**ORDER),
            lambda: gatepay.check_order("CANARY-ORDER-X"),
            lambda: gatepay.send_raw("canary/CANARY", {"a": "CANARY", "b": sign}),
            lambda: gatepay.create_cloudpay(price="1.00", pay_type="alipay", out_order_id="CANARY-X", custom="CANARY"),
        ]
        while len(bodies) > len(calls):
            for call in calls:
                with tracer.start_as_current_span("shop", record_exception=False):
                    try:
                        await call()
                    except (GatePayError, KeyError):
                        failed += 1
    everything = exported.everything()
    assert failed > 10
    assert "gatepay.endpoint" in everything
    assert "_OTHER" in everything
    assert "/cloud/" in everything
    assert "canary" not in everything.lower()
    assert "sign" not in everything.replace("signal", "")
    assert "?" not in everything


class Broken:
    """A provider, a tracer, a meter, an instrument and a span that raise whatever is asked of them."""

    def __init__(self, *, works_until: str = "") -> None:
        self.calls = 0
        self._works_until = works_until

    def get_tracer(self, *_: Any, **__: Any) -> "Broken":
        return self

    get_meter = create_histogram = create_counter = create_up_down_counter = get_tracer
    create_observable_up_down_counter = get_tracer

    def start_span(self, *_: Any, **__: Any) -> "Broken":
        return self.end() if self._works_until == "" else self

    def end(self, *_: Any, **__: Any) -> NoReturn:
        self.calls += 1
        raise OSError(f"CANARY {SECRET}")

    set_attributes = add = record = get_span_context = end


@pytest.mark.parametrize("works_until", ["", "end"])
async def test_telemetry_that_raises(works_until: str, caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    """What a provider, a processor or an exporter raises is logged once, by its class, and fails no call."""
    monkeypatch.setattr(spans.SUPPRESS_ERRORS, "_logged", False)
    broken: Any = Broken(works_until=works_until)
    answer = replying((503, ""), (200, SHOWN), (200, STORED))
    async with instrument(client(answer), tracer_provider=broken, meter_provider=broken) as gatepay:
        assert (await gatepay.list_products()).products == ()
        assert (await gatepay.upload_card_keys(8, ["A"])).ok
    assert broken.calls > 5
    (record,) = [record for record in caplog.records if record.name == "gatepay_async.otel"]
    assert (record.levelno, "OSError" in record.message, "CANARY" in caplog.text) == (logging.WARNING, True, False)


async def test_providers_that_are_set_later(exported: "Exported", monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an SDK nobody listens; the global providers may be set after the client was made."""
    answer = replying(*[(200, SHOWN)] * 2)
    telemetry = OpenTelemetry(None, None)
    async with instrument(client(answer)) as gatepay:
        await gatepay.list_products()
        assert telemetry.is_idle()
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", exported.tracer_provider)
        assert not telemetry.is_idle()
        await gatepay.list_products()
    assert [span.name for span in exported.spans()] == ["gatepay product/show", "POST /api/product/show"]
    assert type(metrics.get_meter_provider()).__module__.startswith("opentelemetry.metrics")


async def test_connections(exported: "Exported") -> None:
    """Connections are counted by server whenever the metrics are read, as long as their client exists."""
    telemetry = OpenTelemetry(exported.tracer_provider, exported.meter_provider)
    counts: list[Connections | None] = [Connections(2, 1, 5), Connections(1, 0, 0), None]
    clients = [telemetry.client(ClientFacts(URL, None, partial(lambda count: count, count))) for count in counts]
    open_connections = exported.points("http.client.open_connections")
    assert sorted(open_connections, key=lambda point: point[1]) == [
        ({**SERVER, "http.connection.state": "idle"}, 1),
        ({**SERVER, "http.connection.state": "active"}, 3),
    ]
    assert exported.points("gatepay.client.waiting_calls") == [(SERVER, 5)]
    clients.clear()
    assert exported.points("gatepay.client.waiting_calls") == []
    async with instrument(AsyncGatePay("key", SECRET, base_url=URL), **exported.providers):
        assert exported.points("gatepay.client.waiting_calls") == [(SERVER, 0)]
    http_client = httpx.AsyncClient(transport=httpx.MockTransport(replying()))
    async with http_client, instrument(AsyncGatePay("key", SECRET, http_client=http_client), **exported.providers):
        assert exported.points("gatepay.client.waiting_calls") == []  # they are httpx's
    instrument(AsyncGatePay("key", SECRET), **exported.providers)  # not open yet


async def test_callbacks(exported: "Exported") -> None:
    """Deliveries are counted by event; also those that are cancelled, and none twice."""

    async def handler(callback: Any) -> None:
        if callback.out_order_id == "CANARY-2":
            raise KeyboardInterrupt("CANARY")
        if callback.out_order_id == "CANARY-3":
            raise ValueError("CANARY")

    app = CallbackApp(handler, appkey="key", appsecret=SECRET, store=MemoryStore())
    assert instrument(instrument(app, **exported.providers), **exported.providers) is app
    for number in (1, 1, 3):
        query = signed_callback(appkey="key", appsecret=SECRET, order_id=number, out_order_id=f"CANARY-{number}")
        await app.receive(query)
    await app.receive("sign=CANARY")
    with pytest.raises(KeyboardInterrupt):
        await app.receive(signed_callback(appkey="key", appsecret=SECRET, order_id=2, out_order_id="CANARY-2"))
    points = [
        (attributes["gatepay.callback.event"], attributes.get("error.type"), count)
        for attributes, count in exported.points("gatepay.callback.deliveries")
    ]
    assert sorted(points, key=str) == [
        ("failed", "builtins.KeyboardInterrupt", 1),
        ("failed", "builtins.ValueError", 1),
        ("handled", None, 1),
        ("refused", "MalformedCallbackError", 1),
        ("repeated", None, 1),
    ]
    assert "CANARY" not in exported.everything()


def test_what_can_be_instrumented() -> None:
    """Anything else is refused at once, with the names of what can be."""
    with pytest.raises(InvalidRequestError, match="must be a client, a CallbackApp or a DurableUploads, not str"):
        instrument("AsyncGatePay")  # type: ignore[type-var]  # what is tested


@pytest.mark.parametrize("name", ["tracer_provider", "meter_provider"])
def test_a_provider_of_another_kind(name: str) -> None:
    """Such as the provider of the other: the error says which argument is wrong."""
    other: Any = {"tracer_provider": metrics.NoOpMeterProvider(), "meter_provider": trace.NoOpTracerProvider()}[name]
    with pytest.raises(InvalidRequestError) as caught:
        instrument(client(replying()), **{name: other})
    assert caught.value.field == name


async def test_an_unknown_outcome(exported: "Exported") -> None:
    """An order of which nobody knows whether it exists is an outcome of its own."""

    def answer(request: Any) -> NoReturn:
        raise httpx.ReadError("CANARY", request=request)

    async with instrument(client(answer), **exported.providers) as gatepay:
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)
    ((attributes, _),) = exported.points("gatepay.client.call.duration")
    assert attributes["gatepay.outcome"] == "unknown"
    (attempt,) = exported.spans("POST /api/pay")
    assert (attempt.attributes or {})["error.type"] == "TransportError"
    assert "http.response.status_code" not in (attempt.attributes or {})


async def test_what_a_transport_raises(exported: "Exported") -> None:
    """An exception that isn't ours is named by its class."""

    def answer(_: Any) -> NoReturn:
        raise KeyError("CANARY")

    async with instrument(client(answer), **exported.providers) as gatepay:
        with pytest.raises(KeyError):
            await gatepay.list_products()
    kinds = {span.name: (span.attributes or {})["error.type"] for span in exported.spans()}
    assert kinds == {"POST /api/product/show": "builtins.KeyError", "gatepay product/show": "builtins.KeyError"}
    ((attributes, _),) = exported.points("gatepay.client.call.duration")
    assert attributes["gatepay.outcome"] == "failed"


@pytest.mark.parametrize("missing", ["opentelemetry", "gatepay_async.otel.telemetry"])
def test_without_the_extra(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what the extra brings, the room says how to install it; a module of our own is another matter."""
    for name in [name for name in sys.modules if name.startswith(("gatepay_async.otel", "opentelemetry"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("gatepay_async.otel")
    assert ("pip install 'gatepay-async[otel]'" in str(caught.value)) == (missing == "opentelemetry")
