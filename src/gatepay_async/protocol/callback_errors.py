"""The errors of callbacks and of return URLs: a branch of the tree in ``errors``."""

from __future__ import annotations

from gatepay_async.protocol.errors import GatePayError
from gatepay_async.words.problem import Problem


class CallbackError(GatePayError):
    """
    A callback doesn't verify: answer ``fail``, and don't deliver.

    Attributes:
        field: The field at fault, or None.
        problem: What is wrong. Never repeats a signature.
        source: ``"callback"``, or ``"return"`` for the query of the return URL.
    """

    def __init__(self, *, problem: str, field: str | None = None, source: str = "callback") -> None:
        self.field = field
        self.problem = Problem.of(problem)
        self.source = source
        super().__init__(f"{source}: {field}: {problem}" if field else f"{source}: {problem}")


class MalformedCallbackError(CallbackError):
    """A field is missing, comes twice, or has the wrong form."""


class CallbackSignatureError(CallbackError):
    """The callback was not signed for this appkey with this secret."""


class StaleCallbackError(CallbackError):
    """The callback is genuine, but older than you accept."""
