"""Card keys in the database. Every function runs in the transaction of its caller."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["PER_PAGE", "add", "contents", "count", "delete", "ids", "not_stored", "restore", "rows", "sell", "stock"]

PER_PAGE = 50  # as in the vendor's example

# By the option `case_insensitive_keys`. `folded` is the card key's `casefold()`, which makes the comparison similar to
# that of MySQL's default collation.
_EXISTS_QUERIES = {
    False: "SELECT 1 FROM card_key WHERE product_id = ? AND content = ?",
    True: "SELECT 1 FROM card_key WHERE product_id = ? AND folded = ?",
}
# A run is a block of 1,024 ids; `card_key_run` counts the card keys of each. The query finds the run in which a page
# starts, after :skipped card keys; `before` is the number of card keys in earlier runs.
_RUN_QUERY = """
SELECT run << 10 AS first, before FROM (
    SELECT run, keys, sum(keys) OVER (ORDER BY run) - keys AS before FROM card_key_run WHERE product_id = :product_id)
WHERE before <= :skipped AND :skipped < before + keys
"""
# The id of a page's first card key. The OFFSET is its position among the card keys of the run.
_FIRST_QUERY = "SELECT id FROM card_key WHERE product_id = ? AND id >= ? ORDER BY id LIMIT 1 OFFSET ?"
_PAGE_QUERY = """
SELECT card_key.id, product.admin_id, card_key.product_id AS pay_product_id,
    card_key.order_id AS pay_order_id, card_key.content,
    card_key.created AS createtime, card_key.updated AS updatetime
FROM card_key JOIN product ON product.id = card_key.product_id
WHERE card_key.product_id = ? AND card_key.id >= ? ORDER BY card_key.id LIMIT ?
"""


def add(connection: sqlite3.Connection, product_id: int, keys: Iterable[str], *, now: int) -> None:
    """
    Store *keys* as they are, in order.

    Raises:
        sqlite3.IntegrityError: A key is longer than 255 characters, or the product has it already.
    """
    connection.executemany(
        "INSERT INTO card_key (product_id, content, folded, created, updated) VALUES (?, ?, ?, ?, ?)",
        [(product_id, key, key.casefold(), now, now) for key in keys],
    )


def not_stored(
    connection: sqlite3.Connection, product_id: int, keys: Iterable[str], *, case_insensitive: bool
) -> list[str]:
    """Return those of *keys* that the product doesn't have yet, sold or unsold."""
    query = _EXISTS_QUERIES[case_insensitive]

    def exists(key: str) -> bool:
        text = key.casefold() if case_insensitive else key
        return connection.execute(query, (product_id, text)).fetchone() is not None

    return [key for key in keys if not exists(key)]


def count(connection: sqlite3.Connection, product_id: int) -> int:
    """Count the product's keys, sold or not."""
    cursor = connection.execute("SELECT coalesce(sum(keys), 0) FROM card_key_run WHERE product_id = ?", (product_id,))
    return int(cursor.fetchone()[0])


def stock(connection: sqlite3.Connection, product_id: int) -> int:
    """Count the product's unsold keys. Unpaid orders don't reserve any."""
    cursor = connection.execute("SELECT count(*) FROM card_key WHERE product_id = ? AND order_id = 0", (product_id,))
    return int(cursor.fetchone()[0])


def rows(connection: sqlite3.Connection, product_id: int, page: int, per_page: int) -> list[dict[str, object]]:
    """Read one page (the first is 1), ordered by id. Each row has the fields of the vendor's example, in its order."""
    skipped = (page - 1) * per_page
    run = connection.execute(_RUN_QUERY, {"product_id": product_id, "skipped": skipped}).fetchone()
    if run is None:
        return []
    (first,) = connection.execute(_FIRST_QUERY, (product_id, run["first"], skipped - run["before"])).fetchone()
    cursor = connection.execute(_PAGE_QUERY, (product_id, first, per_page))
    # The vendor's page only shows "soldin", for card keys with pay_order_id 0. "sold" is our guess.
    return [{**row, "status": "sold" if row["pay_order_id"] else "soldin"} for row in map(dict, cursor)]


def contents(connection: sqlite3.Connection, product_id: int) -> list[str]:
    """Read all the product's keys, ordered by id."""
    cursor = connection.execute("SELECT content FROM card_key WHERE product_id = ? ORDER BY id", (product_id,))
    return [str(row["content"]) for row in cursor]


def ids(connection: sqlite3.Connection, product_id: int) -> list[int]:
    """Read the ids of all the product's keys, ascending."""
    cursor = connection.execute("SELECT id FROM card_key WHERE product_id = ? ORDER BY id", (product_id,))
    return [int(row["id"]) for row in cursor]


def delete(connection: sqlite3.Connection, product_id: int, key_ids: Sequence[int]) -> int:
    """Delete those of *key_ids* that belong to the product. Returns how many were deleted."""
    cursor = connection.executemany(
        "DELETE FROM card_key WHERE product_id = ? AND id = ?", [(product_id, key_id) for key_id in key_ids]
    )
    return cursor.rowcount


def restore(connection: sqlite3.Connection, product_id: int, keys: Mapping[int, str], *, now: int) -> None:
    """
    Store deleted keys under their former ids, as after a refund or when a backup is restored.

    Raises:
        sqlite3.IntegrityError: An id or a key exists already.
    """
    connection.executemany(
        "INSERT INTO card_key (id, product_id, content, folded, created, updated) VALUES (?, ?, ?, ?, ?, ?)",
        [(key_id, product_id, key, key.casefold(), now, now) for key_id, key in keys.items()],
    )


def sell(connection: sqlite3.Connection, product_id: int, order_id: int, quantity: int) -> None:
    """Assign the product's first *quantity* unsold keys to a paid order, or all of them if there are fewer."""
    connection.execute(
        "UPDATE card_key SET order_id = ? WHERE id IN ("
        "SELECT id FROM card_key WHERE product_id = ? AND order_id = 0 ORDER BY id LIMIT ?)",
        (order_id, product_id, quantity),
    )
