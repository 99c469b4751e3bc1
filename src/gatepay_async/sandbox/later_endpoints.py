"""
The five endpoints that the vendor documented later: four that create orders, and one that checks an order.

They share the codes below 200, whose causes are checked in ascending order. Then come the codes of each endpoint, from
201 on. One exception: whether the key has expired (103) is checked after the signature (104), so that a caller without
a valid signature learns nothing about a shop. Codes for the server's own failures (199, and codes such as "product
can't be created") are only returned if a fault asks for them.
"""

import re
from datetime import UTC, datetime
from urllib.parse import quote

from attrs import frozen

from gatepay_async.sandbox import callback_urls, card_keys, orders, refusals, shops
from gatepay_async.sandbox.callback_urls import CallbackUrlError
from gatepay_async.sandbox.endpoint import CallContext, CallRefusedError, Endpoint, FormFields, is_positive, require
from gatepay_async.sandbox.orders import NewOrder
from gatepay_async.sandbox.refusals import Cause
from gatepay_async.sandbox.shops import ShopState
from gatepay_async.sandbox.signatures import is_signed

__all__ = ["LATER_ENDPOINTS", "PAY_TYPES", "amount_order_name", "parse_price"]

PAY_TYPES = ("wechat", "alipay")
# Two decimals, and no leading zeros. GatePay doesn't document a largest price.
_PRICE = re.compile(r"(0|[1-9][0-9]{0,11})\.[0-9]{2}")
_URL_FIELDS = ("notify_url", "return_url")


@frozen(kw_only=True)
class LaterEndpoint(Endpoint):
    """
    An endpoint that was documented later.

    Attributes:
        optional: Optional fields, which are not signed.
    """

    optional: tuple[str, ...] = ()

    def authenticate(self, context: CallContext, form: FormFields) -> int:
        """
        Check appkey, signature, fields and shop. Return the caller's admin id.

        Raises:
            CallRefusedError: A check failed.
        """
        shop = self._authenticate_shop(context, form)
        licence_until = shop.licence_until
        require(licence_until is None or datetime.fromtimestamp(context.now, UTC) < licence_until, Cause.KEY_EXPIRED)
        for name in self.signed:
            require(bool(form.get(name)), Cause.MISSING, name)
        self._check_optional_fields(context, form)
        require(not shop.closed, Cause.CLOSED)
        if context.options.urls_required:
            # GatePay's texts for these codes call the return URL "callback", and the callback URL "notify".
            require(bool(form.get("return_url") or shop.return_url), Cause.NO_CALLBACK_URL)
            require(bool(form.get("notify_url") or shop.callback_url), Cause.NO_NOTIFY_URL)
        _check_quota(context, shop, 0)  # 0: refuse only if the quota is exceeded already
        return shop.admin_id

    def _authenticate_shop(self, context: CallContext, form: FormFields) -> ShopState:
        """Check appkey and signature. Return the shop."""
        require(bool(form.get("appkey")), Cause.NO_APPKEY)
        account = shops.find_account(context.connection, form["appkey"])
        shop = None if account is None else shops.find_shop(context.connection, account.admin_id)
        if account is None or shop is None:
            raise CallRefusedError(Cause.APPKEY)
        require(bool(form.get("sign")), Cause.NO_SIGN)
        # As in PHP, a missing field counts as empty.
        parts = [form.get(name, "") for name in self.signed]
        require(is_signed(form["sign"], *account.credentials, parts), Cause.SIGNATURE, self.signed_names)
        return shop

    def _check_optional_fields(self, context: CallContext, form: FormFields) -> None:
        """Refuse fields that are neither required nor optional, and invalid URLs."""
        documented = {"appkey", "sign", *self.signed, *self.optional}
        if context.options.refuse_extra:
            for name in form:
                require(name in documented, Cause.NOT_ALLOWED, name)
        name = "notify_url"  # the field that CallRefusedError names if the check below fails
        try:
            if name in form and name in self.optional:
                callback_urls.check(form[name], beyond_loopback=True)
            name = "return_url"
            if name in form and name in self.optional:
                callback_urls.check_return(form[name])
        except CallbackUrlError:
            raise CallRefusedError(Cause.NOT_ALLOWED, name) from None


def _check_quota(context: CallContext, shop: ShopState, price: int) -> None:
    """Check that today's orders and *price*, in fen, are within the shop's quota."""
    spent = orders.amount_ordered_today(context.connection, shop.admin_id, now=context.now)
    require(shop.quota is None or spent + price <= shop.quota * 100, Cause.QUOTA)  # the quota is in yuan


def _get_shop(context: CallContext, admin_id: int) -> ShopState:
    shop = shops.find_shop(context.connection, admin_id)
    assert shop is not None  # noqa: S101 -- authenticate() has found it in this transaction
    return shop


def _check_pay_type(shop: ShopState, pay_type: str, *, allowed: tuple[str, ...] = PAY_TYPES) -> None:
    require(pay_type in allowed, Cause.PAY_TYPE)
    require(not shop.closed_pay_types.issuperset(allowed), Cause.NO_PAY_TYPE)
    require(pay_type not in shop.closed_pay_types, Cause.PAY_TYPE_CLOSED)


def parse_price(text: str) -> int | None:
    """Parse a price with two decimals. Return it in fen; None: it is invalid or zero."""
    return int(text.replace(".", "")) or None if _PRICE.fullmatch(text) else None


def amount_order_name(price: int) -> str:
    """The name of an order without a product, as in the vendor's example."""
    return f"任意金额支付:{price // 100}.{price % 100:02d}元"


def _check_price(
    context: CallContext, form: FormFields, shop: ShopState, *, allowed: tuple[str, ...] = PAY_TYPES
) -> int:
    """Check the price, the pay type and the quota. Return the price in fen."""
    price = parse_price(form["price"])
    if price is None:
        raise CallRefusedError(Cause.PRICE)
    _check_pay_type(shop, form["type"], allowed=allowed)
    _check_quota(context, shop, price)
    return price


# The functions that carry out calls are named after their endpoints: `_order_check` carries out `order/check`.


def _anypay_create(context: CallContext, admin_id: int, form: FormFields) -> object:
    price = _check_price(context, form, _get_shop(context, admin_id))
    order = _new_order("anypay/create", admin_id, form, items={}, name=amount_order_name(price), price=price)
    return _insert_and_reply(context, form, order, signed_params=True)


def _cloudpay_create(context: CallContext, admin_id: int, form: FormFields) -> object:
    shop = _get_shop(context, admin_id)
    allowed = ("alipay",) if context.options.cloud_alipay_only else PAY_TYPES
    price = _check_price(context, form, shop, allowed=allowed)
    require(shop.agent, Cause.NOT_AN_AGENT)
    # This endpoint has no fields for URLs. If extra fields are allowed, they are ignored.
    form_without_urls = {name: value for name, value in form.items() if name not in _URL_FIELDS}
    order = _new_order(
        "cloudpay/create", admin_id, form_without_urls, items={}, name=amount_order_name(price), price=price
    )
    data = _insert_and_reply(context, form, order, signed_params=True)
    del data["qrcode_body"]  # the reply of this endpoint doesn't have it
    return data


def _stablepay_create(context: CallContext, admin_id: int, form: FormFields) -> object:
    shop = _get_shop(context, admin_id)
    _check_pay_type(shop, form["type"])
    require(is_positive(form["product_id"]), Cause.NO_PRODUCT)
    product = shops.find_product(context.connection, admin_id, int(form["product_id"]))
    if product is None:
        raise CallRefusedError(Cause.NO_PRODUCT)
    require(card_keys.stock(context.connection, product.id) > 0, Cause.STOCK)
    _check_quota(context, shop, product.price)
    order = _new_order(
        "stablepay/create", admin_id, form, items={product.id: 1}, name=product.name, price=product.price
    )
    return _insert_and_reply(context, form, order, signed_params=False)


def _grouppay_create(context: CallContext, admin_id: int, form: FormFields) -> object:
    shop, items = _get_shop(context, admin_id), _parse_items(form["fields"])
    _check_pay_type(shop, form["type"])
    names: list[str] = []
    price = 0
    # The vendor doesn't document what happens if only some of the products are in stock. Here, the order is refused.
    for product_id, quantity in items.items():
        product = shops.find_product(context.connection, admin_id, product_id)
        if product is None or card_keys.stock(context.connection, product_id) < quantity:
            raise CallRefusedError(Cause.STOCK)
        names.append(product.name if quantity == 1 else f"{product.name} × {quantity}")
        price += product.price * quantity
    _check_quota(context, shop, price)
    order = _new_order("grouppay/create", admin_id, form, items=items, name="、".join(names), price=price)
    return _insert_and_reply(context, form, order, signed_params=False)


def _parse_items(fields: str) -> dict[int, int]:
    """Parse ``8:1,7:2`` to quantities by product. GatePay has no code of its own for a malformed list."""
    pairs = [pair.partition(":") for pair in fields.split(",")]
    require(all(is_positive(product) and is_positive(quantity) for product, _, quantity in pairs), Cause.NOT_ALLOWED)
    items = {int(product): int(quantity) for product, _, quantity in pairs}
    require(len(items) == len(pairs), Cause.NOT_ALLOWED)
    return items


def _new_order(
    endpoint: str, admin_id: int, form: FormFields, *, items: dict[int, int], name: str, price: int
) -> NewOrder:
    return NewOrder(
        admin_id=admin_id,
        endpoint=endpoint,
        items=items,
        name=name,
        price=price,
        pay_type=form["type"],
        out_order_id=form["out_order_id"],
        custom=form["custom"],
        notify_url=form.get("notify_url"),
        return_url=form.get("return_url"),
    )


def _insert_and_reply(
    context: CallContext, form: FormFields, order: NewOrder, *, signed_params: bool
) -> dict[str, object]:
    """
    Store *order*. Return the data of the reply.

    *signed_params*: whether ``params`` has ``appkey`` and ``sign`` in GatePay's example of this endpoint.
    """
    options = context.options
    page_id = orders.insert(context.connection, order, now=context.now, expires=context.expires)
    url = orders.page_url(context.origin, page_id, order.pay_type, path=options.pay_path)
    data: dict[str, object] = {
        "pay_url": url,
        "qrcode_url": f"{context.origin}/qrcode/build?size=130&text={quote(url, safe='')}",
        "qrcode_body": orders.qrcode_data_uri(url),
    }
    if options.params == "signed" or (options.params == "as shown" and signed_params):
        data["params"] = form
    elif options.params != "absent":
        data["params"] = {name: value for name, value in form.items() if name not in ("appkey", "sign")}
    return data


def _order_check(context: CallContext, admin_id: int, form: FormFields) -> object:
    later_only = not context.options.check_finds_all
    order = orders.find_last(context.connection, admin_id, form["out_order_id"], later_only=later_only)
    if order is None:
        raise CallRefusedError(Cause.NO_ORDER)
    return {
        "order_id": order.order_id,
        "order_name": order.name,
        "order_price": f"{order.price:.2f}",
        "order_type": order.pay_type,
        "order_status": context.options.order_statuses.get(order.state, order.state),
    }


LATER_ENDPOINTS = {
    endpoint.path: endpoint
    for endpoint in (
        LaterEndpoint(
            path="anypay/create",
            signed=("price", "type", "out_order_id", "custom"),
            optional=_URL_FIELDS,
            refusals=refusals.ANYPAY_CREATE,
            carry_out=_anypay_create,
        ),
        LaterEndpoint(
            path="cloudpay/create",
            signed=("price", "type", "out_order_id", "custom"),
            refusals=refusals.CLOUDPAY_CREATE,
            carry_out=_cloudpay_create,
        ),
        LaterEndpoint(
            path="grouppay/create",
            signed=("fields", "type", "out_order_id", "custom"),
            optional=_URL_FIELDS,
            refusals=refusals.GROUPPAY_CREATE,
            carry_out=_grouppay_create,
        ),
        LaterEndpoint(
            path="stablepay/create",
            signed=("product_id", "type", "out_order_id", "custom"),
            optional=_URL_FIELDS,
            refusals=refusals.STABLEPAY_CREATE,
            carry_out=_stablepay_create,
        ),
        LaterEndpoint(
            path="order/check",
            method="GET",
            signed=("out_order_id",),
            refusals=refusals.ORDER_CHECK,
            carry_out=_order_check,
        ),
    )
}
