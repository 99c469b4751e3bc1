"""The courier: carries callbacks out, several at once, from a thread and an event loop of its own."""

import asyncio
import logging
import sqlite3
from contextlib import ExitStack

import anyio
from anyio.from_thread import start_blocking_portal

from gatepay_async.sandbox.callback_http import call
from gatepay_async.sandbox.deliveries import Answer, Errand
from gatepay_async.sandbox.outbox import LOOK_AGAIN, Outbox

__all__ = ["Courier"]

_AT_ONCE = 16

_logger = logging.getLogger("gatepay_async.sandbox")


class Courier:
    """
    Works from start() to stop(); several may share one outbox, in one process or in many.

    Args:
        outbox: What is to be delivered.
        beyond_loopback: Whether callbacks may leave this machine.
    """

    def __init__(self, outbox: Outbox, *, beyond_loopback: bool) -> None:
        self._outbox = outbox
        self._beyond_loopback = beyond_loopback
        self._leave = ExitStack()

    def start(self) -> None:
        """Begin, in a thread of its own. Blocks until that runs."""
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal("asyncio", name="gatepay-sandbox-courier"))
            loop = portal.call(self._prepare)
            stack.callback(portal.start_task_soon(self._work).cancel)

            def wake() -> None:
                loop.call_soon_threadsafe(self._look)

            self._outbox.attach(wake)
            stack.callback(self._outbox.detach, wake)
            self._leave = stack.pop_all()

    def stop(self) -> None:
        """Break off what is under way, which is then due again, and end the thread. Blocks until it is gone."""
        self._leave.close()

    def _prepare(self) -> asyncio.AbstractEventLoop:
        self._news = asyncio.Event()
        return asyncio.get_running_loop()

    def _look(self) -> None:
        self._news.set()

    async def _work(self) -> None:
        # The slot is taken before the delivery is: what waits for a slot is still anybody's.
        slots = anyio.Semaphore(_AT_ONCE)
        async with anyio.create_task_group() as tasks:
            while True:
                await slots.acquire()
                errand = await self._next()
                tasks.start_soon(self._run, errand, slots)

    async def _next(self) -> Errand:
        while True:
            self._news.clear()
            pause = LOOK_AGAIN
            try:
                errand = self._outbox.claim()
                if errand is not None:
                    return errand
                pause = self._outbox.pause()
            except sqlite3.Error as error:  # such as a file that another program has locked
                _logger.warning("callbacks can't be read: %s", error)
            with anyio.move_on_after(pause):
                await self._news.wait()

    async def _run(self, errand: Errand, slots: anyio.Semaphore) -> None:
        answer: Answer | None = None
        try:
            answer = await call(
                errand.url, errand.body, beyond_loopback=self._beyond_loopback, timeout=self._outbox.timeout
            )
        finally:
            slots.release()
            self._note(errand, answer)

    def _note(self, errand: Errand, answer: Answer | None) -> None:
        try:
            if answer is None:  # stopped in the middle
                self._outbox.release(errand)
            else:
                self._outbox.finish(errand, answer)
                said = answer.problem or "accepted"
                _logger.debug("callback of order %d, attempt %d: %s", errand.order_id, errand.attempt, said)
        except sqlite3.Error as error:  # its claim runs out, and it is sent again
            _logger.warning("a callback's answer can't be written down: %s", error)
