"""Creates and opens SQLite files that several threads and processes may use at the same time."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from errno import EISDIR
from pathlib import Path

_RETRY_INTERVAL_S = 0.01
_PRIMARY_CODE = 0xFF  # the bits of SQLite's extended result code that say what kind of error it is
_sleep = (
    threading.Event().wait
)  # waits for its time-out, because nobody sets the event; modules must not use time.sleep


def create_private(path: Path) -> None:
    """
    Create an empty file that only its owner may read, if the file doesn't exist.

    SQLite gives the same permissions to the files that it creates beside it (``-wal``, ``-shm`` and ``-journal``).

    Raises:
        OSError: The file can't be created, or is a folder.
    """
    # An existing file must not be opened: on POSIX, closing it would release the locks that SQLite's connections in
    # this process hold on it. realpath(), because O_EXCL takes a symlink to a missing file for an existing file.
    try:
        os.close(os.open(os.path.realpath(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if path.is_dir():
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path)) from None


def connect(path: str | Path, *, timeout: float) -> sqlite3.Connection:
    """
    Open a connection that any thread may use, if only one uses it at a time.

    It is in autocommit mode: a transaction begins only with an explicit ``BEGIN``.

    Args:
        path: The file; ``:memory:``; or an empty string for a temporary file that is deleted when it is closed.
        timeout: Seconds that a statement waits for another connection's lock before it fails.
    """
    return sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)


def open_shared(path: str | Path, *, timeout: float) -> sqlite3.Connection:
    """
    Open a connection like :func:`connect`, and switch the file to a write-ahead log (WAL).

    Raises:
        sqlite3.Error: The file can't be opened, is no database, or is still locked after *timeout* seconds.
    """
    database = connect(path, timeout=timeout)
    try:
        switch_to_wal(database, timeout=timeout)
    except BaseException:
        database.close()
        raise
    return database


def switch_to_wal(database: sqlite3.Connection, *, timeout: float) -> None:
    """
    Switch the file of *database* to WAL permanently, if it isn't in that mode already. Blocking.

    The switch needs exclusive access for a moment. If another connection uses the file, SQLite may raise "database
    is locked" at once, whatever its `busy_timeout` is. So we retry.

    Args:
        database: A connection that is in no transaction.
        timeout: Seconds after which to give up.

    Raises:
        sqlite3.Error: The file is still locked after *timeout* seconds, or can't be switched.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
        else:
            return
        _sleep(_RETRY_INTERVAL_S)
