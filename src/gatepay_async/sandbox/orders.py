"""Orders in the database, and the URL and QR code of their payment page."""

import base64
import io
import json
import secrets
import sqlite3
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum

import segno
from attrs import field, frozen

__all__ = [
    "NewOrder",
    "Order",
    "amount_ordered_today",
    "count",
    "expire",
    "expire_overdue",
    "find",
    "find_by_page_id",
    "find_last",
    "get",
    "insert",
    "list_orders",
    "list_page",
    "order_id_of_page",
    "page_url",
    "qrcode_data_uri",
    "qrcode_png",
    "record_late_payment",
    "record_payment",
]

# The vendor doesn't document when a day begins for the quota. We assume midnight in China, which is UTC+8 all year.
DAY_S = 86_400
MIDNIGHT_OFFSET_S = 8 * 3_600


@frozen(kw_only=True)
class NewOrder:
    """
    An order to insert.

    Attributes:
        admin_id: The seller.
        endpoint: The endpoint that creates it, such as ``pay/create``.
        items: The quantity by product ID; empty: the order is for an amount, not for a product.
        name: The name that the customer sees.
        price: The total, in fen.
        pay_type: How the customer pays, such as ``alipay``.
        out_order_id: The shop's order number.
        custom: The shop's own text, which the callback returns as ``extend``.
        notify_url: The callback URL of this order; None: the shop's.
        return_url: The return URL of this order; None: the shop's.
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


class OrderState(StrEnum):
    """The state of an order."""

    PENDING = "pending"
    PAID = "paid"
    EXPIRED = "expired"


class ShownState(StrEnum):
    """The state of an order, as the pages show it. ``late``: paid too late. ``underpaid``: paid too little."""

    PENDING = "pending"
    PAID = "paid"
    EXPIRED = "expired"
    LATE = "late"
    UNDERPAID = "underpaid"


@frozen(kw_only=True)
class Order:
    """
    An order of the sandbox. All times are epoch seconds.

    Attributes:
        order_id: GatePay's number of the order, as in its callback.
        page_id: The ``id`` in the URL of the payment page.
        admin_id: The seller.
        product_id: The product; None: there are several, or none.
        product_num: The total quantity; 1 if there is no product.
        out_order_id: The shop's order number.
        price: The total, in yuan, with exactly two decimals.
        pay_type: How the customer pays, such as ``alipay``.
        custom: The shop's own text, which the callback returns as ``extend``.
        state: ``pending``, ``paid``, or ``expired``. If an expired order is paid, it stays ``expired`` and gets a
            ``paid_at``, and no callback is sent.
        created_at: When it was created.
        expires_at: When it expires or expired; None: never.
        paid_at: When it was paid; None: it isn't.
        realprice: The amount that the customer paid, in yuan; None: nothing yet.
        endpoint: The endpoint that created it, such as ``pay/create``; ``pay/any``: the quick-pay page.
        items: Pairs of a product's ID and its quantity; empty: the order is for an amount, not for a product.
        name: The name that the customer sees.
        notify_url: The callback URL of this order; None: the shop's.
        return_url: The return URL of this order; None: the shop's.
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
    state: OrderState = field(converter=OrderState)
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
    def shown_state(self) -> ShownState:
        """:attr:`state`, but ``late`` after a payment that came too late, and ``underpaid`` if it was too low."""
        if self.state == "expired" and self.paid_at is not None:
            return ShownState.LATE
        if self.state == "paid" and self.realprice is not None and self.realprice < self.price:
            return ShownState.UNDERPAID
        return ShownState(self.state)


# The columns that have the same name in the table and in the class.
_EQUALLY_NAMED_COLUMNS = (
    *("page_id", "admin_id", "product_num", "out_order_id", "pay_type", "custom", "state"),
    *("endpoint", "name", "notify_url", "return_url"),
)


def _order(row: sqlite3.Row) -> Order:
    """Convert a row of ``pay_order``."""
    items = tuple((int(product), int(quantity)) for product, quantity in json.loads(row["items"]))
    return Order(
        order_id=row["id"],
        product_id=row["product_id"] or None,
        items=items,
        price=_yuan(row["price"]),
        created_at=row["created"],
        expires_at=row["expires"],
        paid_at=row["paid"],
        realprice=None if row["realprice"] is None else _yuan(row["realprice"]),
        **{name: row[name] for name in _EQUALLY_NAMED_COLUMNS},
    )


def _yuan(fen: int) -> Decimal:
    return Decimal(fen).scaleb(-2)


_INSERT = """
INSERT INTO pay_order (page_id, admin_id, product_id, product_num, out_order_id, pay_type, custom, price, endpoint,
    items, name, notify_url, return_url, created, expires)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def insert(connection: sqlite3.Connection, order: NewOrder, *, now: int, expires: float | None = None) -> str:
    """Insert an order. Return the id of its payment page."""
    page_id = secrets.token_hex(8)
    [product_id] = order.items if len(order.items) == 1 else [0]  # 0: no product, or several
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
    """Mark overdue pending orders as expired. Call this before orders are read."""
    connection.execute("UPDATE pay_order SET state = 'expired' WHERE state = 'pending' AND expires <= ?", (now,))


def list_orders(connection: sqlite3.Connection) -> list[Order]:
    """List all orders of all shops, oldest first."""
    return [_order(row) for row in connection.execute("SELECT * FROM pay_order ORDER BY id")]


def count(connection: sqlite3.Connection, *, state: str | None = None) -> int:
    """Count the orders of all shops, or those in one state."""
    query = "SELECT count(*) FROM pay_order WHERE :state IS NULL OR state = :state"
    return int(connection.execute(query, {"state": state}).fetchone()[0])


def list_page(connection: sqlite3.Connection, *, offset: int, limit: int) -> list[Order]:
    """List orders of all shops, newest first: at most *limit* of them, without the *offset* newest ones."""
    cursor = connection.execute("SELECT * FROM pay_order ORDER BY id DESC LIMIT ? OFFSET ?", (limit, offset))
    return [_order(row) for row in cursor]


def find(connection: sqlite3.Connection, order_id: int) -> Order | None:
    """Return the order with that number, or None."""
    row = connection.execute("SELECT * FROM pay_order WHERE id = ?", (order_id,)).fetchone()
    return None if row is None else _order(row)


def get(connection: sqlite3.Connection, order_id: int) -> Order:
    """
    Return the order with that number.

    Raises:
        LookupError: No order has that number.
    """
    order = find(connection, order_id)
    if order is None:
        raise LookupError(f"no order has the number {order_id}")
    return order


def find_by_page_id(connection: sqlite3.Connection, page_id: str) -> Order | None:
    """Return the order whose payment page has *page_id*, or None."""
    row = connection.execute("SELECT * FROM pay_order WHERE page_id = ?", (page_id,)).fetchone()
    return None if row is None else _order(row)


def find_last(connection: sqlite3.Connection, admin_id: int, out_order_id: str, *, later_only: bool) -> Order | None:
    """
    Return the seller's newest order with that number, or None.

    *later_only*: find only orders of the endpoints that GatePay documented later, not those of ``pay/create``.
    """
    row = connection.execute(
        "SELECT * FROM pay_order WHERE admin_id = ? AND out_order_id = ? AND (endpoint <> 'pay/create' OR NOT ?)"
        " ORDER BY id DESC LIMIT 1",
        (admin_id, out_order_id, later_only),
    ).fetchone()
    return None if row is None else _order(row)


def order_id_of_page(connection: sqlite3.Connection, page_id: str) -> int:
    """Return the ``order_id`` of the order whose payment page has *page_id*. The order must exist."""
    return int(connection.execute("SELECT id FROM pay_order WHERE page_id = ?", (page_id,)).fetchone()[0])


def record_payment(connection: sqlite3.Connection, order_id: int, *, realprice: Decimal, now: float) -> None:
    """Mark the order as paid. The time and amount of an earlier late payment are kept."""
    connection.execute(
        "UPDATE pay_order SET state = 'paid', paid = coalesce(paid, ?), realprice = coalesce(realprice, ?)"
        " WHERE id = ?",
        (int(now), int(realprice * 100), order_id),
    )


def record_late_payment(connection: sqlite3.Connection, order_id: int, *, realprice: Decimal, now: float) -> None:
    """Record the payment of an expired order, which stays expired."""
    connection.execute(
        "UPDATE pay_order SET paid = ?, realprice = ? WHERE id = ?", (int(now), int(realprice * 100), order_id)
    )


def expire(connection: sqlite3.Connection, order_id: int, *, now: float) -> None:
    """Make a pending order expire now."""
    connection.execute(
        "UPDATE pay_order SET state = 'expired', expires = ? WHERE id = ? AND state = 'pending'", (now, order_id)
    )


def amount_ordered_today(connection: sqlite3.Connection, admin_id: int, *, now: int) -> int:
    """Return the total price of the seller's orders of this day, paid or not, in fen."""
    midnight = now - (now + MIDNIGHT_OFFSET_S) % DAY_S
    cursor = connection.execute(
        "SELECT coalesce(sum(price), 0) FROM pay_order WHERE admin_id = ? AND created >= ?",
        (admin_id, midnight),
    )
    return int(cursor.fetchone()[0])


def page_url(origin: str, page_id: str, pay_type: str, *, path: str = "/pay/index") -> str:
    """Return the URL of a payment page."""
    return f"{origin}{path}?id={page_id}&type={pay_type}"


def qrcode_data_uri(text: str) -> str:
    """Return a QR code as a data URI, which claims JPEG but holds a PNG, as in the vendor's example."""
    return "data:image/jpeg;base64," + base64.b64encode(qrcode_png(text)).decode()


def qrcode_png(text: str) -> bytes:
    """Return the QR code of *text* as a PNG."""
    image = io.BytesIO()
    segno.make_qr(text, error="m").save(image, kind="png", scale=5)
    return image.getvalue()
