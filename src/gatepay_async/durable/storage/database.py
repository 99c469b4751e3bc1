"""The database of jobs: SQLite or PostgreSQL with DBOS's tables. Blocking: call it in threads."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer
from sqlalchemy.event import listen, listens_for
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from gatepay_async.durable.errors import QueueUnavailableError
from gatepay_async.durable.storage.worker_locks import FileWorkerLocks, PostgresWorkerLocks, WorkerLocks
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.sqlite_files import create_private, switch_to_wal
from gatepay_async.words.problem import Problem

T = TypeVar("T")

# DBOS runs only batches of its own application version. This version changes only with the format of the stored rows,
# so that an upgraded package runs the batches that an older one has queued.
VERSION = "gatepay-1"
APPLICATION = "gatepay"
_DATABASE_SCHEMES = ("sqlite", "postgresql", "postgres")  # the schemes of a database URL
LOCK_TIMEOUT_S = 30  # for SQLite's lock, which one writer at a time holds
MAX_REASON_CHARS = 300  # of the database's message, in QueueUnavailableError
# On Python 3.12 or later, DBOS uses SQLite's `unixepoch('subsec')`. SQLite before 3.42 (Debian 12 has 3.40) returns
# NULL for it, and every INSERT fails.
_SQLITE_WITH_SUBSECONDS = (3, 42)
# Both sides notice a broken network within 15 seconds. With the defaults it takes hours.
_KEEPALIVE: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "options": "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 "
    "-c tcp_user_timeout=10000 -c idle_in_transaction_session_timeout=60000",
}


class QueueDatabase:
    """
    The database that holds the queue.

    Args:
        url: ``sqlite:///uploads.sqlite3``, or ``postgresql://user:password@host/database`` (which must exist).

    Raises:
        InvalidRequestError: *url* is neither of these.
    """

    def __init__(self, url: str) -> None:
        problem = Problem("database_url")
        try:
            self._url = sa.make_url(url)
        except (ArgumentError, ValueError, AttributeError):
            self._url = sa.URL.create("none")  # is refused below, like any other URL of an unknown kind
        kind = self._url.get_backend_name()
        if kind not in _DATABASE_SCHEMES or not self._url.database or self._url.database == ":memory:":
            raise InvalidRequestError(field="database", problem=problem)
        self.is_sqlite = kind == "sqlite"
        if not self.is_sqlite:
            self._url = self._url.set(drivername="postgresql+psycopg")

    def __repr__(self) -> str:
        return f"<QueueDatabase {self._url.render_as_string(hide_password=True)}>"

    @property
    def file(self) -> Path | None:
        """The file of an SQLite database; None: it is PostgreSQL."""
        return Path(str(self._url.database)) if self.is_sqlite else None

    def engine(self, *, connections: int, sync: str = "NORMAL") -> sa.Engine:
        """
        Create an engine.

        Args:
            connections: The size of its connection pool.
            sync: SQLite's ``synchronous``. NORMAL: committed data survives a crash of the process. FULL: it also
                survives a power cut.
        """
        if not self.is_sqlite:
            engine = sa.create_engine(
                self._url, connect_args=_KEEPALIVE, pool_pre_ping=True, pool_size=connections, max_overflow=0,
                hide_parameters=True,
            )  # fmt: skip
            return _close_late_checkins(engine)
        _create_file(Path(str(self._url.database)))
        engine = sa.create_engine(self._url, pool_size=connections, max_overflow=0, hide_parameters=True)

        @listens_for(engine, "connect")
        def prepare(connection: Any, _: object) -> None:
            if sqlite3.sqlite_version_info < _SQLITE_WITH_SUBSECONDS:
                connection.create_function("unixepoch", 1, _unixepoch)
            connection.text_factory = _decode_stored  # the default raises an error that quotes the text
            connection.isolation_level = "IMMEDIATE"  # in a DEFERRED transaction, the first write may fail at once
            connection.execute(f"PRAGMA busy_timeout={LOCK_TIMEOUT_S * 1000}")
            switch_to_wal(connection, timeout=LOCK_TIMEOUT_S)
            for pragma in (f"synchronous={sync}", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")

        return _close_late_checkins(engine)

    def migrate(self) -> None:
        """Create DBOS's tables, or migrate them to this version of DBOS."""
        if self.is_sqlite:
            _create_file(Path(str(self._url.database)))
        DBOS.migrate(self._url.render_as_string(hide_password=False))

    def worker_locks(self, engine: sa.Engine, queue: str) -> WorkerLocks:
        """Return the locks of the workers of *queue*."""
        return FileWorkerLocks(self.file, queue) if self.file is not None else PostgresWorkerLocks(engine, queue)

    def now(self, engine: sa.Engine) -> datetime:
        """Return the time of the database's clock, which also records when a batch was taken."""
        if self.is_sqlite:
            return datetime.now(UTC)
        with engine.connect() as connection:
            now: datetime = connection.execute(sa.text("SELECT clock_timestamp()")).scalar_one()
            return now


def client_of(engine: sa.Engine) -> DBOSClient:
    """Return a DBOS client, which reads and enqueues but runs nothing. Its ``destroy()`` leaves *engine* open."""
    return DBOSClient(
        system_database_engine=engine, serializer=DBOSPortableJSONSerializer(), retry_connection_errors=False
    )


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """
    Call the blocking *function* in a thread, and return its result.

    Raises:
        QueueUnavailableError: The database can't be reached, or fails.
    """
    try:
        return await anyio.to_thread.run_sync(function, *arguments)
    except SQLAlchemyError as error:
        unavailable = _unavailable_error(error)
    raise unavailable  # not chained: the frames of the other error hold the database's password


def _unavailable_error(error: SQLAlchemyError) -> QueueUnavailableError:
    """Return the error to raise instead of *error*, with the first line of the database's message."""
    reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
    printable = "".join(letter if letter.isprintable() else "?" for letter in reason[:MAX_REASON_CHARS])
    unavailable = QueueUnavailableError(reason=printable)
    unavailable._kind = type(error).__name__  # noqa: SLF001 -- for our log, not for users
    return unavailable


def _close_late_checkins(engine: sa.Engine) -> sa.Engine:
    """Make *engine* close connections that DBOS's threads return to the pool after ``dispose()``."""
    disposed: list[sa.Engine] = []
    listen(engine, "engine_disposed", disposed.append)

    @listens_for(engine, "checkin")
    def close(_: object, record: Any) -> None:
        if disposed:
            record.invalidate()

    return engine


def _unixepoch(_: str) -> float:
    """Stand in for SQLite's ``unixepoch('subsec')``."""
    return time.time()


def _decode_stored(stored: bytes) -> str:
    """Decode a text from the database. Bytes that aren't UTF-8 are replaced."""
    return stored.decode("utf-8", "replace")


def _create_file(file: Path) -> None:
    try:
        create_private(file)
    except OSError as error:
        raise QueueUnavailableError(reason=f"{file}: {error.strerror}") from error
