"""
A minimal shop database in SQLite, in place of your own. The other recipes use it.

The functions block, so async code calls them in a thread.
"""

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from decimal import Decimal

from gatepay_async import Callback, Payment

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    out_order_id TEXT PRIMARY KEY, price TEXT NOT NULL, email TEXT NOT NULL, paid_as INTEGER UNIQUE);
CREATE TABLE IF NOT EXISTS outbox (email TEXT NOT NULL, text TEXT NOT NULL);
"""


def write_down(payment: Payment, email: str) -> None:
    """Save an order. Do this before you show the payment link: a callback for an unknown order is rejected."""
    with transaction() as records:
        records.execute(
            "INSERT INTO orders (out_order_id, price, email) VALUES (?, ?, ?)",
            (payment.out_order_id, str(payment.order_price), email),
        )


def price_of(out_order_id: str) -> Decimal | None:
    """Return the price of an order, or None if it doesn't exist. Callbacks are compared with it."""
    with transaction() as records:
        found = records.execute("SELECT price FROM orders WHERE out_order_id = ?", (out_order_id,)).fetchone()
    return None if found is None else Decimal(found[0])


def deliver(callback: Callback) -> None:
    """Deliver the goods exactly once: one transaction marks the order as paid and queues the delivery."""
    with transaction() as records:
        paid = "UPDATE orders SET paid_as = ? WHERE out_order_id = ? AND paid_as IS NULL RETURNING email"
        order = records.execute(paid, (callback.order_id, callback.out_order_id)).fetchone()
        if order is not None:  # otherwise it was delivered before
            records.execute("INSERT INTO outbox VALUES (?, ?)", (*order, f"Thank you for {callback.out_order_id}"))


@contextmanager
def transaction() -> Generator[sqlite3.Connection]:
    """Run a transaction: commit it, or roll it back on an exception."""
    with closing(sqlite3.connect("shop.sqlite3", isolation_level=None)) as records:
        records.executescript(SCHEMA)
        records.execute("BEGIN IMMEDIATE")
        with records:
            yield records
