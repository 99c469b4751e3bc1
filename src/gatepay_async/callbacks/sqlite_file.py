"""The file of ``SQLiteStore``: its connection, its schema, and a check whether it was deleted or replaced."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from gatepay_async.callbacks.events import LOGGER
from gatepay_async.sqlite_files import switch_to_wal

_LOCK_TIMEOUT_S = 4.0  # how long to wait for another process's transaction; less than the time-out of a commit

# `ends` is the end of the lease, and NULL for a handled callback. `at` is when it was claimed or handled (epoch
# seconds). `boot` and `since` are when it was claimed by the boot clock; rows of version 0.1 don't have them.
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
    """The file in this process: one connection, opened when it is needed, for one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None  # device and inode of the open file

    @contextmanager
    def open(self) -> Generator[sqlite3.Connection]:
        """Lend the connection. After an SQLite error it is closed, and the next call opens a new one."""
        with self._lock:
            if self._database is not None and not self.is_there():
                LOGGER.warning("%s was deleted or replaced; its record of handled callbacks is lost", self._path)
                self._close_connection()
            if self._database is None:
                # Read the identity before SQLite opens the file. If it is replaced in between, is_there() notices.
                self._identity = _make_file(self._path)
                self._database = _open_database(self._path)
            try:
                yield self._database
            except sqlite3.Error:
                self._close_connection()
                raise

    def is_there(self) -> bool:
        """Whether the file that was opened last is still at its path."""
        return self._identity is not None and _identity(self._path) == self._identity

    def close(self) -> None:
        """Close the file as soon as no thread uses it."""
        with self._lock:
            self._close_connection()

    def _close_connection(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        return _identity_of(path.stat())
    except OSError:
        return None


def _identity_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _make_file(path: Path) -> tuple[int, int]:
    """Create the file if needed, with a mode that SQLite also gives to its -wal and -shm. Return its identity."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        return _identity_of(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _open_database(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        switch_to_wal(database, timeout=_LOCK_TIMEOUT_S)
        _create_or_upgrade(database)
    except BaseException:
        database.close()
        raise
    return database


def _create_or_upgrade(database: sqlite3.Connection) -> None:
    """Create the table, or upgrade that of version 0.1. A file that is up to date isn't locked for this."""
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
    """Run a transaction. *durable*: its data is on the disk when this returns."""
    database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    with database:  # commits or rolls back
        database.execute("BEGIN IMMEDIATE")
        yield
