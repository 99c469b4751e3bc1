"""The branch of the tree of errors for what calls back: callbacks, and browsers that return."""

from __future__ import annotations

from gatepay_async.protocol.errors import GatePayError
from gatepay_async.words.problem import Problem


class CallbackError(GatePayError):
    """
    A callback is not to be believed: answer ``fail``, and give no goods.

    Attributes:
        field: The field at fault, where there is one.
        problem: What is wrong. Never repeats a signature.
        source: ``"callback"``, or ``"return"``: the query that a customer's browser came back with.
    """

    def __init__(self, *, problem: str, field: str | None = None, source: str = "callback") -> None:
        self.field = field
        self.problem = Problem.of(problem)
        self.source = source
        super().__init__(f"{source}: {field}: {problem}" if field else f"{source}: {problem}")


class MalformedCallbackError(CallbackError):
    """A field is missing, comes twice, or has not its exact form."""


class CallbackSignatureError(CallbackError):
    """It was not signed for this appkey with this secret."""


class StaleCallbackError(CallbackError):
    """It is genuine, but older than you accept."""
