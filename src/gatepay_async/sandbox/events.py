"""The events that ``Sandbox.watch`` reports: calls and callbacks."""

from collections.abc import Callable
from typing import TypeAlias

from attrs import define, frozen

__all__ = ["OUTCOME", "CallEvent", "CallOutcome", "DeliveryEvent", "SandboxEvent", "Watcher"]

OUTCOME = "gatepay_async.sandbox.outcome"  # the key of the CallOutcome in the ASGI scope of a call


@frozen(kw_only=True)
class CallEvent:
    """
    A call that has ended. It contains no signatures and no card keys.

    Attributes:
        at: When the call arrived, in epoch seconds.
        endpoint: The endpoint, such as ``ka/create``.
        milliseconds: How long it took until the last byte was sent.
        code: The code of the reply, such as 100; None: a fault prevented the reply, or it was no valid call.
        message: The vendor's text for the code; empty: there is no code.
        reason: Why it was refused, as a :class:`~gatepay_async.sandbox.refusals.Cause`; empty: it was not refused.
        field: The name of the field at fault, or empty.
        fault: The kind of the injected fault, or empty.
        out_order_id: The shop's order number, if the call has one.
        card_keys: How many card keys it stored or listed; None: it is not about card keys.
    """

    at: float
    endpoint: str
    milliseconds: float
    code: int | None = None
    message: str = ""
    reason: str = ""
    field: str = ""
    fault: str = ""
    out_order_id: str = ""
    card_keys: int | None = None


@frozen(kw_only=True)
class DeliveryEvent:
    """
    A callback that was sent.

    Attributes:
        at: When the answer arrived or the attempt failed, in epoch seconds.
        order_id: The order that was paid.
        attempt: From 1 to 4.
        status: The HTTP status of the answer; None: no answer.
        answer: The first line of the answer, up to 40 characters; None: no answer.
        problem: Why it failed, such as ``not_success`` or ``connection``; None: it was accepted.
    """

    at: float
    order_id: int
    attempt: int
    status: int | None
    answer: str | None
    problem: str | None


SandboxEvent: TypeAlias = CallEvent | DeliveryEvent
Watcher: TypeAlias = Callable[[SandboxEvent], object]


@define
class CallOutcome:
    """The facts about a call, collected while it is handled. The fields are those of CallEvent."""

    code: int | None = None
    message: str = ""
    reason: str = ""
    field: str = ""
    out_order_id: str = ""
    card_keys: int | None = None
