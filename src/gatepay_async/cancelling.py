"""
Finds out whether a cancellation is meant for this task.

Awaiting another task that was cancelled also raises ``CancelledError``, although this task was not cancelled. If that
error isn't caught, an anyio task group takes it for a cancellation, and ends silently with its work undone.
"""

from __future__ import annotations

import anyio

from gatepay_async.event_loop import current_asyncio_task
from gatepay_async.protocol.errors import GatePayError


class CancellationWatch:
    """Detects whether the task that created this object was cancelled afterwards."""

    def __init__(self) -> None:
        self._requests_before = _count_cancel_requests()

    @staticmethod
    def is_cancellation(error: BaseException) -> bool:
        """Whether *error* is the event loop's cancellation exception."""
        return isinstance(error, anyio.get_cancelled_exc_class())

    def task_was_cancelled(self) -> bool:
        """Whether this task, or a cancel scope around it, was cancelled since this object was created."""
        return (
            _count_cancel_requests() > self._requests_before
            or anyio.current_effective_deadline() <= anyio.current_time()
        )


def stray_cancellation(where: str) -> GatePayError:
    """Return the error to raise for a cancellation that isn't meant for this task."""
    return GatePayError(
        f"{where} raised a cancellation, but this call was not cancelled: it is not finished. "
        f"If you await a task there that may be cancelled, catch its CancelledError"
    )


def is_task_cancelled() -> bool:
    """
    Whether this task was cancelled. Call this only after a cancellation exception.

    On trio, the exception is proof enough. On asyncio, awaiting another task or a future that was cancelled raises the
    same ``CancelledError``.
    """
    task = current_asyncio_task()
    return task is None or task.cancelling() > 0


def _count_cancel_requests() -> int:
    """Return the number of cancellation requests of this asyncio task. On trio, only scopes cancel: return 0."""
    task = current_asyncio_task()
    return 0 if task is None else task.cancelling()
