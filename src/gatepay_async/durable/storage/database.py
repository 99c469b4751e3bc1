"""The database of jobs: SQLite or PostgreSQL, and DBOS's tables in it. Blocking; for worker threads."""

from __future__ import annotations

import os
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
from gatepay_async.sqlite_files import switch_to_wal
from gatepay_async.words.problem import Problem

T = TypeVar("T")

# What is queued stays whose it is when this package is upgraded; changed only with the form of what is stored.
VERSION = "gatepay-1"
APPLICATION = "gatepay"
_KINDS = ("sqlite", "postgresql", "postgres")
LOCK_TIMEOUT_S = 30  # seconds
MAX_REASON_CHARS = 300  # characters
# From Python 3.12 on, DBOS asks SQLite for `unixepoch('subsec')`, whatever SQLite there is: an older one (Debian 12 has
# 3.40) gives NULL, and every row is refused.
_WITH_SUBSECONDS = (3, 42)
# A cut network is noticed within a quarter of a minute, on both sides; by itself it would take hours.
_ALIVE: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "options": "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 "
    "-c tcp_user_timeout=10000 -c idle_in_transaction_session_timeout=60000",
}


class Database:
    """
    Where jobs are queued.

    Args:
        url: ``sqlite:///uploads.sqlite3``, or ``postgresql://user:password@host/database`` (it must exist).

    Raises:
        InvalidRequestError: It is neither.
    """

    def __init__(self, url: str) -> None:
        problem = Problem("database_url")
        try:
            self._url = sa.make_url(url)
        except (ArgumentError, ValueError, AttributeError):
            self._url = sa.URL.create("none")
        kind = self._url.get_backend_name()
        if kind not in _KINDS or not self._url.database or self._url.database == ":memory:":
            raise InvalidRequestError(field="database", problem=problem)
        self.is_sqlite = kind == "sqlite"
        if not self.is_sqlite:
            self._url = self._url.set(drivername="postgresql+psycopg")

    def __repr__(self) -> str:
        return f"<Database {self._url.render_as_string(hide_password=True)}>"

    @property
    def file(self) -> Path | None:
        """SQLite's."""
        return Path(str(self._url.database)) if self.is_sqlite else None

    def engine(self, *, connections: int, sync: str = "NORMAL") -> sa.Engine:
        """
        A pool of *connections*.

        Args:
            connections: At most so many.
            sync: SQLite's; NORMAL: what is written survives the process at any moment; FULL: a power cut, too.
        """
        if not self.is_sqlite:
            engine = sa.create_engine(
                self._url, connect_args=_ALIVE, pool_pre_ping=True, pool_size=connections, max_overflow=0,
                hide_parameters=True,
            )  # fmt: skip
            return _closing_all(engine)
        _create_private(Path(str(self._url.database)))
        engine = sa.create_engine(self._url, pool_size=connections, max_overflow=0, hide_parameters=True)

        @listens_for(engine, "connect")
        def prepare(connection: Any, _: object) -> None:
            if sqlite3.sqlite_version_info < _WITH_SUBSECONDS:
                connection.create_function("unixepoch", 1, _seconds)
            connection.text_factory = _decode_stored  # by itself it fails, and quotes what it can't decode
            connection.isolation_level = "IMMEDIATE"  # a reader that turns writer would fail at once
            connection.execute(f"PRAGMA busy_timeout={LOCK_TIMEOUT_S * 1000}")
            switch_to_wal(connection, timeout=LOCK_TIMEOUT_S)
            for pragma in (f"synchronous={sync}", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")

        return _closing_all(engine)

    def migrate(self) -> None:
        """Make DBOS's tables, or bring them up to date."""
        if self.is_sqlite:
            _create_private(Path(str(self._url.database)))
        DBOS.migrate(self._url.render_as_string(hide_password=False))

    def worker_locks(self, engine: sa.Engine, queue: str) -> WorkerLocks:
        """Who works for *queue*."""
        return FileWorkerLocks(self.file, queue) if self.file is not None else PostgresWorkerLocks(engine, queue)

    def now(self, engine: sa.Engine) -> datetime:
        """The clock that says when a batch was taken: the database's."""
        if self.is_sqlite:
            return datetime.now(UTC)
        with engine.connect() as connection:
            now: datetime = connection.execute(sa.text("SELECT clock_timestamp()")).scalar_one()
            return now


def client_of(engine: sa.Engine) -> DBOSClient:
    """What only asks and submits; ``destroy()`` leaves *engine* open. What it queues is any application's to take."""
    return DBOSClient(
        system_database_engine=engine, serializer=DBOSPortableJSONSerializer(), retry_connection_errors=False
    )


async def in_thread(ask: Callable[..., T], *arguments: Any) -> T:
    """
    What *ask* answers, which blocks; in a thread.

    Raises:
        QueueUnavailableError: The database doesn't.
    """
    try:
        return await anyio.to_thread.run_sync(ask, *arguments)
    except SQLAlchemyError as error:
        unavailable = _unavailable_error(error)
    raise unavailable  # and nothing else: in the frames of the other one stands the database's password


def _unavailable_error(error: SQLAlchemyError) -> QueueUnavailableError:
    reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
    shown = "".join(letter if letter.isprintable() else "?" for letter in reason[:MAX_REASON_CHARS])
    unavailable = QueueUnavailableError(reason=shown)
    unavailable._kind = type(error).__name__  # noqa: SLF001 -- for our log, not for users
    return unavailable


def _closing_all(engine: sa.Engine) -> sa.Engine:
    """*engine*, whose ``dispose()`` closes also what a thread of DBOS's still has, as soon as it is given back."""
    disposed: list[sa.Engine] = []
    listen(engine, "engine_disposed", disposed.append)

    @listens_for(engine, "checkin")
    def close(_: object, record: Any) -> None:
        if disposed:
            record.invalidate()

    return engine


def _seconds(_: str) -> float:
    """SQLite's ``unixepoch('subsec')``."""
    return time.time()


def _decode_stored(stored: bytes) -> str:
    return stored.decode("utf-8", "replace")


def _create_private(file: Path) -> None:
    """The file, for its owner only: what is said of an upload is nobody else's business."""
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise QueueUnavailableError(reason=f"{file}: {error.strerror}") from error
