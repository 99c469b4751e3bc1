"""OpenTelemetry's SDK with in-memory exporters. Import this in a fixture, because it is large."""

import json
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Exported:
    """Tracer and meter providers that export to memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader])

    @property
    def providers(self) -> dict[str, Any]:
        """The arguments of ``instrument``."""
        return {"tracer_provider": self.tracer_provider, "meter_provider": self.meter_provider}

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """Return the spans that have ended, in the order of their start."""
        spans = [span for span in self._exporter.get_finished_spans() if span.name.startswith(name)]
        return sorted(spans, key=lambda span: span.start_time or 0)

    def parents(self) -> dict[str, set[str | None]]:
        """Return the names of the parents for each name of a span."""
        names = {span.context.span_id: span.name for span in self.spans()}
        parents: dict[str, set[str | None]] = {}
        for span in self.spans():
            parents.setdefault(span.name, set()).add(span.parent and names[span.parent.span_id])
        return parents

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Return the attributes and values of a metric; of a histogram, the number of values."""
        data = self._reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        metrics = [metric for scope in scopes for metric in scope.metrics if metric.name == name]
        return [
            (dict(point.attributes or {}), getattr(point, "value", None) if hasattr(point, "value") else point.count)
            for metric in metrics
            for point in metric.data.data_points
        ]

    def everything(self) -> str:
        """Return all spans and all metrics as text."""
        data = self._reader.get_metrics_data()
        return json.dumps([span.to_json() for span in self.spans()]) + (data.to_json() if data else "")
