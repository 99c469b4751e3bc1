"""Where a call meets the database. All of it blocks; the HTTP side goes there in threads."""

from collections.abc import Callable

from attrs import define, frozen

from gatepay_async.sandbox.database import Database
from gatepay_async.sandbox.endpoints import CallContext, Endpoint, Form
from gatepay_async.sandbox.prices import PhpFloats

__all__ = ["ApiService", "Paging"]


@define
class Paging:
    """How many rows a page of card keys has."""

    per_page: int


@frozen(kw_only=True)
class ApiService:
    """
    One shop's database with the shop's habits.

    Attributes:
        clock: Epoch seconds.
        past_last_page: How a page past the last one is answered.
        paging: Its `per_page`, which may change at any time.
        case_insensitive_keys: Whether ``abc`` is ``ABC``.
        expires_after: How long an order is to be paid, in seconds; None: for ever.
        php_floats: How an order's price is written, where PHP multiplies it as a float; None: exactly.
    """

    database: Database
    clock: Callable[[], float]
    past_last_page: str
    paging: Paging
    case_insensitive_keys: bool
    expires_after: float | None
    php_floats: PhpFloats | None

    def serve(self, endpoint: Endpoint, form: Form, *, origin: str) -> object:
        """
        Carry out one call.

        Args:
            endpoint: Which.
            form: Its fields as they came.
            origin: Scheme, host and port, for the payment page's address.

        Returns:
            What ``data`` holds on success.

        Raises:
            RefusedError: Nothing was written.
        """
        now = self.clock()
        with self.database.transaction() as connection:
            context = CallContext(
                connection=connection,
                now=int(now),
                origin=origin,
                past_last_page=self.past_last_page,
                per_page=self.paging.per_page,
                case_insensitive_keys=self.case_insensitive_keys,
                expires=None if self.expires_after is None else now + self.expires_after,
                php_floats=self.php_floats,
            )
            return endpoint.answer(context, form)
