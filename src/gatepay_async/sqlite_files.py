"""
Switches an SQLite file to a write-ahead log (WAL) when several processes may open it at the same time.

The switch needs exclusive access for a moment. If another connection uses the file, SQLite raises "database is locked"
at once: its `busy_timeout` doesn't apply here. So we retry.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable

_RETRY_INTERVAL_S = 0.01
_NEVER_SET = threading.Event()  # its wait() is used to sleep


def switch_to_wal(
    database: sqlite3.Connection, *, timeout: float, sleep: Callable[[float], object] = _NEVER_SET.wait
) -> None:
    """
    Switch the file of *database* to WAL permanently, if it isn't in that mode already. Blocking.

    Args:
        database: A connection that is in no transaction.
        timeout: Seconds after which to give up.
        sleep: Waits for a number of seconds.

    Raises:
        sqlite3.Error: The file is still locked after *timeout* seconds, or can't be switched.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
        else:
            return
        sleep(_RETRY_INTERVAL_S)
