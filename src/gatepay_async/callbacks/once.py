"""Handles each callback once: claims it, compares it with the order, calls the handler and commits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from hashlib import blake2b

import anyio
from attrs import frozen

from gatepay_async.callbacks.events import LOGGER, CallbackEvent, EventKind
from gatepay_async.callbacks.memory import MemoryStore
from gatepay_async.callbacks.store import Claim, Standing, Store
from gatepay_async.callbacks.tokens import new_token
from gatepay_async.event_loop import current_clock
from gatepay_async.protocol.callback_errors import CallbackError
from gatepay_async.protocol.models import Callback
from gatepay_async.protocol.money import is_underpaid
from gatepay_async.words.problem import Problem

Handler = Callable[[Callback], Awaitable[object]]
Lookup = Callable[[str], Awaitable[Decimal | None]]

# A lease is this much longer than the handler's time-out. Half of it is for claiming, half for committing.
_LEASE_MARGIN_S = 10.0
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.01, 0.25  # between two attempts to claim a callback that another delivery holds


@frozen
class OncePerPayment:
    """
    Calls the handler once for each payment.

    Attributes:
        handler: Handles a callback. If it returns, the callback is handled.
        store: Records handled callbacks.
        lookup: Returns the price of an order number, or None if there is no such order. None: nothing is compared.
        shortfall: How much less than the price may have been paid, in yuan.
        timeout: Seconds for *lookup* and *handler* together, and for waiting for a concurrent delivery.
    """

    handler: Handler
    store: Store
    lookup: Lookup | None
    shortfall: Decimal
    timeout: float

    async def handle(self, callback: Callback, *, shop: str) -> CallbackEvent:
        """
        Handle a verified callback, unless it was handled before. Return the event to report.

        Args:
            callback: The callback.
            shop: The appkey, because order numbers are only unique within a shop.

        Raises:
            BaseException: A cancellation, or an error of the handler that is no ``Exception``. The claim is released.
        """
        claim = Claim(
            key=f"{shop}/{callback.order_id}",
            token=new_token(),
            facts=_facts_digest(callback),
            lease=self.timeout + _LEASE_MARGIN_S,
        )
        try:
            return await self._handle_once(claim, callback)
        except Exception as error:  # noqa: BLE001 -- any error is answered with `fail`
            return CallbackEvent.of(EventKind.FAILED, callback, error)

    async def _handle_once(self, claim: Claim, callback: Callback) -> CallbackEvent:
        needs_release = True  # also if claiming is interrupted, because the claim may have been stored
        try:
            standing, handler_deadline = await self._wait_for_claim(claim)
            needs_release = standing is Standing.MINE
            if not needs_release:
                return _unclaimed_event(standing, callback)
            refusal = await self._call_handler(callback, handler_deadline)
            if refusal is not None:
                return refusal
            needs_release = False
        finally:
            if needs_release:
                await self._release(claim)
        await self._commit(claim)
        return CallbackEvent.of(EventKind.HANDLED, callback)

    async def _wait_for_claim(self, claim: Claim) -> tuple[Standing, float]:
        """
        Claim the callback. If another delivery holds it, keep trying until the time-out.

        Returns:
            The standing, and the handler's deadline, which is before the end of the lease.
        """
        clock = current_clock()
        asked_at = clock()
        deadline = asked_at + self.timeout
        pause = _FIRST_PAUSE_S
        while True:
            standing = await self._claim(claim, asked_at)
            now = clock()
            if standing is not Standing.TAKEN or now >= deadline:
                return standing, min(now + self.timeout, asked_at + claim.lease - _LEASE_MARGIN_S / 2)
            await anyio.sleep(min(pause, deadline - now))
            pause = min(2 * pause, _MAX_PAUSE_S)
            asked_at = clock()

    async def _claim(self, claim: Claim, asked_at: float) -> Standing:
        if _never_waits(self.store):  # it needs no time-out, which would make the call slower
            return await self.store.claim(claim)
        with anyio.CancelScope(deadline=asked_at + _LEASE_MARGIN_S / 2):
            return await self.store.claim(claim)
        # Reached only after the deadline: anyio then leaves the block without an error.
        raise TimeoutError("the store took too long to claim")

    async def _call_handler(self, callback: Callback, handler_deadline: float) -> CallbackEvent | None:
        """Compare the callback with the order, and call the handler. Return the event if it is refused, else None."""
        refusal = None
        with anyio.CancelScope(deadline=handler_deadline) as scope:
            refusal = await self._find_refusal(callback)
            if refusal is None:
                await self.handler(callback)
        if scope.cancelled_caught:
            raise TimeoutError(f"the handler took longer than {self.timeout:g} s")
        return refusal

    async def _find_refusal(self, callback: Callback) -> CallbackEvent | None:
        """
        Compare the callback with the shop's own record, then the amount paid with the price.

        Because of this order, an ``underpaid`` event is always about an existing order with the right price.
        """
        problem = await self._compare_with_order(callback)
        if problem is not None:
            return CallbackEvent.of(EventKind.REFUSED, callback, problem)
        if is_underpaid(callback.price, callback.realprice, shortfall=self.shortfall):
            error = CallbackError(
                field="realprice",
                problem=Problem("paid_less", realprice=str(callback.realprice), price=str(callback.price)),
            )
            return CallbackEvent.of(EventKind.UNDERPAID, callback, error)
        return None

    async def _compare_with_order(self, callback: Callback) -> CallbackError | None:
        """Return how the callback differs from what ``lookup`` returns, or None."""
        if self.lookup is None:
            return None
        price: object = await self.lookup(callback.out_order_id)
        if price is None:
            return CallbackError(field="out_order_id", problem=Problem("unknown_order"))
        if not isinstance(price, Decimal):
            raise TypeError(f"lookup must return a Decimal or None, not {type(price).__name__}")
        if price != callback.price:
            return CallbackError(field="price", problem=Problem("price_differs"))
        return None

    async def _commit(self, claim: Claim) -> None:
        """Record that the callback was handled, even if this delivery is cancelled meanwhile."""
        try:
            is_recorded = await self._commit_shielded(claim)
        except anyio.get_cancelled_exc_class():
            await self._commit_shielded(claim)  # anyio's shield doesn't stop a first Task.cancel() of asyncio
            raise
        if not is_recorded:
            raise TimeoutError("the lease ended before the handler did; another delivery may have been handled, too")

    async def _commit_shielded(self, claim: Claim) -> bool:
        if _never_waits(self.store):  # as in _claim()
            return await self.store.commit(claim)
        # Shielded: the handler has returned, and that must be recorded even if the server is stopping.
        with anyio.CancelScope(deadline=current_clock()() + _LEASE_MARGIN_S / 2, shield=True):
            return await self.store.commit(claim)
        raise TimeoutError("the store took too long to commit")

    async def _release(self, claim: Claim) -> None:
        """Release the claim, so that the next delivery can claim the callback before the lease ends."""
        with anyio.move_on_after(_LEASE_MARGIN_S / 2, shield=True):
            try:
                await self.store.release(claim)
            except Exception as error:  # noqa: BLE001 -- the result of the delivery is known already
                LOGGER.warning("a claim was not released; it expires by itself: %s", type(error).__name__)


def _facts_digest(callback: Callback) -> str:
    """Return a digest of the fields that are the same in all deliveries of a payment. ``out_order_id`` may be long."""
    return blake2b(f"{callback.price} {callback.out_order_id}".encode(), digest_size=16).hexdigest()


def _unclaimed_event(standing: Standing, callback: Callback) -> CallbackEvent:
    """Return the event for a delivery that could not claim the callback."""
    if standing is Standing.HANDLED:
        return CallbackEvent.of(EventKind.REPEATED, callback)
    if standing is Standing.CONFLICT:
        error = CallbackError(field="order_id", problem=Problem("handled_differently"))
        return CallbackEvent.of(EventKind.REFUSED, callback, error)
    timeout = TimeoutError("another delivery of this payment is still being handled")
    return CallbackEvent.of(EventKind.FAILED, callback, timeout)


def _never_waits(store: Store) -> bool:
    """Whether *store* is a MemoryStore. A subclass doesn't count, because it might wait."""
    return type(store) is MemoryStore
