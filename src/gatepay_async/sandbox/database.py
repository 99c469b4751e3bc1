"""The sandbox's SQLite database: its schema, its migrations, and one transaction at a time."""

import sqlite3
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path
from threading import Lock

from gatepay_async.sandbox.examples import insert_examples
from gatepay_async.sqlite_files import connect, open_shared

__all__ = ["LaterVersionError", "SandboxDatabase"]

LOCK_TIMEOUT_S = 5.0  # for another process's transaction

# Money is in fen (1/100 yuan), times are epoch seconds, as in the vendor's examples.
# An account stays when its shop is removed: GatePay has a code for a valid appkey without a shop.
# The CHECK gives code 113 (storage failed) a real cause: on MySQL, the column would be VARCHAR(255).
_FIRST_SCHEMA = """
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
# The statements that upgrade the schema from the version before, by the number of the new version.
_MIGRATIONS = {
    # Pending orders of version 1 never expire, because orders didn't at that time.
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
    # For the endpoints that GatePay documented later. `items` is JSON: [[product, quantity], …]. `url_of` says
    # whether the callback goes to the order's own URL or to the shop's.
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
    # `card_key_run` counts the card keys in each run of 1,024 ids. The query for a page uses it to skip the runs before
    # the page.
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
_VERSION = max(_MIGRATIONS)  # of the newest schema


class LaterVersionError(sqlite3.DatabaseError):
    """The file was created by a later version of gatepay-async. It is not changed."""

    def __init__(self, path: str | Path, version: int) -> None:
        super().__init__(
            f"{path} has schema version {version}, from a later gatepay-async; this one supports up to {_VERSION}"
        )
        self.path = path
        self.version = version

    def __reduce__(self) -> tuple[object, ...]:
        # By default, unpickling calls the class with the message.
        return type(self), (self.path, self.version)


class SandboxDatabase:
    """
    The sandbox's database.

    It has one connection, which :meth:`transaction` lends to one thread at a time.

    Args:
        path: The file, or ``:memory:``. If the file doesn't exist, it is created with the vendor's example shops.
        with_card_keys: Whether a new file gets example card keys, too.
        now: Epoch seconds, for the rows of a new file.

    Raises:
        LaterVersionError: A later version of this package has created the file.
        sqlite3.Error: The file can't be opened, or is no database.
    """

    def __init__(self, path: str | Path, *, with_card_keys: bool, now: int) -> None:
        self._lock = Lock()
        with ExitStack() as stack:
            self._connection = stack.enter_context(closing(open_shared(path, timeout=LOCK_TIMEOUT_S)))
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._migrate(path, with_card_keys=with_card_keys, now=now)
            stack.pop_all()

    def _migrate(self, path: str | Path, *, with_card_keys: bool, now: int) -> None:
        """Fill a new file, or migrate an existing one to the newest schema."""
        with self.transaction() as connection:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if version > _VERSION:
                raise LaterVersionError(path, version)
            if version == 0:
                _execute_all(connection, _newest_schema())
                insert_examples(connection, with_card_keys=with_card_keys, now=now)
            else:  # an existing file keeps its contents: example card keys that were deleted stay deleted
                _run_migrations(connection, version)
            connection.execute(f"PRAGMA user_version = {_VERSION}")

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """Run a transaction: it is committed at the end of the block, and rolled back on an exception."""
        with self._lock, self._connection:  # the connection's own `with` commits or rolls back
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._connection.close()


def _run_migrations(connection: sqlite3.Connection, version: int) -> None:
    """Migrate the schema from *version* to the newest one."""
    for number in range(version + 1, _VERSION + 1):
        _execute_all(connection, _MIGRATIONS[number])


@cache
def _newest_schema() -> str:
    """The statements that create the newest schema directly. They take a fifth of the time of all migrations."""
    with closing(connect(":memory:", timeout=0)) as temporary:
        _execute_all(temporary, _FIRST_SCHEMA)
        _run_migrations(temporary, 1)
        statements = temporary.execute("SELECT sql FROM sqlite_master WHERE sql <> '' AND name NOT LIKE 'sqlite%'")
        return ";\n".join(sql for (sql,) in statements)


def _execute_all(connection: sqlite3.Connection, statements: str) -> None:
    # executescript() would commit first, and a failure would leave half a schema.
    for statement in statements.split(";\n"):
        connection.execute(statement)
