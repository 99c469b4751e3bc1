"""What many callers want done, done together by one thread: while it does some, the next ones gather."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

import anyio
from anyio.lowlevel import current_token
from attrs import define, field

T = TypeVar("T")

_IDLE_S = 2.0  # seconds after which a thread that has nothing to do ends


@define(eq=False)
class Job(Generic[T]):
    """
    What one caller wants.

    Attributes:
        wish: What it is.
        given_up: Nobody waits for it any more.
        result: What came of it.
        error: Why nothing did.
        told: Whether the caller was woken.
        loop: Where the caller waits, for `done`.
    """

    wish: T
    given_up: bool = False
    result: Any = None
    error: BaseException | None = None
    told: bool = False
    done: anyio.Event = field(factory=anyio.Event)
    loop: Any = field(factory=lambda: current_token().native_token)


def tell(jobs: Iterable[Job[T]]) -> None:
    """Wake the callers, from any thread, each once; one whose event loop has ended is gone."""
    by_loop: dict[Any, list[Job[T]]] = {}
    for job in jobs:
        if job.told:
            continue
        job.told = True
        by_loop.setdefault(job.loop, []).append(job)
    for loop, theirs in by_loop.items():
        post = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon  # asyncio's, trio's
        with suppress(RuntimeError):
            post(_set_done, theirs)


def _set_done(jobs: Iterable[Job[T]]) -> None:
    for job in jobs:
        job.done.set()


class Together(Generic[T]):
    """
    Carries out wishes in a thread of its own, all that wait at once; it ends when nothing has come for a while.

    Args:
        carry_out: Does the jobs, in order, and gives each its result or its error, or raises: that is the error of all.
            It may `tell` some of them early.
    """

    def __init__(self, carry_out: Callable[[Sequence[Job[T]]], None]) -> None:
        self._carry_out = carry_out
        self._waiting: list[Job[T]] = []
        self._changed = threading.Condition()
        self._is_running = False

    async def do(self, wish: T) -> Any:
        """
        Have *wish* carried out after all that were there before it. Cancelled, it may be carried out yet.

        Raises:
            BaseException: The job's error.
        """
        job = Job(wish)
        with self._changed:
            if not self._is_running:
                threading.Thread(target=self._work_until_idle, name="gatepay callbacks", daemon=True).start()
                self._is_running = True
            self._waiting.append(job)
            self._changed.notify()
        try:
            await job.done.wait()
        except BaseException:
            job.given_up = True
            raise
        if job.error is not None:
            raise job.error
        return job.result

    def _work_until_idle(self) -> None:
        while jobs := self._next_jobs():
            try:
                self._carry_out(jobs)
            except BaseException as error:  # noqa: BLE001 -- it is told to those who wait
                for job in jobs:
                    if not job.told:
                        job.error = copy.copy(error)
            tell(jobs)

    def _next_jobs(self) -> list[Job[T]]:
        """All that wait; none: nothing came for a while, and the thread ends."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting), _IDLE_S)
            jobs, self._waiting = self._waiting, []
            self._is_running = bool(jobs)
            return jobs
