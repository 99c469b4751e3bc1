"""Switching a SQLite file to write-ahead logging while another connection uses it."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from gatepay_async.sqlite_files import switch_to_wal

pytestmark = pytest.mark.sockets

ConnectionPair = tuple[sqlite3.Connection, sqlite3.Connection]


@pytest.fixture
def connections(tmp_path: Path) -> Iterator[ConnectionPair]:
    """Open two connections to a new file; the first one holds an exclusive lock."""
    with ExitStack() as stack:
        locking, waiting = (
            stack.enter_context(closing(sqlite3.connect(tmp_path / "a.sqlite3", timeout=0, isolation_level=None)))
            for _ in range(2)
        )
        locking.execute("BEGIN EXCLUSIVE")
        yield locking, waiting


def test_switch_to_wal_waits_for_the_lock(connections: ConnectionPair) -> None:
    """``switch_to_wal`` waits until the file is unlocked; SQLite itself wouldn't wait. A second call does nothing."""
    locking, waiting = connections
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            locking.execute("COMMIT")

    switch_to_wal(waiting, timeout=60, sleep=sleep)
    assert len(pauses) == 3
    assert locking.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    switch_to_wal(locking, timeout=0)


def test_switch_to_wal_raises_sqlites_error_at_the_timeout(connections: ConnectionPair) -> None:
    """If the file stays locked until the timeout, SQLite's error is raised."""
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        switch_to_wal(connections[1], timeout=0)


@pytest.mark.parametrize(("content", "problem"), [("", "readonly"), ("not a database " * 10, "not a database")])
def test_switch_to_wal_raises_other_errors_at_once(tmp_path: Path, content: str, problem: str) -> None:
    """If the file is read-only or no database, SQLite's error is raised without waiting."""
    path = tmp_path / "a.sqlite3"
    path.write_text(content)
    with (
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database,
        pytest.raises(sqlite3.DatabaseError, match=problem),
    ):
        switch_to_wal(database, timeout=60, sleep=lambda _: pytest.fail("waited"))
