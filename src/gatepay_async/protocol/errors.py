"""
All errors of this package, as one tree. The branch says whose fault an error is.

::

    GatePayError
    ├── InvalidRequestError (a ValueError)    an argument is invalid; nothing was sent
    ├── RefusedError                          GatePay refused the call; one class for each cause:
    │   ├── MissingParameterError                 InvalidPayTypeError       SingleItemOnlyError
    │   ├── InvalidProductError                   InvalidQuantityError      ProductNotFoundError
    │   ├── ShopNotFoundError                     InvalidAppKeyError        SignatureRejectedError
    │   ├── OutOfStockError                       QuotaExceededError        LicenceExpiredError
    │   ├── EndpointClosedError                   InvalidPageError          DuplicateKeysError
    │   ├── EmptyContentError                     TooManyKeysError          AlreadyStoredError
    │   ├── StorageFailedError                    NoPayTypeAvailableError   OrderFailedError
    │   ├── UnknownFailureError                   OrderNotFoundError        InvalidPriceError
    │   ├── PayTypeClosedError                    ProductUnavailableError   UnexpectedParameterError
    │   └── CallbackUrlMissingError               AppKeyExpiredError        NotAnAgentError
    ├── ProtocolError                         the reply is not GatePay's
    ├── TransportError                        no reply came
    │   └── DeadlineExceededError                 before the call's deadline
    ├── OutcomeUnknownError                   a call that must not be sent twice may have been carried out
    ├── CallbackError                         a callback must not be accepted
    │   ├── MalformedCallbackError                a field is missing, comes twice or has the wrong form
    │   ├── CallbackSignatureError                not signed with your secret
    │   └── StaleCallbackError                    signed, but too old
    └── UploadIncomplete                      some card keys of an upload are not known to be stored; see ``bulk``

An error has attributes, from which its message is built. No message holds the appsecret, a signature or a card key.
All errors can be pickled. ``.problem`` says what is wrong. It is a ``str`` with a ``.name`` and ``.facts`` for
programs.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

from gatepay_async.words.arguments import InvalidArgumentError
from gatepay_async.words.problem import Problem

E = TypeVar("E", bound="GatePayError")


def _rebuild(cls: type[E], args: tuple[object, ...], facts: dict[str, Any] | None = None) -> E:
    """Create a pickled error anew. Earlier versions have pickled its attributes as *facts*, with a text as problem."""
    error = cls.__new__(cls, *args)
    error.__dict__.update(facts or {})
    if facts and "problem" in facts:
        error.__dict__["problem"] = Problem.of(facts["problem"])
    return error


class GatePayError(Exception):
    """
    The base class of all errors of this package.

    Attributes:
        problem: What is wrong: a text that also has a ``.name`` and ``.facts`` for programs.
    """

    problem: Problem = Problem("unexpected")

    def __reduce__(self) -> tuple[object, ...]:
        # By default, unpickling calls the class with `args`, but our classes take keyword arguments. The attributes are
        # the state, which may refer to the error itself: `.report` has chunks with the error that ended the upload.
        return _rebuild, (type(self), self.args), self.__dict__


class InvalidRequestError(GatePayError, InvalidArgumentError):
    """
    An argument is invalid. Nothing was sent.

    Attributes:
        field: The name of the parameter at fault, such as ``"product_num"``.
        problem: What is wrong with it. Never repeats a value that may be secret.
    """


class RefusedError(GatePayError):
    """
    GatePay refused the call. An undocumented code is a plain ``RefusedError``.

    Attributes:
        code: The code of the reply. Its meaning depends on the endpoint; the class of the error stands for it.
        message: GatePay's own message, at most 200 characters. What looks like a secret (card keys, signatures, order
            numbers) is masked, and control characters are escaped.
        endpoint: The endpoint, such as ``"pay/create"``.
        time: The time in GatePay's reply (in UTC), or None if it can't be read.
        attempts: How many attempts the call took.
        in_doubt: An earlier attempt of the same call got no reply, and may have been carried out.
        cause: Why it was refused, from the catalogue; empty in an error that you build yourself.
        remedy: What to do, also from the catalogue. ``catalogue.explain(error, "zh")`` has both in Chinese.
    """

    def __init__(
        self,
        *,
        code: int,
        message: str,
        endpoint: str,
        time: datetime | None = None,
        attempts: int = 1,
        in_doubt: bool = False,
        cause: str = "",
        remedy: str = "",
    ) -> None:
        self.code = code
        self.message = message
        self.endpoint = endpoint
        self.time = time
        self.attempts = attempts
        self.in_doubt = in_doubt
        self.cause = cause
        self.remedy = remedy
        quoted = f" ({message})" if message else ""
        explanation = ": " + " ".join(filter(None, (cause, remedy))) if cause or remedy else ""
        super().__init__(f"{endpoint} refused with {code}{quoted}{explanation}")

    @property
    def problem(self) -> Problem:  # type: ignore[override]  # built from the other attributes, so it can't be set
        """The code and GatePay's message. ``cause`` says what they mean."""
        if not self.message:
            return Problem("refused", code=self.code)
        return Problem("refused_with_message", code=self.code, message=self.message)


class MissingParameterError(RefusedError):
    """A required field was not sent."""


class InvalidPayTypeError(RefusedError):
    """GatePay doesn't know the payment type."""


class SingleItemOnlyError(RefusedError):
    """WeChat payments are for a single item."""


class InvalidProductError(RefusedError):
    """The product number is invalid."""


class InvalidQuantityError(RefusedError):
    """The quantity must be above 0."""


class ProductNotFoundError(RefusedError):
    """The shop has no such product."""


class ShopNotFoundError(RefusedError):
    """GatePay doesn't find the shop."""


class InvalidAppKeyError(RefusedError):
    """GatePay doesn't know the appkey."""


class SignatureRejectedError(RefusedError):
    """GatePay computed another signature."""


class OutOfStockError(RefusedError):
    """The order is for more card keys than are in stock."""


class QuotaExceededError(RefusedError):
    """The shop's quota for the day is used up."""


class LicenceExpiredError(RefusedError):
    """The shop's licence has expired."""


class EndpointClosedError(RefusedError):
    """GatePay has closed the endpoint for this shop."""


class InvalidPageError(RefusedError):
    """The page number is invalid, or beyond the last page."""


class DuplicateKeysError(RefusedError):
    """The same card key is in one call twice."""


class EmptyContentError(RefusedError):
    """GatePay found no card key in the content."""


class TooManyKeysError(RefusedError):
    """More than 500 card keys in one call."""


class AlreadyStoredError(RefusedError):
    """All card keys of the call are on the server already. Nothing was stored, and nothing is lost."""


class StorageFailedError(RefusedError):
    """GatePay's database refused the card keys. Nothing was stored."""


class NoPayTypeAvailableError(RefusedError):
    """The shop has no payment type that could be used for this payment."""


class OrderFailedError(RefusedError):
    """GatePay could not create the order."""


class UnknownFailureError(RefusedError):
    """GatePay failed, and gives no reason."""


class OrderNotFoundError(RefusedError):
    """GatePay has no order with this ``out_order_id``."""


class InvalidPriceError(RefusedError):
    """GatePay doesn't accept the price."""


class PayTypeClosedError(RefusedError):
    """The shop has closed this payment type."""


class ProductUnavailableError(RefusedError):
    """The product can't be bought."""


class UnexpectedParameterError(RefusedError):
    """GatePay doesn't allow a parameter that was sent."""


class CallbackUrlMissingError(RefusedError):
    """The shop has not entered its callback URL, or its return URL, in GatePay's console."""


class AppKeyExpiredError(RefusedError):
    """The appkey has expired."""


class NotAnAgentError(RefusedError):
    """The shop's owner is not a GatePay agent."""


class ProtocolError(GatePayError):
    """
    The reply is not GatePay's: it is HTML, a redirect, truncated JSON, or JSON with another structure.

    Attributes:
        endpoint: The endpoint, such as ``"ka/show"``.
        http_status: The HTTP status of the reply.
        problem: What is wrong with the reply.
        path: The field at fault if the reply is JSON, such as ``"data.ka.data[3].id"``; else None.
        excerpt: A description of the reply without quotes from it: content type, length, the title of a web page, or
            the names and types of JSON fields, such as ``{code: int, data: {order_price: text}}``.
        retry_after: The seconds after which the server asks to retry, or None.
        attempts: How many attempts the call took.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        http_status: int,
        problem: str,
        path: str | None = None,
        excerpt: str = "",
        retry_after: float | None = None,
        attempts: int = 1,
    ) -> None:
        self.endpoint = endpoint
        self.http_status = http_status
        self.problem = Problem.of(problem)
        self.path = path
        self.excerpt = excerpt
        self.retry_after = retry_after
        self.attempts = attempts
        where = f"{path} " if path else ""
        wait = "" if retry_after is None else f"; the server asks to retry after {retry_after:g} s"
        shown = f": {excerpt}" if excerpt else ""
        super().__init__(f"{endpoint} (HTTP {http_status}): {where}{problem}{wait}{shown}")

    @property
    def may_have_been_done(self) -> bool:
        """
        Whether the call may have been carried out in spite of this reply.

        A status 3xx or 4xx means that it wasn't, unless a gateway timed out, or the reply itself says "success".
        """
        if (self.path, self.problem.name) == ("code", "says_success"):
            return True
        return not 300 <= self.http_status < 500 or self.http_status in (408, 499)  # noqa: PLR2004 -- HTTP's classes


class TransportError(GatePayError):
    """
    No reply came: there was no connection, the connection broke, or the reply wasn't complete within ``timeout``.

    Attributes:
        endpoint: The endpoint, such as ``"ka/create"``.
        sent: False: no byte of the request has left in any attempt, so the call was not carried out. True: it may have
            been carried out.
        attempts: How many attempts the call took.
        problem: What happened.
    """

    def __init__(self, *, endpoint: str, sent: bool, problem: str, attempts: int = 1) -> None:
        self.endpoint = endpoint
        self.sent = sent
        self.problem = Problem.of(problem)
        self.attempts = attempts
        super().__init__(problem)

    def __str__(self) -> str:
        tries = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        left = "the request may have arrived" if self.sent else "no byte of the request has left"
        return f"{self.endpoint}: no reply: {self.problem} ({tries}; {left})"


class DeadlineExceededError(TransportError):
    """The call's ``deadline`` has passed. It includes waits and retries."""


class OutcomeUnknownError(GatePayError):
    """
    A call that must not be sent twice got no reply: the order may or may not have been created.

    Don't send it again. ``settle(error)`` asks GatePay with ``check_order``: if the order is found, it was created. If
    not, look for it in GatePay's console. If the customer pays it, its callback also shows that it was created.

    ``send_raw`` raises this for calls that are not marked as repeatable: they may or may not have been carried out.

    Attributes:
        endpoint: The endpoint, such as ``"pay/create"``.
        out_order_id: Your order number, as sent; empty after ``send_raw``.
        attempts: How many attempts the call took. Only the last one can have arrived.
    """

    def __init__(self, *, endpoint: str, out_order_id: str, attempts: int = 1) -> None:
        self.endpoint = endpoint
        self.out_order_id = out_order_id
        self.attempts = attempts
        super().__init__(
            f"{endpoint}: the call may or may not have been carried out. Find out before you send it again."
            if not out_order_id
            else f"{endpoint}: the order {out_order_id!r} may or may not have been created. Don't send it again: call "
            f"check_order({out_order_id!r}) first. If GatePay finds no order, look in its console. If you can't wait, "
            f"abandon this order and create another with a new out_order_id. If the customer pays the first one, you "
            f"still get its callback.",
        )

    @property
    def problem(self) -> Problem:  # type: ignore[override]  # built from the other attributes, so it can't be set
        """What is unknown."""
        if not self.out_order_id:
            return Problem("call_unknown")
        return Problem("order_unknown", out_order_id=self.out_order_id)
