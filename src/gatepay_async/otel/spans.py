"""A span, current in its task until it ends; and what keeps the errors of others' telemetry away from calls."""

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
_UPLOADING: Final = context.create_key("gatepay-uploading")


class _Harmless:
    """
    Logs the first exception that a provider, a processor or an exporter raises, and no other one.

    A payment must not fail because its telemetry does.
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
            LOGGER.warning("OpenTelemetry raised %s; calls go on, their telemetry may be incomplete", kind.__name__)
        return True


HARMLESS: Final = _Harmless()


class CurrentSpan:
    """
    A span that begins now, and is the current one until it ends.

    Args:
        tracer: Makes it.
        name: Its name.
        kind: Its kind.
        attributes: Those that are known.
        links: To other spans.
        uploading: What begins within it belongs to an upload.
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
        around = context.get_current()
        with HARMLESS:
            self._span = tracer.start_span(
                name,
                kind=kind,
                attributes=attributes,
                links=links,
                record_exception=False,
                set_status_on_exception=False,
            )
            around = trace.set_span_in_context(self._span, around)
        self._token = context.attach(context.set_value(_UPLOADING, True, around) if uploading else around)

    def end(self, attributes: Attributes, error: str | None) -> None:
        """End it; *error* is the name of what went wrong."""
        context.detach(self._token)
        with HARMLESS:
            self._span.set_attributes(attributes)
            if error is not None:
                self._span.set_attribute("error.type", error)
                self._span.set_status(Status(StatusCode.ERROR))
        with HARMLESS:
            self._span.end()


def is_uploading() -> bool:
    """Whether this is within an upload or a batch."""
    return context.get_value(_UPLOADING) is not None


def current_as_text() -> str:
    """The current span as a ``traceparent``; empty where there is none."""
    carrier: dict[str, str] = {}
    with HARMLESS:
        _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", "")


def links_to(traceparent: str) -> list[Link]:
    """A link to the span of that text. None if it is no such text: anybody may have written it."""
    found: SpanContext = trace.INVALID_SPAN_CONTEXT
    with suppress(ValueError):
        around = _PROPAGATOR.extract({"traceparent": traceparent}, Context())
        found = trace.get_current_span(around).get_span_context()
    return [Link(found)] if found.is_valid else []
