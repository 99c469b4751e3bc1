"""The result of a delivery, reported to ``on_event`` and to the log."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

import anyio
from attrs import frozen

from gatepay_async.protocol.models import Callback
from gatepay_async.protocol.observing import Telemetry

LOGGER = logging.getLogger("gatepay_async.callbacks")

_ON_EVENT_TIMEOUT_S = 5.0  # seconds for on_event, because GatePay waits for the answer meanwhile


class EventKind(StrEnum):
    """The result of a delivery."""

    HANDLED = "handled"
    REPEATED = "repeated"
    UNDERPAID = "underpaid"
    REFUSED = "refused"
    FAILED = "failed"


@frozen
class CallbackEvent:
    """
    The result of one delivery. Holds no secret and no signature.

    Attributes:
        kind: ``handled``: the handler has returned, and the store has recorded that; answered with ``success``.
            ``repeated``: it was handled before; ``success``. ``underpaid``: it is genuine, but the customer paid less
            than ``shortfall`` allows; ``fail``, and a later callback of the same order is handled if it is paid in
            full. ``refused``: it doesn't verify, ``max_age`` doesn't allow its time, the order isn't yours or has
            another price, or the same ``order_id`` was handled before with another order number or price; ``fail``.
            ``failed``: the handler, ``lookup`` or the store failed, or took too long; ``fail``, and GatePay may retry.
        order_id: GatePay's number. None if the callback doesn't verify, because then anyone may have written it, or if
            ``max_age`` doesn't allow its time.
        out_order_id: Your order number. None in the same cases.
        error: Why the callback was refused, underpaid or failed: a ``CallbackError``, or the error that the handler,
            ``lookup`` or the store raised. None if there was no error.
    """

    kind: EventKind
    order_id: int | None = None
    out_order_id: str | None = None
    error: BaseException | None = None

    @classmethod
    def of(cls, kind: EventKind, callback: Callback, error: BaseException | None = None) -> CallbackEvent:
        """Return the event for *callback*."""
        return cls(kind, callback.order_id, callback.out_order_id, error)


OnEvent = Callable[[CallbackEvent], Awaitable[object] | object]


async def report_event(event: CallbackEvent, on_event: OnEvent | None, telemetry: Telemetry | None) -> None:
    """Log *event*, report it to *telemetry* and call *on_event*. An error of *on_event* is only logged."""
    _log_event(event)
    if telemetry is not None:
        telemetry.callback(event.kind, event.error)
    if on_event is None:
        return
    # Shielded, so that the event of a cancelled delivery is reported, too.
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
