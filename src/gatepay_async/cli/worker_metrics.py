"""Counts what a worker does, and shows the counts in Prometheus's text format. They never include data of the shop."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gatepay_async.protocol.observing import ClientFacts, Connections, RecordResult, outcome_label
from gatepay_async.protocol.raw import Outgoing
from gatepay_async.version import __version__

if TYPE_CHECKING:
    from gatepay_async.durable import QueueInfo

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# A later run may move card keys from the other columns to one of these.
_FINAL_COLUMNS = ("stored", "already_there", "refused")

Samples = list[tuple[str, float]]  # pairs of labels and value


class WorkerMetrics:
    """Counts calls, batches and card keys. Implements ``Telemetry`` and ``ClientObserver``."""

    def __init__(self) -> None:
        self.queue: QueueInfo | None = None
        # Start with zeros: Prometheus's rate() misses the first event of a series that starts with it.
        self._calls: Counter[str] = Counter(dict.fromkeys(("success", "refused", "failed", "cancelled"), 0))
        self._seconds = 0.0  # spent in calls
        self._batches: Counter[str] = Counter({"done": 0, "failed": 0})
        self._keys: Counter[str] = Counter(dict.fromkeys(_FINAL_COLUMNS, 0))
        self._client: ClientFacts | None = None

    def forget_queue(self) -> None:
        """Omit the metrics of the queue until they are counted again."""
        self.queue = None

    def client(self, client: ClientFacts, /) -> WorkerMetrics:
        """Implement ``Telemetry.client``."""
        self._client = client
        return self

    @contextmanager
    def call(self, call: Outgoing, /) -> Generator[None]:  # noqa: ARG002 -- required by ClientObserver
        """Implement ``ClientObserver.call``. A worker calls only ka/create, whose outcome is never ``unknown``."""
        started_at = time.monotonic()
        failure: BaseException | None = None
        try:
            yield
        except BaseException as error:
            failure = error
            raise
        finally:
            self._calls[outcome_label(failure)] += 1
            self._seconds += time.monotonic() - started_at
            del failure  # its traceback refers to this frame

    @contextmanager
    def upload(self) -> Generator[RecordResult]:
        """Implement ``ClientObserver.upload``. A worker sends batches, not uploads, so it doesn't call this."""
        yield self._record_batch

    def callback(self, event: str, error: BaseException | None, /) -> None:
        """Implement ``Telemetry.callback``."""

    @contextmanager
    def submission(self, queue: str, /) -> Generator[str]:  # noqa: ARG002 -- required by Telemetry
        """Implement ``Telemetry.submission``."""
        yield ""

    @contextmanager
    def batch(self, queue: str, batch: str, trace_context: str, /) -> Generator[RecordResult]:  # noqa: ARG002 -- required by Telemetry
        """Implement ``Telemetry.batch``."""
        yield self._record_batch

    def _record_batch(self, columns: Mapping[str, int], stopped: BaseException | None) -> None:
        self._batches["done" if stopped is None else "failed"] += 1
        for column in _FINAL_COLUMNS:
            self._keys[column] += columns[column]

    def text(self, *, ready: bool) -> str:
        """Return the metrics in Prometheus's text format."""
        return "".join(self._lines(ready=ready))

    def _lines(self, *, ready: bool) -> Iterator[str]:
        yield from _metric("gatepay_worker_info", "gauge", "The version.", [(f'version="{__version__}"', 1)])
        yield from _metric("gatepay_worker_ready", "gauge", "1 if the worker takes batches.", [("", int(ready))])
        yield from _metric(
            "gatepay_worker_calls_total", "counter", "Calls, by outcome.", _labelled("outcome", self._calls)
        )
        yield from _metric(
            "gatepay_worker_call_seconds_total", "counter", "Time spent in calls.", [("", self._seconds)]
        )
        yield from _metric(
            "gatepay_worker_batch_runs_total", "counter", "Runs of batches.", _labelled("result", self._batches)
        )
        yield from _metric(
            "gatepay_worker_card_keys_total", "counter", "Card keys, by result.", _labelled("result", self._keys)
        )
        yield from self._connections()
        yield from self._queue()

    def _connections(self) -> Iterator[str]:
        counts: Connections | None = None if self._client is None else self._client.connections()
        if counts is None:
            return
        states = {"busy": counts.busy, "idle": counts.idle}
        yield from _metric("gatepay_worker_connections", "gauge", "Connections.", _labelled("state", states))
        waiting: Samples = [("", counts.waiting)]
        yield from _metric("gatepay_worker_waiting_calls", "gauge", "Calls that wait for a connection.", waiting)

    def _queue(self) -> Iterator[str]:
        """Yield the metrics of the queue, which all workers share. Yield nothing while the database is unavailable."""
        if self.queue is None:
            return
        states = {"waiting": self.queue.waiting, "delayed": self.queue.delayed, "running": self.queue.running}
        yield from _metric(
            "gatepay_queue_batches", "gauge", "Batches of all workers, by state.", _labelled("state", states)
        )
        oldest = self.queue.oldest_waiting
        age = 0.0 if oldest is None else max(0.0, time.time() - oldest.timestamp())
        yield from _metric(
            "gatepay_queue_oldest_waiting_seconds", "gauge", "Age of the oldest waiting batch.", [("", age)]
        )


def _labelled(label: str, values: Mapping[str, float]) -> Samples:
    """Return a sample for each of *values*, whose key becomes the value of *label*."""
    return [(f'{label}="{value}"', number) for value, number in values.items()]


def _metric(name: str, kind: str, about: str, samples: Samples) -> Iterator[str]:
    """Yield the lines of a metric."""
    yield f"# HELP {name} {about}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        yield f"{name}{{{labels}}} {value:.15g}\n" if labels else f"{name} {value:.15g}\n"
