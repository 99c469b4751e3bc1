"""The errors of callbacks and of return URLs: a branch of the tree in ``errors``."""

from __future__ import annotations

from gatepay_async.protocol.errors import GatePayError
from gatepay_async.words.problem import Problem


class CallbackError(GatePayError):
    """
    A callback must not be accepted: answer ``fail``, and don't deliver.

    It doesn't verify, or it is genuine but too old (``StaleCallbackError``). ``CallbackApp`` also reports this error if
    the callback differs from your record or is underpaid. ``AsyncGatePay.parse_return`` raises it for the query of a
    return URL that doesn't verify.

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
    """The callback is genuine, but older than you accept, or more than 300 seconds in the future."""
