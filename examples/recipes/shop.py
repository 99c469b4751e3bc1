"""
A shop's own records, as small as they can be: SQLite in the place of your database. The recipes beside it use them.

Each function blocks for a moment; async code calls it in a thread.
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
    """Write down an order. Before the customer sees where to pay it: what is not written down can't be paid."""
    with transaction() as records:
        records.execute(
            "INSERT INTO orders (out_order_id, price, email) VALUES (?, ?, ?)",
            (payment.out_order_id, str(payment.order_price), email),
        )


def price_of(out_order_id: str) -> Decimal | None:
    """Say what an order costs, or None where there is no such order: what a callback is compared with."""
    with transaction() as records:
        found = records.execute("SELECT price FROM orders WHERE out_order_id = ?", (out_order_id,)).fetchone()
    return None if found is None else Decimal(found[0])


def deliver(callback: Callback) -> None:
    """Give the goods, exactly once: what is sent for an order is written together with that it is paid."""
    with transaction() as records:
        paid = "UPDATE orders SET paid_as = ? WHERE out_order_id = ? AND paid_as IS NULL RETURNING email"
        order = records.execute(paid, (callback.order_id, callback.out_order_id)).fetchone()
        if order is not None:  # else it was paid and delivered before
            records.execute("INSERT INTO outbox VALUES (?, ?)", (*order, f"Thank you for {callback.out_order_id}"))


@contextmanager
def transaction() -> Generator[sqlite3.Connection]:
    """Begin; commit, or roll back what raised."""
    with closing(sqlite3.connect("shop.sqlite3", isolation_level=None)) as records:
        records.executescript(SCHEMA)
        records.execute("BEGIN IMMEDIATE")
        with records:
            yield records
