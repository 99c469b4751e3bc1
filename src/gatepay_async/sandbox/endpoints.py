"""
The four endpoints on the first page of GatePay's documentation, with their checks in order.

The page lists the codes, but doesn't say which check comes first. The order here: all fields are present, each value is
valid, the appkey is known, the signature is valid, the shop exists (and is open), the product belongs to the shop; then
the checks of the call itself. If two causes of one step apply, the lower code wins. Without a valid signature, a caller
learns nothing about a shop.
"""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime

from attrs import frozen

from gatepay_async.sandbox import card_keys, orders, refusals, shops
from gatepay_async.sandbox.endpoint import (
    CallContext,
    CallRefusedError,
    Endpoint,
    FormFields,
    RawJson,
    is_positive,
    require,
)
from gatepay_async.sandbox.forms import TRIMMED_CHARS
from gatepay_async.sandbox.later_endpoints import LATER_ENDPOINTS
from gatepay_async.sandbox.orders import NewOrder
from gatepay_async.sandbox.prices import format_price
from gatepay_async.sandbox.refusals import Cause
from gatepay_async.sandbox.signatures import is_signed

__all__ = ["ENDPOINTS"]

_FIRST_PAY_TYPES = ("wechat", "alipay", "onecode")
MAX_KEYS = 500  # in one call of ka/create


@frozen(kw_only=True)
class FirstEndpoint(Endpoint):
    """
    An endpoint of the first page of GatePay's documentation.

    Attributes:
        unsigned: Required fields that are not signed.
        empty_counts_as_present: Fields that aren't missing if they are empty: a later check has a code for that.
        checks: Checks of the values, in order. They don't use the database.
    """

    unsigned: tuple[str, ...] = ()
    empty_counts_as_present: tuple[str, ...] = ()
    checks: tuple[Callable[[FormFields], None], ...] = ()

    def authenticate(self, context: CallContext, form: FormFields) -> int:
        """
        Check the fields, then the appkey, then the signature. Return the caller's admin id.

        Raises:
            CallRefusedError: A check failed.
        """
        for name in ("appkey", "sign", *self.signed, *self.unsigned):
            require(name in form and (form[name] != "" or name in self.empty_counts_as_present), Cause.MISSING, name)
        for check in self.checks:
            check(form)
        account = shops.find_account(context.connection, form["appkey"])
        if account is None:
            raise CallRefusedError(Cause.APPKEY)
        parts = [form[name] for name in self.signed]
        require(is_signed(form["sign"], *account.credentials, parts), Cause.SIGNATURE, self.signed_names)
        return account.admin_id


def _require_pay_type(form: FormFields) -> None:
    require(form["pay_type"] in _FIRST_PAY_TYPES, Cause.PAY_TYPE)


def _require_single_for_wechat(form: FormFields) -> None:
    is_several = is_positive(form["product_num"]) and int(form["product_num"]) > 1
    require(not (is_several and form["pay_type"] == "wechat"), Cause.WECHAT_QUANTITY)


def _require_product_id(form: FormFields) -> None:
    require(is_positive(form["product_id"]), Cause.PRODUCT_ID)


def _require_product_num(form: FormFields) -> None:
    require(is_positive(form["product_num"]), Cause.QUANTITY)


def _require_page(form: FormFields) -> None:
    require(is_positive(form["page"]), Cause.PAGE)


def _shop_of_admin(context: CallContext, admin_id: int) -> shops.ShopState:
    shop = shops.find_shop(context.connection, admin_id)
    if shop is None:
        raise CallRefusedError(Cause.NO_SHOP)
    return shop


def _find_own_product(context: CallContext, admin_id: int, form: FormFields) -> shops.Product:
    product = shops.find_product(context.connection, admin_id, int(form["product_id"]))
    if product is None:
        raise CallRefusedError(Cause.NO_PRODUCT)
    return product


def _find_product_of_open_shop(context: CallContext, admin_id: int, form: FormFields) -> shops.Product:
    require(not _shop_of_admin(context, admin_id).closed, Cause.CLOSED)
    return _find_own_product(context, admin_id, form)


# The functions that carry out calls are named after their endpoints: `_pay_create` carries out `pay/create`.


def _pay_create(context: CallContext, admin_id: int, form: FormFields) -> object:
    shop, product = _shop_of_admin(context, admin_id), _find_own_product(context, admin_id, form)
    quantity = int(form["product_num"])
    require(quantity <= card_keys.stock(context.connection, product.id), Cause.STOCK)
    price = product.price * quantity
    spent = orders.amount_ordered_today(context.connection, admin_id, now=context.now)
    require(shop.quota is None or spent + price <= shop.quota * 100, Cause.QUOTA)  # the quota is in yuan
    licence_until = shop.licence_until
    require(licence_until is None or datetime.fromtimestamp(context.now, UTC) < licence_until, Cause.LICENCE)
    order = NewOrder(
        admin_id=admin_id,
        endpoint="pay/create",
        items={product.id: quantity},
        name=product.name,
        price=price,
        pay_type=form["pay_type"],
        out_order_id=form["out_order_id"],
        custom=form["custom"],
    )
    page_id = orders.insert(context.connection, order, now=context.now, expires=context.expires)
    url = orders.page_url(context.origin, page_id, form["pay_type"])
    order_price = format_price(product.price, quantity, context.options.php_floats)
    return {
        "order_type": form["pay_type"],
        "order_price": RawJson(order_price),
        "order_url": url,
        "order_qrcode": orders.qrcode_data_uri(url),
    }


def _product_show(context: CallContext, admin_id: int, _form: FormFields) -> object:
    return {"category": shops.list_categories(context.connection, admin_id)}


def _ka_show(context: CallContext, admin_id: int, form: FormFields) -> object:
    product = _find_product_of_open_shop(context, admin_id, form)
    total = card_keys.count(context.connection, product.id)
    last = max(1, -(-total // context.per_page))  # rounded up
    requested = int(form["page"])
    page, has_rows = (
        _PAST_LAST_PAGE[context.options.past_last_page](requested, last) if requested > last else (requested, True)
    )
    rows = card_keys.rows(context.connection, product.id, page, context.per_page) if has_rows else []
    context.outcome.card_keys = len(rows)  # for the event of this call
    if context.options.past_last_page == "thinkphp" and total == 0:
        page = last = 0  # ThinkPHP counts no page if there are no rows
    paging = {"total": total, "per_page": context.per_page, "current_page": page, "last_page": last}
    return {"ka": {**paging, "data": rows}}


def _refuse_page(_requested: int, _last: int) -> tuple[int, bool]:
    raise CallRefusedError(Cause.PAGE)


# GatePay doesn't document pages past the last one. For each option: the returned page number, and whether it has rows.
_PAST_LAST_PAGE: dict[str, Callable[[int, int], tuple[int, bool]]] = {
    "empty": lambda requested, _last: (requested, False),
    "clamp": lambda _requested, last: (last, True),
    "refuse": _refuse_page,
    "thinkphp": lambda _requested, last: (last, False),
}


def _ka_create(context: CallContext, admin_id: int, form: FormFields) -> object:
    product = _find_product_of_open_shop(context, admin_id, form)
    keys = _parse_keys(form["content"], case_insensitive=context.options.case_insensitive_keys)
    new_keys = card_keys.not_stored(
        context.connection, product.id, keys, case_insensitive=context.options.case_insensitive_keys
    )
    require(bool(new_keys), Cause.ALL_KNOWN)
    try:
        card_keys.add(context.connection, product.id, new_keys, now=context.now)
    except sqlite3.Error:
        # `from None`, because the original error could write card keys to a log.
        raise CallRefusedError(Cause.STORAGE) from None
    context.outcome.card_keys = len(new_keys)
    return f"成功录入:{len(new_keys)}条卡密"


def _parse_keys(content: str, *, case_insensitive: bool) -> list[str]:
    """Split *content* into card keys, and check their number and that none is repeated."""
    # strip() without an argument would also remove Unicode spaces, which are part of a key.
    lines = [line.strip(TRIMMED_CHARS) for line in content.split("\n")]
    keys = [line for line in lines if line]
    compared = {key.casefold() for key in keys} if case_insensitive else set(keys)
    require(len(compared) == len(keys), Cause.REPEATED)
    require(bool(keys), Cause.EMPTY)
    require(len(keys) <= MAX_KEYS, Cause.TOO_MANY)
    return keys


_FIRST_ENDPOINTS = {
    endpoint.path: endpoint
    for endpoint in (
        FirstEndpoint(
            path="pay/create",
            signed=("product_id", "product_num", "pay_type", "out_order_id", "custom"),
            checks=(_require_pay_type, _require_single_for_wechat, _require_product_id, _require_product_num),
            refusals=refusals.PAY_CREATE,
            carry_out=_pay_create,
        ),
        FirstEndpoint(
            path="product/show",
            signed=(),
            refusals=refusals.PRODUCT_SHOW,
            carry_out=_product_show,
        ),
        FirstEndpoint(
            path="ka/show",
            signed=("product_id",),
            unsigned=("page",),
            checks=(_require_product_id, _require_page),
            refusals=refusals.KA_SHOW,
            carry_out=_ka_show,
        ),
        FirstEndpoint(
            path="ka/create",
            signed=("product_id", "content"),
            empty_counts_as_present=("content",),  # an empty content is 110; a missing one is 101
            checks=(_require_product_id,),
            refusals=refusals.KA_CREATE,
            carry_out=_ka_create,
        ),
    )
}
ENDPOINTS: dict[str, Endpoint] = {**_FIRST_ENDPOINTS, **LATER_ENDPOINTS}
