"""The queue of callbacks to deliver: filled when an order is paid, emptied by senders. All methods block."""

import time
from collections.abc import Callable, Iterable
from sqlite3 import Connection
from threading import Condition

from gatepay_async.sandbox import deliveries
from gatepay_async.sandbox.database import SandboxDatabase
from gatepay_async.sandbox.deliveries import Answer, ClaimedDelivery
from gatepay_async.sandbox.options import Options

__all__ = ["LEASE_MARGIN_S", "POLL_INTERVAL_S", "Outbox"]

# A claim expires this many seconds after the delivery's time-out. Then another sender may claim the delivery.
LEASE_MARGIN_S = 30.0
# How often a sender looks for due deliveries, because another process may add some, or the clock may be changed.
POLL_INTERVAL_S = 0.5


class Outbox:
    """
    The deliveries of one sandbox. Thread-safe.

    Args:
        database: Holds the deliveries.
        clock: Returns the sandbox's time, in epoch seconds.
        options: How callbacks are sent, how long an attempt may take, and the time between attempts.
    """

    def __init__(self, database: SandboxDatabase, *, clock: Callable[[], float], options: Options) -> None:
        self._database = database
        self._clock = clock
        self._options = options
        self._changed = Condition()  # notified when the deliveries change
        self._wakers: list[Callable[[], object]] = []
        self.timeout = options.callback_timeout

    def attach(self, wake: Callable[[], object]) -> None:
        """Call *wake*, from any thread, each time the deliveries change."""
        with self._changed:
            self._wakers.append(wake)

    def detach(self, wake: Callable[[], object]) -> None:
        """Stop calling *wake*."""
        with self._changed:
            self._wakers.remove(wake)

    def plan(self, connection: Connection, order_id: int, url_owners: Iterable[str]) -> None:
        """
        Queue deliveries that are due now, in the caller's transaction. Call notify() after the commit.

        Args:
            connection: The caller's transaction.
            order_id: The order that was paid.
            url_owners: Which URLs to call: ``order`` (the order's own) or ``shop``.
        """
        deliveries.plan_first(connection, order_id, url_owners=url_owners, due=self._clock())

    def notify(self) -> None:
        """Wake the senders and the waiting threads."""
        with self._changed:
            self._changed.notify_all()
            for wake in self._wakers:
                wake()

    def claim(self) -> ClaimedDelivery | None:
        """Claim a delivery that is due; None: no delivery is due."""
        with self._database.transaction() as connection:
            return deliveries.claim(
                connection,
                now=self._clock(),
                machine_time=time.time(),
                lease=self.timeout + LEASE_MARGIN_S,
                method=self._options.callback_method,
            )

    def seconds_until_due(self) -> float:
        """Return the seconds until the next delivery is due, but at most half a second."""
        with self._database.transaction() as connection:
            due = deliveries.next_due(connection)
        return POLL_INTERVAL_S if due is None else min(POLL_INTERVAL_S, max(0.0, due - self._clock()))

    def finish(self, delivery: ClaimedDelivery, answer: Answer) -> None:
        """Store the answer to a delivery."""
        with self._database.transaction() as connection:
            deliveries.finish(connection, delivery, answer, now=self._clock(), interval=self._options.callback_interval)
        self.notify()

    def release(self, delivery: ClaimedDelivery) -> None:
        """Release a claimed delivery that was not attempted."""
        with self._database.transaction() as connection:
            deliveries.release(connection, delivery)
        self.notify()

    def wait(self, order_id: int | None, *, seconds: float) -> bool:
        """
        Wait until no delivery of the order is due or being sent.

        Args:
            order_id: The order; None: all orders.
            seconds: How long to wait at most.

        Returns:
            True, or False if a delivery was still due or being sent after *seconds*.
        """
        deadline = time.monotonic() + seconds
        self.notify()  # wake the senders: the caller may have advanced the clock, so that deliveries have become due
        with self._changed:
            while self._has_open_delivery(order_id):
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                self._changed.wait(min(remaining, POLL_INTERVAL_S))
        return True

    def _has_open_delivery(self, order_id: int | None) -> bool:
        with self._database.transaction() as connection:
            return deliveries.has_open_delivery(connection, order_id, now=self._clock())
