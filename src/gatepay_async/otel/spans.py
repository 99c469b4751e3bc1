"""``CurrentSpan``, a span that is current in its task, and ``SUPPRESS_ERRORS``, which suppresses telemetry's errors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gatepay_async.otel.attributes import Attributes

LOGGER: Final = logging.getLogger("gatepay_async.otel")
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_UPLOADING: Final = context.create_key("gatepay-uploading")  # set in the context of an upload or a batch


class _SuppressErrors:
    """
    Suppresses exceptions of a provider, a processor or an exporter, and logs the first one.

    A payment must not fail because of its telemetry.
    """

    def __init__(self) -> None:
        self._logged = False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if kind is None or not issubclass(kind, Exception):
            return False
        if not self._logged:
            self._logged = True
            LOGGER.warning("OpenTelemetry raised %s; telemetry may be incomplete, calls are unaffected", kind.__name__)
        return True


SUPPRESS_ERRORS: Final = _SuppressErrors()


class CurrentSpan:
    """
    A span that begins now, and is the current span until it ends.

    Args:
        tracer: The tracer.
        name: The name of the span.
        kind: The kind of the span.
        attributes: The attributes that are known at the beginning.
        links: Links to other spans.
        uploading: Whether this is the span of an upload or a batch.
    """

    __slots__ = ("_span", "_token")

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        *,
        links: Sequence[Link] = (),
        uploading: bool = False,
    ) -> None:
        self._span: Span = trace.INVALID_SPAN
        current_context = context.get_current()
        with SUPPRESS_ERRORS:
            self._span = tracer.start_span(
                name,
                kind=kind,
                attributes=attributes,
                links=links,
                record_exception=False,
                set_status_on_exception=False,
            )
            current_context = trace.set_span_in_context(self._span, current_context)
        self._token = context.attach(
            context.set_value(_UPLOADING, True, current_context) if uploading else current_context
        )

    def end(self, attributes: Attributes, error: str | None) -> None:
        """End the span. *error* is the type of the error, or None."""
        context.detach(self._token)
        with SUPPRESS_ERRORS:
            self._span.set_attributes(attributes)
            if error is not None:
                self._span.set_attribute("error.type", error)
                self._span.set_status(Status(StatusCode.ERROR))
        with SUPPRESS_ERRORS:
            self._span.end()


def is_uploading() -> bool:
    """Whether the current span is within an upload or a batch."""
    return context.get_value(_UPLOADING) is not None


def current_traceparent() -> str:
    """Return the ``traceparent`` of the current span, or "" if there is no span."""
    carrier: dict[str, str] = {}
    with SUPPRESS_ERRORS:
        _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", "")


def links_to(traceparent: str) -> list[Link]:
    """Return a link to the span of *traceparent*, or an empty list if *traceparent* is invalid."""
    span_context: SpanContext = trace.INVALID_SPAN_CONTEXT
    with suppress(ValueError):
        extracted = _PROPAGATOR.extract({"traceparent": traceparent}, Context())
        span_context = trace.get_current_span(extracted).get_span_context()
    return [Link(span_context)] if span_context.is_valid else []
