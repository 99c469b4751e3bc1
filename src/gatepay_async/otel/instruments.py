"""The metrics. Their names are those of OpenTelemetry's semantic conventions, or start with ``gatepay.``."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from gatepay_async.otel.attributes import Server
from gatepay_async.protocol.observing import ClientFacts
from gatepay_async.version import __version__

# The buckets that the conventions recommend for HTTP, in seconds.
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
# For calls, which may take up to their deadline, and batches, which take up to half a minute.
_LONG_BUCKETS: Final = (*_BUCKETS, 30.0, 60.0)


class ConnectionCounts:
    """Counts the connections of all clients. The SDK calls it from its own thread, each time it reads the metrics."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: WeakSet[CountedClient] = WeakSet()

    def add(self, client: CountedClient) -> None:
        """Count the connections of *client* as long as the client exists."""
        with self._lock:
            self._clients.add(client)

    def open(self, _: CallbackOptions) -> Iterable[Observation]:
        """Yield the number of open connections by server and state."""
        for server, busy, idle, _waiting in self._sums():
            for state, count in (("active", busy), ("idle", idle)):
                yield Observation(count, {**server.attributes, "http.connection.state": state})

    def waiting(self, _: CallbackOptions) -> Iterable[Observation]:
        """Yield the number of calls that wait for a connection, by server."""
        for server, _busy, _idle, waiting in self._sums():
            yield Observation(waiting, server.attributes)

    def _sums(self) -> Iterator[tuple[Server, int, int, int]]:
        """Add up the counts by server: several clients may use the same server."""
        with self._lock:
            clients = list(self._clients)
        busy, idle, waiting = Counter[Server](), Counter[Server](), Counter[Server]()
        for client in clients:
            counts = client.facts.connections()
            if counts is not None:
                busy[client.server] += counts.busy
                idle[client.server] += counts.idle
                waiting[client.server] += counts.waiting
        return ((server, busy[server], idle[server], waiting[server]) for server in busy)


class CountedClient:
    """A client whose connections ``ConnectionCounts`` counts."""

    def __init__(self, facts: ClientFacts) -> None:
        self.facts = facts
        self.server = Server.of(facts.base_url)


class Instruments:
    """All metrics of one provider. They are created once, because OpenTelemetry warns about a repeated name."""

    def __init__(self, meter: Meter) -> None:
        self.requests = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self.calls = meter.create_histogram(
            "gatepay.client.call.duration",
            unit="s",
            description="Duration of calls, retries and waits included.",
            explicit_bucket_boundaries_advisory=_LONG_BUCKETS,
        )
        self.retries = meter.create_counter(
            "gatepay.client.retries", unit="{retry}", description="Attempts of a call after its first one."
        )
        self.chunks = meter.create_up_down_counter(
            "gatepay.upload.active_chunks", unit="{chunk}", description="Chunks of card keys that are being sent."
        )
        self.callbacks = meter.create_counter(
            "gatepay.callback.deliveries", unit="{delivery}", description="Deliveries of callbacks, by event."
        )
        self.batches = meter.create_histogram(
            "messaging.process.duration",
            unit="s",
            description="Duration of processing operation.",
            explicit_bucket_boundaries_advisory=_LONG_BUCKETS,
        )
        self.connections = ConnectionCounts()
        meter.create_observable_up_down_counter(
            "http.client.open_connections",
            callbacks=[self.connections.open],
            unit="{connection}",
            description="Number of outbound HTTP connections that are currently active or idle on the client.",
        )
        meter.create_observable_up_down_counter(
            "gatepay.client.waiting_calls",
            callbacks=[self.connections.waiting],
            unit="{call}",
            description="Calls that wait for a connection.",
        )


_BY_PROVIDER: WeakKeyDictionary[MeterProvider, Instruments] = WeakKeyDictionary()
_GLOBAL: list[Instruments] = []  # empty, or the metrics of the global provider, which may be set later
_CREATING = threading.Lock()


def instruments_of(provider: MeterProvider | None) -> Instruments:
    """Return the metrics of *provider*, or of the global provider."""
    with _CREATING:
        if provider is None:
            if not _GLOBAL:
                _GLOBAL.append(Instruments(metrics.get_meter("gatepay_async", __version__)))
            return _GLOBAL[0]
        if provider not in _BY_PROVIDER:
            _BY_PROVIDER[provider] = Instruments(provider.get_meter("gatepay_async", __version__))
        return _BY_PROVIDER[provider]
