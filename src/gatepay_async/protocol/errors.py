"""
Every error of this package: one tree, a branch for each one who can be at fault.

::

    GatePayError
    ├── InvalidRequestError (a ValueError)    you: the call can't be right; nothing was sent
    ├── RefusedError                          GatePay said no; one class for each cause:
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
    ├── ProtocolError                         whoever answered doesn't speak GatePay's protocol
    ├── TransportError                        nobody answered
    │   └── DeadlineExceededError             … before the call's deadline
    ├── OutcomeUnknownError                   a call that must not be sent twice may have been done
    ├── CallbackError                         whoever called back is not to be believed
    │   ├── MalformedCallbackError                a field is missing, doubled or in another form
    │   ├── CallbackSignatureError                not signed with your secret
    │   └── StaleCallbackError                    signed, but too old
    └── UploadIncomplete                      some keys of an upload are not known to be stored; in bulk

Errors carry data and write their own sentence. None holds the secret, a signature or a card key,
and every one survives pickling. What is wrong, ``.problem``, is a ``str`` with a ``.name`` and ``.facts`` for programs.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

from gatepay_async.words.problem import Problem

E = TypeVar("E", bound="GatePayError")


def _rebuild(cls: type[E], args: tuple[object, ...], facts: dict[str, Any]) -> E:
    error = cls.__new__(cls, *args)
    error.__dict__.update(facts)
    if "problem" in facts:  # a plain text, if an older version has pickled it
        error.__dict__["problem"] = Problem.of(facts["problem"])
    return error


class GatePayError(Exception):
    """The root: whatever this package raises of its own accord is one of these."""

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are pickled by calling the class with `args`; ours take keywords.
        return _rebuild, (type(self), self.args, self.__dict__)


class InvalidRequestError(GatePayError, ValueError):
    """
    The call can't be right; nothing has been sent.

    Attributes:
        field: The parameter at fault, by its name (``"product_num"``).
        problem: What is wrong with it. Never repeats a value that may be secret.
    """

    def __init__(self, *, field: str, problem: str) -> None:
        self.field = field
        self.problem = Problem.of(problem)
        super().__init__(f"{field}: {problem}")


class RefusedError(GatePayError):
    """
    GatePay answered, and said no. A number that the vendor's tables lack is a plain ``RefusedError``.

    Attributes:
        code: The number, whose meaning depends on the endpoint; the class says what it means.
        message: GatePay's own words, as sent, except that what looks like a secret is masked (card keys, signatures,
            order numbers), control characters are escaped, and 200 characters are the most.
        endpoint: ``"pay/create"`` and so on.
        time: When GatePay says it answered (aware, UTC), or None where that can't be read.
        attempts: How often the call was sent.
        in_doubt: An earlier attempt of the same call broke off and may have been carried out.
        cause: Why, in a sentence of the catalogue; empty in an error that you build yourself.
        remedy: What to do, likewise. ``catalogue.explain(error, "zh")`` has both in Chinese.
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
        said = f" ({message})" if message else ""
        why = ": " + " ".join(filter(None, (cause, remedy))) if cause or remedy else ""
        super().__init__(f"{endpoint} refused with {code}{said}{why}")


class MissingParameterError(RefusedError):
    """A required field was not sent."""


class InvalidPayTypeError(RefusedError):
    """The way to pay is none that GatePay knows."""


class SingleItemOnlyError(RefusedError):
    """WeChat pays for one item at a time."""


class InvalidProductError(RefusedError):
    """The product number has not the form of one."""


class InvalidQuantityError(RefusedError):
    """The quantity must be above 0."""


class ProductNotFoundError(RefusedError):
    """The shop has no such product."""


class ShopNotFoundError(RefusedError):
    """GatePay doesn't find the shop."""


class InvalidAppKeyError(RefusedError):
    """The appkey is not one of GatePay's."""


class SignatureRejectedError(RefusedError):
    """GatePay computed another signature."""


class OutOfStockError(RefusedError):
    """Fewer card keys are left than were asked for."""


class QuotaExceededError(RefusedError):
    """The shop's quota for the day is used up."""


class LicenceExpiredError(RefusedError):
    """The shop's licence has expired."""


class EndpointClosedError(RefusedError):
    """GatePay has closed the endpoint for this shop."""


class InvalidPageError(RefusedError):
    """The page number is not one."""


class DuplicateKeysError(RefusedError):
    """The same card key stands twice in one call."""


class EmptyContentError(RefusedError):
    """GatePay found no card key in the content."""


class TooManyKeysError(RefusedError):
    """More than 500 card keys in one call."""


class AlreadyStoredError(RefusedError):
    """Every card key of the call is on the server already: nothing was stored, nothing is lost."""


class StorageFailedError(RefusedError):
    """GatePay's database refused the card keys: nothing was stored."""


class NoPayTypeAvailableError(RefusedError):
    """The shop has no way of receiving money that could be used for this payment."""


class OrderFailedError(RefusedError):
    """GatePay could not make the order."""


class UnknownFailureError(RefusedError):
    """GatePay failed for a reason that it doesn't know itself."""


class OrderNotFoundError(RefusedError):
    """GatePay finds no order with this ``out_order_id``."""


class InvalidPriceError(RefusedError):
    """GatePay doesn't accept the price."""


class PayTypeClosedError(RefusedError):
    """The shop has closed this way to pay."""


class ProductUnavailableError(RefusedError):
    """The product can't be bought."""


class UnexpectedParameterError(RefusedError):
    """GatePay doesn't allow a parameter that was sent."""


class CallbackUrlMissingError(RefusedError):
    """The shop has not entered the URLs in GatePay's console."""


class AppKeyExpiredError(RefusedError):
    """The appkey has expired."""


class NotAnAgentError(RefusedError):
    """The shop's owner is no agent of GatePay's."""


class ProtocolError(GatePayError):
    """
    The reply is not GatePay's: HTML, cut JSON, another shape, a redirect.

    Attributes:
        endpoint: ``"ka/show"`` and so on.
        http_status: The reply's HTTP status.
        problem: What is wrong with the reply.
        path: Where, when the reply is JSON (``"data.ka.data[3].id"``), else None.
        excerpt: What the reply looks like; it describes and never quotes: content type, length, the title of a web
            page, the names of JSON fields with the kinds of their values (``{code: int, data: {order_price: text}}``).
        retry_after: Seconds that the server asked to be left alone for, or None.
        attempts: How often the call was sent.
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
        wait = "" if retry_after is None else f"; it asks to be left alone for {retry_after:g} s"
        shown = f": {excerpt}" if excerpt else ""
        super().__init__(f"{endpoint} (HTTP {http_status}): {where}{problem}{wait}{shown}")

    @property
    def may_have_been_done(self) -> bool:
        """
        Whether the call may have been carried out all the same.

        HTTP's 3xx and 4xx say that it was not, except where a gateway has given up waiting, and where the reply itself
        says "success".
        """
        if (self.path, self.problem.name) == ("code", "says_success"):
            return True
        return not 300 <= self.http_status < 500 or self.http_status in (408, 499)  # noqa: PLR2004 -- HTTP's own lines


class TransportError(GatePayError):
    """
    Nobody answered: no connection, a connection that broke, or no whole reply within ``timeout``.

    Attributes:
        endpoint: ``"ka/create"`` and so on.
        sent: False if no byte of the request has left in any attempt, so that it can't have been
            carried out; True if it may have been.
        attempts: How often the call was tried.
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
        return f"{self.endpoint}: nobody answered: {self.problem} ({tries}; {left})"


class DeadlineExceededError(TransportError):
    """The call's ``deadline`` has passed, waits and retries included."""


class OutcomeUnknownError(GatePayError):
    """
    A call that must not be sent twice broke off: the order may have been made, or not.

    Don't send it again. ``settle(error)`` asks GatePay with ``check_order``: if it finds the order, it was made. If
    not, look for it in GatePay's console. Its callback, should the customer pay, settles it too.

    After ``send_raw``, any call that the caller did not call repeatable: it may have been carried out, or not.

    Attributes:
        endpoint: ``"pay/create"`` and so on.
        out_order_id: Your order number, as sent; empty after ``send_raw``.
        attempts: How often the call was tried (only the last attempt can have arrived).
    """

    def __init__(self, *, endpoint: str, out_order_id: str, attempts: int = 1) -> None:
        self.endpoint = endpoint
        self.out_order_id = out_order_id
        self.attempts = attempts
        super().__init__(
            f"{endpoint}: the call may have been carried out, or not. Find out before you send it again."
            if not out_order_id
            else f"{endpoint}: the order {out_order_id!r} may have been made, or not. Don't send it again: ask "
            f"check_order({out_order_id!r}) first. If GatePay finds no order, look in its console. If you can't wait, "
            f"let this order go and make another under a new out_order_id; should the customer pay the first, its "
            f"callback will tell.",
        )
