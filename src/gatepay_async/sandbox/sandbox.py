"""GatePay's other end as one object: the shop, its faults, and both ways to reach it."""

import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Any, Literal, Self

from anyio import CancelScope, to_thread
from attrs import evolve

from gatepay_async.sandbox import callback_urls, card_keys, deliveries, orders, shops
from gatepay_async.sandbox.api_service import ApiService, Paging
from gatepay_async.sandbox.app import FaultyApp, build_app
from gatepay_async.sandbox.callback_sender import CallbackSender
from gatepay_async.sandbox.database import Database
from gatepay_async.sandbox.deliveries import CallbackMethod, Delivery
from gatepay_async.sandbox.endpoints import ENDPOINTS, PAST_LAST_PAGE
from gatepay_async.sandbox.faults import Fault, FaultQueue
from gatepay_async.sandbox.order_service import OrderService
from gatepay_async.sandbox.orders import Order
from gatepay_async.sandbox.outbox import Outbox
from gatepay_async.sandbox.pages_app import build_pages_app
from gatepay_async.sandbox.prices import PhpFloats, check_php_floats
from gatepay_async.sandbox.request_log import RequestLog, SeenRequest
from gatepay_async.sandbox.server import LoopbackServer
from gatepay_async.sandbox.shops import ShopAccount, ShopState

__all__ = ["Sandbox"]


class Sandbox:
    """
    GatePay on your own machine, with the vendor's example shops in it.

    Shop one (``appkey``, ``appsecret``) owns the products 4, 5 and 8 of the vendor's page; shop two, the
    second of :attr:`shops`, owns product 3, which starts without keys.

    Args:
        database: An SQLite file, made if it is not there and kept when the sandbox closes; or ``:memory:``.
        seed: Whether a new database gets the example keys that the examples' stock speaks of
            (4, 1 and 89 for the products 4, 5 and 8). False: no product has a key.
        past_last_page: How ``ka/show`` answers a page past the last one: ``empty``; ``clamp``, with the last page;
            ``refuse``, with code 108; ``thinkphp``, with no rows and the last page's number (0 if there is no key).
        case_insensitive_keys: Compare keys as MySQL's default collation does: ``abc`` is ``ABC``.
        expires_after: How long an order is to be paid, in seconds; None: for ever.
        callback_url: Where shop one is told of paid orders, as by :meth:`change_shop`; None: as it was.
        callback_interval: Seconds between an attempt to call back that failed and the next; there are four.
        callback_timeout: Seconds for one attempt, from connecting to the last byte.
        callbacks_beyond_loopback: Whether a callback URL may lead away from this machine.
        callback_method: ``"GET"``, as the vendor's page of April 2019 has it, with the appkey; or ``"POST"``, as from
            May 2019 on: a form without the appkey.
        php_floats: Write ``order_price`` as PHP does where it multiplies prices as floats: ``"shortest"``, as PHP 7.1
            and later do (3 × 1.90 is ``5.699999999999999``), or ``"17 digits"``, as earlier ones do
            (``5.6999999999999993``). None: the exact sum.
        clock: Epoch seconds.

    Raises:
        CallbackUrlError: The callback URL can't be one.
        ValueError: A number of seconds is not above 0 (the interval: below 0), or *callback_method*, *php_floats* or
            *past_last_page* is none of those.
        LaterVersionError: A later version has made the file.
        sqlite3.Error: The file can't be opened, or is no database.
    """

    def __init__(
        self,
        database: str | Path = ":memory:",
        *,
        seed: bool = True,
        past_last_page: Literal["empty", "clamp", "refuse", "thinkphp"] = "empty",
        case_insensitive_keys: bool = False,
        expires_after: float | None = 300,
        callback_url: str | None = None,
        callback_interval: float = 60,
        callback_timeout: float = 10,
        callbacks_beyond_loopback: bool = False,
        callback_method: CallbackMethod = "GET",
        php_floats: PhpFloats | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        _check_seconds(expires_after=expires_after, callback_timeout=callback_timeout)
        if not callback_interval >= 0:
            raise ValueError(f"callback_interval is a number of seconds from 0, not {callback_interval!r}")
        if callback_method not in ("GET", "POST"):
            raise ValueError(f"callback_method is 'GET' or 'POST', not {callback_method!r}")
        check_php_floats(php_floats)
        self._with_appkey = callback_method == "GET"
        if past_last_page not in PAST_LAST_PAGE:
            raise ValueError(f"past_last_page is one of {', '.join(PAST_LAST_PAGE)}, not {past_last_page!r}")
        self._beyond_loopback = callbacks_beyond_loopback
        self._check_callback_url(callback_url)
        self._clock = clock
        self._database = Database(database, keys=seed, now=int(clock()))
        with self._database.transaction() as connection:
            self._accounts = shops.accounts(connection)
        self._faults = FaultQueue()
        self._request_log = RequestLog()
        self._outbox = Outbox(
            self._database, clock=clock, interval=callback_interval, timeout=callback_timeout, method=callback_method
        )
        self._order_service = OrderService(database=self._database, clock=clock, outbox=self._outbox)
        self._paging = Paging(card_keys.PER_PAGE)
        api = ApiService(
            database=self._database,
            clock=clock,
            past_last_page=past_last_page,
            paging=self._paging,
            case_insensitive_keys=case_insensitive_keys,
            expires_after=expires_after,
            php_floats=php_floats,
        )
        pages = build_pages_app(self._order_service, self._faults, beyond_loopback=callbacks_beyond_loopback)
        self.app = FaultyApp(build_app(api, pages), pick=self._pick, now=clock)
        if callback_url is not None:
            self.change_shop(callback_url=callback_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; a second call does nothing. End serve() first."""
        self._database.close()

    @asynccontextmanager
    async def serve(self, *, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[str, None]:
        """
        Serve real HTTP from a thread of its own, from asyncio or trio, and send callbacks from another.

        The console is at ``/``. Callbacks that wait since an earlier run go out, too.

        Args:
            host: 127.0.0.1; nothing else is accepted.
            port: 0 for a free one.

        Yields:
            The base URL, such as ``http://127.0.0.1:43211/api/``, once it accepts connections. On leaving,
            whatever request is under way is cut off.

        Raises:
            ValueError: Another host.
            PortTakenError: Something else has the port.
            RuntimeError: The server's thread died before it could accept.
        """
        server = LoopbackServer(self.app, host=host, port=port)
        callback_sender = CallbackSender(self._outbox, beyond_loopback=self._beyond_loopback)
        server.start()
        try:
            await to_thread.run_sync(server.wait)
            await to_thread.run_sync(callback_sender.start)
            yield f"http://{host}:{server.port}/api/"
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(server.stop)
                await to_thread.run_sync(callback_sender.stop)

    # -- who may call ------------------------------------------------------------------------------------

    @property
    def appkey(self) -> str:
        """Shop one's public key."""
        return self._accounts[0].keys.appkey

    @property
    def appsecret(self) -> str:
        """Shop one's secret."""
        return self._accounts[0].keys.appsecret

    @property
    def shops(self) -> list[ShopAccount]:
        """Both shops' ``(appkey, appsecret)``, shop one first."""
        return [account.keys for account in self._accounts]

    def _admin_id(self, appkey: str | None) -> int:
        appkey = self.appkey if appkey is None else appkey
        for account in self._accounts:
            if account.keys.appkey == appkey:
                return account.admin_id
        raise LookupError(f"no shop has the appkey {appkey!r}")

    def shop(self, appkey: str | None = None) -> ShopState | None:
        """Give a shop's state (None: shop one's), or None when it was removed."""
        with self._database.transaction() as connection:
            return shops.find_shop(connection, self._admin_id(appkey))

    def change_shop(
        self,
        appkey: str | None = None,
        *,
        closed: bool | EllipsisType = ...,
        quota: Decimal | EllipsisType | None = ...,
        licence_until: datetime | EllipsisType | None = ...,
        callback_url: str | EllipsisType | None = ...,
    ) -> ShopState:
        """
        Change what is given of a shop's state and keep the rest; a removed shop comes back, all open.

        Args:
            appkey: Whose shop; None: shop one.
            closed: Whether ``ka/show`` and ``ka/create`` answer 107.
            quota: What may be ordered in one day, in yuan, before ``pay/create`` answers 111; None: anything.
            licence_until: From then on ``pay/create`` answers 112; aware; None: never.
            callback_url: Where paid orders are told of; None: nowhere. Parameters of your own are kept.

        Raises:
            CallbackUrlError: The URL can't be one: not HTTP, or away from this machine.
        """
        self._check_callback_url(None if callback_url is ... else callback_url)
        changed = {
            "closed": closed,
            "quota": quota,
            "licence_until": licence_until,
            "callback_url": callback_url,
        }
        changes: dict[str, Any] = {name: value for name, value in changed.items() if value is not ...}
        admin_id = self._admin_id(appkey)
        fresh = ShopState(admin_id=admin_id, closed=False, quota=None, licence_until=None)
        with self._database.transaction() as connection:
            state = evolve(shops.find_shop(connection, admin_id) or fresh, **changes)
            shops.write_shop(connection, state)
        return state

    def _check_callback_url(self, url: str | None) -> None:
        if url is not None:
            callback_urls.check(url, beyond_loopback=self._beyond_loopback)

    def remove_shop(self, appkey: str | None = None) -> None:
        """Remove a shop (None: shop one). Its appkey stays known: 107 at ``pay/create``, 104 at ``ka/…``."""
        with self._database.transaction() as connection:
            shops.remove_shop(connection, self._admin_id(appkey))

    # -- card keys ---------------------------------------------------------------------------------------

    def keys(self, product_id: int) -> list[str]:
        """Give all the product's keys in ascending id."""
        with self._database.transaction() as connection:
            return card_keys.contents(connection, product_id)

    def key_ids(self, product_id: int) -> list[int]:
        """Give the ids of all the product's keys, ascending; the same order as :meth:`keys`."""
        with self._database.transaction() as connection:
            return card_keys.ids(connection, product_id)

    def add_keys(self, product_id: int, keys: Iterable[str]) -> None:
        """
        Store *keys* as they are, all or none.

        Raises:
            sqlite3.IntegrityError: One is longer than 255 characters, or there already.
        """
        with self._database.transaction() as connection:
            card_keys.add(connection, product_id, keys, now=int(self._clock()))

    def delete_keys(self, product_id: int, ids: Iterable[int]) -> int:
        """Delete the product's keys that have these ids; gives how many there were."""
        with self._database.transaction() as connection:
            return card_keys.delete(connection, product_id, list(ids))

    def restore_keys(self, product_id: int, keys: Mapping[int, str]) -> None:
        """
        Store keys under ids that were deleted before, as a restored backup does; all or none.

        Args:
            product_id: Whose keys.
            keys: Id -> key.

        Raises:
            sqlite3.IntegrityError: One of the ids or keys is there.
        """
        with self._database.transaction() as connection:
            card_keys.restore(connection, product_id, keys, now=int(self._clock()))

    def set_per_page(self, per_page: int) -> None:
        """
        Change how many keys a page of ``ka/show`` has; 50 at first.

        Raises:
            ValueError: Fewer than 1.
        """
        if per_page < 1:
            raise ValueError(f"per_page is a number from 1, not {per_page!r}")
        self._paging.per_page = per_page

    # -- orders ------------------------------------------------------------------------------------------

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
        account = next(account for account in self._accounts if account.admin_id == stored.admin_id)
        return orders.callback_query(
            stored,
            account.keys,
            realprice=stored.realprice or stored.price if realprice is None else realprice,
            paytime=int(when.timestamp() if isinstance(when, datetime) else when),
            with_appkey=self._with_appkey,
        )

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

    # -- faults ------------------------------------------------------------------------------------------

    def fault(self, fault: Fault) -> None:
        """
        Add a fault behind those that are there; a request meets the first that matches and is not used up.

        Raises:
            ValueError: The fault names an endpoint that there isn't.
        """
        if fault.endpoint not in (None, *ENDPOINTS):
            raise ValueError(f"no endpoint {fault.endpoint!r}; there are {', '.join(ENDPOINTS)}")
        self._faults.add(fault)

    def clear_faults(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    @property
    def requests(self) -> list[SeenRequest]:
        """The last 10,000 requests to the endpoints, oldest first, those that met a fault too."""
        return self._request_log.read()

    def _pick(self, endpoint: str) -> Fault | None:
        self._request_log.record(endpoint, self._clock())
        return self._faults.pick(endpoint)


def _order_number(order: Order | int) -> int:
    return order.order_id if isinstance(order, Order) else order


def _check_seconds(**arguments: float | None) -> None:
    for name, seconds in arguments.items():
        if seconds is not None and not seconds > 0:
            raise ValueError(f"{name} is a number of seconds above 0, not {seconds!r}")
