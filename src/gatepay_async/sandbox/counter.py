"""The counter: where a call meets the database. All of it blocks; the HTTP side goes there in threads."""

from collections.abc import Callable

from attrs import frozen

from gatepay_async.sandbox import orders
from gatepay_async.sandbox.database import Database
from gatepay_async.sandbox.endpoints import Desk, Endpoint, Form

__all__ = ["Counter"]


@frozen(kw_only=True)
class Counter:
    """
    One shop's database with the shop's habits.

    Attributes:
        clock: Epoch seconds.
        clamp_pages: Whether a page past the last is answered with the last.
        case_insensitive_keys: Whether ``abc`` is ``ABC``.
    """

    database: Database
    clock: Callable[[], float]
    clamp_pages: bool
    case_insensitive_keys: bool

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
        with self.database.transaction() as connection:
            desk = Desk(
                connection=connection,
                now=int(self.clock()),
                origin=origin,
                clamp_pages=self.clamp_pages,
                case_insensitive_keys=self.case_insensitive_keys,
            )
            return endpoint.answer(desk, form)

    def order_page(self, page_id: str) -> str | None:
        """Say in one line how the order with that payment page stands; None: there is none."""
        with self.database.transaction() as connection:
            order = orders.find_page(connection, page_id)
        return None if order is None else f"order {order.order_id}: {order.state}, {order.price} yuan"
