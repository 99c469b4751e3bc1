"""Creating and opening SQLite files that other connections use at the same time."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from gatepay_async import sqlite_files
from gatepay_async.sqlite_files import create_private, switch_to_wal

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


def test_switch_to_wal_waits_for_the_lock(connections: ConnectionPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """``switch_to_wal`` waits until the file is unlocked; SQLite itself wouldn't wait. A second call does nothing."""
    locking, waiting = connections
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            locking.execute("COMMIT")

    monkeypatch.setattr(sqlite_files, "_sleep", sleep)
    switch_to_wal(waiting, timeout=60)
    assert len(pauses) == 3
    assert locking.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    switch_to_wal(locking, timeout=0)


def test_switch_to_wal_raises_sqlites_error_at_the_timeout(connections: ConnectionPair) -> None:
    """If the file stays locked until the timeout, SQLite's error is raised."""
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        switch_to_wal(connections[1], timeout=0)


@pytest.mark.parametrize(("content", "problem"), [("", "readonly"), ("not a database " * 10, "not a database")])
def test_switch_to_wal_raises_other_errors_at_once(
    tmp_path: Path, content: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the file is read-only or no database, SQLite's error is raised without waiting."""
    path = tmp_path / "a.sqlite3"
    path.write_text(content)
    monkeypatch.setattr(sqlite_files, "_sleep", lambda _: pytest.fail("waited"))
    with (
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database,
        pytest.raises(sqlite3.DatabaseError, match=problem),
    ):
        switch_to_wal(database, timeout=60)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file modes")
def test_private_file_is_created_at_the_target_of_a_symlink(tmp_path: Path) -> None:
    """The file can be read by its owner only, also if the path is a symlink to a file that doesn't exist."""
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    create_private(link)
    assert target.stat().st_mode & 0o777 == 0o600


# On POSIX, closing any descriptor of a file releases all locks that the process holds on the file.
TRY_TO_WRITE = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"


def test_create_private_keeps_the_locks_of_this_process(tmp_path: Path) -> None:
    """For an existing file, `create_private` doesn't release the lock of another connection of this process."""
    path = tmp_path / "a.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        create_private(path)
        result = subprocess.run([sys.executable, "-c", TRY_TO_WRITE, path], capture_output=True, check=False)
    assert b"database is locked" in result.stderr
