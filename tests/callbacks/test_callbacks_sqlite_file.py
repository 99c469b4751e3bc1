"""``SQLiteStore`` on a machine that misbehaves: its clock jumps, its file goes away, it boots again."""

import logging
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from gatepay_async.callbacks import Claim, SQLiteStore, Standing, boot_clock, sqlite_file
from gatepay_async.callbacks import sqlite as module
from gatepay_async.sqlite_files import switch_to_wal

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

CLAIM = Claim(key="shop/1", token="first", facts="facts", lease=20)
OTHER = evolve(CLAIM, token="other")


class Machine:
    """Both of its clocks, set by hand."""

    boot = "one"
    uptime = 1000.0
    wall = 1_600_000_000.0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    it = Machine()
    monkeypatch.setattr(module, "since_boot", lambda: (it.boot, it.uptime))
    return it


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "callbacks.sqlite3"


@pytest.fixture
async def store(machine: Machine, path: Path) -> AsyncIterator[SQLiteStore]:
    it = SQLiteStore(path, clock=lambda: machine.wall)
    yield it
    await it.aclose()


async def test_a_clock_that_jumps(store: SQLiteStore, machine: Machine) -> None:
    """A wall clock that is set an hour ahead, or back, neither ends a claim nor extends it."""
    for jump in (3600, -7200):
        assert await store.claim(CLAIM) is Standing.MINE
        machine.wall += jump
        assert await store.claim(OTHER) is Standing.TAKEN
        machine.uptime += 19.9
        assert await store.claim(OTHER) is Standing.TAKEN
        machine.uptime += 0.1
        assert await store.claim(OTHER) is Standing.MINE
        await store.release(OTHER)


async def test_another_boot(store: SQLiteStore, machine: Machine) -> None:
    """A claim made before the machine was booted is anybody's, also where the system does not name its boots."""
    for before, after, uptime in (("one", "two", 5.0), ("one", "two", 1005.0), ("", "", 5.0)):
        machine.boot, machine.uptime = before, 1000.0
        assert await store.claim(CLAIM) is Standing.MINE
        machine.boot, machine.uptime = after, uptime
        assert await store.claim(OTHER) is Standing.MINE
        await store.release(OTHER)


async def test_a_file_that_is_deleted(store: SQLiteStore, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is handled after the file was deleted is written into a new one, and a warning says what is lost."""
    assert await store.claim(CLAIM) is Standing.MINE
    for each in path.parent.iterdir():
        each.unlink()
    with caplog.at_level(logging.WARNING, "gatepay_async"):
        assert await store.commit(CLAIM)
    assert f"{path} was deleted or replaced" in caplog.text
    again = SQLiteStore(path)  # as another process, or after a restart
    assert await again.claim(OTHER) is Standing.HANDLED
    await again.aclose()


async def test_a_file_that_is_deleted_while_it_is_written(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit into a file that is being deleted is made again: `success` is never answered for a row that is gone."""
    assert await store.claim(CLAIM) is Standing.MINE
    write, deleted = module._Writer._write, threading.Event()

    def deleting(self: module._Writer, database: sqlite3.Connection, jobs: Any) -> None:
        write(self, database, jobs)
        if not deleted.is_set():
            deleted.set()
            for each in path.parent.iterdir():
                each.unlink()

    monkeypatch.setattr(module._Writer, "_write", deleting)
    assert await store.commit(CLAIM)
    again = SQLiteStore(path)
    assert await again.claim(OTHER) is Standing.HANDLED
    await again.aclose()


async def test_a_file_of_version_01(machine: Machine, path: Path) -> None:
    """A file of version 0.1 is brought up to date; its claims, and those of processes of that version, count."""
    old = sqlite3.connect(path, isolation_level=None)
    old.execute(sqlite_file._SCHEMA[0])
    enter = "INSERT INTO callback (key, token, facts, ends, at) VALUES (?, ?, ?, ?, ?)"
    old.execute(enter, ("shop/1", "old", "facts", machine.wall + 20, machine.wall))
    old.execute(enter, ("shop/2", "old", "facts", None, machine.wall))
    store = SQLiteStore(path, clock=lambda: machine.wall)
    assert await store.claim(CLAIM) is Standing.TAKEN
    assert await store.claim(evolve(CLAIM, key="shop/2")) is Standing.HANDLED
    old.execute(enter, ("shop/3", "old", "facts", machine.wall + 20, machine.wall))
    assert await store.claim(evolve(CLAIM, key="shop/3")) is Standing.TAKEN
    machine.wall += 20
    assert await store.claim(CLAIM) is Standing.MINE
    machine.wall -= 9999
    assert await store.claim(evolve(CLAIM, key="shop/3")) is Standing.MINE  # a clock set back makes no lease of hours
    old.close()
    await store.aclose()


def test_the_clock_since_boot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It goes on, and names the boot where the system does; where not, the name is empty."""
    name, at = boot_clock.since_boot()
    assert boot_clock.since_boot() >= (name, at)
    boot_clock._boot_id.cache_clear()
    monkeypatch.setattr(boot_clock, "_LINUX_BOOT_ID", tmp_path / "none")
    monkeypatch.delattr("time.CLOCK_BOOTTIME", raising=False)
    assert boot_clock.since_boot()[0] == ""
    boot_clock._boot_id.cache_clear()


def test_the_clock_goes_on_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has a clock that counts the machine's sleep, it is that one."""
    monkeypatch.setattr("time.CLOCK_BOOTTIME", 7, raising=False)
    monkeypatch.setattr("time.clock_gettime", {7: 12_345.0}.__getitem__, raising=False)
    assert boot_clock.since_boot()[1] == 12_345.0


async def test_a_file_that_is_replaced_while_it_is_opened(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed is in the file that is there, however early the other one went."""

    def replace(database: sqlite3.Connection, *, timeout: float) -> None:
        switch_to_wal(database, timeout=timeout)
        monkeypatch.undo()
        path.rename(path.with_name("before"))
        path.touch()

    monkeypatch.setattr(sqlite_file, "switch_to_wal", replace)
    assert await store.commit(CLAIM) is True
    later = SQLiteStore(path)
    assert await later.claim(OTHER) is Standing.HANDLED
    await later.aclose()
