"""One SQLite file: opened, laid out, and lent to one caller at a time."""

import sqlite3
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path
from threading import Lock

from gatepay_async.sandbox.examples import fill

__all__ = ["Database", "LaterVersionError"]

# Money is in fen (1/100 yuan), times are epoch seconds, as in the vendor's examples.
# A key's owner (`account`) outlives the shop: that is how a known appkey comes to have no shop.
# The CHECK is what makes code 113 a real failure: MySQL's usual column is VARCHAR(255).
_SCHEMA = """
CREATE TABLE account (appkey TEXT PRIMARY KEY, appsecret TEXT NOT NULL, admin_id INTEGER NOT NULL UNIQUE);
CREATE TABLE shop (
    admin_id INTEGER PRIMARY KEY, closed INTEGER NOT NULL DEFAULT 0, quota INTEGER, licence_until INTEGER);
CREATE TABLE category (id INTEGER PRIMARY KEY, admin_id INTEGER NOT NULL, name TEXT NOT NULL);
CREATE TABLE product (
    id INTEGER PRIMARY KEY, admin_id INTEGER NOT NULL, category_id INTEGER NOT NULL REFERENCES category,
    name TEXT NOT NULL, description TEXT NOT NULL, image TEXT NOT NULL, price INTEGER NOT NULL);
CREATE TABLE card_key (
    id INTEGER PRIMARY KEY AUTOINCREMENT, product_id INTEGER NOT NULL REFERENCES product,
    order_id INTEGER NOT NULL DEFAULT 0, content TEXT NOT NULL CHECK (length(content) <= 255),
    folded TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL,
    UNIQUE (product_id, content));
CREATE INDEX card_key_walk ON card_key (product_id, id);
CREATE INDEX card_key_folded ON card_key (product_id, folded);
CREATE TABLE pay_order (
    id INTEGER PRIMARY KEY AUTOINCREMENT, page_id TEXT NOT NULL UNIQUE, admin_id INTEGER NOT NULL,
    product_id INTEGER NOT NULL, product_num INTEGER NOT NULL, out_order_id TEXT NOT NULL,
    price INTEGER NOT NULL, pay_type TEXT NOT NULL, custom TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending', created INTEGER NOT NULL);
CREATE INDEX pay_order_day ON pay_order (admin_id, created);
"""
# What each version added to the one before it; a file of an earlier version is brought up to date. A pending
# order of version 1 has no end: it was made when orders had none.
_ADDED = {
    2: """
ALTER TABLE shop ADD COLUMN callback_url TEXT;
ALTER TABLE pay_order ADD COLUMN expires REAL;
ALTER TABLE pay_order ADD COLUMN paid INTEGER;
ALTER TABLE pay_order ADD COLUMN realprice INTEGER;
UPDATE pay_order SET paid = created, realprice = price WHERE state = 'paid';
CREATE INDEX pay_order_open ON pay_order (expires) WHERE state = 'pending';
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT, order_id INTEGER NOT NULL REFERENCES pay_order,
    attempt INTEGER NOT NULL, due REAL NOT NULL, claimed REAL, url TEXT, sent REAL, answered REAL,
    status INTEGER, answer TEXT, problem TEXT);
CREATE INDEX delivery_waiting ON delivery (due) WHERE answered IS NULL;
CREATE INDEX delivery_order ON delivery (order_id);
""",
    3: "ALTER TABLE delivery ADD COLUMN body TEXT;",
    # The later API's orders. `items` is JSON: [[product, pieces], …]. `url_of` says whose URL is called.
    4: """
ALTER TABLE shop ADD COLUMN return_url TEXT;
ALTER TABLE shop ADD COLUMN expired_url TEXT;
ALTER TABLE shop ADD COLUMN token TEXT;
ALTER TABLE shop ADD COLUMN closed_pay_types TEXT NOT NULL DEFAULT '';
ALTER TABLE shop ADD COLUMN agent INTEGER NOT NULL DEFAULT 1;
UPDATE shop SET token = lower(hex(randomblob(8)));
ALTER TABLE pay_order ADD COLUMN endpoint TEXT NOT NULL DEFAULT 'pay/create';
ALTER TABLE pay_order ADD COLUMN items TEXT NOT NULL DEFAULT '[]';
ALTER TABLE pay_order ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE pay_order ADD COLUMN notify_url TEXT;
ALTER TABLE pay_order ADD COLUMN return_url TEXT;
UPDATE pay_order SET items = '[[' || product_id || ',' || product_num || ']]',
    name = (SELECT name FROM product WHERE product.id = pay_order.product_id);
CREATE INDEX pay_order_number ON pay_order (admin_id, out_order_id);
ALTER TABLE delivery ADD COLUMN url_of TEXT NOT NULL DEFAULT 'shop';
""",
    # How many keys lie in each run of 1,024 ids: what finds a page far behind without counting all keys before it.
    5: """
CREATE TABLE card_key_run (
    product_id INTEGER NOT NULL, run INTEGER NOT NULL, keys INTEGER NOT NULL, PRIMARY KEY (product_id, run)
) WITHOUT ROWID;
INSERT INTO card_key_run SELECT product_id, id >> 10, count(*) FROM card_key GROUP BY product_id, id >> 10;
CREATE TRIGGER card_key_added AFTER INSERT ON card_key BEGIN
    INSERT INTO card_key_run VALUES (new.product_id, new.id >> 10, 1) ON CONFLICT DO UPDATE SET keys = keys + 1; END;
CREATE TRIGGER card_key_deleted AFTER DELETE ON card_key BEGIN
    UPDATE card_key_run SET keys = keys - 1 WHERE product_id = old.product_id AND run = old.id >> 10; END;
""",
}
_VERSION = max(_ADDED)


class LaterVersionError(sqlite3.DatabaseError):
    """The file was made by a later version of gatepay-async; it is left as it is."""

    def __init__(self, path: str | Path, version: int) -> None:
        super().__init__(
            f"{path} has the layout {version}, and this gatepay-async knows {_VERSION}: it was made by a later one"
        )


class Database:
    """
    The shop's file, or ``:memory:``.

    One connection for all threads, lent by :meth:`transaction` to one of them at a time.

    Args:
        path: Where the file is; it is made, with the examples in it, if it is not there.
        keys: Whether a new file gets example card keys too.
        now: Epoch seconds, for the rows of a new file.

    Raises:
        LaterVersionError: A later version has made the file.
        sqlite3.Error: The file can't be opened, or is no database.
    """

    def __init__(self, path: str | Path, *, keys: bool, now: int) -> None:
        self._lock = Lock()
        with ExitStack() as stack:
            self._connection = stack.enter_context(
                closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False))
            )
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._migrate(path, keys=keys, now=now)
            stack.pop_all()

    def _migrate(self, path: str | Path, *, keys: bool, now: int) -> None:
        with self.transaction() as connection:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if version > _VERSION:
                raise LaterVersionError(path, version)
            if version == 0:
                _execute_all(connection, _newest())
                fill(connection, keys=keys, now=now)
            else:  # made by an earlier run: a key deleted then stays deleted
                _bring_up_to_date(connection, version)
            connection.execute(f"PRAGMA user_version = {_VERSION}")

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """Lend the connection inside one transaction: committed on leaving, rolled back on any exception."""
        with self._lock, self._connection:  # the connection's own `with` commits or rolls back
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._connection.close()


def _bring_up_to_date(connection: sqlite3.Connection, version: int) -> None:
    for later in range(version + 1, _VERSION + 1):
        _execute_all(connection, _ADDED[later])


@cache
def _newest() -> str:
    """The newest layout as it would have been written at once, which takes a fifth of the time of all its steps."""
    with closing(sqlite3.connect(":memory:")) as scratch:
        _execute_all(scratch, _SCHEMA)
        _bring_up_to_date(scratch, 1)
        written = scratch.execute("SELECT sql FROM sqlite_master WHERE sql <> '' AND name NOT LIKE 'sqlite%'")
        return ";\n".join(sql for (sql,) in written)


def _execute_all(connection: sqlite3.Connection, statements: str) -> None:
    # Not executescript(): that commits first, and a layout is whole or not there.
    for statement in statements.split(";\n"):
        connection.execute(statement)
