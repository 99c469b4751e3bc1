"""Checks the extra `otel`: an instrumented client works without an SDK, and reports spans to a tracer."""

from gatepay_async.otel import instrument  # imported first, because its error names the missing extra

# isort: split
import anyio
import httpx
from opentelemetry import trace

from gatepay_async import AsyncGatePay

names: list[str] = []


class Provider(trace.NoOpTracerProvider):
    """A tracer provider whose tracers record the names of spans."""

    def get_tracer(self, *_: object, **__: object) -> trace.Tracer:
        """Return a tracer that records names."""
        return RecordingTracer()


class RecordingTracer(trace.NoOpTracer):
    """A tracer that records the names of spans."""

    def start_span(self, name: str, *_: object, **__: object) -> trace.Span:
        """Record the name. Return a span that does nothing."""
        names.append(name)
        return trace.INVALID_SPAN


async def main() -> None:
    """Make the same call without a tracer provider and with one."""
    body = {"code": 100, "msg": "", "time": "1", "data": {"category": []}}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=body))
    for provider in (None, Provider()):
        gatepay = AsyncGatePay("key", "secret", transport=transport)
        async with instrument(gatepay, tracer_provider=provider):
            await gatepay.list_products()
    print(names)
    assert names == ["gatepay product/show", "POST /api/product/show"]


anyio.run(main)
