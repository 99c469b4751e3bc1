"""What the extra `otel` promises: a client that is instrumented works, also without an SDK; and reports to a tracer."""

from gatepay_async.otel import instrument  # first: it says which extra is missing

# isort: split
import anyio
import httpx
from opentelemetry import trace

from gatepay_async import AsyncGatePay

names: list[str] = []


class Provider(trace.NoOpTracerProvider):
    """Notes the names of spans."""

    def get_tracer(self, *_: object, **__: object) -> trace.Tracer:
        """One that notes them."""
        return Noting()


class Noting(trace.NoOpTracer):
    """As above."""

    def start_span(self, name: str, *_: object, **__: object) -> trace.Span:
        """A span that does nothing."""
        names.append(name)
        return trace.INVALID_SPAN


async def main() -> None:
    """The same call, without anybody who listens, and with somebody."""
    body = {"code": 100, "msg": "", "time": "1", "data": {"category": []}}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=body))
    for provider in (None, Provider()):
        gatepay = AsyncGatePay("key", "secret", transport=transport)
        async with instrument(gatepay, tracer_provider=provider):
            await gatepay.list_products()
    print(names)
    assert names == ["gatepay product/show", "POST /api/product/show"]


anyio.run(main)
