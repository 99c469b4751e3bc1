"""What every endpoint is made of: the call, the sandbox's side of it, and how it ends."""

import re
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable

from attrs import frozen

from gatepay_async.sandbox.events import Outcome
from gatepay_async.sandbox.options import Options
from gatepay_async.sandbox.refusals import Cause, Refusals

__all__ = ["CallContext", "Endpoint", "Form", "Json", "RefusedError", "is_positive", "require"]

Form = dict[str, str]

_NUMBER = re.compile(r"[0-9]{1,19}")
_MAX_INTEGER = 2**63 - 1  # SQLite's


class Json(str):
    """A value that is written as JSON already: Python writes no number the way PHP does."""

    __slots__ = ()


class RefusedError(Exception):
    """
    The call is refused; what it wrote is rolled back. The endpoint's table makes a number of the cause.

    Args:
        cause: Why.
        field: The name of the field at fault, or of those that are signed; never a value.
    """

    def __init__(self, cause: Cause, field: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.field = field


@frozen(kw_only=True)
class CallContext:
    """
    What one call is carried out with: the open transaction, the times, the address, the sandbox's habits.

    Attributes:
        outcome: For those who watch.
    """

    connection: sqlite3.Connection
    now: int
    origin: str
    per_page: int
    expires: float | None
    options: Options
    outcome: Outcome


@frozen(kw_only=True)
class Endpoint(ABC):
    """
    One row of facts.

    Attributes:
        path: Below ``/api/``.
        method: ``POST``, a form in the body; or ``GET``, the same in the query.
        signed: The fields under the signature, in order, the appkey left out.
        refusals: The endpoint's table of codes.
        carry_out: Does it, for the owner of a right signature; gives ``data`` or raises RefusedError.
    """

    path: str
    method: str = "POST"
    signed: tuple[str, ...]
    refusals: Refusals
    carry_out: Callable[[CallContext, int, Form], object]

    def answer(self, context: CallContext, form: Form) -> object:
        """
        Take one call through all its checks and do it.

        Returns:
            What ``data`` holds on success.

        Raises:
            RefusedError: With the first cause found.
        """
        return self.carry_out(context, self.admit(context, form), form)

    @property
    def signed_text(self) -> str:
        """What is signed, in order, for people."""
        return " + ".join(("appkey", *self.signed))

    @abstractmethod
    def admit(self, context: CallContext, form: Form) -> int:
        """
        Check all that can be checked before the call's own business; gives the caller's admin id.

        Raises:
            RefusedError: With the first cause found.
        """


def require(condition: bool, cause: Cause, field: str = "") -> None:  # noqa: FBT001 -- a gate's condition reads best in place
    """
    Refuse the call unless *condition* holds; *field* is the name of what is at fault.

    Raises:
        RefusedError: It does not.
    """
    if not condition:
        raise RefusedError(cause, field)


def is_positive(text: str) -> bool:
    """Say whether *text* is a whole number above 0, in digits."""
    return _NUMBER.fullmatch(text) is not None and 0 < int(text) <= _MAX_INTEGER
