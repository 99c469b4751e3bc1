"""
Who may use which connection, and when: decided here, synchronously, without I/O and without a clock.

A *slot* is the right to have one connection open. There are `limit` of them, and at any moment each is one of

    free    nobody has it and nothing is open in it        (a number, no object)
    idle    an open connection rests in it                 (a stack: the one used last is used next)
    busy    a caller has it: connecting, talking, closing  (a set)

A caller that finds neither a free nor an idle slot takes a *ticket* and waits. A slot that comes back while
somebody waits stays busy and goes straight to the oldest ticket, so nobody overtakes, and somebody waits only
while every slot is busy. Every operation costs the same, whatever the number of slots and tickets.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

Connection = TypeVar("Connection")


class Slot(Generic[Connection]):
    """
    The right to have one connection open, and that connection.

    Attributes:
        connection: None while nothing is open in it.
        kept: When the connection last came back fit to be used again, in seconds of the caller's clock.
    """

    __slots__ = ("connection", "kept")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.kept = 0.0


class Ticket(Generic[Connection]):
    """
    A place in the queue.

    Attributes:
        slot: The slot that it was given; None while it waits, and for ever if the slots were closed first.
        wake: Called with nothing, once, when `slot` has been filled in or the slots have been closed.
    """

    __slots__ = ("slot", "wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.slot: Slot[Connection] | None = None
        self.wake = wake


class Slots(Generic[Connection]):
    """
    The slots of one pool.

    Args:
        limit: How many connections may be open at once, those being opened or closed included.
        closed: None is given out at all.
    """

    __slots__ = ("_busy", "_idle", "_waiting", "closed", "limit")

    def __init__(self, limit: int, *, closed: bool = False) -> None:
        self.limit = limit
        self.closed = closed
        # A set, where a number would do: a slot that is given back twice raises KeyError instead of
        # making two slots of one.
        self._busy: set[Slot[Connection]] = set()
        # Right end: used last. Since it is pushed and popped there, the left end is the longest idle.
        self._idle: deque[Slot[Connection]] = deque()
        # Not a deque: whoever stops waiting leaves from the middle. Not a dict: finding its first key
        # gets slower with every key deleted before it.
        self._waiting: OrderedDict[Ticket[Connection], None] = OrderedDict()

    @property
    def busy(self) -> int:
        """How many slots callers have: connecting, talking, closing."""
        return len(self._busy)

    @property
    def idle(self) -> int:
        """How many open connections rest."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """How many callers wait for a slot."""
        return len(self._waiting)

    def acquire(self) -> Slot[Connection] | None:
        """
        Take the slot of the connection that was used last, or else a free one.

        Returns:
            A slot that is the caller's until `release_open()` or `release_empty()`, or None: every slot is busy, or the
            slots are closed.
        """
        if self.closed:
            return None
        if self._idle:
            slot = self._idle.pop()
        elif len(self._busy) < self.limit:
            slot = Slot[Connection]()
        else:
            return None
        self._busy.add(slot)
        return slot

    def acquire_used(self, *, kept_after: float) -> Slot[Connection] | None:
        """
        Take the slot of the connection that was used last, unless one was kept no later than *kept_after*.

        Returns:
            As `acquire`; None, too, where there is a connection to be closed first, or none to be used again.
        """
        if self.closed or not self._idle or self._idle[0].kept <= kept_after:
            return None
        slot = self._idle.pop()
        self._busy.add(slot)
        return slot

    def enqueue(self, wake: Callable[[], None]) -> Ticket[Connection]:
        """
        Wait for a slot, behind everybody who waits already.

        Args:
            wake: Called once, when there is something to see on the ticket or the slots are closed.

        Returns:
            A ticket; it must be left with `leave_queue()` unless its slot is taken up.
        """
        ticket: Ticket[Connection] = Ticket(wake)
        self._waiting[ticket] = None
        return ticket

    def leave_queue(self, ticket: Ticket[Connection]) -> Slot[Connection] | None:
        """
        Stop waiting, whatever has happened to *ticket* meanwhile.

        Returns:
            The slot that had been given to it already, if any: it is the caller's, who must pass it on with
            `release_open()` or `release_empty()`.
        """
        self._waiting.pop(ticket, None)
        slot, ticket.slot = ticket.slot, None
        return slot

    def release_open(self, slot: Slot[Connection], *, now: float) -> bool:
        """
        Give *slot* back with its connection open and fit to be used again.

        Returns:
            Whether it was kept. False once the slots are closed: close its connection, then `release_empty()` it.
        """
        if self.closed:
            return False
        slot.kept = now
        if self._waiting:
            self._hand_on(slot)
        else:
            self._busy.remove(slot)
            self._idle.append(slot)
        return True

    def release_empty(self, slot: Slot[Connection]) -> None:
        """Give *slot* back with nothing open in it."""
        slot.connection = None
        if self._waiting:
            self._hand_on(slot)
        else:
            self._busy.remove(slot)

    def acquire_idle(self, *, kept_by: float) -> Slot[Connection] | None:
        """
        Take the connection idle the longest, to close it, if it was kept no later than *kept_by*.

        Returns:
            Its slot, which is busy until `release_empty()`, or None.
        """
        if not self._idle or self._idle[0].kept > kept_by:
            return None
        slot = self._idle.popleft()
        self._busy.add(slot)
        return slot

    def close(self) -> None:
        """
        Give out no slot from now on, and wake everybody who waits.

        Busy slots come back as ever; idle ones are for `acquire_idle(kept_by=math.inf)`.
        """
        self.closed = True
        while self._waiting:
            self._waiting.popitem(last=False)[0].wake()

    def _hand_on(self, slot: Slot[Connection]) -> None:
        """Give *slot*, which stays busy, to whoever has waited longest."""
        ticket, _ = self._waiting.popitem(last=False)
        ticket.slot = slot
        ticket.wake()
