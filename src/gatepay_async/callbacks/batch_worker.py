"""A worker thread that carries out requests in batches: requests made during one batch form the next."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from attrs import define, field

from gatepay_async.event_loop import Signal, current_loop, new_signal

T = TypeVar("T")

_IDLE_TIMEOUT_S = 2.0  # a thread that gets no request for so long ends


@define(eq=False)
class Pending(Generic[T]):
    """
    A request of one caller.

    Attributes:
        request: What to do.
        abandoned: Whether the caller was cancelled.
        result: The result, once there is one.
        error: The error that the caller raises, or None.
        woken: Whether the caller was woken.
        done: Set when the caller may continue.
        loop: The event loop of the caller.
    """

    request: T
    abandoned: bool = False
    result: Any = None
    error: BaseException | None = None
    woken: bool = False
    done: Signal = field(factory=new_signal)
    loop: Any = field(factory=current_loop)


def wake_callers(batch: Iterable[Pending[T]]) -> None:
    """Wake the callers that are not woken yet, from any thread."""
    by_loop: dict[Any, list[Pending[T]]] = {}
    for pending in batch:
        if pending.woken:
            continue
        pending.woken = True
        by_loop.setdefault(pending.loop, []).append(pending)
    for loop, callers in by_loop.items():
        call_soon = getattr(loop, "call_soon_threadsafe", None) or loop.native_token.run_sync_soon  # asyncio, trio
        with suppress(RuntimeError):  # the event loop has ended, and its callers with it
            call_soon(_set_done, callers)


def _set_done(batch: Iterable[Pending[T]]) -> None:
    for pending in batch:
        pending.done.set()


class BatchWorker(Generic[T]):
    """
    Carries out requests in its own thread, all waiting requests as one batch. A thread that is idle for a while ends.

    Args:
        carry_out: Carries out a batch in order, and sets the result or the error of each request. If it raises, all
            requests get that error. It may call ``wake_callers`` for some of them early.
    """

    def __init__(self, carry_out: Callable[[Sequence[Pending[T]]], None]) -> None:
        self._carry_out = carry_out
        self._waiting: list[Pending[T]] = []
        self._changed = threading.Condition()
        self._is_running = False

    async def do(self, request: T) -> Any:
        """
        Carry out *request* after all earlier ones, and return its result.

        If this call is cancelled, the request may still be carried out.

        Raises:
            BaseException: The error of the request.
        """
        pending = Pending(request)
        with self._changed:
            if not self._is_running:
                threading.Thread(target=self._work_until_idle, name="gatepay callbacks", daemon=True).start()
                self._is_running = True
            self._waiting.append(pending)
            self._changed.notify()
        try:
            await pending.done.wait()
        except BaseException:
            pending.abandoned = True
            raise
        if pending.error is not None:
            raise pending.error
        return pending.result

    def _work_until_idle(self) -> None:
        while batch := self._next_batch():
            try:
                self._carry_out(batch)
            except BaseException as error:  # noqa: BLE001 -- each waiting caller raises a copy
                for pending in batch:
                    if not pending.woken:
                        pending.error = copy.copy(error)
            wake_callers(batch)

    def _next_batch(self) -> list[Pending[T]]:
        """Return all waiting requests. If none arrives for a while, return an empty list: then the thread ends."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting), _IDLE_TIMEOUT_S)
            batch, self._waiting = self._waiting, []
            self._is_running = bool(batch)
            return batch
