"""What the server signs for a merchant: the callback after a payment, and the query of the way back."""

from decimal import Decimal
from urllib.parse import urlencode

from gatepay_async.sandbox.orders import Order
from gatepay_async.sandbox.shops import ShopAccount
from gatepay_async.sandbox.signatures import signature

__all__ = ["callback_query", "return_query", "with_query"]

# The vendor makes a product for each order that has none of its own (its codes 205 to 207); here it has only a number.
MADE_UP_PRODUCT_IDS = 1_000_000


def callback_query(
    order: Order, account: ShopAccount, *, realprice: Decimal, paytime: int, with_appkey: bool = True
) -> str:
    """
    Write the query text (or a form's) that GatePay calls the merchant with once *order* is paid (支付成功回调接口).

    Args:
        order: What was ordered.
        account: The seller's keys; the secret signs and does not appear.
        realprice: What the customer paid, in yuan.
        paytime: When, in epoch seconds.
        with_appkey: Whether the appkey is among the fields. It is signed either way.
    """
    # In signed order; prices with exactly two decimals; `extend` is what `custom` was.
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
    named = {"appkey": account.appkey} if with_appkey else {}
    return urlencode({**named, **fields, "sign": sign})


def return_query(order: Order, account: ShopAccount, *, with_product_id: bool = True) -> str:
    """
    Write the query that the customer's browser takes back to the merchant; not a proof that anything was paid.

    Args:
        order: What was ordered.
        account: The seller's keys.
        with_product_id: Whether an order of no single product has a ``product_id`` nevertheless.
    """
    product_id = order.product_id
    if product_id is None and with_product_id:
        product_id = MADE_UP_PRODUCT_IDS + order.order_id
    # In signed order. What isn't there is signed as nothing.
    fields = {
        "price": f"{order.price:.2f}",
        "type": order.pay_type,
        **({} if product_id is None else {"product_id": str(product_id)}),
        "order_id": str(order.order_id),
        "out_order_id": order.out_order_id,
    }
    return urlencode({**fields, "sign": signature(account.appkey, account.appsecret, fields.values())})


def with_query(url: str, query: str) -> str:
    """Put *query* behind the parameters that *url* has itself."""
    return f"{url}{'&' if '?' in url else '?'}{query}"
