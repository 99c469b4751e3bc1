"""What the sandbox tells whoever watches it: each call with how it ended, and each callback."""

from collections.abc import Callable
from typing import TypeAlias

from attrs import define, frozen

__all__ = ["OUTCOME", "CallEvent", "CallbackEvent", "Outcome", "SandboxEvent", "Watcher"]

OUTCOME = "gatepay_async.sandbox.outcome"  # where an Outcome is in the scope of a call


@frozen(kw_only=True)
class CallEvent:
    """
    A call that has ended. Nothing secret is in it: no signature, no card key.

    Attributes:
        at: When it came; epoch seconds.
        endpoint: Such as ``ka/create``.
        milliseconds: How long it took, until the last byte was written.
        code: What it was answered, such as 100; None: a fault came before there was an answer, or it was no call.
        message: The vendor's text for the code; empty: there is no code.
        reason: Why it was refused, one word: see :class:`~gatepay_async.sandbox.refusals.Cause`; empty: it was not.
        field: The field at fault, where it is known.
        fault: The kind of the fault that struck, or empty.
        out_order_id: The shop's order number, of a call that has one.
        card_keys: How many card keys it stored or listed; None: it is about none.
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
class CallbackEvent:
    """
    A callback that was sent.

    Attributes:
        at: When the answer was there, or the failure; epoch seconds.
        order_id: Whose payment it tells of.
        attempt: 1 for the first, to 4.
        status: The answer's HTTP status; None: no answer.
        answer: The answer's first line, up to 40 characters; None: no answer.
        problem: Why it failed, one word such as ``not_success`` or ``connection``; None: it was accepted.
    """

    at: float
    order_id: int
    attempt: int
    status: int | None
    answer: str | None
    problem: str | None


SandboxEvent: TypeAlias = CallEvent | CallbackEvent
Watcher: TypeAlias = Callable[[SandboxEvent], object]


@define
class Outcome:
    """What becomes of a call, written down on its way; the fields are those of CallEvent."""

    code: int | None = None
    message: str = ""
    reason: str = ""
    field: str = ""
    out_order_id: str = ""
    card_keys: int | None = None
