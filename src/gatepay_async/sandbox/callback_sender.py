"""Sends callbacks concurrently, on an event loop in its own thread."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack

import anyio
from anyio.from_thread import start_blocking_portal

from gatepay_async.sandbox.callback_http import call
from gatepay_async.sandbox.deliveries import Answer, ClaimedDelivery
from gatepay_async.sandbox.events import DeliveryEvent
from gatepay_async.sandbox.outbox import POLL_INTERVAL_S, Outbox

__all__ = ["CallbackSender"]

MAX_CONCURRENT = 16  # deliveries
_ANSWER_CHARS = 40  # of an answer, in an event

LOGGER = logging.getLogger("gatepay_async.sandbox")


class CallbackSender:
    """
    Sends the callbacks of an outbox between start() and stop().

    Several senders, also in other processes, may share one outbox.

    Args:
        outbox: Holds the deliveries.
        beyond_loopback: Whether callbacks may go to other machines.
        now: Returns the sandbox's time, in epoch seconds.
        notify: Called with each callback after it was sent.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        beyond_loopback: bool,
        now: Callable[[], float],
        notify: Callable[[DeliveryEvent], object],
    ) -> None:
        self._outbox = outbox
        self._now = now
        self._notify = notify
        self._beyond_loopback = beyond_loopback
        self._stack = ExitStack()

    def start(self) -> None:
        """Start the thread. Blocks until it runs."""
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal("asyncio", name="gatepay-sandbox-callbacks"))
            loop = portal.call(self._make_wake_event)
            stack.callback(portal.start_task_soon(self._deliver_all).cancel)

            def wake() -> None:
                loop.call_soon_threadsafe(self._wake_sender)

            self._outbox.attach(wake)
            stack.callback(self._outbox.detach, wake)
            self._stack = stack.pop_all()

    def stop(self) -> None:
        """Cancel deliveries in progress, which are then due again, and end the thread. Blocks until it has ended."""
        self._stack.close()

    def _make_wake_event(self) -> asyncio.AbstractEventLoop:
        """Create the event in the thread that waits for it, and return its event loop."""
        self._wake_event = asyncio.Event()
        return asyncio.get_running_loop()

    def _wake_sender(self) -> None:
        self._wake_event.set()

    async def _deliver_all(self) -> None:
        """Send callbacks as they become due, until the task is cancelled."""
        # Acquire a slot before claiming. Otherwise, a claimed delivery would wait here for a slot, and no other sender
        # could claim it.
        slots = anyio.Semaphore(MAX_CONCURRENT)
        async with anyio.create_task_group() as tasks:
            while True:
                await slots.acquire()
                delivery = await self._claim_next()
                tasks.start_soon(self._deliver, delivery, slots)

    async def _claim_next(self) -> ClaimedDelivery:
        """Wait until a delivery is due, and claim it."""
        while True:
            self._wake_event.clear()
            pause = POLL_INTERVAL_S
            try:
                delivery = self._outbox.claim()
                if delivery is not None:
                    return delivery
                pause = self._outbox.seconds_until_due()
            except sqlite3.Error as error:  # for example, another program has locked the file
                LOGGER.warning("callbacks can't be read: %s", error)
            with anyio.move_on_after(pause):
                await self._wake_event.wait()

    async def _deliver(self, delivery: ClaimedDelivery, slots: anyio.Semaphore) -> None:
        """Send a claimed callback, and store the answer."""
        answer: Answer | None = None
        try:
            answer = await call(
                delivery.url, delivery.body, beyond_loopback=self._beyond_loopback, timeout=self._outbox.timeout
            )
        finally:
            slots.release()
            self._record_answer(delivery, answer)

    def _record_answer(self, delivery: ClaimedDelivery, answer: Answer | None) -> None:
        """Store the answer, and report it. If there is none, release the delivery, so that it is due again."""
        try:
            if answer is None:  # cancelled by stop()
                self._outbox.release(delivery)
            else:
                # Notify before finish(), which wakes wait_delivered(): its caller expects that the event was sent.
                self._notify(_event(delivery, answer, self._now()))
                outcome = answer.problem or "accepted"
                LOGGER.debug("callback of order %d, attempt %d: %s", delivery.order_id, delivery.attempt, outcome)
                self._outbox.finish(delivery, answer)
        except sqlite3.Error as error:  # the claim expires, and the callback is sent again
            LOGGER.warning("a callback's answer can't be stored: %s", error)


def _event(delivery: ClaimedDelivery, answer: Answer, now: float) -> DeliveryEvent:
    first_line = None if answer.text is None else "".join(answer.text.splitlines()[:1])[:_ANSWER_CHARS]
    return DeliveryEvent(
        at=now,
        order_id=delivery.order_id,
        attempt=delivery.attempt,
        status=answer.status,
        answer=first_line,
        problem=answer.problem,
    )
