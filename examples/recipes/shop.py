"""
A shop's own records: a minimal SQLite database in place of yours. The recipes import this file.

Each function blocks for a moment, so async code calls it in a thread.
"""

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from decimal import Decimal

from gatepay_async import Callback, new_out_order_id

PRODUCT, PRICE = 8, Decimal("0.99")  # the id and the price of the product that the shop sells

# `paid_as` is the `order_id` of the callback, and NULL until the order is paid. `outbox` holds messages to customers;
# this example doesn't send them.
SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    out_order_id TEXT PRIMARY KEY, price TEXT NOT NULL, email TEXT NOT NULL, paid_as INTEGER UNIQUE);
CREATE TABLE IF NOT EXISTS outbox (email TEXT NOT NULL, text TEXT NOT NULL);
"""


def new_order(email: str) -> str:
    """
    Record an order and return its number.

    Do this before you create the payment: if GatePay's reply is lost, the customer may still pay, and the callback must
    find the order.
    """
    out_order_id = new_out_order_id()
    with transaction() as records:
        records.execute(
            "INSERT INTO orders (out_order_id, price, email) VALUES (?, ?, ?)", (out_order_id, str(PRICE), email)
        )
    return out_order_id


def price_of(out_order_id: str) -> Decimal | None:
    """Return the price of an order, or None if there is no such order. Callbacks are compared with it."""
    with transaction() as records:
        row = records.execute("SELECT price FROM orders WHERE out_order_id = ?", (out_order_id,)).fetchone()
    return None if row is None else Decimal(row[0])


def deliver(callback: Callback) -> None:
    """Deliver exactly once: the payment and the message to the customer are recorded in one transaction."""
    with transaction() as records:
        mark_paid = "UPDATE orders SET paid_as = ? WHERE out_order_id = ? AND paid_as IS NULL RETURNING email"
        order = records.execute(mark_paid, (callback.order_id, callback.out_order_id)).fetchone()
        if order is not None:  # None: already paid and delivered
            [email] = order
            records.execute("INSERT INTO outbox VALUES (?, ?)", (email, f"Thank you for {callback.out_order_id}"))


@contextmanager
def transaction() -> Generator[sqlite3.Connection]:
    """Commit at the end, or roll back after an exception."""
    with closing(sqlite3.connect("shop.sqlite3", isolation_level=None)) as records:
        records.executescript(SCHEMA)
        records.execute("BEGIN IMMEDIATE")
        with records:
            yield records
