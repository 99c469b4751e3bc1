"""
Who is at work: each worker holds a lock that the system takes from it when it dies. Blocking; for worker threads.

On PostgreSQL it is an advisory lock of a session; on SQLite, a lock on a file beside the database: one machine. So the
dead are told from the slow at once, and no clock is asked.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

REAPER_NUMBER = 0  # in the place of a worker's number
PROBE_TIMEOUT_S = 1.0  # seconds for somebody who only looks whether we are there
MAX_LOCK_TRIES = 100


def _lock_number(name: str) -> int:
    """31 bits, above 0, as PostgreSQL takes two of them for a lock."""
    return (int.from_bytes(blake2b(name.encode(), digest_size=4).digest(), "big") >> 1) or 1


class WorkerLocks(Protocol):
    """The workers of one queue."""

    def acquire(self, worker: str) -> bool:
        """Be there as *worker*, from now until ``release()`` or the end of the process; False: somebody is already."""
        ...

    def is_held(self) -> bool:
        """Whether we are there still; a connection may have been cut."""
        ...

    def release(self) -> None:
        """Be there no more. Again: nothing."""
        ...

    def count_and_dead(self, workers: set[str]) -> tuple[int, set[str]]:
        """How many are there, and which of *workers* are not."""
        ...

    @contextmanager
    def reaper_lock(self) -> Generator[bool]:
        """Whether we are the only one in here; if so, until the end of the block."""
        ...


class PostgresWorkerLocks:
    """
    By advisory locks of two numbers: the queue's, and the worker's.

    Args:
        engine: For the locks; the one that says we are there keeps a connection.
        queue: Whose workers.
    """

    def __init__(self, engine: sa.Engine, queue: str) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._queue = _lock_number(queue)
        self._connection: sa.Connection | None = None

    def acquire(self, worker: str) -> bool:
        """As ``WorkerLocks.acquire``."""
        self.release()
        connection = self._engine.connect()
        both = {"queue": self._queue, "worker": _lock_number(worker)}
        if connection.execute(sa.text("SELECT pg_try_advisory_lock(:queue, :worker)"), both).scalar():
            self._connection = connection
            return True
        connection.close()
        return False

    def is_held(self) -> bool:
        """As ``WorkerLocks.is_held``."""
        if self._connection is None:
            return False
        try:
            self._connection.execute(sa.text("SELECT 1"))
        except DBAPIError:
            self.release()
            return False
        return True

    def release(self) -> None:
        """As ``WorkerLocks.release``."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if not connection.invalidated:  # one that was cut would be made anew, for nothing
            with suppress(SQLAlchemyError):
                # A server that is told goodbye takes its time, and has the lock meanwhile: others would see us, and who
                # comes back at once would find himself there.
                connection.execute(sa.text("SELECT pg_advisory_unlock_all()"))
        connection.invalidate()  # not put back: what we hold must end with it in any case
        connection.close()

    def count_and_dead(self, workers: set[str]) -> tuple[int, set[str]]:
        """As ``WorkerLocks.count_and_dead``."""
        query = sa.text(
            "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 "
            "AND classid = :queue AND objid <> :reaping "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        with self._engine.connect() as connection:
            present = set(connection.execute(query, {"queue": self._queue, "reaping": REAPER_NUMBER}).scalars())
        return len(present), {worker for worker in workers if _lock_number(worker) not in present}

    @contextmanager
    def reaper_lock(self) -> Generator[bool]:
        """As ``WorkerLocks.reaper_lock``."""
        with (
            self._engine.connect().execution_options(isolation_level="READ COMMITTED") as connection,
            connection.begin(),
        ):
            both = {"queue": self._queue, "reaping": REAPER_NUMBER}
            yield bool(connection.execute(sa.text("SELECT pg_try_advisory_xact_lock(:queue, :reaping)"), both).scalar())


class FileWorkerLocks:
    """
    By locks on files beside a SQLite database; SQLite's own locks, which every system knows.

    Args:
        database: The database's file.
        queue: Whose workers.
    """

    def __init__(self, database: Path, queue: str) -> None:
        self._beside = f"{database.name}-{_lock_number(queue):08x}-"
        self._folder = database.absolute().parent
        self._lock: sqlite3.Connection | None = None
        self._mine: Path | None = None

    def acquire(self, worker: str) -> bool:
        """As ``WorkerLocks.acquire``."""
        self.release()
        path = self._path(worker)
        for _ in range(MAX_LOCK_TRIES):
            lock = _lock_file(path, wait=PROBE_TIMEOUT_S)
            if lock is None:
                return False
            if path.exists():
                self._lock, self._mine = lock, path
                return True
            lock.close()  # somebody has just taken the file for a dead one's, and cleared it away
        return False

    def is_held(self) -> bool:
        """As ``WorkerLocks.is_held``."""
        return self._lock is not None

    def release(self) -> None:
        """As ``WorkerLocks.release``."""
        lock, self._lock = self._lock, None
        if lock is not None and self._mine is not None:
            _unlink(self._mine)
            lock.close()
            self._mine = None

    def count_and_dead(self, workers: set[str]) -> tuple[int, set[str]]:
        """As ``WorkerLocks.count_and_dead``. What a dead one has left is cleared away."""
        present = {
            path for path in self._folder.glob(f"{self._beside}*.worker") if path == self._mine or _is_file_locked(path)
        }
        return len(present), {worker for worker in workers if self._path(worker) not in present}

    @contextmanager
    def reaper_lock(self) -> Generator[bool]:
        """As ``WorkerLocks.reaper_lock``."""
        lock = _lock_file(self._folder / f"{self._beside}reaping")
        try:
            yield lock is not None
        finally:
            if lock is not None:
                lock.close()

    def _path(self, worker: str) -> Path:
        return self._folder / f"{self._beside}{_lock_number(worker):08x}.worker"


def _lock_file(path: Path, *, wait: float = 0) -> sqlite3.Connection | None:
    """A lock on *path*, until it is closed or the process ends; None: somebody has it, also after *wait* seconds."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    lock = sqlite3.connect(path, timeout=wait, isolation_level=None, check_same_thread=False)
    try:
        lock.execute("PRAGMA journal_mode=MEMORY")
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        lock.close()
        return None
    return lock


def _is_file_locked(path: Path) -> bool:
    lock = _lock_file(path)
    if lock is None:
        return True
    _unlink(path)
    lock.close()
    return False


def _unlink(path: Path) -> None:
    """Remove a file that we have the lock of; Windows does not as long as it is open, and then it stays."""
    with suppress(OSError):
        path.unlink()
