"""The database file of ``SQLiteStore``: its connection and schema, and how it detects a deleted or replaced file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from gatepay_async.callbacks.events import LOGGER
from gatepay_async.sqlite_files import create_private, open_shared

LOCK_TIMEOUT_S = 4.0  # for another process's transaction; less than the time-out for a commit in once.py

# `token` identifies a claim, and `facts` is a digest of the fields that every delivery must repeat. In epoch seconds,
# `ends` is when the lease ends (NULL for a handled callback), and `at` when the callback was claimed or handled. `boot`
# is the ID of the system's boot during which it was claimed, and `since` the seconds from that boot to the claim; both
# are NULL in rows of version 0.1.
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS callback (
    key TEXT PRIMARY KEY, token TEXT NOT NULL, facts TEXT NOT NULL, ends REAL, at REAL NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS callback_at ON callback (at)",
)
_SELECT_COLUMNS = "SELECT name FROM pragma_table_info('callback')"
_ADDED_COLUMNS = {
    "boot": "ALTER TABLE callback ADD COLUMN boot TEXT",
    "since": "ALTER TABLE callback ADD COLUMN since REAL",
}


class CallbackFile:
    """The connection of this process to the file, opened on first use. Only one thread at a time uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None  # device and inode of the open file

    @contextmanager
    def open(self) -> Generator[sqlite3.Connection]:
        """
        Yield the connection. After an SQLite error it is closed, and the next call opens a new one.

        The error gets the path of the file, which SQLite's own messages don't have.
        """
        with self._lock:
            if self._database is not None and not self.is_same_file():
                LOGGER.warning("%s was deleted or replaced; its record of handled callbacks is lost", self._path)
                self._close_connection()
            try:
                if self._database is None:
                    # Read the identity before SQLite opens the file, so that is_same_file() notices if it is replaced.
                    create_private(self._path)
                    self._identity = _identity_of_path(self._path)
                    self._database = _open_database(self._path)
                yield self._database
            except sqlite3.Error as error:
                self._close_connection()
                error.args = (f"{self._path}: {error}",)
                raise

    def is_same_file(self) -> bool:
        """Whether the path still leads to the file that was opened."""
        return self._identity is not None and _identity_of_path(self._path) == self._identity

    def close(self) -> None:
        """Close the file as soon as no thread uses it."""
        with self._lock:
            self._close_connection()

    def _close_connection(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _identity_of_path(path: Path) -> tuple[int, int] | None:
    """Return the device and the inode of the file at *path*, or None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _open_database(path: Path) -> sqlite3.Connection:
    """Return a connection to a database in WAL mode with the current schema."""
    database = open_shared(path, timeout=LOCK_TIMEOUT_S)
    try:
        _create_or_upgrade(database)
    except BaseException:
        database.close()
        raise
    return database


def _create_or_upgrade(database: sqlite3.Connection) -> None:
    """Create the table, or upgrade a table of version 0.1. If the table is up to date, take no write lock."""
    if _ADDED_COLUMNS.keys() <= _column_names(database):
        return
    with transaction(database, durable=True):
        for statement in _SCHEMA:
            database.execute(statement)
        for column in _ADDED_COLUMNS.keys() - _column_names(database):  # another process may have added them meanwhile
            database.execute(_ADDED_COLUMNS[column])


def _column_names(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute(_SELECT_COLUMNS)}


@contextmanager
def transaction(database: sqlite3.Connection, *, durable: bool) -> Generator[None]:
    """Run a transaction. With *durable*, the commit returns only after the data is on disk."""
    database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    with database:  # commits or rolls back
        database.execute("BEGIN IMMEDIATE")
        yield
