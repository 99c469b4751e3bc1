"""The decisions of the pool: no socket, no event loop, and a clock that is an argument."""

import math
import sys
from functools import partial

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatepay_async.pool.slots import Slot, Slots, Ticket

pytestmark = [pytest.mark.fast, pytest.mark.uncounted]


def taken(slots: Slots[str]) -> Slot[str]:
    slot = slots.acquire()
    assert slot is not None
    return slot


def opened(slots: Slots[str], name: str) -> Slot[str]:
    slot = taken(slots)
    slot.connection = name
    return slot


def nothing() -> None:
    pass


def test_limit() -> None:
    """No more slots are given out than there are."""
    slots: Slots[str] = Slots(2)
    assert [slots.acquire() is None for _ in range(3)] == [False, False, True]
    assert (slots.busy, slots.idle, slots.waiting) == (2, 0, 0)


def test_last_used_first() -> None:
    """The connection that was used last is the next to be used."""
    slots: Slots[str] = Slots(3)
    first, second = opened(slots, "first"), opened(slots, "second")
    slots.release_open(second, now=1)
    slots.release_open(first, now=2)
    assert [taken(slots).connection for _ in range(3)] == ["first", "second", None]


def test_first_come_first_served() -> None:
    """A slot that comes back goes to whoever has waited longest, with its connection open."""
    slots: Slots[str] = Slots(1)
    slot = opened(slots, "only")
    woken: list[str] = []
    early = slots.enqueue(lambda: woken.append("early"))
    late = slots.enqueue(lambda: woken.append("late"))
    assert slots.release_open(slot, now=1)
    assert (woken, early.slot, late.slot, slots.idle) == (["early"], slot, None, 0)
    slots.release_empty(slot)
    assert (woken, late.slot, slot.connection, slots.waiting) == (["early", "late"], slot, None, 0)


def test_leaving_the_queue() -> None:
    """Whoever leaves is passed over, wherever they stood."""
    slots: Slots[str] = Slots(1)
    slot = opened(slots, "only")
    tickets = [slots.enqueue(nothing) for _ in range(3)]
    assert slots.leave_queue(tickets[0]) is None
    assert slots.leave_queue(tickets[1]) is None
    slots.release_open(slot, now=1)
    assert tickets[2].slot is slot


def test_leaving_with_a_slot() -> None:
    """Whoever leaves in the moment of being served holds the slot, once, and passes it on."""
    slots: Slots[str] = Slots(1)
    slot = opened(slots, "only")
    early, late = slots.enqueue(nothing), slots.enqueue(nothing)
    slots.release_open(slot, now=1)
    assert slots.leave_queue(early) is slot
    assert slots.leave_queue(early) is None
    slots.release_open(slot, now=2)
    assert late.slot is slot


def test_a_slot_given_back_twice() -> None:
    """A slot that is given back twice is an error, and doesn't become two."""
    slots: Slots[str] = Slots(1)
    slot = taken(slots)
    slots.release_empty(slot)
    with pytest.raises(KeyError):
        slots.release_empty(slot)


def test_longest_idle() -> None:
    """What has been idle for too long is found oldest first; the rest stays."""
    slots: Slots[str] = Slots(3)
    for now, slot in enumerate([opened(slots, name) for name in ("a", "b", "c")]):
        slots.release_open(slot, now=now)
    old = [slots.acquire_idle(kept_by=1) for _ in range(3)]
    assert [slot and slot.connection for slot in old] == ["a", "b", None]
    # Until they are closed they count.
    assert (slots.busy, slots.idle) == (2, 1)


def test_closing() -> None:
    """Closing wakes everybody who waits, gives nothing out any more, and keeps nothing."""
    slots: Slots[str] = Slots(1)
    slot = opened(slots, "only")
    woken: list[int] = []
    tickets = [slots.enqueue(partial(woken.append, number)) for number in range(3)]
    slots.close()
    slots.close()
    assert woken == [0, 1, 2]
    assert [ticket.slot for ticket in tickets] == [None, None, None]
    assert not slots.release_open(slot, now=1)
    slots.release_empty(slot)
    assert slots.acquire() is None
    assert (slots.busy, slots.idle, slots.waiting) == (0, 0, 0)


def test_closing_with_idle_connections() -> None:
    """After closing, the idle connections can be taken out to be closed."""
    slots: Slots[str] = Slots(2)
    slots.release_open(opened(slots, "only"), now=1)
    slots.close()
    slot = slots.acquire_idle(kept_by=math.inf)
    assert slot is not None
    slots.release_empty(slot)
    assert slots.acquire_idle(kept_by=math.inf) is None


def steps(limit: int) -> int:
    """Function calls, C's included, of a round with *limit* slots idle, and of one with as many tickets waiting."""
    slots: Slots[str] = Slots(limit)
    for slot in [opened(slots, "") for _ in range(limit)]:
        slots.release_open(slot, now=0)
    crowded: Slots[str] = Slots(limit)
    busy = [opened(crowded, "") for _ in range(limit)]
    queue = [crowded.enqueue(nothing) for _ in range(limit)]
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        slots.release_open(taken(slots), now=0)
        crowded.leave_queue(crowded.enqueue(nothing))
        crowded.release_open(busy[0], now=0)
        assert crowded.leave_queue(queue[0]) is busy[0]
    finally:
        sys.setprofile(None)
    return calls


def test_cost() -> None:
    """Choosing, queueing and returning take the same steps with ten thousand connections as with ten."""
    assert steps(10_000) == steps(10)


class AnyOrder(RuleBasedStateMachine):
    """The slots beside a model of plain lists, in whatever order callers come, go and give up."""

    LIMIT = 3

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.slots: Slots[str] = Slots(self.LIMIT)
        self.held: list[Slot[str]] = []
        self.resting: list[Slot[str]] = []
        self.queue: list[Ticket[str]] = []
        self.woken = 0
        self.expected_woken = 0

    def wake(self) -> None:
        self.woken += 1

    def served(self, slot: Slot[str]) -> bool:
        """What should follow from *slot* coming back: the oldest ticket has it."""
        if not self.queue:
            return False
        ticket = self.queue.pop(0)
        self.expected_woken += 1
        assert self.slots.leave_queue(ticket) is slot
        self.held.append(slot)
        return True

    @rule()
    def arrive(self) -> None:
        """A caller comes: the last idle one, or a new one, or the queue."""
        slot = self.slots.acquire()
        if self.slots.closed:
            assert slot is None
        elif self.resting:
            assert slot is self.resting.pop()
            self.held.append(slot)
        elif len(self.held) < self.LIMIT:
            assert slot is not None
            assert slot.connection is None
            slot.connection = "open"
            self.held.append(slot)
        else:
            assert slot is None
            self.queue.append(self.slots.enqueue(self.wake))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release_open(self, data: st.DataObject) -> None:
        """A caller is done and the connection is fit."""
        slot = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        if self.slots.release_open(slot, now=self.now):
            if not self.served(slot):
                self.resting.append(slot)
        else:
            assert self.slots.closed
            self.slots.release_empty(slot)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release_empty(self, data: st.DataObject) -> None:
        """A caller is done and the connection is not fit."""
        slot = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.slots.release_empty(slot)
        if self.served(slot):
            slot.connection = "open"

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """A caller stops waiting."""
        ticket = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        assert self.slots.leave_queue(ticket) is None

    @precondition(lambda self: self.held and self.queue)
    @rule()
    def give_up_when_served(self) -> None:
        """A caller stops waiting in the moment of being served."""
        slot = self.held.pop(0)
        self.slots.release_open(slot, now=self.now)
        self.expected_woken += 1
        assert self.slots.leave_queue(self.queue.pop(0)) is slot
        self.held.append(slot)

    @rule(age=st.integers(0, 3))
    def expire(self, age: int) -> None:
        """Somebody closes what has been idle for too long."""
        slot = self.slots.acquire_idle(kept_by=self.now - age)
        if self.resting and self.resting[0].kept <= self.now - age:
            assert slot is self.resting.pop(0)
            self.slots.release_empty(slot)
        else:
            assert slot is None

    @rule()
    def wait(self) -> None:
        """Time passes."""
        self.now += 1

    @precondition(lambda self: len(self.held) == self.LIMIT)
    @rule()
    def close(self) -> None:
        """The client is closed."""
        self.slots.close()
        self.expected_woken += len(self.queue)
        self.queue.clear()

    @invariant()
    def same(self) -> None:
        """The slots count what the model counts, and nobody waits while there is something to have."""
        assert (self.slots.busy, self.slots.idle, self.slots.waiting) == (
            len(self.held),
            len(self.resting),
            len(self.queue),
        )
        assert len(self.held) + len(self.resting) <= self.LIMIT
        assert not self.queue or len(self.held) == self.LIMIT
        assert self.woken == self.expected_woken


TestAnyOrder = AnyOrder.TestCase
