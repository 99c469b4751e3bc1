"""The file: what survives a restart, and what two sandboxes on one file see."""

import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gatepay_async.sandbox import Sandbox


def test_everything_survives_a_restart(tmp_path: Path, clock: Any, visit: Any) -> None:
    """Keys, orders, states and both shops' secrets are there again; what was deleted is not."""
    path = tmp_path / "shop.sqlite3"
    with Sandbox(path, clock=clock) as first:
        call = visit(first)
        call.reply("pay/create")
        call.reply("ka/create", content="AAA\nBBB")
        first.delete_keys(8, first.key_ids(8)[:1])
        first.change_shop(closed=True, quota=Decimal("2.50"), licence_until=datetime(2030, 1, 1, tzinfo=UTC))
        first.remove_shop(first.shops[1].appkey)
        before = (first.shops, first.orders(), first.keys(8), first.shop())
    with Sandbox(str(path), clock=clock) as second:
        assert (second.shops, second.orders(), second.keys(8), second.shop()) == before
        assert second.shop(second.shops[1].appkey) is None
        assert visit(second).reply("ka/show")["code"] == 107


def test_the_file_is_one_file_once_closed(tmp_path: Path) -> None:
    """A closed sandbox leaves one file, in WAL mode."""
    with Sandbox(tmp_path / "shop.sqlite3"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["shop.sqlite3"]
    connection = sqlite3.connect(tmp_path / "shop.sqlite3")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_two_sandboxes_share_a_file(tmp_path: Path) -> None:
    """What one sandbox writes another on the same file reads."""
    with Sandbox(tmp_path / "shop.sqlite3") as one, Sandbox(tmp_path / "shop.sqlite3") as other:
        assert one.shops == other.shops
        one.add_keys(3, ["AAA"])
        assert other.keys(3) == ["AAA"]


def test_each_database_has_its_own_secrets() -> None:
    """Two sandboxes in memory share neither keys nor secrets."""
    with Sandbox() as one, Sandbox(":memory:") as other:
        assert len({*one.shops, *other.shops}) == 4
        assert len({secret for _, secret in [*one.shops, *other.shops]}) == 4
        assert (one.appkey, one.appsecret) == one.shops[0]


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """A file that SQLite doesn't know is refused and not left open."""
    path = tmp_path / "shop.sqlite3"
    path.write_bytes(b"card keys, one a line\n" * 100)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        Sandbox(path)
    assert path.read_bytes().startswith(b"card keys")


def test_keys_are_added_all_or_none() -> None:
    """add_keys() with a key that is there already, or twice, stores none."""
    with Sandbox() as sandbox:
        sandbox.add_keys(3, ["AAA"])
        with pytest.raises(sqlite3.IntegrityError):
            sandbox.add_keys(3, ["BBB", "AAA"])
        assert sandbox.keys(3) == ["AAA"]


def test_the_documented_clock_is_the_default() -> None:
    """Without a clock of the test's own the sandbox tells the real time."""
    with Sandbox() as sandbox:
        sandbox.change_shop(licence_until=datetime(2020, 1, 1, tzinfo=UTC))
        state = sandbox.shop()
    assert state is not None
    assert state.licence_until == datetime(2020, 1, 1, tzinfo=UTC)
