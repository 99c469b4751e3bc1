"""OpenTelemetry's SDK, with exporters that keep all in memory. Large: imported by a fixture."""

import json
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Exported:
    """Providers, and what they export."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader])

    @property
    def to(self) -> dict[str, Any]:
        """What ``instrument`` is told."""
        return {"tracer_provider": self.tracer_provider, "meter_provider": self.meter_provider}

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """Those that have ended, in the order in which they began."""
        spans = [span for span in self._exporter.get_finished_spans() if span.name.startswith(name)]
        return sorted(spans, key=lambda span: span.start_time or 0)

    def parents(self) -> dict[str, set[str | None]]:
        """The names of spans, and those of their parents."""
        names = {span.context.span_id: span.name for span in self.spans()}
        parents: dict[str, set[str | None]] = {}
        for span in self.spans():
            parents.setdefault(span.name, set()).add(span.parent and names[span.parent.span_id])
        return parents

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """The attributes and values of a metric: of a histogram, how many values there were."""
        data = self._reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        metrics = [metric for scope in scopes for metric in scope.metrics if metric.name == name]
        return [
            (dict(point.attributes or {}), getattr(point, "value", None) if hasattr(point, "value") else point.count)
            for metric in metrics
            for point in metric.data.data_points
        ]

    def everything(self) -> str:
        """All spans and all metrics, as text."""
        data = self._reader.get_metrics_data()
        return json.dumps([span.to_json() for span in self.spans()]) + (data.to_json() if data else "")
