"""Waits for a slot when all are busy. The waiting callers get their turn in the order in which they came."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import httpx

from gatepay_async.pool.port import Connection, PoolClosedError, TooLateError
from gatepay_async.pool.slots import Slot, Slots, Ticket
from gatepay_async.words.problem import Problem

CLOSED: Final = Problem("client_closed")

ReturnSlot = Callable[[Slot[Connection] | None], Awaitable[None]]


async def wait(slots: Slots[Connection], seconds: float | None, return_slot: ReturnSlot) -> Slot[Connection]:
    """
    Wait for a slot on any event loop.

    Args:
        slots: The slots of the pool.
        seconds: How long to wait at most; None: no limit.
        return_slot: Releases a slot that the caller doesn't need any more.

    Raises:
        PoolClosedError: The pool was closed meanwhile.
        httpx.PoolTimeout: No slot was free within *seconds*.
    """
    turn = anyio.Event()
    ticket = slots.enqueue(turn.set)
    try:
        with anyio.move_on_after(seconds):
            await turn.wait()
    except BaseException:
        await return_slot(slots.leave_queue(ticket))  # the ticket may have got a slot before the cancellation
        raise
    slot = await _leave_queue(slots, ticket, return_slot)
    if slot is None:
        raise httpx.PoolTimeout(Problem("no_connection_free", seconds=seconds))
    return slot


async def wait_on_asyncio(
    loop: asyncio.AbstractEventLoop, slots: Slots[Connection], until: float, return_slot: ReturnSlot
) -> Slot[Connection]:
    """
    Wait for a slot on asyncio. This is much faster than `wait`.

    Args:
        loop: The running event loop.
        slots: The slots of the pool.
        until: The deadline, on the event loop's clock.
        return_slot: Releases a slot that the caller doesn't need any more.

    Raises:
        PoolClosedError: The pool was closed meanwhile.
        TooLateError: No slot was free at *until*.
    """
    turn = loop.create_future()

    def end_wait() -> None:
        if not turn.done():
            turn.set_result(None)

    ticket = slots.enqueue(end_wait)
    timer = loop.call_at(until, end_wait) if until < math.inf else None
    try:
        await turn
    except BaseException:
        await return_slot(slots.leave_queue(ticket))  # the ticket may have got a slot before the cancellation
        raise
    finally:
        if timer is not None:
            timer.cancel()
    slot = await _leave_queue(slots, ticket, return_slot)
    if slot is None:
        raise TooLateError
    return slot


async def _leave_queue(
    slots: Slots[Connection], ticket: Ticket[Connection], return_slot: ReturnSlot
) -> Slot[Connection] | None:
    """Leave the queue. Return the slot of *ticket* or None; raise `PoolClosedError` if the pool is closed."""
    slot = slots.leave_queue(ticket)
    if slots.closed:
        await return_slot(slot)
        raise PoolClosedError(CLOSED)
    return slot
