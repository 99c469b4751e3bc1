"""SQLite's write-ahead log, switched on by several at once."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from gatepay_async.sqlite_files import switch_to_wal

pytestmark = pytest.mark.sockets

Pair = tuple[sqlite3.Connection, sqlite3.Connection]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Two connections to a new file, of which the first has it to itself."""
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(closing(sqlite3.connect(tmp_path / "a.sqlite3", timeout=0, isolation_level=None)))
            for _ in range(2)
        )
        one.execute("BEGIN EXCLUSIVE")
        yield one, other


def test_it_waits_for_its_turn(pair: Pair) -> None:
    """Who opens a new file while another is at it waits, as SQLite itself would not; done again, it is nothing."""
    one, other = pair
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            one.execute("COMMIT")

    switch_to_wal(other, timeout=60, sleep=sleep)
    assert len(pauses) == 3
    assert one.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    switch_to_wal(one, timeout=0)


def test_not_for_ever(pair: Pair) -> None:
    """When the time is over it says what SQLite says."""
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        switch_to_wal(pair[1], timeout=0)


@pytest.mark.parametrize(("text", "problem"), [("", "readonly"), ("this is no database, " * 10, "not a database")])
def test_nothing_to_wait_for(tmp_path: Path, text: str, problem: str) -> None:
    """A file that can't be written, or is no database, is said to be that at once."""
    path = tmp_path / "a.sqlite3"
    path.write_text(text)
    with (
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database,
        pytest.raises(sqlite3.DatabaseError, match=problem),
    ):
        switch_to_wal(database, timeout=60, sleep=lambda _: pytest.fail("it waits"))
