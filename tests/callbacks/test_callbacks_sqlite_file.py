"""``SQLiteStore`` when the clock jumps, the machine reboots, or the file is deleted or replaced."""

import logging
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from gatepay_async.callbacks import Claim, SQLiteStore, Standing, boot_clock, sqlite_file
from gatepay_async.callbacks import sqlite as sqlite_module
from gatepay_async.sqlite_files import open_shared

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

CLAIM = Claim(key="shop/1", token="first", facts="facts", lease=20)
OTHER_CLAIM = evolve(CLAIM, token="other")


class Machine:
    """The machine's clocks and boot ID, which the test sets."""

    boot = "one"
    uptime = 1000.0
    wall = 1_600_000_000.0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    fake_machine = Machine()
    monkeypatch.setattr(sqlite_module, "boot_id_and_seconds", lambda: (fake_machine.boot, fake_machine.uptime))
    return fake_machine


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "callbacks.sqlite3"


@pytest.fixture
async def store(machine: Machine, path: Path) -> AsyncIterator[SQLiteStore]:
    sqlite_store = SQLiteStore(path, clock=lambda: machine.wall)
    yield sqlite_store
    await sqlite_store.aclose()


async def test_jump_of_the_wall_clock_does_not_change_a_lease(store: SQLiteStore, machine: Machine) -> None:
    """Setting the wall clock forward or back neither ends nor extends a claim."""
    for jump in (3600, -7200):
        assert await store.claim(CLAIM) is Standing.MINE
        machine.wall += jump
        assert await store.claim(OTHER_CLAIM) is Standing.TAKEN
        machine.uptime += 19.9
        assert await store.claim(OTHER_CLAIM) is Standing.TAKEN
        machine.uptime += 0.1
        assert await store.claim(OTHER_CLAIM) is Standing.MINE
        await store.release(OTHER_CLAIM)


async def test_claim_from_before_a_reboot_can_be_taken(store: SQLiteStore, machine: Machine) -> None:
    """After a reboot, a claim can be taken by another token, even if the system provides no boot ID."""
    for old_boot_id, new_boot_id, uptime in (("one", "two", 5.0), ("one", "two", 1005.0), ("", "", 5.0)):
        machine.boot, machine.uptime = old_boot_id, 1000.0
        assert await store.claim(CLAIM) is Standing.MINE
        machine.boot, machine.uptime = new_boot_id, uptime
        assert await store.claim(OTHER_CLAIM) is Standing.MINE
        await store.release(OTHER_CLAIM)


async def test_deleted_file_is_created_again_with_a_warning(
    store: SQLiteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the file was deleted, a commit is written to a new file, and a warning says which file was lost."""
    assert await store.claim(CLAIM) is Standing.MINE
    for file in path.parent.iterdir():
        file.unlink()
    with caplog.at_level(logging.WARNING, "gatepay_async"):
        assert await store.commit(CLAIM)
    assert f"{path} was deleted or replaced" in caplog.text
    reopened = SQLiteStore(path)  # like another process, or the same one after a restart
    assert await reopened.claim(OTHER_CLAIM) is Standing.HANDLED
    await reopened.aclose()


async def test_commit_is_repeated_if_the_file_is_deleted_meanwhile(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the file is deleted during a commit, the commit is written to a new file before it returns."""
    assert await store.claim(CLAIM) is Standing.MINE
    write, deleted = sqlite_module._Writer._write, threading.Event()

    def write_and_delete_once(self: sqlite_module._Writer, database: sqlite3.Connection, jobs: Any) -> None:
        write(self, database, jobs)
        if not deleted.is_set():
            deleted.set()
            for file in path.parent.iterdir():
                file.unlink()

    monkeypatch.setattr(sqlite_module._Writer, "_write", write_and_delete_once)
    assert await store.commit(CLAIM)
    reopened = SQLiteStore(path)
    assert await reopened.claim(OTHER_CLAIM) is Standing.HANDLED
    await reopened.aclose()


async def test_file_of_version_0_1_is_upgraded(machine: Machine, path: Path) -> None:
    """A file of version 0.1 is upgraded. Claims that version 0.1 adds before or after the upgrade count."""
    old_program = sqlite3.connect(path, isolation_level=None)
    old_program.execute(sqlite_file._SCHEMA[0])
    insert = "INSERT INTO callback (key, token, facts, ends, at) VALUES (?, ?, ?, ?, ?)"
    old_program.execute(insert, ("shop/1", "old", "facts", machine.wall + 20, machine.wall))
    old_program.execute(insert, ("shop/2", "old", "facts", None, machine.wall))
    store = SQLiteStore(path, clock=lambda: machine.wall)
    assert await store.claim(CLAIM) is Standing.TAKEN
    assert await store.claim(evolve(CLAIM, key="shop/2")) is Standing.HANDLED
    old_program.execute(insert, ("shop/3", "old", "facts", machine.wall + 20, machine.wall))
    assert await store.claim(evolve(CLAIM, key="shop/3")) is Standing.TAKEN
    machine.wall += 20
    assert await store.claim(CLAIM) is Standing.MINE
    machine.wall -= 9999  # setting the clock back doesn't extend a lease
    assert await store.claim(evolve(CLAIM, key="shop/3")) is Standing.MINE
    old_program.close()
    await store.aclose()


def test_boot_clock_returns_the_boot_id_and_the_uptime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``boot_id_and_seconds`` returns the boot ID and a clock that doesn't go back. Without a boot ID, it is empty."""
    boot_id, uptime = boot_clock.boot_id_and_seconds()
    assert boot_clock.boot_id_and_seconds() >= (boot_id, uptime)
    boot_clock._boot_id.cache_clear()
    monkeypatch.setattr(boot_clock, "_LINUX_BOOT_ID", tmp_path / "none")
    monkeypatch.delattr("time.CLOCK_BOOTTIME", raising=False)
    assert boot_clock.boot_id_and_seconds()[0] == ""
    boot_clock._boot_id.cache_clear()


def test_boot_clock_counts_the_time_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system has a clock that includes the time asleep, ``boot_id_and_seconds`` uses it."""
    monkeypatch.setattr("time.CLOCK_BOOTTIME", 7, raising=False)
    monkeypatch.setattr("time.clock_gettime", {7: 12_345.0}.__getitem__, raising=False)
    assert boot_clock.boot_id_and_seconds()[1] == 12_345.0


async def test_commit_reaches_the_file_that_replaced_the_opened_one(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the file is replaced while the store opens it, a commit is written to the new file."""

    def open_and_replace(opened_path: Path, *, timeout: float) -> sqlite3.Connection:
        database = open_shared(opened_path, timeout=timeout)
        monkeypatch.undo()
        path.rename(path.with_name("replaced"))
        path.touch()
        return database

    monkeypatch.setattr(sqlite_file, "open_shared", open_and_replace)
    assert await store.commit(CLAIM) is True
    reopened = SQLiteStore(path)
    assert await reopened.claim(OTHER_CLAIM) is Standing.HANDLED
    await reopened.aclose()


async def test_file_that_cannot_be_upgraded_is_closed(path: Path) -> None:
    """If the schema can't be created, the call raises SQLite's error, and the file is closed."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE callback_at (name)")  # the name of our index
    store = SQLiteStore(path)
    with pytest.raises(sqlite3.OperationalError, match="callback_at"):
        await store.claim(CLAIM)
    await store.aclose()


async def test_error_of_a_read_only_file_has_its_path(store: SQLiteStore, path: Path) -> None:
    """SQLite's error for a file that can't be written doesn't name the file, so the store adds the path."""
    await store.claim(CLAIM)
    file = store._writer().file
    with file.open() as database:
        database.execute("PRAGMA query_only = ON")  # works for root, too, unlike the permissions of the file
    with pytest.raises(sqlite3.OperationalError) as caught, file.open() as database:
        database.execute("DELETE FROM callback")
    assert str(caught.value) == f"{path}: attempt to write a readonly database"
