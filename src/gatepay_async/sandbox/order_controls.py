"""The methods of ``Sandbox`` for orders and callbacks."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from functools import partial
from os import PathLike

from anyio import to_thread

from gatepay_async.sandbox import deliveries
from gatepay_async.sandbox.arguments import check_amount
from gatepay_async.sandbox.deliveries import Delivery
from gatepay_async.sandbox.options import Options
from gatepay_async.sandbox.order_service import OrderService
from gatepay_async.sandbox.orders import Order
from gatepay_async.sandbox.outbox import Outbox
from gatepay_async.sandbox.shop_controls import ShopControls
from gatepay_async.sandbox.shops import ShopAccount
from gatepay_async.sandbox.signed_queries import callback_query, return_query
from gatepay_async.words.arguments import Seconds, check_aware, check_instance, check_whole, seconds_from_0

__all__ = ["OrderControls"]


class OrderControls(ShopControls):
    """The methods for orders and callbacks, as a base class of :class:`~gatepay_async.sandbox.Sandbox`."""

    def __init__(
        self,
        database: str | PathLike[str],
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
        """Return all orders of both shops, oldest first. If an ``out_order_id`` occurs twice, two calls arrived."""
        return self._order_service.list_orders()

    def callback_query(
        self,
        order: Order | int,
        *,
        paid_at: datetime | int | None = None,
        realprice: Decimal | None = None,
    ) -> str:
        """
        Return the signed callback for a paid order as text. Nothing is changed or sent.

        It is the query string of a GET, or, with ``callback_method="POST"``, the body of a POST, without the appkey.

        Args:
            order: The order, or its ``order_id``.
            paid_at: Epoch seconds or a time with a time zone; None: when the order was paid, or now.
            realprice: The amount paid, in yuan; None: what the customer paid, or the order's price.

        Raises:
            LookupError: No order has that number.
            InvalidArgumentError: *paid_at* has no time zone, *realprice* is no amount, or another argument is invalid.
        """
        if realprice is not None:
            check_amount("realprice", realprice, least=Decimal(0))
        if isinstance(paid_at, datetime):
            check_aware("paid_at", paid_at)
            paid_at = int(paid_at.timestamp())
        elif paid_at is not None:
            check_whole("paid_at", paid_at, 0)
        stored = self._order_service.find(_order_number(order))
        when = stored.paid_at or self._clock() if paid_at is None else paid_at
        return callback_query(
            stored,
            self._credentials_of(stored),
            realprice=stored.realprice or stored.price if realprice is None else realprice,
            paytime=int(when),
            with_appkey=self._options.callback_method == "GET",
        )

    def return_query(self, order: Order | int) -> str:
        """
        Return the signed query with which the customer's browser opens the return URL. Nothing is changed or sent.

        Args:
            order: The order, or its ``order_id``.

        Raises:
            LookupError: No order has that number.
        """
        stored = self._order_service.find(_order_number(order))
        return return_query(stored, self._credentials_of(stored), with_product_id=self._options.return_product_id)

    def _credentials_of(self, order: Order) -> ShopAccount:
        """Return the appkey and appsecret of the order's shop."""
        return next(account.credentials for account in self._accounts if account.admin_id == order.admin_id)

    def pay(self, order: Order | int, *, realprice: Decimal | None = None) -> Order:
        """
        Pay as the customer.

        The order becomes ``paid``, its card keys are sold, and while the sandbox serves, the callback URL is called, if
        there is one. An expired order stays expired and gets a ``paid_at``, but no callback, as the vendor's FAQ says.
        Paying again changes nothing.

        Args:
            order: The order, or its ``order_id``.
            realprice: The amount to pay, in yuan; None: the order's price.

        Raises:
            LookupError: No order has that number.
            InvalidArgumentError: *realprice* is not above 0, too large, or not in whole fen.
        """
        return self._order_service.pay(_order_number(order), realprice=realprice)

    def expire(self, order: Order | int) -> Order:
        """
        Make a pending order expire now. Any other order stays as it is.

        Raises:
            LookupError: No order has that number.
        """
        return self._order_service.expire(_order_number(order))

    def confirm(self, order: Order | int) -> Order:
        """
        Confirm a payment as the merchant, as in the console. Even an expired order becomes paid, and gets its callback.

        Raises:
            LookupError: No order has that number.
        """
        return self._order_service.confirm(_order_number(order))

    def send_again(self, order: Order | int) -> None:
        """
        Send the callback of a paid order again, with up to four attempts.

        Raises:
            LookupError: No order has that number.
            NoCallbackError: The order is not paid, or there is no URL to call: the order has no ``notify_url`` and its
                shop has no callback URL, or its shop was removed.
        """
        self._order_service.send_again(_order_number(order))

    def deliveries(self, order: Order | int | None = None) -> list[Delivery]:
        """Return all callbacks of an order (None: of all orders), sent or waiting, oldest first."""
        with self._database.transaction() as connection:
            return deliveries.list_all(connection, None if order is None else _order_number(order))

    async def wait_delivered(self, order: Order | int | None = None, *, timeout: Seconds = 10) -> list[Delivery]:  # noqa: ASYNC109 -- its error says what it waited for
        """
        Wait until no callback of the order (None: of any order) is due or being sent. Then return all callbacks of
        the order, oldest first.

        This doesn't wait for attempts that are due later. To get all four attempts, set ``callback_interval=0``, or
        advance your clock.

        Raises:
            TimeoutError: A callback is still due after *timeout* (seconds, or a `timedelta`), for example if the
                sandbox isn't serving.
        """
        seconds = seconds_from_0("timeout", timeout)
        number = None if order is None else _order_number(order)
        waiting = partial(self._outbox.wait, number, seconds=seconds)
        if not await to_thread.run_sync(waiting, abandon_on_cancel=True):
            raise TimeoutError(f"a callback is still due after {seconds:g} s; callbacks are sent while serve() is open")
        return self.deliveries(order)


def _order_number(order: Order | int) -> int:
    check_instance("order", order, Order, int)
    if isinstance(order, Order):
        return order.order_id
    check_whole("order", order, 1)
    return order
