"""
Locks that show which workers are alive: the system releases a worker's lock when its process dies.

On PostgreSQL, a worker's lock is an advisory lock of its session. With SQLite, where all workers are on one machine, it
is a lock on a file next to the database. Unlike a heartbeat, a lock distinguishes dead workers from slow ones at once.
A live worker takes the "reaper" lock while it requeues the batches of dead ones. Everything here blocks: call it in
threads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gatepay_async.sqlite_files import connect, create_private

REAPER_NUMBER = 0  # the number of the reaper lock; `_lock_number` never returns it
PROBE_TIMEOUT_S = 1.0  # a worker that checks whether we are alive may hold our lock for up to this long
MAX_LOCK_TRIES = 100  # a try fails if another worker deletes the lock file at the same moment


def _lock_number(name: str) -> int:
    """Hash *name* to a positive number of 31 bits. PostgreSQL identifies an advisory lock by two such numbers."""
    return (int.from_bytes(blake2b(name.encode(), digest_size=4).digest(), "big") >> 1) or 1


class WorkerLocks(Protocol):
    """The locks of one queue's workers."""

    def acquire(self, worker: str) -> bool:
        """
        Lock the name *worker* until ``release()`` or the end of the process.

        Returns:
            False if another process holds the lock.
        """
        ...

    def is_held(self) -> bool:
        """Whether we still hold our lock. A broken connection releases it."""
        ...

    def release(self) -> None:
        """Release our lock, if we hold it."""
        ...

    def check_workers(self, workers: set[str]) -> tuple[int, set[str]]:
        """Return how many workers are alive, and which of *workers* are dead."""
        ...

    @contextmanager
    def reaper_lock(self) -> Generator[bool]:
        """
        Hold the lock for requeueing dead workers' batches during the block.

        Yields:
            False if another worker holds the lock.
        """
        ...


class PostgresWorkerLocks:
    """
    ``WorkerLocks`` on PostgreSQL. An advisory lock has two numbers: the queue's and the worker's.

    Args:
        engine: The engine. The worker's own lock occupies one connection.
        queue: The queue's name.
    """

    def __init__(self, engine: sa.Engine, queue: str) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._queue = _lock_number(queue)
        self._connection: sa.Connection | None = None

    def acquire(self, worker: str) -> bool:
        """Implement ``WorkerLocks.acquire``."""
        self.release()
        connection = self._engine.connect()
        numbers = {"queue": self._queue, "worker": _lock_number(worker)}
        if connection.execute(sa.text("SELECT pg_try_advisory_lock(:queue, :worker)"), numbers).scalar():
            self._connection = connection
            return True
        connection.close()
        return False

    def is_held(self) -> bool:
        """Implement ``WorkerLocks.is_held``."""
        if self._connection is None:
            return False
        try:
            self._connection.execute(sa.text("SELECT 1"))
        except DBAPIError:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Implement ``WorkerLocks.release``."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if not connection.invalidated:  # SQLAlchemy would reconnect an invalidated connection, which holds no lock
            with suppress(SQLAlchemyError):
                # Unlock explicitly. The server takes a while to end a closed session, and keeps its locks until then:
                # a worker that restarts at once would find its own name locked.
                connection.execute(sa.text("SELECT pg_advisory_unlock_all()"))
        connection.invalidate()  # close the connection instead of pooling it: that always releases its locks
        connection.close()

    def check_workers(self, workers: set[str]) -> tuple[int, set[str]]:
        """Implement ``WorkerLocks.check_workers``."""
        # A lock with two numbers has them in classid and objid, and 2 in objsubid.
        query = sa.text(
            "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 "
            "AND classid = :queue AND objid <> :reaping "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        with self._engine.connect() as connection:
            live = set(connection.execute(query, {"queue": self._queue, "reaping": REAPER_NUMBER}).scalars())
        return len(live), {worker for worker in workers if _lock_number(worker) not in live}

    @contextmanager
    def reaper_lock(self) -> Generator[bool]:
        """Implement ``WorkerLocks.reaper_lock``."""
        with (
            self._engine.connect().execution_options(isolation_level="READ COMMITTED") as connection,
            connection.begin(),
        ):
            numbers = {"queue": self._queue, "reaping": REAPER_NUMBER}
            yield bool(
                connection.execute(sa.text("SELECT pg_try_advisory_xact_lock(:queue, :reaping)"), numbers).scalar()
            )


class FileWorkerLocks:
    """
    ``WorkerLocks`` next to an SQLite database. Each lock is an SQLite lock on a file, which works on every system.

    Args:
        database: The database's file.
        queue: The queue's name.
    """

    def __init__(self, database: Path, queue: str) -> None:
        self._prefix = f"{database.name}-{_lock_number(queue):08x}-"
        self._folder = database.absolute().parent
        self._lock: sqlite3.Connection | None = None
        self._own_path: Path | None = None

    def acquire(self, worker: str) -> bool:
        """Implement ``WorkerLocks.acquire``."""
        self.release()
        path = self._path(worker)
        lock = _lock_file(path, wait=PROBE_TIMEOUT_S)
        if lock is None:
            return False
        self._lock, self._own_path = lock, path
        return True

    def is_held(self) -> bool:
        """Implement ``WorkerLocks.is_held``."""
        return self._lock is not None

    def release(self) -> None:
        """Implement ``WorkerLocks.release``."""
        lock, self._lock = self._lock, None
        if lock is not None and self._own_path is not None:
            _unlink(self._own_path)
            lock.close()
            self._own_path = None

    def check_workers(self, workers: set[str]) -> tuple[int, set[str]]:
        """Implement ``WorkerLocks.check_workers``. The files of dead workers are deleted."""
        live = {
            path
            for path in self._folder.glob(f"{self._prefix}*.worker")
            if path == self._own_path or _is_file_locked(path)
        }
        return len(live), {worker for worker in workers if self._path(worker) not in live}

    @contextmanager
    def reaper_lock(self) -> Generator[bool]:
        """Implement ``WorkerLocks.reaper_lock``."""
        lock = _lock_file(self._folder / f"{self._prefix}reaping")
        try:
            yield lock is not None
        finally:
            if lock is not None:
                lock.close()

    def _path(self, worker: str) -> Path:
        """Return the lock file of *worker*."""
        return self._folder / f"{self._prefix}{_lock_number(worker):08x}.worker"


def _lock_file(path: Path, *, wait: float = 0) -> sqlite3.Connection | None:
    """
    Lock *path* until the returned connection is closed or the process ends.

    Returns:
        None if the file is still locked after *wait* seconds.
    """
    for _ in range(MAX_LOCK_TRIES):
        create_private(path)
        file_id = _file_id(path)
        lock = connect(path, timeout=wait)
        try:
            lock.execute("PRAGMA journal_mode=MEMORY")  # creates no second file next to the lock file
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            lock.close()
            return None
        # Between opening and locking the file, another worker may have deleted it, because no worker held its lock. By
        # now, there may even be a new file in its place, and that one may be locked by a live worker.
        if file_id and file_id == _file_id(path):
            return lock
        lock.close()
    return None


def _file_id(path: Path) -> tuple[int, ...]:
    """Return numbers that identify the file at *path* as long as it is open; none if there is no file."""
    with suppress(FileNotFoundError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return ()


def _is_file_locked(path: Path) -> bool:
    """Whether another process holds the lock on *path*. If none does, the file is deleted."""
    lock = _lock_file(path)
    if lock is None:
        return True
    _unlink(path)
    lock.close()
    return False


def _unlink(path: Path) -> None:
    """Delete a file that we have locked, except on Windows, which can't delete open files."""
    with suppress(OSError):
        path.unlink()
