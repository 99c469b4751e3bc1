"""
SQLite's write-ahead log, for a file that several processes open at once.

The switch to it wants the file for a moment to itself. Where another connection is at it, SQLite says "database is
locked" and, whatever its `busy_timeout`, does not wait; so we do.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable

_RETRY_INTERVAL_S = 0.01  # seconds between two tries
_NEVER = threading.Event()


def switch_to_wal(
    database: sqlite3.Connection, *, timeout: float, sleep: Callable[[float], object] = _NEVER.wait
) -> None:
    """
    Switch *database*'s file to WAL, where it stays; a file that has been is left as it is. Blocking.

    Args:
        database: On the file, in no transaction.
        timeout: Seconds after which it is not tried again.
        sleep: Waits so many seconds.

    Raises:
        sqlite3.Error: The file is still locked then, or can't be switched at all.
    """
    ends = time.monotonic() + timeout
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= ends:
                raise
        else:
            return
        sleep(_RETRY_INTERVAL_S)
