"""CPU time that telemetry adds to a call: without telemetry, without an OpenTelemetry SDK, and with an SDK."""

import asyncio
import gc
from importlib.util import find_spec
from typing import Any, cast

import httpx

from benchmarks.measuring import Result, Row, Sample, Stopwatch, cpu_us_per_call, median_of, ratio, timed
from benchmarks.peers import APPKEY, APPSECRET
from gatepay_async import AsyncGatePay
from gatepay_async.client import caller
from gatepay_async.otel import instrument
from gatepay_async.protocol.calls import ProductShow
from gatepay_async.protocol.messages import Reply

MAX_ADDED_US = 1.0  # without an SDK
BODY = b'{"code": 100, "msg": "", "time": "1", "data": {"category": []}}'


class InstantExchange:
    """An exchange that replies at once, without a network, so that only the client's own cost is measured."""

    async def send(self, *_: object) -> Reply:
        """Return the reply of a shop without products."""
        return Reply(200, BODY)

    post_at_once = send

    def connections(self) -> None:
        """Return None: there are no connections."""

    async def aclose(self) -> None:
        """Do nothing: there is nothing to close."""


def measure(*, quick: bool) -> Result:
    """Measure the hooks alone, then calls with and without telemetry in turn."""
    return asyncio.run(_measure(times=500 if quick else 3000, rounds=5 if quick else 15))


async def _measure(*, times: int, rounds: int) -> Result:
    call = ProductShow()
    no_sdk = cast("Any", instrument(_client()))._caller.observer

    def hook(observer: Any = None) -> None:
        """Run the same code for observers as ``Caller.send``."""
        with caller._NOBODY if observer is None else observer.call(call) as listener:
            assert listener is None

    # A hook is much faster than a call, so it runs 20 times as often.
    empty_call = timed(lambda: None, times=20 * times).cpu_us_per_call
    rows = [
        _row("where none is asked for", MAX_ADDED_US, timed(hook, times=20 * times).cpu_us_per_call - empty_call),
        _row(
            "without an SDK", MAX_ADDED_US, timed(lambda: hook(no_sdk), times=20 * times).cpu_us_per_call - empty_call
        ),
    ]
    if find_spec("opentelemetry.sdk") is not None:
        clients = {"off": _client(), "on": instrument(_client(), **_sdk())}
        samples: dict[str, list[Sample]] = {name: [] for name in clients}
        async with clients["off"], clients["on"]:
            for gatepay in clients.values():
                cast("Any", gatepay)._caller._attempts._exchange = InstantExchange()
            for _ in range(rounds):
                for name, gatepay in clients.items():
                    gc.collect()
                    samples[name].append(await _send(gatepay, times))
        added = median_of(samples["on"], cpu_us_per_call) - median_of(samples["off"], cpu_us_per_call)
        factor = ratio(samples["on"], samples["off"], cpu_us_per_call)
        rows.append(_row("with an SDK", None, added, f"{factor:.1f} × a call that needs no network and has none"))
    return Result(rows)


def _row(when: str, goal: float | None, value: float, details: str = "") -> Row:
    what = f"CPU that telemetry adds to a call, {when}"
    return Row(what=what, goal=goal, value=value, at_most=True, unit="µs", details=details)


def _client() -> AsyncGatePay:
    return AsyncGatePay(APPKEY, APPSECRET, transport=httpx.MockTransport(lambda _: httpx.Response(500)))


def _sdk() -> dict[str, Any]:
    """Return OpenTelemetry providers that record everything and export nothing."""
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 -- optional
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415 -- optional
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 -- optional

    return {"tracer_provider": TracerProvider(), "meter_provider": MeterProvider([InMemoryMetricReader()])}


async def _send(gatepay: AsyncGatePay, times: int) -> Sample:
    watch = Stopwatch()
    for _ in range(times):
        await gatepay.send(ProductShow())
    return watch.stop(times)
