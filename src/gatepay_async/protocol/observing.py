"""The protocol ``Observer``, which is called at the start and the end of each attempt. Uploads use it to set limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from gatepay_async.protocol.raw import Outgoing

# Called at the end of an attempt: with None after a success, or with the exception, which may be a cancellation.
Ended: TypeAlias = Callable[[BaseException | None], None]


class Observer(Protocol):
    """Called when an attempt begins. It must not raise, and must not keep the call or the error."""

    def __call__(self, call: Outgoing, attempt: int, /) -> Ended:
        """
        Record that an attempt begins.

        Args:
            call: The call.
            attempt: The number of the attempt within the call, from 1.

        Returns:
            A function to call at the end of the attempt.
        """
        ...
