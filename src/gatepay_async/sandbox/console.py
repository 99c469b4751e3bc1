"""The console: the settings that merchants have on GatePay's site, and controls for testing."""

from collections.abc import Callable, Sequence
from functools import partial
from sqlite3 import Connection
from typing import Any

from anyio import to_thread
from attrs import evolve, frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatepay_async.sandbox import callback_urls, deliveries, orders, shops
from gatepay_async.sandbox.callback_urls import CallbackUrlError
from gatepay_async.sandbox.console_orders import (
    CONSOLE_PAY_TYPES,
    MAX_FIELD_CHARS,
    OrderForm,
    list_all_products,
    make_order,
)
from gatepay_async.sandbox.endpoints import ENDPOINTS
from gatepay_async.sandbox.faults import Fault, FaultKind, FaultQueue
from gatepay_async.sandbox.order_service import NoCallbackError, OrderService
from gatepay_async.sandbox.pages import origin_of
from gatepay_async.sandbox.quick_pay import quick_pay_path
from gatepay_async.sandbox.shells import SHELL_NAMES, SHELLS, setting_lines
from gatepay_async.sandbox.shops import Account, ProductStock, ShopAccount
from gatepay_async.sandbox.web import read_fields, redirect, render
from gatepay_async.words.arguments import InvalidArgumentError
from gatepay_async.words.problem import Problem

__all__ = ["PER_PAGE", "Console"]

PER_PAGE = 20  # orders or deliveries on one page
# The fields of the forms that change a shop and create an order.
_SHOP_FIELDS = ("callback_url", "return_url", "expired_url", "token")
_ORDER_FIELDS = ("product", "quantity", "pay_type", "out_order_id", "custom")


@frozen(kw_only=True)
class _ListPage:
    """One page of a long list, newest first."""

    rows: Sequence[object]
    page: int  # the number of this page, from 1
    last: int  # the number of the last page
    total: int  # the number of rows on all pages


@frozen(kw_only=True)
class _RejectedField:
    """A field of a shop's form whose value was rejected. Empty texts: no field was rejected."""

    appkey: str = ""
    name: str = ""
    value: str = ""
    problem: str = ""


_NOTHING_REJECTED = _RejectedField()


class Console:
    """
    The console's pages.

    Args:
        order_service: Carries out changes to orders.
        faults: The faults that the console adds and removes.
        beyond_loopback: Whether a callback URL may lead to another machine.
    """

    def __init__(self, order_service: OrderService, faults: FaultQueue, *, beyond_loopback: bool) -> None:
        self._order_service = order_service
        self._faults = faults
        self._beyond_loopback = beyond_loopback

    def routes(self) -> list[Route]:
        """The routes of all pages."""
        return [
            Route("/", self.show_overview, methods=["GET"]),
            Route("/shops", self.show_shops, methods=["GET"]),
            Route("/shops", self.change_shop, methods=["POST"]),
            Route("/orders", self.show_orders, methods=["GET"]),
            Route("/orders", self.create_order, methods=["POST"]),
            Route("/orders/{number:int}", self.show_order, methods=["GET"]),
            Route("/orders/{number:int}", self.act_on_order, methods=["POST"]),
            Route("/callbacks", self.show_deliveries, methods=["GET"]),
            Route("/faults", self.show_faults, methods=["GET"]),
            Route("/faults", self.change_faults, methods=["POST"]),
        ]

    # -- overview ----------------------------------------------------------------------------------------

    async def show_overview(self, request: Request) -> Response:
        """Show how to connect, and how many orders and callbacks there are."""
        context = await to_thread.run_sync(self._load_overview)
        base_url = f"{origin_of(request.scope)}/api/"
        credentials: ShopAccount = context["credentials"]
        variables = {
            "GATEPAY_APPKEY": credentials.appkey,
            "GATEPAY_APPSECRET": credentials.appsecret,
            "GATEPAY_BASE_URL": base_url,
            "GATEPAY_CLOUD_BASE_URL": base_url,
        }
        lines = {shell: setting_lines(shell, variables) for shell in SHELLS}
        # A fault is used up when it has hit `times` requests. None, which never equals a count, means no limit.
        remaining_faults = sum(armed.applied != armed.fault.times for armed in self._faults.read())
        context |= {"lines": lines, "names": SHELL_NAMES, "command": "gatepay products"}
        return render(request, "overview.html", active_tab="overview", faults=remaining_faults, **context)

    def _load_overview(self) -> dict[str, Any]:
        """Load the data that the overview shows."""
        with self._order_service.open() as (connection, _):
            return {
                "credentials": shops.accounts(connection)[0].credentials,
                "orders": orders.count(connection),
                "paid": orders.count(connection, state="paid"),
                "callbacks": deliveries.count(connection),
                "failed": deliveries.count_failed(connection),
                "newest_orders": orders.list_page(connection, offset=0, limit=3),
            }

    # -- shops and products ------------------------------------------------------------------------------

    async def show_shops(self, request: Request) -> Response:
        """Show the sandbox's shops with their keys, products and stock."""
        return await self._render_shops(request)

    async def change_shop(self, request: Request) -> Response:
        """Set a shop's URLs and token. An empty field removes the value; a field that is not in the form is kept."""
        form = await read_fields(request)
        appkey = form.get("appkey", "")
        entered = {name: form[name].strip() for name in _SHOP_FIELDS if name in form}
        for name, value in entered.items():
            try:
                if value:
                    self._check_shop_field(name, value)
            except CallbackUrlError as error:
                rejected = _RejectedField(appkey=appkey, name=name, value=value, problem=error.problem.name)
                return await self._render_shops(request, status=422, rejected=rejected)
        await to_thread.run_sync(self._save_shop, appkey, {name: value or None for name, value in entered.items()})
        return redirect(request, "/shops", saved=appkey)

    def _check_shop_field(self, name: str, value: str) -> None:
        if name == "callback_url":
            callback_urls.check(value, beyond_loopback=self._beyond_loopback)
        elif name != "token":
            callback_urls.check_return(value)

    async def _render_shops(
        self, request: Request, *, status: int = 200, rejected: _RejectedField = _NOTHING_REJECTED
    ) -> Response:
        rows = await to_thread.run_sync(self._load_shops)
        saved = request.query_params.get("saved", "")
        return render(
            request, "shops.html", status=status, active_tab="shops", shops=rows, rejected=rejected, saved=saved
        )

    def _load_shops(self) -> list[dict[str, object]]:
        with self._order_service.open() as (connection, _):
            return [_shop_values(connection, account) for account in shops.accounts(connection)]

    def _save_shop(self, appkey: str, entered: dict[str, Any]) -> None:
        """Store the entered values. If the shop was removed, do nothing."""
        with self._order_service.open() as (connection, _):
            account = shops.find_account(connection, appkey)
            state = None if account is None else shops.find_shop(connection, account.admin_id)
            if state is not None:
                shops.write_shop(connection, evolve(state, **entered))

    # -- orders ------------------------------------------------------------------------------------------

    async def show_orders(self, request: Request) -> Response:
        """List the orders, newest first."""
        return await self._render_orders(request, OrderForm())

    async def create_order(self, request: Request) -> Response:
        """Create an order, and show it."""
        fields = await read_fields(request)
        form = OrderForm(**{name: fields[name][:MAX_FIELD_CHARS] for name in _ORDER_FIELDS if name in fields})
        number_or_problem = await to_thread.run_sync(make_order, self._order_service, form)
        if isinstance(number_or_problem, int):
            return redirect(request, f"/orders/{number_or_problem}")
        return await self._render_orders(request, form, status=422, problem=number_or_problem)

    async def _render_orders(
        self, request: Request, form: OrderForm, *, status: int = 200, problem: str = ""
    ) -> Response:
        listing = await to_thread.run_sync(partial(self._list_page, request, orders.count, orders.list_page))
        products = await to_thread.run_sync(self._load_products)
        return render(
            request,
            "orders.html",
            status=status,
            active_tab="orders",
            listing=listing,
            products=products,
            form=form,
            types=CONSOLE_PAY_TYPES,
            problem=problem,
        )

    def _load_products(self) -> list[ProductStock]:
        with self._order_service.open() as (connection, _):
            return list_all_products(connection)

    async def show_order(self, request: Request) -> Response:
        """Show one order with its deliveries."""
        return await self._render_order_details(request)

    async def act_on_order(self, request: Request) -> Response:
        """Send the callback again, or confirm the payment as the merchant."""
        number, form = _path_number(request), await read_fields(request)
        actions = {"again": self._order_service.send_again, "confirm": self._order_service.confirm}
        action = actions.get(form.get("do", ""))
        try:
            if action is not None:
                await to_thread.run_sync(action, number)
        except NoCallbackError:
            return await self._render_order_details(request, status=409, problem="nothing_to_send")
        except LookupError:
            return await self._render_order_details(request)  # shows that the order doesn't exist
        return redirect(request, f"/orders/{number}")

    async def _render_order_details(self, request: Request, *, status: int = 200, problem: str = "") -> Response:
        context = await to_thread.run_sync(self._load_order, _path_number(request))
        if context is None:
            return render(request, "error.html", status=404, problem="no_order")
        return render(request, "console_order.html", status=status, active_tab="orders", problem=problem, **context)

    def _load_order(self, number: int) -> dict[str, object] | None:
        with self._order_service.open() as (connection, _):
            order = orders.find(connection, number)
            if order is None:
                return None
            return {
                "order": order,
                "return_url": self._order_service.return_url(connection, order),
                "callback_url": ", ".join(self._order_service.callback_urls(connection, order).values()) or None,
                "deliveries": deliveries.list_all(connection, number)[::-1],
            }

    # -- deliveries --------------------------------------------------------------------------------------

    async def show_deliveries(self, request: Request) -> Response:
        """List the deliveries, newest first."""
        listing = await to_thread.run_sync(partial(self._list_page, request, deliveries.count, deliveries.list_page))
        return render(request, "deliveries.html", active_tab="deliveries", listing=listing)

    def _list_page(
        self, request: Request, count: Callable[..., int], list_page: Callable[..., Sequence[object]]
    ) -> _ListPage:
        """Load the page that the request asks for. *count* and *list_page* read orders or deliveries."""
        with self._order_service.open() as (connection, _):
            total = count(connection)
            last = max(1, -(-total // PER_PAGE))  # rounded up
            page = min(_parse_int(request.query_params.get("page", "")) or 1, last)
            rows = list_page(connection, offset=(page - 1) * PER_PAGE, limit=PER_PAGE)
        return _ListPage(rows=rows, page=page, last=last, total=total)

    # -- faults ------------------------------------------------------------------------------------------

    async def show_faults(self, request: Request) -> Response:
        """List the faults."""
        return self._render_faults(request)

    async def change_faults(self, request: Request) -> Response:
        """Add a fault, remove one, or remove all."""
        form = await read_fields(request)
        if form.get("do") == "clear":
            self._faults.clear()
        elif form.get("do") == "remove":
            self._faults.remove(_parse_int(form.get("number", "")) or 0)
        elif form.get("do") == "add":
            try:
                self._faults.add(_fault_of_form(form))
            except InvalidArgumentError:
                return self._render_faults(request, status=422, is_invalid=True)
        return redirect(request, "/faults")

    def _render_faults(self, request: Request, *, status: int = 200, is_invalid: bool = False) -> Response:
        return render(
            request,
            "faults.html",
            status=status,
            active_tab="faults",
            faults=self._faults.read(),
            kinds=list(FaultKind),
            endpoints=list(ENDPOINTS),
            is_invalid=is_invalid,
        )


def _shop_values(connection: Connection, account: Account) -> dict[str, object]:
    """Load the data that the console shows about one shop, which may be removed."""
    state = shops.find_shop(connection, account.admin_id)
    token = None if state is None else state.token
    return {
        "credentials": account.credentials,
        "state": state,
        "products": shops.list_stock(connection, account.admin_id),
        "quick_pay": None if token is None else quick_pay_path(account.credentials.appkey, token),
    }


def _path_number(request: Request) -> int:
    """Return the ``order_id`` in the URL's path, cut to SQLite's largest integer, which no order has."""
    return min(int(request.path_params["number"]), 2**63 - 1)


def _parse_int(text: str) -> int | None:
    """Parse a whole number of at most nine digits. Return None if *text* is anything else."""
    return int(text) if text.isascii() and text.isdigit() and 0 < len(text) <= 9 else None  # noqa: PLR2004 -- nine digits are enough


def _fault_of_form(form: dict[str, str]) -> Fault:
    """
    Return the fault that the form describes.

    Raises:
        InvalidArgumentError: The form has a value that the page doesn't offer.
    """
    fields: dict[str, Any] = {"endpoint": form.get("endpoint", "") or None, "times": None}
    for name in ("times", "seconds", "retry_after", "code"):
        if form.get(name):
            number = _parse_int(form[name])
            if number is None or (name == "times" and not number):
                raise InvalidArgumentError(field=name, problem=Problem("not_whole", kind="str"))
            fields[name] = number
    return Fault(form.get("kind", ""), **fields)
