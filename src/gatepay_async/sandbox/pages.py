"""The payment page of an order, as HTML and, with ``format=json``, as JSON for programs."""

import io
import re
from decimal import Decimal
from functools import lru_cache, partial
from math import ceil

import segno
from anyio import to_thread
from attrs import frozen
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from gatepay_async.sandbox import deliveries, orders
from gatepay_async.sandbox.arguments import check_amount
from gatepay_async.sandbox.deliveries import Delivery
from gatepay_async.sandbox.order_service import OrderService
from gatepay_async.sandbox.orders import Order
from gatepay_async.sandbox.web import as_json, read_fields, redirect, render
from gatepay_async.words.arguments import InvalidArgumentError

__all__ = ["OrderPage", "origin_of", "parse_amount", "qr_svg"]

# The first path is that of `pay/create`; the second one belongs to GatePay's later endpoints.
PAY_PATHS = ("/pay/index", "/pay/api")
_AMOUNT = re.compile(r"[0-9]{1,7}(\.[0-9]{1,2})?")
# The attributes of Order that are in the JSON as they are.
_COPIED_FIELDS = ("order_id", "out_order_id", "product_num", "created_at", "paid_at")


@frozen(kw_only=True)
class _View:
    """The data that the payment page shows."""

    order: Order
    deliveries: list[Delivery]
    callback_url: str | None
    return_url: str | None
    next_url: str | None
    now: float

    @property
    def seconds_left(self) -> int | None:
        """The seconds until a pending order expires, or None if it never expires or isn't pending."""
        if self.order.state != "pending" or self.order.expires_at is None:
            return None
        return ceil(self.order.expires_at - self.now)

    @property
    def lifetime_seconds(self) -> int:
        """The seconds between the creation of the order and its expiry."""
        return int((self.order.expires_at or self.now) - self.order.created_at)

    def data(self, url: str) -> dict[str, object]:
        """Return the page's data for JSON. A field that GatePay's order/check also returns has the same name there."""
        order = self.order
        return {
            **{name: getattr(order, name) for name in _COPIED_FIELDS},
            "expires_at": None if order.expires_at is None else ceil(order.expires_at),
            "order_name": order.name,
            "order_price": f"{order.price:.2f}",
            "order_type": order.pay_type,
            "order_status": order.state,
            "order_url": url,
            "realprice": None if order.realprice is None else f"{order.realprice:.2f}",
            "callbacks": [{"attempt": delivery.attempt, "state": delivery.state} for delivery in self.deliveries],
            "time": int(self.now),
        }


class OrderPage:
    """
    The page at an order's ``order_url`` or ``pay_url``, where the customer pays.

    Args:
        order_service: Carries out the payment.
    """

    def __init__(self, order_service: OrderService) -> None:
        self._order_service = order_service

    def routes(self) -> list[Route]:
        """The routes of the page."""
        handlers = {"GET": self.show, "POST": self.handle_button}
        return [Route(path, handler, methods=[method]) for path in PAY_PATHS for method, handler in handlers.items()]

    async def show(self, request: Request) -> Response:
        """Show the order."""
        view = await self._view(request)
        wants_json = request.query_params.get("format") == "json"
        if view is None:
            return as_json({"error": "no such order"}, status=404) if wants_json else _not_found(request)
        return as_json(view.data(_address(request, view.order))) if wants_json else _render_order(request, view)

    async def handle_button(self, request: Request) -> Response:
        """Handle a button of the page: pay, pay another amount, or let the order expire."""
        view, form = await self._view(request), await read_fields(request)
        if view is None:
            return _not_found(request)
        order, amount = view.order, form.get("amount", "")
        if form.get("do") == "expire":
            await to_thread.run_sync(self._order_service.expire, order.order_id)
        elif form.get("do") == "another":
            if (realprice := parse_amount(amount)) is None:
                return _render_order(request, view, amount=amount, status=422)
            await to_thread.run_sync(partial(self._order_service.pay, order.order_id, realprice=realprice))
        elif form.get("do") == "pay":
            await to_thread.run_sync(self._order_service.pay, order.order_id)
        return redirect(request, request.url.path, id=order.page_id, type=order.pay_type)

    async def _view(self, request: Request) -> _View | None:
        """Load the data of the page that the request asks for; None: its order doesn't exist."""
        return await to_thread.run_sync(self._load_view, request.query_params.get("id", ""))

    def _load_view(self, page_id: str) -> _View | None:
        """Load the data of the page; None: no order has *page_id*."""
        with self._order_service.open() as (connection, now):
            order = orders.find_by_page_id(connection, page_id)
            if order is None:
                return None
            order_deliveries = deliveries.list_all(connection, order.order_id)
            return _View(
                order=order,
                deliveries=order_deliveries,
                callback_url=", ".join(self._order_service.callback_urls(connection, order).values()) or None,
                return_url=self._order_service.return_url(connection, order),
                next_url=self._order_service.next_url(connection, order, order_deliveries),
                now=now,
            )


def _render_order(request: Request, view: _View, *, amount: str | None = None, status: int = 200) -> Response:
    """Return the page. *amount*: the customer's entry, which was refused; None: nothing was refused."""
    url = _address(request, view.order)
    qr = qr_svg(url) if view.order.state == "pending" else None
    refused = amount is not None
    return render(
        request,
        "order.html",
        status=status,
        path=request.url.path,
        view=view,
        url=url,
        qr=qr,
        amount=amount or "",
        refused=refused,
    )


def _not_found(request: Request) -> Response:
    return render(request, "error.html", status=404, problem="no_order")


def _address(request: Request, order: Order) -> str:
    """Return the URL of the order's page, with the path of this request."""
    return orders.page_url(origin_of(request.scope), order.page_id, order.pay_type, path=request.url.path)


def parse_amount(text: str) -> Decimal | None:
    """Parse an amount as people write it: 0.5, ¥0.50, 1,234.50. Return None if it is invalid or can't be paid."""
    plain = text.strip().removeprefix("¥").removeprefix("￥").replace(",", "")
    if not _AMOUNT.fullmatch(plain):
        return None
    amount = Decimal(plain)
    try:
        check_amount("amount", amount)
    except InvalidArgumentError:
        return None
    return amount


def origin_of(scope: Scope) -> str:
    """Return the origin of the socket. The Host header isn't used, because a client can send any."""
    host, port = scope["server"]
    return f"{scope['scheme']}://{host}" + ("" if port is None else f":{port}")


@lru_cache(maxsize=256)
def qr_svg(url: str) -> Markup:
    """Return the QR code of *url* as an SVG that takes its size and style from the page."""
    image = io.BytesIO()
    segno.make_qr(url, error="m").save(image, kind="svg", xmldecl=False, svgns=False, omitsize=True, border=2, nl=False)
    return Markup(image.getvalue().decode())  # noqa: S704 -- the SVG holds shapes only, none of the URL's text
