"""The queries that GatePay signs: the query of the callback and the query of the return URL."""

from decimal import Decimal
from urllib.parse import urlencode

from gatepay_async.sandbox.orders import Order
from gatepay_async.sandbox.shops import ShopAccount
from gatepay_async.sandbox.signatures import signature

__all__ = ["callback_query", "return_query", "with_query"]

# For an order without a product, GatePay creates a product, as its codes 205 to 207 show. The sandbox only makes up a
# product id: this number plus the number of the order.
MADE_UP_PRODUCT_ID_BASE = 1_000_000


def callback_query(
    order: Order, account: ShopAccount, *, realprice: Decimal, paytime: int, with_appkey: bool = True
) -> str:
    """
    Return the signed fields of the callback for a paid *order* (支付成功回调接口), for a query or a form.

    Args:
        order: The order.
        account: The seller's credentials, for the signature.
        realprice: The amount that the customer paid, in yuan.
        paytime: When the customer paid, in epoch seconds.
        with_appkey: Whether the appkey is one of the fields. It is signed in either case.
    """
    # In signed order. Prices have exactly two decimals. `custom` is returned as `extend`.
    fields = {
        "order_id": str(order.order_id),
        "out_order_id": order.out_order_id,
        "price": f"{order.price:.2f}",
        "realprice": f"{realprice:.2f}",
        "type": order.pay_type,
        "paytime": str(paytime),
        "extend": order.custom,
    }
    sign = signature(account.appkey, account.appsecret, fields.values())
    appkey_field = {"appkey": account.appkey} if with_appkey else {}
    return urlencode({**appkey_field, **fields, "sign": sign})


def return_query(order: Order, account: ShopAccount, *, with_product_id: bool = True) -> str:
    """
    Return the query with which the customer's browser opens the return URL. It doesn't prove a payment.

    Args:
        order: The order.
        account: The seller's credentials, for the signature.
        with_product_id: Whether there is a ``product_id`` even if the order has no product, or several.
    """
    product_id = order.product_id
    if product_id is None and with_product_id:
        product_id = MADE_UP_PRODUCT_ID_BASE + order.order_id
    # In signed order. A missing field is signed as an empty text.
    fields = {
        "price": f"{order.price:.2f}",
        "type": order.pay_type,
        **({} if product_id is None else {"product_id": str(product_id)}),
        "order_id": str(order.order_id),
        "out_order_id": order.out_order_id,
    }
    return urlencode({**fields, "sign": signature(account.appkey, account.appsecret, fields.values())})


def with_query(url: str, query: str) -> str:
    """Append *query* to *url*, after its own parameters."""
    return f"{url}{'&' if '?' in url else '?'}{query}"
