"""``instrument``: turns telemetry on for one object."""

from __future__ import annotations

from typing import Protocol, TypeVar

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from gatepay_async.otel.telemetry import OpenTelemetry
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.observing import Telemetry
from gatepay_async.words.problem import Problem


class _Instrumentable(Protocol):
    def _instrument(self, telemetry: Telemetry) -> None: ...


T = TypeVar("T", bound=_Instrumentable)


def instrument(
    target: T, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> T:
    """
    Report the activity of *target* to OpenTelemetry.

    ::

        async with instrument(AsyncGatePay()) as gatepay: ...
        app = instrument(CallbackApp(…))
        uploads = instrument(DurableUploads(…))

    A client gets a span for each call, each attempt and each upload, and metrics of them and of its connections.
    A ``CallbackApp`` counts its deliveries by event. ``DurableUploads`` get a span for each submission and each batch,
    and so do the clients of their workers. No span and no metric holds a card key, a signature, a query, a body, an
    order number or the text of an error.

    Without an SDK nothing is reported. You can set the global providers later.

    Args:
        target: An ``AsyncGatePay``, a ``CallbackApp`` or a ``DurableUploads``.
        tracer_provider: Where spans go, instead of the global provider.
        meter_provider: Where metrics go, instead of the global provider.

    Returns:
        *target* itself.

    Raises:
        InvalidRequestError: *target* or a provider has the wrong type.
    """
    if not hasattr(target, "_instrument"):
        expected = "client, a CallbackApp or a DurableUploads"
        raise InvalidRequestError(
            field="target", problem=Problem("wrong_type", wanted=expected, kind=type(target).__name__)
        )
    if tracer_provider is not None and not hasattr(tracer_provider, "get_tracer"):
        raise _wrong_provider("TracerProvider", "tracer_provider", tracer_provider)
    if meter_provider is not None and not hasattr(meter_provider, "get_meter"):
        raise _wrong_provider("MeterProvider", "meter_provider", meter_provider)
    target._instrument(OpenTelemetry(tracer_provider, meter_provider))  # noqa: SLF001 -- a private method of this package
    return target


def _wrong_provider(expected: str, field: str, provider: object) -> InvalidRequestError:
    problem = Problem("wrong_type", wanted=expected, kind=type(provider).__name__)
    return InvalidRequestError(field=field, problem=problem)
