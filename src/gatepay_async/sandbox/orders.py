"""Orders in the database, and the address and image of their payment page."""

import base64
import io
import json
import secrets
import sqlite3
from collections.abc import Mapping
from decimal import Decimal

import segno
from attrs import frozen

__all__ = [
    "NewOrder",
    "Order",
    "count",
    "expire",
    "expire_overdue",
    "find",
    "find_last",
    "find_page",
    "get",
    "insert",
    "list_orders",
    "list_page",
    "number_of",
    "ordered_today",
    "page_url",
    "qrcode",
    "qrcode_png",
    "record_late_payment",
    "record_payment",
]

# The vendor's day: it counts in its own time, UTC+8, which knows no summer time. Which hour: silent.
DAY_S = 86_400
MIDNIGHT_OFFSET_S = 8 * 3_600


@frozen(kw_only=True)
class NewOrder:
    """
    What a call orders.

    Attributes:
        endpoint: Which call.
        items: How many pieces of each product; empty: an amount, and no product.
        name: What the customer reads.
        price: For all pieces together, in fen.
        notify_url: Where this order's payment is told of; None: at the shop's callback URL.
        return_url: Where the customer goes back to; None: to the shop's.
    """

    admin_id: int
    endpoint: str
    items: Mapping[int, int]
    name: str
    price: int
    pay_type: str
    out_order_id: str
    custom: str
    notify_url: str | None = None
    return_url: str | None = None


@frozen(kw_only=True)
class Order:
    """
    One order as the shop has it.

    Attributes:
        order_id: The number that a callback carries.
        page_id: The ``id`` in the payment page's address.
        admin_id: The seller.
        product_id: The product; None: there are several, or none.
        product_num: How many pieces in all; 1 for an amount without a product.
        price: For all pieces together, in yuan, exactly two decimals.
        state: ``pending``, ``paid``, or ``expired``. An order that is paid once it has expired stays
            ``expired`` and has a ``paid_at``: its money came, and nobody is told.
        created_at: Epoch seconds.
        expires_at: When it stops being to be paid, or stopped; epoch seconds; None: never.
        paid_at: Epoch seconds; None: not paid.
        realprice: What the customer paid, in yuan; None: nothing yet.
        endpoint: What made it, such as ``pay/create``; ``pay/any`` is the quick-pay page.
        items: Each product with its pieces; empty: an amount without a product.
        name: What the customer reads.
        notify_url: Where this order's payment is told of; None: at the shop's callback URL.
        return_url: Where the customer goes back to; None: to the shop's.
    """

    order_id: int
    page_id: str
    admin_id: int
    product_id: int | None
    product_num: int
    out_order_id: str
    price: Decimal
    pay_type: str
    custom: str
    state: str
    created_at: int
    expires_at: float | None = None
    paid_at: int | None = None
    realprice: Decimal | None = None
    endpoint: str = "pay/create"
    items: tuple[tuple[int, int], ...] = ()
    name: str = ""
    notify_url: str | None = None
    return_url: str | None = None

    @property
    def shown_state(self) -> str:
        """As :attr:`state`, or ``late`` for one that was paid once it had expired, or ``underpaid``."""
        if self.state == "expired" and self.paid_at is not None:
            return "late"
        if self.state == "paid" and self.realprice is not None and self.realprice < self.price:
            return "underpaid"
        return self.state


# What the table and the class call alike.
_SAME = (
    *("page_id", "admin_id", "product_num", "out_order_id", "pay_type", "custom", "state"),
    *("endpoint", "name", "notify_url", "return_url"),
)


def _order(row: sqlite3.Row) -> Order:
    items = tuple((int(product), int(number)) for product, number in json.loads(row["items"]))
    return Order(
        order_id=row["id"],
        product_id=row["product_id"] or None,
        items=items,
        price=_yuan(row["price"]),
        created_at=row["created"],
        expires_at=row["expires"],
        paid_at=row["paid"],
        realprice=None if row["realprice"] is None else _yuan(row["realprice"]),
        **{name: row[name] for name in _SAME},
    )


def _yuan(fen: int) -> Decimal:
    return Decimal(fen).scaleb(-2)


_INSERT = """
INSERT INTO pay_order (page_id, admin_id, product_id, product_num, out_order_id, pay_type, custom, price, endpoint,
    items, name, notify_url, return_url, created, expires)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def insert(connection: sqlite3.Connection, order: NewOrder, *, now: int, expires: float | None = None) -> str:
    """Store an order; gives the id of its payment page."""
    page_id = secrets.token_hex(8)
    [product_id] = order.items if len(order.items) == 1 else [0]
    product_num = sum(order.items.values()) or 1
    connection.execute(
        _INSERT,
        (
            *(page_id, order.admin_id, product_id, product_num, order.out_order_id, order.pay_type, order.custom),
            *(order.price, order.endpoint, json.dumps(list(order.items.items())), order.name),
            *(order.notify_url, order.return_url, now, expires),
        ),
    )
    return page_id


def expire_overdue(connection: sqlite3.Connection, *, now: float) -> None:
    """Let every pending order whose time is up expire; to be called before orders are read."""
    connection.execute("UPDATE pay_order SET state = 'expired' WHERE state = 'pending' AND expires <= ?", (now,))


def list_orders(connection: sqlite3.Connection) -> list[Order]:
    """List all orders of all shops, oldest first."""
    return [_order(row) for row in connection.execute("SELECT * FROM pay_order ORDER BY id")]


def count(connection: sqlite3.Connection, *, state: str | None = None) -> int:
    """Count the orders of all shops, or those in one state."""
    query = "SELECT count(*) FROM pay_order WHERE :state IS NULL OR state = :state"
    return int(connection.execute(query, {"state": state}).fetchone()[0])


def list_page(connection: sqlite3.Connection, *, first: int, number: int) -> list[Order]:
    """List *number* orders of all shops, newest first, behind the *first* newest ones."""
    cursor = connection.execute("SELECT * FROM pay_order ORDER BY id DESC LIMIT ? OFFSET ?", (number, first))
    return [_order(row) for row in cursor]


def find(connection: sqlite3.Connection, order_id: int) -> Order | None:
    """Find the order with that number."""
    row = connection.execute("SELECT * FROM pay_order WHERE id = ?", (order_id,)).fetchone()
    return None if row is None else _order(row)


def get(connection: sqlite3.Connection, order_id: int) -> Order:
    """
    Give the order with that number.

    Raises:
        LookupError: No order has it.
    """
    order = find(connection, order_id)
    if order is None:
        raise LookupError(f"no order has the number {order_id}")
    return order


def find_page(connection: sqlite3.Connection, page_id: str) -> Order | None:
    """Find the order whose payment page has *page_id*."""
    row = connection.execute("SELECT * FROM pay_order WHERE page_id = ?", (page_id,)).fetchone()
    return None if row is None else _order(row)


def find_last(connection: sqlite3.Connection, admin_id: int, out_order_id: str, *, later_only: bool) -> Order | None:
    """Find the newest of the seller's orders with the shop's own number; perhaps none that ``pay/create`` made."""
    row = connection.execute(
        "SELECT * FROM pay_order WHERE admin_id = ? AND out_order_id = ? AND (endpoint <> 'pay/create' OR NOT ?)"
        " ORDER BY id DESC LIMIT 1",
        (admin_id, out_order_id, later_only),
    ).fetchone()
    return None if row is None else _order(row)


def number_of(connection: sqlite3.Connection, page_id: str) -> int:
    """Give the number of the order whose payment page has *page_id*; there is one."""
    return int(connection.execute("SELECT id FROM pay_order WHERE page_id = ?", (page_id,)).fetchone()[0])


def record_payment(connection: sqlite3.Connection, order_id: int, *, realprice: Decimal, now: float) -> None:
    """Make the order a paid one; what was noted of a payment that came too late stays."""
    connection.execute(
        "UPDATE pay_order SET state = 'paid', paid = coalesce(paid, ?), realprice = coalesce(realprice, ?)"
        " WHERE id = ?",
        (int(now), int(realprice * 100), order_id),
    )


def record_late_payment(connection: sqlite3.Connection, order_id: int, *, realprice: Decimal, now: float) -> None:
    """Note that an expired order was paid; it stays expired."""
    connection.execute(
        "UPDATE pay_order SET paid = ?, realprice = ? WHERE id = ?", (int(now), int(realprice * 100), order_id)
    )


def expire(connection: sqlite3.Connection, order_id: int, *, now: float) -> None:
    """Let a pending order expire now."""
    connection.execute(
        "UPDATE pay_order SET state = 'expired', expires = ? WHERE id = ? AND state = 'pending'", (now, order_id)
    )


def ordered_today(connection: sqlite3.Connection, admin_id: int, *, now: int) -> int:
    """Sum up what the seller's orders of this day come to, in fen, paid or not."""
    midnight = now - (now + MIDNIGHT_OFFSET_S) % DAY_S
    cursor = connection.execute(
        "SELECT coalesce(sum(price), 0) FROM pay_order WHERE admin_id = ? AND created >= ?",
        (admin_id, midnight),
    )
    return int(cursor.fetchone()[0])


def page_url(origin: str, page_id: str, pay_type: str, *, path: str = "/pay/index") -> str:
    """Write the payment page's address."""
    return f"{origin}{path}?id={page_id}&type={pay_type}"


def qrcode(text: str) -> str:
    """Draw *text* as a data URI that says JPEG and holds a PNG, as the vendor's example does."""
    return "data:image/jpeg;base64," + base64.b64encode(qrcode_png(text)).decode()


def qrcode_png(text: str) -> bytes:
    """Draw *text* as a PNG."""
    image = io.BytesIO()
    segno.make_qr(text, error="m").save(image, kind="png", scale=5)
    return image.getvalue()
