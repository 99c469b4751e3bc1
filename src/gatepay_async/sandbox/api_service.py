"""Where a call meets the database. All of it blocks; the HTTP side goes there in threads."""

from collections.abc import Callable

from attrs import define, frozen

from gatepay_async.sandbox import orders
from gatepay_async.sandbox.database import Database
from gatepay_async.sandbox.endpoint import CallContext, Endpoint, Form
from gatepay_async.sandbox.events import Outcome
from gatepay_async.sandbox.options import Options

__all__ = ["ApiService", "Paging"]


@define
class Paging:
    """How many rows a page of card keys has."""

    per_page: int


@frozen(kw_only=True)
class ApiService:
    """
    One sandbox's database with its habits.

    Attributes:
        clock: Epoch seconds.
        paging: Its `per_page`, which may change at any time.
    """

    database: Database
    clock: Callable[[], float]
    paging: Paging
    options: Options

    def serve(self, endpoint: Endpoint, form: Form, outcome: Outcome, *, origin: str) -> object:
        """
        Carry out one call.

        Args:
            endpoint: Which.
            form: Its fields as they came.
            outcome: Where what becomes of it is written down.
            origin: Scheme, host and port, for the payment page's address.

        Returns:
            What ``data`` holds on success.

        Raises:
            RefusedError: Nothing was written.
        """
        now = self.clock()
        with self.database.transaction() as connection:
            orders.expire_overdue(connection, now=now)
            context = CallContext(
                connection=connection,
                now=int(now),
                origin=origin,
                per_page=self.paging.per_page,
                expires=None if self.options.expires_after is None else now + self.options.expires_after,
                options=self.options,
                outcome=outcome,
            )
            return endpoint.answer(context, form)
