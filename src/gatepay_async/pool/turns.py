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

GiveBack = Callable[[Slot[Connection] | None], Awaitable[None]]


async def wait(slots: Slots[Connection], seconds: float | None, give_back: GiveBack) -> Slot[Connection]:
    """
    Wait for a slot on any event loop.

    Args:
        slots: The slots of the pool.
        seconds: How long to wait at most; None: no limit.
        give_back: Releases a slot that the caller doesn't need any more.

    Raises:
        PoolClosedError: The pool was closed meanwhile.
        httpx.PoolTimeout: The time is up.
    """
    turn = anyio.Event()
    ticket = slots.enqueue(turn.set)
    try:
        with anyio.move_on_after(seconds):
            await turn.wait()
    except BaseException:
        await give_back(slots.leave_queue(ticket))
        raise
    slot = await _leave(slots, ticket, give_back)
    if slot is None:
        raise httpx.PoolTimeout(Problem("no_connection_free", seconds=seconds))
    return slot


async def wait_on(
    loop: asyncio.AbstractEventLoop, slots: Slots[Connection], until: float, give_back: GiveBack
) -> Slot[Connection]:
    """
    Do the same with asyncio's own means, which cost a fraction of anyio's.

    Args:
        loop: The running event loop.
        slots: The slots of the pool.
        until: The deadline, on the event loop's clock.
        give_back: As above.

    Raises:
        PoolClosedError: The pool was closed meanwhile.
        TooLateError: The time is up.
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
        await give_back(slots.leave_queue(ticket))
        raise
    finally:
        if timer is not None:
            timer.cancel()
    slot = await _leave(slots, ticket, give_back)
    if slot is None:
        raise TooLateError
    return slot


async def _leave(slots: Slots[Connection], ticket: Ticket[Connection], give_back: GiveBack) -> Slot[Connection] | None:
    # After a cancellation, too, the ticket may have got its slot: that is why both callers give it back.
    slot = slots.leave_queue(ticket)
    if slots.closed:
        await give_back(slot)
        raise PoolClosedError(CLOSED)
    return slot
