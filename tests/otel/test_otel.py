"""Telemetry of clients and callbacks, with OpenTelemetry's SDK: names, parents, values, and no secrets."""

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
from selected_httpx import httpx
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
SUCCESS = {"code": 100, "msg": "CANARY", "time": "1", "data": {"category": []}}
STORED = {"code": 100, "msg": "", "time": "1", "data": "成功录入:1条卡密"}
REFUSED = {**SUCCESS, "code": 106, "data": None}
ORDER: dict[str, Any] = {
    "product_id": 8,
    "product_num": 1,
    "pay_type": "alipay",
    "out_order_id": "CANARY-ORDER-X",
    "custom": "CANARY-CUSTOM",
}
SERVER = {"server.address": "127.0.0.1", "server.port": 8765}
REQUEST = {"http.request.method": "POST", **SERVER, "url.template": "/api/product/show"}


def make_client(answer: Callable[..., Any], **options: Any) -> AsyncGatePay:
    """Return a client with two attempts for each call, whose transport calls *answer*."""
    retry = RetryPolicy(attempts=2, first_wait=0, longest_wait=0)
    return AsyncGatePay("key", SECRET, base_url=URL, transport=httpx.MockTransport(answer), retry=retry, **options)


def replying(*queue: tuple[int, object]) -> Callable[[Any], Any]:
    """Return a function that replies with each status and body of *queue* in turn."""
    remaining = list(queue)

    def answer(_: Any) -> Any:
        status, body = remaining.pop(0)
        return httpx.Response(status, content=json.dumps(body))

    return answer


async def test_retried_call_has_a_span_for_each_attempt(exported: "Exported") -> None:
    """A call has a span, a child of the caller's span, and a child span for each attempt."""
    answer = replying((503, "CANARY"), (200, SUCCESS), (200, REFUSED))
    tracer = exported.tracer_provider.get_tracer("test")
    async with instrument(make_client(answer), **exported.providers) as gatepay:
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
    request = {**REQUEST, "url.full": f"{URL}product/show"}
    replied = {**request, "http.response.status_code": 200}
    assert [dict(span.attributes or {}) for span in attempts] == [
        {**request, "http.response.status_code": 503, "error.type": "ProtocolError"},
        {**replied, "http.request.resend_count": 1},
        {**replied, "gatepay.code": 106},
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
    # httpx doesn't report the connections of its transports.
    assert exported.points("http.client.open_connections") == []


async def test_upload_span_is_the_parent_of_its_calls(exported: "Exported") -> None:
    """The upload's span is the parent of its calls' spans, and has the report even if the upload raises."""
    gate = anyio.Event()

    async def answer(_: Any) -> Any:
        await gate.wait()
        return httpx.Response(200, content=json.dumps(STORED))

    async def wait_for_three_chunks() -> None:
        await until(lambda: exported.points("gatepay.upload.active_chunks") == [({}, 3)])
        gate.set()

    def keys_that_raise() -> Any:
        yield "A"
        raise KeyError("CANARY")

    keys = [f"CANARY-{number}" for number in range(1001)]
    async with instrument(make_client(answer), **exported.providers) as gatepay, anyio.create_task_group() as group:
        group.start_soon(wait_for_three_chunks)
        await gatepay.upload_card_keys(8, keys, concurrency="auto")
        await gatepay.create_card_keys(8, ["A"])  # not part of an upload
        with pytest.raises(KeyError):
            await gatepay.upload_card_keys(8, keys_that_raise())
    assert exported.points("gatepay.upload.active_chunks") == [({}, 0)]
    complete, raised = exported.spans("gatepay upload")
    assert exported.parents()["gatepay ka/create"] == {"gatepay upload", None}
    assert (complete.attributes or {})["gatepay.upload.stored"] == 3
    assert (complete.attributes or {})["gatepay.upload.read"] == 1001
    assert (raised.attributes or {})["gatepay.upload.read"] == 1
    assert (raised.attributes or {})["error.type"] == "builtins.KeyError"


async def test_span_of_a_refused_upload_names_the_error(exported: "Exported") -> None:
    async with instrument(make_client(replying((200, REFUSED))), **exported.providers) as gatepay:
        report = await gatepay.upload_card_keys(8, ["A"])
    (span,) = exported.spans("gatepay upload")
    with pytest.raises(UploadIncomplete):
        report.raise_for_failures()
    assert (span.attributes or {})["error.type"] == "SignatureRejectedError"
    assert span.status.status_code.name == "ERROR"


async def test_prefetched_pages_are_children_of_the_iterating_span(exported: "Exported") -> None:
    """Pages fetched concurrently are children of the span in which the listing is iterated."""
    ka = {"total": 150, "per_page": 50, "last_page": 3}
    row = {"admin_id": 1, "pay_product_id": 8, "pay_order_id": 0, "content": "CANARY", "createtime": 1, "updatetime": 1}

    def answer(request: Any) -> Any:
        page = int(dict(httpx.QueryParams(request.content.decode()))["page"])
        rows = [{**row, "id": 50 * page + number, "status": "soldin"} for number in range(50)]
        body = {**SUCCESS, "data": {"ka": {**ka, "current_page": page, "data": rows if page < 4 else []}}}
        return httpx.Response(200, content=json.dumps(body))

    tracer = exported.tracer_provider.get_tracer("test")
    async with instrument(make_client(answer), **exported.providers) as gatepay:
        with tracer.start_as_current_span("export"):
            keys = [key async for key in gatepay.list_card_keys(8, prefetch=3)]
    assert len(keys) == 150
    assert len(exported.spans("gatepay ka/show")) >= 3
    assert exported.parents()["gatepay ka/show"] == {"export"}


async def test_cancelled_call_ends_its_spans(exported: "Exported") -> None:
    """A cancelled call ends its spans, and the caller's span is current again."""
    started = anyio.Event()

    async def answer(_: Any) -> NoReturn:
        started.set()
        await anyio.sleep_forever()
        raise AssertionError

    tracer = exported.tracer_provider.get_tracer("test")
    with tracer.start_as_current_span("shop") as shop:
        async with instrument(make_client(answer), **exported.providers) as gatepay, anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                group.start_soon(started.wait)
                group.start_soon(cancel_after_start, started, scope)
                await gatepay.list_products()
        assert trace.get_current_span() is shop
    (call,), (attempt,) = exported.spans("gatepay"), exported.spans("POST")
    assert (call.attributes or {})["gatepay.outcome"] == "cancelled"
    assert "ancel" in str((attempt.attributes or {})["error.type"])
    assert exported.parents()["POST /api/product/show"] == {"gatepay product/show"}


async def cancel_after_start(started: anyio.Event, scope: anyio.CancelScope) -> None:
    await started.wait()
    scope.cancel()


@pytest.mark.without_coverage
async def test_no_secret_is_exported(exported: "Exported") -> None:
    """No secret from a request, a reply or an exception appears in any span or metric."""
    bodies = [body for _, body in replies("CANARY-KEY-0001")][::2]  # every second one, to save time

    def answer(request: Any) -> Any:
        # Some calls fail in the transport, some raise another exception.
        if len(bodies) % 3 == 0:
            bodies.pop()
            raise httpx.ReadError(f"CANARY of {request.url} {request.content!r}", request=request)
        if len(bodies) % 7 == 0:
            bodies.pop()
            raise KeyError("CANARY", SECRET)
        return httpx.Response(200, content=bodies.pop().partition(b"\r\n\r\n")[2])

    tracer = exported.tracer_provider.get_tracer("test")
    failed = 0
    async with instrument(
        make_client(answer, cloud_base_url="https://127.0.0.1/cloud/"), **exported.providers
    ) as gatepay:
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


class BrokenTelemetry:
    """
    Stands in for every OpenTelemetry object, with methods that raise.

    Args:
        works_until: If it is "end", spans can be started, and their methods raise. If empty, starting raises, too.
    """

    def __init__(self, *, works_until: str = "") -> None:
        self.calls = 0
        self._works_until = works_until

    def get_tracer(self, *_: Any, **__: Any) -> "BrokenTelemetry":
        return self

    get_meter = create_histogram = create_counter = create_up_down_counter = get_tracer
    create_observable_up_down_counter = get_tracer

    def start_span(self, *_: Any, **__: Any) -> "BrokenTelemetry":
        return self.end() if self._works_until == "" else self

    def end(self, *_: Any, **__: Any) -> NoReturn:
        self.calls += 1
        raise OSError(f"CANARY {SECRET}")

    set_attributes = add = record = get_span_context = end


@pytest.mark.parametrize("works_until", ["", "end"])
async def test_errors_of_telemetry_fail_no_call(
    works_until: str, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    """An error of a provider, processor or exporter is logged once, by its class name, and fails no call."""
    monkeypatch.setattr(spans.SUPPRESS_ERRORS, "_logged", False)
    broken: Any = BrokenTelemetry(works_until=works_until)
    answer = replying((503, ""), (200, SUCCESS), (200, STORED))
    async with instrument(make_client(answer), tracer_provider=broken, meter_provider=broken) as gatepay:
        assert (await gatepay.list_products()).products == ()
        assert (await gatepay.upload_card_keys(8, ["A"])).ok
    assert broken.calls > 5
    (record,) = [record for record in caplog.records if record.name == "gatepay_async.otel"]
    assert (record.levelno, "OSError" in record.message, "CANARY" in caplog.text) == (logging.WARNING, True, False)


async def test_global_providers_may_be_set_later(exported: "Exported", monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an SDK telemetry is idle. Global providers that are set after the client was created are used."""
    answer = replying(*[(200, SUCCESS)] * 2)
    telemetry = OpenTelemetry(None, None)
    async with instrument(make_client(answer)) as gatepay:
        await gatepay.list_products()
        assert telemetry.is_idle()
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", exported.tracer_provider)
        assert not telemetry.is_idle()
        await gatepay.list_products()
    assert [span.name for span in exported.spans()] == ["gatepay product/show", "POST /api/product/show"]
    assert type(metrics.get_meter_provider()).__module__.startswith("opentelemetry.metrics")


async def test_connections_are_counted_by_server(exported: "Exported") -> None:
    """Connections are counted whenever the metrics are read, as long as their client exists."""
    telemetry = OpenTelemetry(exported.tracer_provider, exported.meter_provider)
    counts: list[Connections | None] = [
        Connections(busy=2, idle=1, waiting=5),
        Connections(busy=1, idle=0, waiting=0),
        None,
    ]
    # The list keeps the clients' telemetry alive.
    clients = [
        telemetry.client(ClientFacts(URL, cloud_base_url=None, connections=partial(lambda count: count, count)))
        for count in counts
    ]
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
        assert exported.points("gatepay.client.waiting_calls") == []  # httpx doesn't report them
    instrument(AsyncGatePay("key", SECRET), **exported.providers)  # not open yet


async def test_deliveries_are_counted_by_event(exported: "Exported") -> None:
    """Each delivery of a callback is counted once, by event, even if its handler is interrupted."""

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


def test_instrumenting_an_unsupported_object_raises() -> None:
    """The error names the classes that can be instrumented."""
    with pytest.raises(InvalidRequestError, match="must be a client, a CallbackApp or a DurableUploads, not str"):
        instrument("AsyncGatePay")  # type: ignore[type-var]  # the wrong type is what this tests


@pytest.mark.parametrize("name", ["tracer_provider", "meter_provider"])
def test_wrong_kind_of_provider_raises(name: str) -> None:
    """If a provider is of the wrong kind, the error names the argument."""
    wrong_provider: Any = {
        "tracer_provider": metrics.NoOpMeterProvider(),
        "meter_provider": trace.NoOpTracerProvider(),
    }[name]
    with pytest.raises(InvalidRequestError) as caught:
        instrument(make_client(replying()), **{name: wrong_provider})
    assert caught.value.field == name


async def test_unknown_outcome_is_recorded(exported: "Exported") -> None:
    """If it is unknown whether an order exists, the call's outcome is ``unknown``."""

    def answer(request: Any) -> NoReturn:
        raise httpx.ReadError("CANARY", request=request)

    async with instrument(make_client(answer), **exported.providers) as gatepay:
        with pytest.raises(OutcomeUnknownError):
            await gatepay.create_payment(**ORDER)
    ((attributes, _),) = exported.points("gatepay.client.call.duration")
    assert attributes["gatepay.outcome"] == "unknown"
    (attempt,) = exported.spans("POST /api/pay")
    assert (attempt.attributes or {})["error.type"] == "TransportError"
    assert "http.response.status_code" not in (attempt.attributes or {})


async def test_foreign_exception_is_recorded_by_its_class(exported: "Exported") -> None:

    def answer(_: Any) -> NoReturn:
        raise KeyError("CANARY")

    async with instrument(make_client(answer), **exported.providers) as gatepay:
        with pytest.raises(KeyError):
            await gatepay.list_products()
    kinds = {span.name: (span.attributes or {})["error.type"] for span in exported.spans()}
    assert kinds == {"POST /api/product/show": "builtins.KeyError", "gatepay product/show": "builtins.KeyError"}
    ((attributes, _),) = exported.points("gatepay.client.call.duration")
    assert attributes["gatepay.outcome"] == "failed"


@pytest.mark.parametrize("missing", ["opentelemetry", "gatepay_async.otel.telemetry"])
def test_missing_extra_says_how_to_install_it(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If OpenTelemetry is missing, the error says how to install it. If a module of our own is missing, it doesn't."""
    for name in [name for name in sys.modules if name.startswith(("gatepay_async.otel", "opentelemetry"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("gatepay_async.otel")
    assert ("pip install 'gatepay-async[otel]'" in str(caught.value)) == (missing == "opentelemetry")
