"""What became of a delivery, reported to ``on_event`` and to the log."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

import anyio
from attrs import frozen

from gatepay_async.protocol.models import Callback

LOGGER = logging.getLogger("gatepay_async.callbacks")

_ON_EVENT_TIMEOUT_S = 5.0  # seconds for on_event: GatePay waits for its answer


class EventKind(StrEnum):
    """What became of a delivery."""

    HANDLED = "handled"
    REPEATED = "repeated"
    UNDERPAID = "underpaid"
    REFUSED = "refused"
    FAILED = "failed"


@frozen
class CallbackEvent:
    """
    What became of one delivery. Holds no secret and no signature.

    Attributes:
        kind: ``handled``: the handler has returned, and that is written down; answered with ``success``. ``repeated``:
            it was handled before; ``success``. ``underpaid``: it is genuine, and the customer paid less than the price
            by more than ``shortfall`` allows; ``fail``, and a later callback of the same order is handled if it is
            paid in full. ``refused``: it is not to be believed, or not an order of yours; ``fail``. ``failed``: the
            handler, ``lookup`` or the store failed, or took too long; ``fail``, and it may come again.
        order_id: GatePay's number; None where the callback was not believed: whoever sent it may write anything.
        out_order_id: Your number; likewise.
        error: Why it was refused, underpaid or failed: a ``CallbackError``, or what the handler, ``lookup`` or the
            store raised; else None.
    """

    kind: EventKind
    order_id: int | None = None
    out_order_id: str | None = None
    error: BaseException | None = None

    @classmethod
    def of(cls, kind: EventKind, callback: Callback, error: BaseException | None = None) -> CallbackEvent:
        """What became of *callback*."""
        return cls(kind, callback.order_id, callback.out_order_id, error)


OnEvent = Callable[[CallbackEvent], Awaitable[object] | object]


async def report_event(event: CallbackEvent, on_event: OnEvent | None) -> None:
    """Log *event*, and call *on_event*; whatever that does, the answer to GatePay stays what it is."""
    _log_event(event)
    if on_event is None:
        return
    # Shielded: an event of a delivery that was cancelled is told all the same.
    with anyio.move_on_after(_ON_EVENT_TIMEOUT_S, shield=True) as scope:
        try:
            result: Any = on_event(event)
            if inspect.isawaitable(result):
                await result
        except Exception:
            LOGGER.exception("on_event raised, at a callback that was %s", event.kind)
    if scope.cancelled_caught:
        LOGGER.error("on_event took more than %g s, at a callback that was %s", _ON_EVENT_TIMEOUT_S, event.kind)


def _log_event(event: CallbackEvent) -> None:
    if event.kind in (EventKind.REFUSED, EventKind.UNDERPAID):
        LOGGER.warning("%s (order_id %s): %s", event.kind, event.order_id, event.error)
    elif event.kind is EventKind.FAILED:
        LOGGER.error("failed: the callback of order_id %s", event.order_id, exc_info=event.error)
    else:
        LOGGER.info("%s: the callback of order_id %s", event.kind, event.order_id)
