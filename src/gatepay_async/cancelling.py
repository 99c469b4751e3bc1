"""
Whose a cancellation is.

``CancelledError`` also comes out of a task that is awaited and was cancelled by somebody else. Nobody has cancelled us
then, and a task group of anyio's would end in silence, with its work undone.
"""

from __future__ import annotations

import asyncio

import anyio
import sniffio

from gatepay_async.protocol.errors import GatePayError


class CancellationWatch:
    """Made in a task, and asked in it later: was this task cancelled since?"""

    def __init__(self) -> None:
        self._before = _count_cancel_requests()

    @staticmethod
    def is_cancellation(error: BaseException) -> bool:
        """Whether *error* is what the event loop cancels with."""
        return isinstance(error, anyio.get_cancelled_exc_class())

    def is_ours(self) -> bool:
        """Whether somebody has cancelled this task, or a scope around it."""
        return _count_cancel_requests() > self._before or anyio.current_effective_deadline() <= anyio.current_time()


def stray_cancellation(where: str) -> GatePayError:
    """What a cancellation that nobody asked for is raised as."""
    return GatePayError(
        f"a cancellation came out of {where}, and nobody had cancelled this call: it is not finished. "
        f"If you await a task that may be cancelled, catch its CancelledError there"
    )


def _count_cancel_requests() -> int:
    """How many cancellations of this task asyncio has noted; on trio only scopes cancel."""
    if sniffio.current_async_library() != "asyncio":
        return 0
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
