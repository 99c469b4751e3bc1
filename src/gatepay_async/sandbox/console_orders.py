"""Creates an order from the console's form, as `pay/create` would."""

import secrets
from sqlite3 import Connection

from attrs import frozen

from gatepay_async.sandbox import card_keys, orders, shops
from gatepay_async.sandbox.endpoint import is_positive
from gatepay_async.sandbox.order_service import OrderService
from gatepay_async.sandbox.orders import NewOrder
from gatepay_async.sandbox.shops import ProductStock

__all__ = ["CONSOLE_PAY_TYPES", "MAX_FIELD_CHARS", "OrderForm", "list_all_products", "make_order"]

CONSOLE_PAY_TYPES = ("alipay", "wechat", "onecode")
MAX_FIELD_CHARS = 100  # the form's own limit; longer values are cut


@frozen(kw_only=True)
class OrderForm:
    """The fields of the form, as the user typed them."""

    product: str = ""
    quantity: str = "1"
    pay_type: str = "alipay"
    out_order_id: str = ""
    custom: str = "console"


def list_all_products(connection: Connection) -> list[ProductStock]:
    """List the products of all shops, in the order of the shops."""
    return [
        product for account in shops.accounts(connection) for product in shops.list_stock(connection, account.admin_id)
    ]


def make_order(order_service: OrderService, form: OrderForm) -> int | str:
    """Create the order. Return its ``order_id`` or, if the form is invalid, the name of the error text."""
    if form.pay_type not in CONSOLE_PAY_TYPES or not is_positive(form.quantity) or not is_positive(form.product):
        return "order_wrong"
    quantity, product_id = int(form.quantity), int(form.product)
    if form.pay_type == "wechat" and quantity > 1:
        return "order_single"
    with order_service.open() as (connection, now):
        for account in shops.accounts(connection):
            product = shops.find_product(connection, account.admin_id, product_id)
            # An account stays when its shop is removed.
            if product is None or shops.find_shop(connection, account.admin_id) is None:
                continue
            if card_keys.stock(connection, product_id) < quantity:
                return "order_stock"
            order = NewOrder(
                admin_id=account.admin_id,
                endpoint="pay/create",
                items={product_id: quantity},
                name=product.name,
                price=product.price * quantity,
                pay_type=form.pay_type,
                # Letters at both ends, as in new_out_order_id(). A signature joins the fields without separators, so a
                # digit at an end could be moved to the field next to it.
                out_order_id=form.out_order_id.strip() or f"C{secrets.token_hex(4).upper()}X",
                custom=form.custom,
            )
            expires_after = order_service.options.expires_after
            expires = None if expires_after is None else now + expires_after
            payment_page_id = orders.insert(connection, order, now=int(now), expires=expires)
            return orders.order_id_of_page(connection, payment_page_id)
    return "order_wrong"
