"""What is to be delivered: planned with the payment, taken on by senders, waited for by tests. All of it blocks."""

import time
from collections.abc import Callable, Iterable
from sqlite3 import Connection
from threading import Condition

from gatepay_async.sandbox import deliveries
from gatepay_async.sandbox.database import Database
from gatepay_async.sandbox.deliveries import Answer, ClaimedDelivery
from gatepay_async.sandbox.options import Options

__all__ = ["LEASE_MARGIN_S", "POLL_INTERVAL_S", "Outbox"]

# Seconds beyond the time-out after which a delivery that nobody finished is taken on again.
LEASE_MARGIN_S = 30.0
# Seconds, at most, until a sender looks again by itself: another process may share the file, and a
# clock may be set.
POLL_INTERVAL_S = 0.5


class Outbox:
    """
    The deliveries of one sandbox; safe from any thread.

    Args:
        database: Where they are.
        clock: Epoch seconds: the sandbox's time.
        options: How callbacks are sent, how long an attempt may take, and how soon the next follows.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float], options: Options) -> None:
        self._database = database
        self._clock = clock
        self._options = options
        self._changed = Condition()
        self._wakers: list[Callable[[], object]] = []
        self.timeout = options.callback_timeout

    def attach(self, wake: Callable[[], object]) -> None:
        """Have *wake* called, from any thread, whenever there is something new to do."""
        with self._changed:
            self._wakers.append(wake)

    def detach(self, wake: Callable[[], object]) -> None:
        """Never call *wake* again."""
        with self._changed:
            self._wakers.remove(wake)

    def plan(self, connection: Connection, order_id: int, urls_of: Iterable[str]) -> None:
        """Plan deliveries for now, in its caller's transaction; notify() once that is committed."""
        deliveries.write(connection, order_id, urls_of=urls_of, due=self._clock())

    def notify(self) -> None:
        """Wake senders and those who wait."""
        with self._changed:
            self._changed.notify_all()
            for wake in self._wakers:
                wake()

    def claim(self) -> ClaimedDelivery | None:
        """Take on what is due; None: nothing is."""
        with self._database.transaction() as connection:
            return deliveries.claim(
                connection,
                now=self._clock(),
                wall=time.time(),
                lease=self.timeout + LEASE_MARGIN_S,
                method=self._options.callback_method,
            )

    def pause(self) -> float:
        """Say for how many seconds there is nothing to do, half a second at most."""
        with self._database.transaction() as connection:
            due = deliveries.next_due(connection)
        return POLL_INTERVAL_S if due is None else min(POLL_INTERVAL_S, max(0.0, due - self._clock()))

    def finish(self, delivery: ClaimedDelivery, answer: Answer) -> None:
        """Write down what came of a delivery."""
        with self._database.transaction() as connection:
            deliveries.finish(connection, delivery, answer, now=self._clock(), interval=self._options.callback_interval)
        self.notify()

    def release(self, delivery: ClaimedDelivery) -> None:
        """Give a delivery back, not carried out."""
        with self._database.transaction() as connection:
            deliveries.release(connection, delivery)
        self.notify()

    def wait(self, order_id: int | None, *, seconds: float) -> bool:
        """Return once nothing of the order (None: of any) is due or on its way; False: it still is after *seconds*."""
        deadline = time.monotonic() + seconds
        self.notify()
        with self._changed:
            while self._has_open_delivery(order_id):
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                self._changed.wait(min(remaining, POLL_INTERVAL_S))
        return True

    def _has_open_delivery(self, order_id: int | None) -> bool:
        with self._database.transaction() as connection:
            return deliveries.is_open(connection, order_id, now=self._clock())
