"""Assigning slots to callers, without I/O: the time is an argument."""

import math
import sys
from functools import partial

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatepay_async.pool.slots import Slot, Slots, Ticket

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]


def acquire(slots: Slots[str]) -> Slot[str]:
    slot = slots.acquire()
    assert slot is not None
    return slot


def acquire_open(slots: Slots[str], name: str) -> Slot[str]:
    slot = acquire(slots)
    slot.connection = name
    return slot


def do_nothing() -> None:
    pass


def test_no_more_slots_than_the_limit() -> None:
    slots: Slots[str] = Slots(2)
    assert [slots.acquire() is None for _ in range(3)] == [False, False, True]
    assert (slots.busy, slots.idle, slots.waiting) == (2, 0, 0)


def test_most_recently_used_connection_is_used_next() -> None:
    slots: Slots[str] = Slots(3)
    first, second = acquire_open(slots, "first"), acquire_open(slots, "second")
    slots.release_open(second, now=1)
    slots.release_open(first, now=2)
    assert [acquire(slots).connection for _ in range(3)] == ["first", "second", None]


def test_released_slot_goes_to_the_oldest_ticket() -> None:
    """A released slot goes to the caller that has waited longest, with its open connection."""
    slots: Slots[str] = Slots(1)
    slot = acquire_open(slots, "only")
    woken: list[str] = []
    early = slots.enqueue(lambda: woken.append("early"))
    late = slots.enqueue(lambda: woken.append("late"))
    assert slots.release_open(slot, now=1)
    assert (woken, early.slot, late.slot, slots.idle) == (["early"], slot, None, 0)
    slots.release_empty(slot)
    assert (woken, late.slot, slot.connection, slots.waiting) == (["early", "late"], slot, None, 0)


def test_caller_that_left_the_queue_gets_no_slot() -> None:
    slots: Slots[str] = Slots(1)
    slot = acquire_open(slots, "only")
    tickets = [slots.enqueue(do_nothing) for _ in range(3)]
    assert slots.leave_queue(tickets[0]) is None
    assert slots.leave_queue(tickets[1]) is None
    slots.release_open(slot, now=1)
    assert tickets[2].slot is slot


def test_leaving_returns_the_assigned_slot_once() -> None:
    """A caller that leaves after a slot was assigned gets that slot once, and has to release it."""
    slots: Slots[str] = Slots(1)
    slot = acquire_open(slots, "only")
    early, late = slots.enqueue(do_nothing), slots.enqueue(do_nothing)
    slots.release_open(slot, now=1)
    assert slots.leave_queue(early) is slot
    assert slots.leave_queue(early) is None
    slots.release_open(slot, now=2)
    assert late.slot is slot


def test_releasing_twice_raises() -> None:
    """Releasing a slot twice raises KeyError, and doesn't add a slot."""
    slots: Slots[str] = Slots(1)
    slot = acquire(slots)
    slots.release_empty(slot)
    with pytest.raises(KeyError):
        slots.release_empty(slot)


def test_acquire_idle_takes_the_oldest_first() -> None:
    """``acquire_idle`` takes slots that were released at the given time or before, oldest first."""
    slots: Slots[str] = Slots(3)
    for now, slot in enumerate([acquire_open(slots, name) for name in ("a", "b", "c")]):
        slots.release_open(slot, now=now)
    old = [slots.acquire_idle(released_by=1) for _ in range(3)]
    assert [slot and slot.connection for slot in old] == ["a", "b", None]
    # They count as busy until they are released.
    assert (slots.busy, slots.idle) == (2, 1)


def test_closing_wakes_all_waiting_callers() -> None:
    """Closing wakes all waiting callers. Afterwards no slot is assigned or kept."""
    slots: Slots[str] = Slots(1)
    slot = acquire_open(slots, "only")
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


def test_idle_slots_can_be_acquired_after_closing() -> None:
    """After closing, idle slots can be acquired so that their connections can be closed."""
    slots: Slots[str] = Slots(2)
    slots.release_open(acquire_open(slots, "only"), now=1)
    slots.close()
    slot = slots.acquire_idle(released_by=math.inf)
    assert slot is not None
    slots.release_empty(slot)
    assert slots.acquire_idle(released_by=math.inf) is None


def count_function_calls(limit: int) -> int:
    """Count the function calls of three operations with *limit* idle slots, or with *limit* waiting tickets."""
    slots: Slots[str] = Slots(limit)
    for slot in [acquire_open(slots, "") for _ in range(limit)]:
        slots.release_open(slot, now=0)
    all_busy: Slots[str] = Slots(limit)
    busy = [acquire_open(all_busy, "") for _ in range(limit)]
    queue = [all_busy.enqueue(do_nothing) for _ in range(limit)]
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        slots.release_open(acquire(slots), now=0)
        all_busy.leave_queue(all_busy.enqueue(do_nothing))
        all_busy.release_open(busy[0], now=0)
        assert all_busy.leave_queue(queue[0]) is busy[0]
    finally:
        sys.setprofile(None)
    return calls


def test_cost_does_not_grow_with_the_limit() -> None:
    """Acquiring, queueing and releasing cost the same with 10,000 slots as with 10."""
    assert count_function_calls(10_000) == count_function_calls(10)


class SlotsMachine(RuleBasedStateMachine):
    """Compares the slots with a model of plain lists, for random sequences of operations."""

    LIMIT = 3

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.slots: Slots[str] = Slots(self.LIMIT)
        self.held: list[Slot[str]] = []
        self.idle: list[Slot[str]] = []
        self.queue: list[Ticket[str]] = []
        self.woken = 0
        self.expected_woken = 0

    def wake(self) -> None:
        self.woken += 1

    def expect_assignment(self, slot: Slot[str]) -> bool:
        """Expect that the released *slot* was assigned to the oldest ticket. Return whether there was one."""
        if not self.queue:
            return False
        ticket = self.queue.pop(0)
        self.expected_woken += 1
        assert self.slots.leave_queue(ticket) is slot
        self.held.append(slot)
        return True

    @rule()
    def arrive(self) -> None:
        """A caller acquires the last idle slot or a new one, or joins the queue."""
        slot = self.slots.acquire()
        if self.slots.closed:
            assert slot is None
        elif self.idle:
            assert slot is self.idle.pop()
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
        """A caller releases its slot with a connection that can be reused."""
        slot = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        if self.slots.release_open(slot, now=self.now):
            if not self.expect_assignment(slot):
                self.idle.append(slot)
        else:
            assert self.slots.closed
            self.slots.release_empty(slot)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release_empty(self, data: st.DataObject) -> None:
        """A caller releases its slot without a connection."""
        slot = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.slots.release_empty(slot)
        if self.expect_assignment(slot):
            slot.connection = "open"

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def stop_waiting(self, data: st.DataObject) -> None:
        """A waiting caller leaves the queue."""
        ticket = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        assert self.slots.leave_queue(ticket) is None

    @precondition(lambda self: self.held and self.queue)
    @rule()
    def stop_waiting_with_a_slot(self) -> None:
        """A waiting caller leaves the queue after it was assigned a slot."""
        slot = self.held.pop(0)
        self.slots.release_open(slot, now=self.now)
        self.expected_woken += 1
        assert self.slots.leave_queue(self.queue.pop(0)) is slot
        self.held.append(slot)

    @rule(age=st.integers(0, 3))
    def expire(self, age: int) -> None:
        """A caller closes the connection that has been idle longest, if it has been idle for *age* seconds or more."""
        slot = self.slots.acquire_idle(released_by=self.now - age)
        if self.idle and self.idle[0].released_at <= self.now - age:
            assert slot is self.idle.pop(0)
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
        """The pool is closed."""
        self.slots.close()
        self.expected_woken += len(self.queue)
        self.queue.clear()

    @invariant()
    def equals_the_model(self) -> None:
        """The counts are those of the model, and callers wait only if all slots are busy."""
        assert (self.slots.busy, self.slots.idle, self.slots.waiting) == (
            len(self.held),
            len(self.idle),
            len(self.queue),
        )
        assert len(self.held) + len(self.idle) <= self.LIMIT
        assert not self.queue or len(self.held) == self.LIMIT
        assert self.woken == self.expected_woken


TestSlotsMachine = SlotsMachine.TestCase
