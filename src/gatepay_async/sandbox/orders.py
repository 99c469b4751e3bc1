"""Orders in the database, their payment image, and the callback that the server would send for one."""

import base64
import io
import secrets
import sqlite3
from decimal import Decimal
from urllib.parse import urlencode

import segno
from attrs import frozen

from gatepay_async.sandbox.shops import ShopAccount
from gatepay_async.sandbox.signatures import signature

__all__ = [
    "Order",
    "callback_query",
    "find",
    "find_page",
    "insert",
    "list_orders",
    "ordered_today",
    "qrcode",
    "settle",
]

# The vendor's day: it counts in its own time, UTC+8, which knows no summer time. Which hour: silent.
_DAY = 86_400
_MIDNIGHT = 8 * 3_600


@frozen(kw_only=True)
class Order:
    """
    One order as the shop has it.

    Attributes:
        order_id: The number that a callback carries.
        page_id: The ``id`` in the payment page's address.
        admin_id: The seller.
        price: For all pieces together, in yuan, exactly two decimals.
        state: ``pending``, or ``paid``.
        created_at: Epoch seconds.
    """

    order_id: int
    page_id: str
    admin_id: int
    product_id: int
    product_num: int
    out_order_id: str
    price: Decimal
    pay_type: str
    custom: str
    state: str
    created_at: int


def _order(row: sqlite3.Row) -> Order:
    same = ("page_id", "admin_id", "product_id", "product_num", "out_order_id", "pay_type", "custom", "state")
    return Order(
        order_id=row["id"],
        price=Decimal(row["price"]).scaleb(-2),
        created_at=row["created"],
        **{name: row[name] for name in same},
    )


def insert(connection: sqlite3.Connection, form: dict[str, str], *, admin_id: int, price: int, now: int) -> str:
    """Store an order of *price* fen from the call's form; gives the id of its payment page."""
    page_id = secrets.token_hex(8)
    number = (int(form["product_id"]), int(form["product_num"]))
    texts = (form["out_order_id"], form["pay_type"], form["custom"])
    connection.execute(
        "INSERT INTO pay_order (page_id, admin_id, product_id, product_num, out_order_id, pay_type, custom,"
        " price, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (page_id, admin_id, *number, *texts, price, now),
    )
    return page_id


def list_orders(connection: sqlite3.Connection) -> list[Order]:
    """List all orders of all shops, oldest first."""
    return [_order(row) for row in connection.execute("SELECT * FROM pay_order ORDER BY id")]


def find(connection: sqlite3.Connection, order_id: int) -> Order | None:
    """Find the order with that number."""
    row = connection.execute("SELECT * FROM pay_order WHERE id = ?", (order_id,)).fetchone()
    return None if row is None else _order(row)


def find_page(connection: sqlite3.Connection, page_id: str) -> Order | None:
    """Find the order whose payment page has *page_id*."""
    row = connection.execute("SELECT * FROM pay_order WHERE page_id = ?", (page_id,)).fetchone()
    return None if row is None else _order(row)


def settle(connection: sqlite3.Connection, order_id: int) -> bool:
    """Make a pending order a paid one; says whether it was pending."""
    changed = connection.execute("UPDATE pay_order SET state = 'paid' WHERE id = ? AND state = 'pending'", (order_id,))
    return changed.rowcount == 1


def ordered_today(connection: sqlite3.Connection, admin_id: int, *, now: int) -> int:
    """Sum up what the seller's orders of this day come to, in fen, paid or not."""
    midnight = now - (now + _MIDNIGHT) % _DAY
    found = connection.execute(
        "SELECT coalesce(sum(price), 0) FROM pay_order WHERE admin_id = ? AND created >= ?",
        (admin_id, midnight),
    )
    return int(found.fetchone()[0])


def qrcode(text: str) -> str:
    """Draw *text* as a data URI that says JPEG and holds a PNG, as the vendor's example does."""
    image = io.BytesIO()
    segno.make_qr(text, error="m").save(image, kind="png", scale=5)
    return "data:image/jpeg;base64," + base64.b64encode(image.getvalue()).decode()


def callback_query(order: Order, account: ShopAccount, *, realprice: Decimal, paytime: int) -> str:
    """
    Write the query text that GatePay calls the merchant with once *order* is paid (支付成功回调接口).

    Args:
        order: What was ordered.
        account: The seller's keys; the secret signs and does not appear.
        realprice: What the customer paid, in yuan.
        paytime: When, in epoch seconds.
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
    return urlencode({"appkey": account.appkey, **fields, "sign": sign})
