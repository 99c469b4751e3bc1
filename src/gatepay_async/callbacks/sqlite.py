"""``SQLiteStore``: what was handled, in a file that several processes share and that survives them."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from gatepay_async.callbacks.boot_clock import since_boot
from gatepay_async.callbacks.events import LOGGER
from gatepay_async.callbacks.store import Claim, Standing
from gatepay_async.protocol.durations import Seconds, to_seconds_or_none
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.sqlite_files import switch_to_wal
from gatepay_async.words.problem import Problem

T = TypeVar("T")

_LOCK_TIMEOUT_S = 4.0  # seconds that one process waits for another one's transaction; less than a commit may take
_MAX_THREADS = 4  # at most in one event loop, so that a disk that hangs leaves the rest of the worker threads alone
_ROWS_PER_DELETE = 100
_thread_limiter: RunVar[anyio.CapacityLimiter] = RunVar("_gatepay_sqlite_store_limiter")

# `ends` is NULL once it was handled; `at` is when it was claimed, then when it was handled (epoch seconds).
# `boot` and `since` say when it was claimed by a clock that nobody sets; both are missing in rows of version 0.1.
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
_SELECT_CLAIM = "SELECT facts, ends, at, boot, since FROM callback WHERE key = ?"
_INSERT_CLAIM = (
    "INSERT OR REPLACE INTO callback (key, token, facts, ends, at, boot, since) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_UPSERT_HANDLED = """
INSERT INTO callback (key, token, facts, ends, at) VALUES (?, ?, ?, NULL, ?)
ON CONFLICT (key) DO UPDATE SET ends = NULL, at = excluded.at WHERE token = excluded.token"""
_DELETE_CLAIM = "DELETE FROM callback WHERE key = ? AND token = ? AND ends IS NOT NULL"
_DELETE_EXPIRED = f"DELETE FROM callback WHERE key IN (SELECT key FROM callback WHERE at < ? LIMIT {_ROWS_PER_DELETE})"  # noqa: S608 -- a constant


class SQLiteStore:
    """
    Remembers in an SQLite file, for any number of processes on one machine.

    Guarantee: at least once. What was answered with ``success`` is on the disk, also after a power cut, and is not
    handled
    again; a process that dies between the handler's end and the commit leaves a claim that ends by itself, and the
    handler sees that callback again. ``CallbackApp`` says how to make that exactly once.

    The file is opened at the first callback, with mode 0600 when it is made. It must be on a disk of this machine:
    SQLite's write-ahead log can't be shared over a network. Nothing of it runs on the event loop. If the file is
    deleted or replaced while it is open, the store logs a warning and goes on with the file that is there then.

    Args:
        path: Where the file is; it is made if it isn't there, its folder is not.
        keep: How long a handled callback is remembered, in seconds or as a ``timedelta``. ``CallbackApp`` then wants a
            ``max_age`` below it, or what is forgotten could be replayed. None: for ever, some 150 bytes each.
        clock: Epoch seconds; another one for tests.

    Raises:
        InvalidRequestError: *path* names no file, or its folder is not there, or *keep* is no time.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        keep: Seconds | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if str(path) in ("", ":memory:"):
            raise InvalidRequestError(field="path", problem=Problem("not_a_file"))
        self.keep = to_seconds_or_none("keep", keep)
        self._clock = clock
        self._path = Path(path).absolute()
        if not self._path.parent.is_dir():
            raise InvalidRequestError(field="path", problem=Problem("no_folder", folder=str(self._path.parent)))
        # By process: a connection must not be used on the other side of a fork, nor closed there.
        self._files: dict[int, _File] = {}
        weakref.finalize(self, _close_file_of_process, self._files)

    async def claim(self, claim: Claim) -> Standing:
        """As ``Store.claim``."""
        given_up = threading.Event()
        try:
            return await _run_in_thread(lambda: self._claim_in_thread(claim, given_up))
        except BaseException:
            # asyncio leaves the thread behind: it may come to it only after the claim was released.
            given_up.set()
            raise

    async def commit(self, claim: Claim) -> bool:
        """As ``Store.commit``."""
        return await _run_in_thread(lambda: self._commit_in_thread(claim))

    async def release(self, claim: Claim) -> None:
        """As ``Store.release``."""
        await _run_in_thread(lambda: self._release_in_thread(claim))

    async def aclose(self) -> None:
        """Close the file; the next callback opens it again."""
        await _run_in_thread(lambda: _close_file_of_process(self._files))

    def _file(self) -> _File:
        return self._files.setdefault(os.getpid(), _File(self._path))

    def _claim_in_thread(self, claim: Claim, given_up: threading.Event) -> Standing:
        with self._file().open() as database:
            # Without a transaction first: repetitions, and those who wait, need none.
            standing = self._standing(database, claim)
            if standing is not Standing.MINE:
                return standing
            with _transaction(database, durable=False):
                standing = self._standing(database, claim)
                if standing is Standing.MINE and not given_up.is_set():
                    now = self._clock()
                    times = (now + claim.lease, now, *since_boot())
                    database.execute(_INSERT_CLAIM, (claim.key, claim.token, claim.facts, *times))
            return standing

    def _standing(self, database: sqlite3.Connection, claim: Claim) -> Standing:
        row: tuple[str, float | None, float, str, float | None] | None = database.execute(
            _SELECT_CLAIM, (claim.key,)
        ).fetchone()
        if row is None:
            return Standing.MINE
        facts, ends, at, boot, since = row
        if ends is not None:
            held = (
                self._is_old_lease_running(claim, ends, at)
                if since is None
                else _is_lease_running(ends - at, boot, since)
            )
            return Standing.TAKEN if held else Standing.MINE
        if self.keep is not None and self._clock() > at + self.keep:
            return Standing.MINE
        return Standing.HANDLED if facts == claim.facts else Standing.CONFLICT

    def _is_old_lease_running(self, claim: Claim, ends: float, at: float) -> bool:
        """Whether a claim that a process of version 0.1 has made still holds."""
        now = self._clock()
        # The second: a clock that was set back must not make a lease of years.
        return now < ends and at <= now + claim.lease

    def _commit_in_thread(self, claim: Claim) -> bool:
        held = self._write_handled(claim)
        # A file that was deleted meanwhile has taken the row with it: once more, into the one that is there now.
        return held if self._file().is_there() else self._write_handled(claim)

    def _write_handled(self, claim: Claim) -> bool:
        with self._file().open() as database, _transaction(database, durable=True):
            now = self._clock()
            held = database.execute(_UPSERT_HANDLED, (claim.key, claim.token, claim.facts, now)).rowcount == 1
            if self.keep is not None:
                database.execute(_DELETE_EXPIRED, (now - self.keep,))
            return held

    def _release_in_thread(self, claim: Claim) -> None:
        with self._file().open() as database, _transaction(database, durable=False):
            database.execute(_DELETE_CLAIM, (claim.key, claim.token))


class _File:
    """The file in this process: one connection, lent to one thread at a time, opened when it is needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None  # of the file that is open

    @contextmanager
    def open(self) -> Generator[sqlite3.Connection]:
        """Lend the connection. After an error of SQLite's it is closed: the next one begins anew."""
        with self._lock:
            if self._database is not None and not self.is_there():
                LOGGER.warning(
                    "%s was deleted or replaced; which callbacks were handled before is forgotten", self._path
                )
                self._close_connection()
            if self._database is None:
                self._database = _open_database(self._path)
                self._identity = _identity(self._path)
            try:
                yield self._database
            except sqlite3.Error:
                self._close_connection()
                raise

    def is_there(self) -> bool:
        """Whether the file that was opened last still is the one at the path."""
        return self._identity is not None and _identity(self._path) == self._identity

    def close(self) -> None:
        """Close it, once nobody uses it."""
        with self._lock:
            self._close_connection()

    def _close_connection(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _is_lease_running(lease: float, boot: str, since: float) -> bool:
    """Whether a claim made *since* that time of that *boot* still holds: its process may still be there."""
    this_boot, now = since_boot()
    return boot == this_boot and since <= now < since + lease


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _close_file_of_process(files: dict[int, _File]) -> None:
    file = files.get(os.getpid())
    if file is not None:
        file.close()


def _open_database(path: Path) -> sqlite3.Connection:
    # Made here, for its mode; SQLite gives its -wal and -shm the same.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    database = sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        switch_to_wal(database, timeout=_LOCK_TIMEOUT_S)
        _create_or_upgrade(database)
    except BaseException:
        database.close()
        raise
    return database


def _create_or_upgrade(database: sqlite3.Connection) -> None:
    """Make the table, or bring that of version 0.1 up to date. A file that has it all is not locked."""
    if _ADDED_COLUMNS.keys() <= _column_names(database):
        return
    with _transaction(database, durable=True):
        for statement in _SCHEMA:
            database.execute(statement)
        for column in _ADDED_COLUMNS.keys() - _column_names(database):  # another process may just have been here
            database.execute(_ADDED_COLUMNS[column])


def _column_names(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute(_SELECT_COLUMNS)}


@contextmanager
def _transaction(database: sqlite3.Connection, *, durable: bool) -> Generator[None]:
    """Committed on leaving, rolled back on any exception. *durable*: on the disk when this returns."""
    database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    with database:  # commits or rolls back
        database.execute("BEGIN IMMEDIATE")
        yield


async def _run_in_thread(work: Callable[[], T]) -> T:
    try:
        limiter = _thread_limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_MAX_THREADS)
        _thread_limiter.set(limiter)
    return await anyio.to_thread.run_sync(work, limiter=limiter)
