"""A sandbox's orders and their callbacks, for Python."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

from anyio import to_thread

from gatepay_async.sandbox import deliveries
from gatepay_async.sandbox.deliveries import Delivery
from gatepay_async.sandbox.options import Options
from gatepay_async.sandbox.order_service import OrderService
from gatepay_async.sandbox.orders import Order
from gatepay_async.sandbox.outbox import Outbox
from gatepay_async.sandbox.shop_controls import ShopControls
from gatepay_async.sandbox.shops import ShopAccount
from gatepay_async.sandbox.signed_queries import callback_query, return_query

__all__ = ["OrderControls"]


class OrderControls(ShopControls):
    """What a test does with orders and callbacks: a part of :class:`~gatepay_async.sandbox.Sandbox`."""

    def __init__(
        self,
        database: str | Path,
        options: Options,
        *,
        seed: bool,
        callback_url: str | None,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(database, options, seed=seed, callback_url=callback_url, clock=clock)
        self._outbox = Outbox(self._database, clock=clock, options=options)
        self._order_service = OrderService(database=self._database, clock=clock, outbox=self._outbox, options=options)

    def orders(self) -> list[Order]:
        """Give all orders of both shops, oldest first. One ``out_order_id`` twice: the call came twice."""
        return self._order_service.list_orders()

    def callback_query(
        self,
        order: Order | int,
        *,
        paid_at: datetime | int | None = None,
        realprice: Decimal | None = None,
    ) -> str:
        """
        Write the signed text of the payment-success callback for an order, and change nothing.

        It is the query string of a GET, or, with ``callback_method="POST"``, the body of a POST, without the appkey.

        Args:
            order: The order, or its ``order_id``.
            paid_at: Epoch seconds or an aware time; None: when it was paid, or now.
            realprice: What was paid, in yuan; None: what the customer paid, or the order's price.

        Raises:
            LookupError: No order has that number.
        """
        stored = self._order_service.find(_order_number(order))
        when = stored.paid_at or self._clock() if paid_at is None else paid_at
        return callback_query(
            stored,
            self._keys_of(stored),
            realprice=stored.realprice or stored.price if realprice is None else realprice,
            paytime=int(when.timestamp() if isinstance(when, datetime) else when),
            with_appkey=self._options.callback_method == "GET",
        )

    def return_query(self, order: Order | int) -> str:
        """
        Write the signed query that the customer's browser takes to the return URL, and change nothing.

        Args:
            order: The order, or its ``order_id``.

        Raises:
            LookupError: No order has that number.
        """
        stored = self._order_service.find(_order_number(order))
        return return_query(stored, self._keys_of(stored), with_product_id=self._options.return_product_id)

    def _keys_of(self, order: Order) -> ShopAccount:
        return next(account.keys for account in self._accounts if account.admin_id == order.admin_id)

    def pay(self, order: Order | int, *, realprice: Decimal | None = None) -> Order:
        """
        Let the customer pay.

        The order becomes ``paid``, its keys are sold, and its shop's callback URL, if there is one, is called once the
        sandbox serves. An order that has expired stays so, with a ``paid_at``, and is not called back (the
        vendor's FAQ). A second time changes nothing.

        Args:
            order: The order, or its ``order_id``.
            realprice: What is paid, in yuan; None: the order's price.

        Raises:
            LookupError: No order has that number.
            ValueError: Nobody can pay that: nothing, less, or parts of a fen.
        """
        return self._order_service.pay(_order_number(order), realprice=realprice)

    def expire(self, order: Order | int) -> Order:
        """
        Let a pending order expire now; any other stays as it is.

        Raises:
            LookupError: No order has that number.
        """
        return self._order_service.expire(_order_number(order))

    def confirm(self, order: Order | int) -> Order:
        """
        Say *I have been paid*, as a merchant does in the console: the order is paid, expired or not, and called back.

        Raises:
            LookupError: No order has that number.
        """
        return self._order_service.confirm(_order_number(order))

    def send_again(self, order: Order | int) -> None:
        """
        Call back for a paid order once more, with all four attempts.

        Raises:
            LookupError: No order has that number.
            NoCallbackError: It is not paid, or its shop has no callback URL.
        """
        self._order_service.send_again(_order_number(order))

    def deliveries(self, order: Order | int | None = None) -> list[Delivery]:
        """Give all callbacks (None: of all orders) that were sent or wait to be, oldest first."""
        with self._database.transaction() as connection:
            return deliveries.list_all(connection, None if order is None else _order_number(order))

    async def wait_delivered(self, order: Order | int | None = None, *, timeout: float = 10) -> list[Delivery]:  # noqa: ASYNC109 -- says what it waited for
        """
        Wait until no callback (None: of any order) is due or on its way, and give them all, oldest first.

        An attempt that is due later is not waited for: set ``callback_interval=0``, or your clock, to see all four.

        Raises:
            TimeoutError: One still is, after *timeout* seconds: such as when the sandbox doesn't serve.
        """
        number = None if order is None else _order_number(order)
        waiting = partial(self._outbox.wait, number, seconds=timeout)
        if not await to_thread.run_sync(waiting, abandon_on_cancel=True):
            raise TimeoutError(f"a callback is still under way after {timeout} s; they are sent while serve() is open")
        return self.deliveries(order)


def _order_number(order: Order | int) -> int:
    return order.order_id if isinstance(order, Order) else order
