"""``OpenTelemetry``: a ``Telemetry`` that creates spans and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from types import TracebackType
from typing import Final

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import SpanKind, Tracer, TracerProvider

from gatepay_async.otel.attributes import (
    Attributes,
    Server,
    attempt_error,
    code_attributes,
    endpoint_of,
    error_type,
    full_url,
    request_attributes,
    span_name,
)
from gatepay_async.otel.instruments import CountedClient, Instruments, instruments_of
from gatepay_async.otel.spans import SUPPRESS_ERRORS, CurrentSpan, current_traceparent, is_uploading, links_to
from gatepay_async.protocol.bulk import UploadReport
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.errors import ProtocolError
from gatepay_async.protocol.observing import ClientFacts, EndAttempt, Observer, RecordResult, outcome_label
from gatepay_async.protocol.raw import Outgoing
from gatepay_async.version import __version__

_NOT_OBSERVED: Final[AbstractContextManager[None]] = nullcontext()
# For is_idle(): the private module with the global meter provider, and a value for a name that doesn't exist.
_METRICS: Final = getattr(metrics, "_internal", None)
_NO_ATTRIBUTE: Final = object()


class OpenTelemetry:
    """
    Implements ``Telemetry`` with OpenTelemetry's API.

    Args:
        tracer_provider: The provider for spans, or None for the global one, which may be set later.
        meter_provider: The provider for metrics, or None for the global one, which may be set later.
    """

    def __init__(self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None) -> None:
        self.tracer: Tracer = trace.get_tracer("gatepay_async", __version__, tracer_provider)
        self.instruments: Instruments = instruments_of(meter_provider)
        self._has_own_provider = tracer_provider is not None or meter_provider is not None

    def is_idle(self) -> bool:
        """
        Whether there is no provider: none was passed, and no SDK has set a global one.

        This reads private names of OpenTelemetry's API: the public functions read the environment each time, taking
        several microseconds. If the API renames them, this returns False, and calls use spans that do nothing.
        """
        return (
            not self._has_own_provider
            and getattr(trace, "_TRACER_PROVIDER", _NO_ATTRIBUTE) is None
            and getattr(_METRICS, "_METER_PROVIDER", _NO_ATTRIBUTE) is None
        )

    def client(self, client: ClientFacts, /) -> ObservedClient:
        """Implement ``Telemetry.client``."""
        return ObservedClient(self, client)

    def callback(self, event: str, error: BaseException | None, /) -> None:
        """Implement ``Telemetry.callback``."""
        failure = None if error is None else error_type(error)
        with SUPPRESS_ERRORS:
            self.instruments.callbacks.add(1, {"gatepay.callback.event": str(event), **_error_attribute(failure)})

    def submission(self, queue: str, /) -> AbstractContextManager[str]:
        """Implement ``Telemetry.submission``."""
        return _ObservedSubmission(self.tracer, queue)

    def batch(self, queue: str, batch: str, trace_context: str, /) -> AbstractContextManager[RecordResult]:
        """Implement ``Telemetry.batch``."""
        return _ObservedBatch(self, queue, batch, trace_context)


class ObservedClient(CountedClient):
    """Implements ``ClientObserver`` for one client."""

    def __init__(self, telemetry: OpenTelemetry, facts: ClientFacts) -> None:
        super().__init__(facts)
        self.telemetry = telemetry
        self._cloud_server = self.server if facts.cloud_base_url is None else Server.of(facts.cloud_base_url)
        telemetry.instruments.connections.add(self)

    def call(self, call: Outgoing, /) -> AbstractContextManager[Observer | None]:
        """Implement ``ClientObserver.call``."""
        if self.telemetry.is_idle():
            return _NOT_OBSERVED
        return _ObservedCall(self.telemetry, call, self._cloud_server if call.on_cloud else self.server)

    def upload(self) -> AbstractContextManager[RecordResult]:
        """Implement ``ClientObserver.upload``."""
        return _ObservedUpload(self.telemetry.tracer)


class _ObservedCall:
    """The span and the metrics of a call and its attempts."""

    def __init__(self, telemetry: OpenTelemetry, call: Outgoing, server: Server) -> None:
        self._telemetry = telemetry
        self._instruments = telemetry.instruments
        self._server = server
        self._endpoint = {"gatepay.endpoint": endpoint_of(call)}
        self._attempts = 0
        self._is_chunk = call.path == KaCreate.path and is_uploading()

    def __enter__(self) -> Observer:
        self._started_at = perf_counter()
        self._span = CurrentSpan(
            self._telemetry.tracer, f"gatepay {self._endpoint['gatepay.endpoint']}", SpanKind.INTERNAL, self._endpoint
        )
        if self._is_chunk:
            with SUPPRESS_ERRORS:
                self._instruments.chunks.add(1)
        return self._observe_attempt

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        outcome = {"gatepay.outcome": outcome_label(error)}
        failure = None if error is None else error_type(error)
        self._span.end({**outcome, "gatepay.attempts": self._attempts, **code_attributes(error)}, failure)
        with SUPPRESS_ERRORS:
            if self._is_chunk:
                self._instruments.chunks.add(-1)
            attributes = {**self._endpoint, **outcome, **_error_attribute(failure)}
            self._instruments.calls.record(perf_counter() - self._started_at, attributes)

    def _observe_attempt(self, call: Outgoing, attempt: int, /) -> EndAttempt:
        """Start the span of an attempt. Implements ``Observer``."""
        started_at = perf_counter()
        self._attempts = attempt
        request = request_attributes(call, self._server)
        attributes: dict[str, str | int] = {"url.full": full_url(call, self._server)}
        if attempt > 1:
            attributes["http.request.resend_count"] = attempt - 1
            with SUPPRESS_ERRORS:
                self._instruments.retries.add(1, self._endpoint)
        name = span_name(call, self._server)
        span = CurrentSpan(self._telemetry.tracer, name, SpanKind.CLIENT, {**request, **attributes})

        def end_attempt(error: BaseException | None, http_status: int | None) -> None:
            status = error.http_status if isinstance(error, ProtocolError) else http_status
            response = {} if status is None else {"http.response.status_code": status}
            failure = attempt_error(error, status)
            span.end({**response, **code_attributes(error)}, failure)
            with SUPPRESS_ERRORS:
                duration = perf_counter() - started_at
                self._instruments.requests.record(duration, {**request, **response, **_error_attribute(failure)})

        return end_attempt


class _UploadResult:
    """Keeps the result of an upload or a batch until its span ends."""

    def __init__(self) -> None:
        self.attributes: Attributes = {}
        self.failure: str | None = None

    def record(self, columns: Mapping[str, int], stopped: BaseException | None) -> None:
        """Record the result. Implements ``RecordResult``."""
        self.attributes = {f"gatepay.upload.{name}": count for name, count in columns.items()}
        self.failure = None if stopped is None else error_type(stopped)


class _ObservedUpload:
    """The span of an upload."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._upload_result = _UploadResult()

    def __enter__(self) -> RecordResult:
        self._span = CurrentSpan(self._tracer, "gatepay upload", SpanKind.INTERNAL, {}, uploading=True)
        return self._upload_result.record

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with SUPPRESS_ERRORS:  # the user's own exception class may have a property ``report`` that raises
            report: object = getattr(error, "report", None)
            if isinstance(report, UploadReport):
                self._upload_result.record(report.columns(), None)
        self._span.end(
            self._upload_result.attributes, self._upload_result.failure if error is None else error_type(error)
        )


class _ObservedSubmission:
    """The span of a job's submission."""

    def __init__(self, tracer: Tracer, queue: str) -> None:
        self._tracer = tracer
        self._queue = queue

    def __enter__(self) -> str:
        attributes = _messaging_attributes(self._queue, "send")
        self._span = CurrentSpan(self._tracer, f"send {self._queue}", SpanKind.PRODUCER, attributes)
        return current_traceparent()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._span.end({}, None if error is None else error_type(error))


class _ObservedBatch:
    """The span and the metrics of a batch, in its own trace with a link to the submission."""

    def __init__(self, telemetry: OpenTelemetry, queue: str, batch: str, trace_context: str) -> None:
        self._telemetry = telemetry
        self._attributes = _messaging_attributes(queue, "process")
        self._queue = queue
        self._batch = batch
        self._trace_context = trace_context
        self._upload_result = _UploadResult()

    def __enter__(self) -> RecordResult:
        self._started_at = perf_counter()
        self._span = CurrentSpan(
            self._telemetry.tracer,
            f"process {self._queue}",
            SpanKind.CONSUMER,
            {**self._attributes, "messaging.message.id": self._batch},
            links=links_to(self._trace_context),
            uploading=True,
        )
        return self._upload_result.record

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        failure = self._upload_result.failure if error is None else error_type(error)
        self._span.end(self._upload_result.attributes, failure)
        with SUPPRESS_ERRORS:
            duration = perf_counter() - self._started_at
            self._telemetry.instruments.batches.record(duration, {**self._attributes, **_error_attribute(failure)})


def _messaging_attributes(queue: str, operation: str) -> dict[str, str]:
    """Return the attributes that OpenTelemetry's conventions define for message queues."""
    return {
        "messaging.system": "dbos",
        "messaging.destination.name": queue,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }


def _error_attribute(failure: str | None) -> dict[str, str]:
    return {} if failure is None else {"error.type": failure}
