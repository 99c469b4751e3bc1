"""
Assigns connections to callers: synchronously, without I/O and without a clock.

A *slot* is the right to have one connection open. There are `limit` slots. At any moment each slot is

    free    unused, without a connection                          (not stored: `limit` minus idle and busy slots)
    idle    unused, with an open connection                       (a stack: last in, first out)
    busy    used by a caller, who connects, sends, reads, closes  (a set)

If no slot is free or idle, the caller takes a *ticket* and waits. A slot that is released while callers wait stays busy
and goes to the oldest ticket: first come, first served. So a caller waits only while every slot is busy. Every
operation takes constant time, whatever the number of slots and tickets.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

AnyConnection = TypeVar("AnyConnection")


class Slot(Generic[AnyConnection]):
    """
    The right to have one connection open, and that connection.

    Attributes:
        connection: The open connection; None before it is opened.
        released_at: When the slot was last released with an open connection, in seconds of the caller's clock.
    """

    __slots__ = ("connection", "released_at")

    def __init__(self) -> None:
        self.connection: AnyConnection | None = None
        self.released_at = 0.0


class Ticket(Generic[AnyConnection]):
    """
    A place in the queue.

    Attributes:
        slot: The slot assigned to this ticket. None before that, or if the slots were closed before that.
        wake: Called once without arguments, after `slot` was set or the slots were closed.
    """

    __slots__ = ("slot", "wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.slot: Slot[AnyConnection] | None = None
        self.wake = wake


class Slots(Generic[AnyConnection]):
    """
    The slots of one pool.

    Args:
        limit: The most connections at once, including those that are being opened or closed.
        closed: Whether to start closed: then no slot can be acquired.
    """

    __slots__ = ("_busy", "_idle", "_waiting", "closed", "limit")

    def __init__(self, limit: int, *, closed: bool = False) -> None:
        self.limit = limit
        self.closed = closed
        # A counter would be enough, but a set raises KeyError if a slot is released twice.
        self._busy: set[Slot[AnyConnection]] = set()
        # Slots are pushed and popped at the right end, so the left end has been idle the longest.
        self._idle: deque[Slot[AnyConnection]] = deque()
        # Not a deque: a caller that stops waiting is removed from the middle. Not a dict: finding its first key
        # gets slower with every key deleted before that one.
        self._waiting: OrderedDict[Ticket[AnyConnection], None] = OrderedDict()

    @property
    def busy(self) -> int:
        """The number of slots that callers use."""
        return len(self._busy)

    @property
    def idle(self) -> int:
        """The number of unused open connections."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """The number of callers that wait for a slot."""
        return len(self._waiting)

    @property
    def all_busy(self) -> bool:
        """Whether a caller has to wait for a slot."""
        return len(self._busy) >= self.limit and not self.closed

    def acquire(self) -> Slot[AnyConnection] | None:
        """
        Take the slot of the connection that was used last, or else a free one.

        Returns:
            A slot, which the caller must release with `release_open()` or `release_empty()`. None if every slot is
            busy, or the slots are closed.
        """
        if self.closed:
            return None
        if self._idle:
            slot = self._idle.pop()
        elif len(self._busy) < self.limit:
            slot = Slot[AnyConnection]()
        else:
            return None
        self._busy.add(slot)
        return slot

    def acquire_last_used(self, *, released_after: float) -> Slot[AnyConnection] | None:
        """
        Take the slot of the connection that was used last, if every idle slot was released after *released_after*.

        Returns:
            A slot, which the caller must release. None if no connection is idle, if one has expired and must be closed
            first, or if the slots are closed.
        """
        if self.closed or not self._idle or self._idle[0].released_at <= released_after:
            return None
        slot = self._idle.pop()
        self._busy.add(slot)
        return slot

    def enqueue(self, wake: Callable[[], None]) -> Ticket[AnyConnection]:
        """
        Join the end of the queue for a slot.

        Args:
            wake: Called once, after the ticket has got a slot or the slots were closed.

        Returns:
            A ticket. The caller must pass it to `leave_queue()` in the end.
        """
        ticket: Ticket[AnyConnection] = Ticket(wake)
        self._waiting[ticket] = None
        return ticket

    def leave_queue(self, ticket: Ticket[AnyConnection]) -> Slot[AnyConnection] | None:
        """
        Leave the queue, whether or not *ticket* has got a slot.

        Returns:
            The slot of the ticket, which the caller must release; or None if it has got none.
        """
        self._waiting.pop(ticket, None)
        slot, ticket.slot = ticket.slot, None
        return slot

    def release_open(self, slot: Slot[AnyConnection], *, now: float) -> bool:
        """
        Release *slot* with an open connection that can be used again.

        Returns:
            Whether the slot was released. If not, the slots are closed: close the connection, then call
            `release_empty()`.
        """
        if self.closed:
            return False
        slot.released_at = now
        if self._waiting:
            self._assign_to_next(slot)
        else:
            self._busy.remove(slot)
            self._idle.append(slot)
        return True

    def release_empty(self, slot: Slot[AnyConnection]) -> None:
        """Release *slot* after its connection was closed."""
        slot.connection = None
        if self._waiting:
            self._assign_to_next(slot)
        else:
            self._busy.remove(slot)

    def acquire_idle(self, *, released_by: float) -> Slot[AnyConnection] | None:
        """
        Take the slot that has been idle the longest, to close its connection, if it was released by *released_by*.

        Returns:
            The slot, which is busy until `release_empty()`; or None.
        """
        if not self._idle or self._idle[0].released_at > released_by:
            return None
        slot = self._idle.popleft()
        self._busy.add(slot)
        return slot

    def close(self) -> None:
        """
        Assign no more slots, and wake all waiting callers.

        Callers still release busy slots. Take the idle ones with `acquire_idle(released_by=math.inf)`.
        """
        self.closed = True
        while self._waiting:
            self._waiting.popitem(last=False)[0].wake()

    def _assign_to_next(self, slot: Slot[AnyConnection]) -> None:
        """Assign *slot*, which stays busy, to the caller that has waited longest."""
        ticket, _ = self._waiting.popitem(last=False)
        ticket.slot = slot
        ticket.wake()
