"""The common parts of all endpoints: the context of a call, the base class, and refusals."""

import re
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable

from attrs import frozen

from gatepay_async.sandbox.events import CallOutcome
from gatepay_async.sandbox.options import Options
from gatepay_async.sandbox.refusals import Cause, Refusals

__all__ = ["CallContext", "CallRefusedError", "Endpoint", "FormFields", "RawJson", "is_positive", "require"]

FormFields = dict[str, str]  # the fields of a call: text by name

_NUMBER = re.compile(r"[0-9]{1,19}")
_MAX_INTEGER = 2**63 - 1  # SQLite's largest integer


class RawJson(str):
    """A value that is already encoded as JSON. Used for prices, because PHP formats numbers differently from Python."""

    __slots__ = ()


class CallRefusedError(Exception):
    """
    The call is refused, and its changes are rolled back. The endpoint's table maps the cause to a code.

    Args:
        cause: Why the call is refused.
        field: The name of the field at fault; for a wrong signature, the names of the signed fields. Never a value.
    """

    def __init__(self, cause: Cause, field: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.field = field


@frozen(kw_only=True)
class CallContext:
    """
    The data that an endpoint needs to execute a call.

    Attributes:
        connection: The open transaction.
        now: The sandbox's time, in epoch seconds.
        origin: Scheme, host and port of the sandbox.
        per_page: The page size of ``ka/show``.
        expires: When an order of this call expires; None: never.
        options: The sandbox's switches.
        outcome: Records facts about the call, for events.
    """

    connection: sqlite3.Connection
    now: int
    origin: str
    per_page: int
    expires: float | None
    options: Options
    outcome: CallOutcome


@frozen(kw_only=True)
class Endpoint(ABC):
    """
    The description of an endpoint.

    Attributes:
        path: The path below ``/api/``.
        method: ``POST``: the fields are a form in the body. ``GET``: they are in the query.
        signed: The signed fields, in order, without the appkey.
        refusals: The endpoint's table of codes.
        carry_out: Carries out a call whose signature is valid. It gets the context, the number of the shop's
            owner (GatePay's ``admin_id``) and the fields, and returns ``data`` or raises CallRefusedError.
    """

    path: str
    method: str = "POST"
    signed: tuple[str, ...]
    refusals: Refusals
    carry_out: Callable[[CallContext, int, FormFields], object]

    def answer(self, context: CallContext, form: FormFields) -> object:
        """
        Check a call, and carry it out.

        Returns:
            The value of ``data`` in the reply.

        Raises:
            CallRefusedError: A check failed, or the call can't be carried out.
        """
        return self.carry_out(context, self.authenticate(context, form), form)

    @property
    def signed_names(self) -> str:
        """The names of the signed fields, in order, for messages."""
        return " + ".join(("appkey", *self.signed))

    @abstractmethod
    def authenticate(self, context: CallContext, form: FormFields) -> int:
        """
        Check fields, signature and shop. Return the number of the shop's owner (``admin_id``).

        Raises:
            CallRefusedError: A check failed.
        """


def require(condition: bool, cause: Cause, field: str = "") -> None:  # noqa: FBT001 -- as with assert, the condition comes first
    """
    Refuse the call unless *condition* is true. *field* is the name of the field at fault.

    Raises:
        CallRefusedError: *condition* is false.
    """
    if not condition:
        raise CallRefusedError(cause, field)


def is_positive(text: str) -> bool:
    """Return whether *text* is a whole number above 0, written in digits."""
    return _NUMBER.fullmatch(text) is not None and 0 < int(text) <= _MAX_INTEGER
