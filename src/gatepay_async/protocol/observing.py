"""How whoever sends calls is told of each attempt: what limits uploads listens, and what traces calls can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from gatepay_async.protocol.raw import Outgoing

# Called at the end of an attempt, with None if it was answered with a success, or with what it raised: one of our
# errors, another's, or a cancellation.
Ended: TypeAlias = Callable[[BaseException | None], None]


class Observer(Protocol):
    """Is called when an attempt begins. It must not raise, and keep neither the call nor the error."""

    def __call__(self, call: Outgoing, attempt: int, /) -> Ended:
        """
        Note that an attempt begins.

        Args:
            call: What is sent.
            attempt: Its number within the call, from 1.
        """
        ...
