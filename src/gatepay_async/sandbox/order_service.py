"""``OrderService``, with which ``Sandbox`` and the pages pay, expire and confirm orders. All methods block."""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from decimal import Decimal
from sqlite3 import Connection

from attrs import frozen

from gatepay_async.sandbox import card_keys, deliveries, orders, shops
from gatepay_async.sandbox.arguments import check_amount
from gatepay_async.sandbox.database import SandboxDatabase
from gatepay_async.sandbox.deliveries import Delivery
from gatepay_async.sandbox.options import Options
from gatepay_async.sandbox.orders import Order
from gatepay_async.sandbox.outbox import Outbox
from gatepay_async.sandbox.shops import ShopState
from gatepay_async.sandbox.signed_queries import return_query, with_query

__all__ = ["NoCallbackError", "OrderService"]


class NoCallbackError(ValueError):
    """No callback can be sent: the order is not paid, there is no URL to call, or the shop was removed."""


@frozen(kw_only=True)
class OrderService:
    """
    Changes the orders of one database.

    Attributes:
        database: Holds the orders.
        clock: Returns the sandbox's time, in epoch seconds.
        outbox: The queue of callbacks.
        options: The sandbox's switches.
    """

    database: SandboxDatabase
    clock: Callable[[], float]
    outbox: Outbox
    options: Options

    def find(self, order_id: int) -> Order:
        """
        Return the order with that number.

        Raises:
            LookupError: No order has that number.
        """
        with self.open() as (connection, _):
            return orders.get(connection, order_id)

    def list_orders(self) -> list[Order]:
        """Return all orders, oldest first."""
        with self.open() as (connection, _):
            return orders.list_orders(connection)

    def pay(self, order_id: int, *, realprice: Decimal | None = None) -> Order:
        """
        Pay as the customer.

        A pending order becomes ``paid``: its card keys are sold, and its callback is planned. For an expired order, the
        payment is only recorded, as the vendor's FAQ says. A second payment changes nothing.

        Raises:
            LookupError: No order has that number.
            InvalidArgumentError: *realprice* can't be paid.
        """
        if realprice is not None:
            check_amount("realprice", realprice)
        with self.open() as (connection, now):
            order = orders.get(connection, order_id)
            amount = order.price if realprice is None else realprice
            if order.state == "pending":
                self._mark_paid(connection, order, amount, now)
            elif order.paid_at is None:
                orders.record_late_payment(connection, order_id, realprice=amount, now=now)
        self.outbox.notify()
        return self.find(order_id)

    def confirm(self, order_id: int) -> Order:
        """
        Confirm the payment as the merchant. The order becomes paid, whatever its state is.

        Raises:
            LookupError: No order has that number.
        """
        with self.open() as (connection, now):
            order = orders.get(connection, order_id)
            if order.state != "paid":
                self._mark_paid(connection, order, order.price, now)
        self.outbox.notify()
        return self.find(order_id)

    def _mark_paid(self, connection: Connection, order: Order, amount: Decimal, now: float) -> None:
        """Record the payment, sell the card keys, and plan the callback."""
        orders.record_payment(connection, order.order_id, realprice=amount, now=now)
        for product_id, quantity in order.items:
            card_keys.sell(connection, product_id, order.order_id, quantity)
        self.outbox.plan(connection, order.order_id, self.callback_urls(connection, order))

    def expire(self, order_id: int) -> Order:
        """
        Make a pending order expire now. Any other order stays as it is.

        Raises:
            LookupError: No order has that number.
        """
        with self.open() as (connection, now):
            orders.get(connection, order_id)
            orders.expire(connection, order_id, now=now)
        return self.find(order_id)

    def send_again(self, order_id: int) -> None:
        """
        Send the callback of a paid order again, with up to four attempts. An attempt that is still waiting is replaced.

        Raises:
            LookupError: No order has that number.
            NoCallbackError: The order is not paid, or neither it nor its shop has a callback URL, or its shop was
                removed.
        """
        with self.open() as (connection, _):
            order = orders.get(connection, order_id)
            if order.state != "paid":
                raise NoCallbackError(f"order {order_id} is {order.state}: only paid orders have a callback")
            urls = self.callback_urls(connection, order)
            if not urls:
                raise NoCallbackError(_why_no_url(order_id, shops.find_shop(connection, order.admin_id)))
            self.outbox.plan(connection, order_id, urls)
        self.outbox.notify()

    def callback_urls(self, connection: Connection, order: Order) -> dict[str, str]:
        """Return the URLs to call when *order* is paid. The keys are the owners of the URLs: ``order`` or ``shop``."""
        shop = shops.find_shop(connection, order.admin_id)
        return deliveries.urls_of(order, shop, notify_both=self.options.notify_both)

    def return_url(self, connection: Connection, order: Order) -> str | None:
        """Return the URL to which the customer's browser goes after an accepted callback; None: no URL."""
        shop = shops.find_shop(connection, order.admin_id)
        return None if shop is None else order.return_url or shop.return_url

    def next_url(self, connection: Connection, order: Order, order_deliveries: Iterable[Delivery]) -> str | None:
        """
        Return the URL to which the customer's browser goes now; None: the browser stays on the page.

        After the shop has answered a callback with ``success``, this is the return URL with its signed query. After the
        order has expired, it is the shop's URL for expired orders.
        """
        shop = shops.find_shop(connection, order.admin_id)
        if shop is None:
            return None
        if order.shown_state == "expired":
            return shop.expired_url
        url = order.return_url or shop.return_url
        if url is None or not any(delivery.state == "accepted" for delivery in order_deliveries):
            return None
        credentials = shops.account_of(connection, order.admin_id).credentials
        return with_query(url, return_query(order, credentials, with_product_id=self.options.return_product_id))

    @contextmanager
    def open(self) -> Generator[tuple[Connection, float], None, None]:
        """Open a transaction in which overdue orders have expired. Yields the connection and the sandbox's time."""
        now = self.clock()
        with self.database.transaction() as connection:
            orders.expire_overdue(connection, now=now)
            yield connection, now


def _why_no_url(order_id: int, shop: ShopState | None) -> str:
    """Return the message of ``NoCallbackError`` for an order that has no URL to call."""
    if shop is None:
        return f"the shop of order {order_id} was removed: no callback is sent"
    return (
        f"order {order_id} has no notify_url, and its shop has no callback URL; "
        "set one with change_shop(callback_url=…)"
    )
