"""The quick-pay page: a customer opens a shop's unsigned link, and chooses the amount and the payment type."""

import secrets
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import urlencode
from uuid import uuid4

from anyio import to_thread
from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gatepay_async.sandbox import orders, shops
from gatepay_async.sandbox.later_endpoints import PAY_TYPES, amount_order_name
from gatepay_async.sandbox.order_service import OrderService
from gatepay_async.sandbox.orders import NewOrder
from gatepay_async.sandbox.pages import parse_amount
from gatepay_async.sandbox.shops import ShopState
from gatepay_async.sandbox.web import read_fields, redirect, render

__all__ = ["QuickPayPage", "quick_pay_path"]

MAX_CUSTOM_CHARS = 500
_PAGE_PATH = "/pay/any"
_SKINS = ("0", "1")  # the looks of the page


def quick_pay_path(appkey: str, token: str) -> str:
    """Return the link to a shop's quick-pay page, without the optional parameters."""
    return f"{_PAGE_PATH}?{urlencode({'appkey': appkey, 'token': token})}"


@frozen(kw_only=True)
class _Choice:
    """
    The values from the link and from the customer's form, as text.

    Attributes:
        price: The amount.
        custom: A note to the shop, such as an e-mail address. The callback returns it.
        pay_type: How the customer pays.
        skin: The look of the page.
        is_fixed: Whether the customer is prevented from changing the link's values.
        linked: The names of the fields that the link fills in.
    """

    price: str
    custom: str
    pay_type: str
    skin: str
    is_fixed: bool
    linked: frozenset[str]

    def is_locked(self, name: str) -> bool:
        """Return whether the customer is prevented from changing the field *name*."""
        return self.is_fixed and name in self.linked


def _read_choice(query: dict[str, str], form: dict[str, str]) -> _Choice:
    """Merge the values from the link and from the customer's form."""
    # With `stable=1` in the link, the form's values for the fields of the link are ignored.
    is_fixed = query.get("stable") == "1"
    linked = frozenset(name for name in ("price", "custom") if query.get(name))
    values = {
        name: query.get(name, "") if is_fixed and name in linked else form.get(name, query.get(name, ""))
        for name in ("price", "custom")
    }
    skin = query.get("skin", "0")
    return _Choice(
        **values,
        pay_type=form.get("type", ""),
        skin=skin if skin in _SKINS else "0",
        is_fixed=is_fixed,
        linked=linked,
    )


class QuickPayPage:
    """
    The page at a quick-pay link, where a customer creates an order.

    Args:
        order_service: Gives access to the database.
    """

    def __init__(self, order_service: OrderService) -> None:
        self._order_service = order_service

    def routes(self) -> list[Route]:
        """The routes of the page."""
        return [Route(_PAGE_PATH, self.show, methods=["GET"]), Route(_PAGE_PATH, self.create_order, methods=["POST"])]

    async def show(self, request: Request) -> Response:
        """Show the form, with the values from the link filled in."""
        choice = _read_choice(dict(request.query_params), {})
        shop = await to_thread.run_sync(self._find_shop, dict(request.query_params))
        return _render(request, shop, choice)

    async def create_order(self, request: Request) -> Response:
        """Create the order, and show its payment page."""
        query, form = dict(request.query_params), await read_fields(request)
        choice = _read_choice(query, form)
        shop = await to_thread.run_sync(self._find_shop, query)
        price = parse_amount(choice.price)
        invalid = [
            name
            for name, valid in (
                ("price", price is not None),
                ("custom", 0 < len(choice.custom.strip()) <= MAX_CUSTOM_CHARS),
                ("type", choice.pay_type in PAY_TYPES),
            )
            if not valid
        ]
        if shop is None or price is None or invalid:
            return _render(request, shop, choice, invalid=invalid, status=422)
        page_id = await to_thread.run_sync(self._insert_order, shop, choice, price)
        if page_id is None:
            return _unavailable_page(request)
        return redirect(request, self._order_service.options.pay_path, id=page_id, type=choice.pay_type)

    def _find_shop(self, query: dict[str, str]) -> ShopState | None:
        """Return the shop of the link; None: its appkey or token is wrong."""
        with self._order_service.open() as (connection, _):
            account = shops.find_account(connection, query.get("appkey", ""))
            shop = None if account is None else shops.find_shop(connection, account.admin_id)
        expected_token, token = "" if shop is None else shop.token or "", query.get("token", "")
        return shop if expected_token and secrets.compare_digest(expected_token.encode(), token.encode()) else None

    def _insert_order(self, shop: ShopState, choice: _Choice, price: Decimal) -> str | None:
        """
        Insert the order. Return the ID of its payment page, or None if the shop doesn't accept the order.

        That is so if the shop is closed, its licence has expired, its quota is used up, or it refuses the payment type.
        """
        fen, options = int(price * 100), self._order_service.options
        with self._order_service.open() as (connection, now):
            spent = orders.amount_ordered_today(connection, shop.admin_id, now=int(now))
            if not _is_shop_open(shop, now) or choice.pay_type in shop.closed_pay_types:
                return None
            if shop.quota is not None and spent + fen > shop.quota * 100:  # the quota is in yuan
                return None
            order = NewOrder(
                admin_id=shop.admin_id,
                endpoint="pay/any",
                items={},
                name=amount_order_name(fen),
                price=fen,
                pay_type=choice.pay_type,
                out_order_id=str(uuid4()),
                custom=choice.custom.strip(),
            )
            expires = None if options.expires_after is None else now + options.expires_after
            return orders.insert(connection, order, now=int(now), expires=expires)


def _is_shop_open(shop: ShopState, now: float) -> bool:
    """Whether the shop is not closed, and its licence has not expired."""
    licence_until = shop.licence_until
    return not shop.closed and (licence_until is None or datetime.fromtimestamp(now, UTC) < licence_until)


def _render(
    request: Request, shop: ShopState | None, choice: _Choice, *, invalid: list[str] | None = None, status: int = 200
) -> Response:
    if shop is None:
        return render(request, "error.html", status=404, problem="no_link")
    types = [name for name in PAY_TYPES if name not in shop.closed_pay_types]
    if not types:
        return _unavailable_page(request)
    return render(
        request,
        "quick_pay.html",
        status=status,
        choice=choice,
        types=types,
        chosen=choice.pay_type if choice.pay_type in types else types[0],
        invalid=invalid or [],
        action=f"{_PAGE_PATH}?{request.url.query}",
    )


def _unavailable_page(request: Request) -> Response:
    return render(request, "error.html", status=409, problem="link_closed")
