"""The sandbox's database file: restarts, sharing it, and earlier versions of its schema."""

import pickle
import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gatepay_async.sandbox import LaterVersionError, Sandbox

pytestmark = pytest.mark.sockets


def test_everything_survives_a_restart(tmp_path: Path, clock: Any, connect_to: Any) -> None:
    """After a restart, keys, orders, states and secrets are unchanged, and deleted keys and shops stay deleted."""
    path = tmp_path / "shop.sqlite3"
    with Sandbox(path, clock=clock) as first:
        api = connect_to(first)
        api.reply("pay/create")
        api.reply("ka/create", content="AAA\nBBB")
        first.delete_keys(8, first.key_ids(8)[:1])
        first.change_shop(closed=True, quota=Decimal("2.50"), licence_until=datetime(2030, 1, 1, tzinfo=UTC))
        first.remove_shop(first.shops[1].appkey)
        before = (first.shops, first.orders(), first.keys(8), first.shop())
    with Sandbox(str(path), clock=clock) as second:
        assert (second.shops, second.orders(), second.keys(8), second.shop()) == before
        assert second.shop(second.shops[1].appkey) is None
        assert connect_to(second).reply("ka/show")["code"] == 107


def test_closed_sandbox_leaves_one_file(tmp_path: Path) -> None:
    """A closed sandbox leaves one file, in WAL mode."""
    with Sandbox(tmp_path / "shop.sqlite3"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["shop.sqlite3"]
    connection = sqlite3.connect(tmp_path / "shop.sqlite3")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_two_sandboxes_share_a_file(tmp_path: Path) -> None:
    """A sandbox reads what another one on the same file has written."""
    with Sandbox(tmp_path / "shop.sqlite3") as first, Sandbox(tmp_path / "shop.sqlite3") as second:
        assert first.shops == second.shops
        first.add_keys(3, ["AAA"])
        assert second.keys(3) == ["AAA"]


def test_each_database_has_its_own_secrets() -> None:
    """Two in-memory sandboxes have different appkeys and appsecrets."""
    with Sandbox() as first, Sandbox(":memory:") as second:
        assert len({*first.shops, *second.shops}) == 4
        assert len({secret for _, secret in [*first.shops, *second.shops]}) == 4
        assert (first.appkey, first.appsecret) == first.shops[0]


def test_file_that_is_no_database_is_rejected(tmp_path: Path) -> None:
    """A file that isn't an SQLite database is rejected and not changed."""
    path = tmp_path / "shop.sqlite3"
    path.write_bytes(b"card keys, one a line\n" * 100)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        Sandbox(path)
    assert path.read_bytes().startswith(b"card keys")


# The schema of version 1, copied from its release, and a few rows.
SCHEMA_VERSION_1 = """
CREATE TABLE account (appkey TEXT PRIMARY KEY, appsecret TEXT NOT NULL, admin_id INTEGER NOT NULL UNIQUE);
CREATE TABLE shop (
    admin_id INTEGER PRIMARY KEY, closed INTEGER NOT NULL DEFAULT 0, quota INTEGER, licence_until INTEGER);
CREATE TABLE category (id INTEGER PRIMARY KEY, admin_id INTEGER NOT NULL, name TEXT NOT NULL);
CREATE TABLE product (
    id INTEGER PRIMARY KEY, admin_id INTEGER NOT NULL, category_id INTEGER NOT NULL REFERENCES category,
    name TEXT NOT NULL, description TEXT NOT NULL, image TEXT NOT NULL, price INTEGER NOT NULL);
CREATE TABLE card_key (
    id INTEGER PRIMARY KEY AUTOINCREMENT, product_id INTEGER NOT NULL REFERENCES product,
    order_id INTEGER NOT NULL DEFAULT 0, content TEXT NOT NULL CHECK (length(content) <= 255),
    folded TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL,
    UNIQUE (product_id, content));
CREATE INDEX card_key_walk ON card_key (product_id, id);
CREATE INDEX card_key_folded ON card_key (product_id, folded);
CREATE TABLE pay_order (
    id INTEGER PRIMARY KEY AUTOINCREMENT, page_id TEXT NOT NULL UNIQUE, admin_id INTEGER NOT NULL,
    product_id INTEGER NOT NULL, product_num INTEGER NOT NULL, out_order_id TEXT NOT NULL,
    price INTEGER NOT NULL, pay_type TEXT NOT NULL, custom TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending', created INTEGER NOT NULL);
CREATE INDEX pay_order_day ON pay_order (admin_id, created);
INSERT INTO account VALUES ('key', 'secret', 6);
INSERT INTO shop (admin_id) VALUES (6);
INSERT INTO category VALUES (40, 6, 'c');
INSERT INTO product VALUES (8, 6, 40, 'p', 'p', '', 99);
INSERT INTO card_key VALUES (1, 8, 0, 'AAA', 'aaa', 1, 1);
INSERT INTO pay_order VALUES (1, 'one', 6, 8, 1, 'T-1-X', 99, 'wechat', 'c', 'paid', 1555750250);
INSERT INTO pay_order VALUES (2, 'two', 6, 8, 1, 'T-2-X', 99, 'wechat', 'c', 'pending', 1555750250);
PRAGMA user_version = 1;
"""


def test_schema_version_1_is_upgraded(tmp_path: Path, clock: Any) -> None:
    """A file with schema version 1 is upgraded without data loss, and its orders can be paid."""
    path = tmp_path / "shop.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA_VERSION_1)
    connection.close()
    for _ in range(2):  # the first opening upgrades the file
        with Sandbox(path, clock=clock) as sandbox:
            paid, pending = sandbox.orders()
            assert (paid.state, paid.paid_at, paid.realprice) == ("paid", 1555750250, Decimal("0.99"))
            assert (pending.out_order_id, pending.state, pending.expires_at) == ("T-2-X", "pending", None)
            assert (sandbox.keys(8), sandbox.appsecret) == (["AAA"], "secret")
            assert (pending.endpoint, pending.items, pending.name) == ("pay/create", ((8, 1),), "p")
    with Sandbox(path, clock=clock, callback_url="http://127.0.0.1:1") as sandbox:
        assert sandbox.pay(2).state == "paid"
        assert len(sandbox.deliveries()) == 1


# What versions 2 and 3 added to the schema, and a waiting callback.
SCHEMA_VERSION_3 = """
ALTER TABLE shop ADD COLUMN callback_url TEXT;
ALTER TABLE pay_order ADD COLUMN expires REAL;
ALTER TABLE pay_order ADD COLUMN paid INTEGER;
ALTER TABLE pay_order ADD COLUMN realprice INTEGER;
CREATE INDEX pay_order_open ON pay_order (expires) WHERE state = 'pending';
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT, order_id INTEGER NOT NULL REFERENCES pay_order,
    attempt INTEGER NOT NULL, due REAL NOT NULL, claimed REAL, url TEXT, sent REAL, answered REAL,
    status INTEGER, answer TEXT, problem TEXT);
CREATE INDEX delivery_waiting ON delivery (due) WHERE answered IS NULL;
CREATE INDEX delivery_order ON delivery (order_id);
ALTER TABLE delivery ADD COLUMN body TEXT;
UPDATE shop SET callback_url = 'http://127.0.0.1:1/callback';
INSERT INTO delivery (order_id, attempt, due) VALUES (1, 2, 1555750250);
PRAGMA user_version = 3;
"""


def test_schema_version_3_is_upgraded(tmp_path: Path, clock: Any, connect_to: Any) -> None:
    """After the upgrade from schema version 3, the waiting callback still has its URL, and all endpoints work."""
    path = tmp_path / "shop.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA_VERSION_1 + SCHEMA_VERSION_3)
    connection.close()
    with Sandbox(path, clock=clock) as sandbox:
        claimed = sandbox._outbox.claim()
        assert claimed is not None
        assert (claimed.attempt, str(claimed.url).partition("?")[0]) == (2, "http://127.0.0.1:1/callback")
        state = sandbox.shop()
        assert state is not None
        assert (len(str(state.token)), state.agent, state.closed_pay_types) == (16, True, frozenset())
        api = connect_to(sandbox)
        assert api.reply("order/check", out_order_id="T-1-X")["data"]["order_name"] == "p"
        assert api.reply("anypay/create")["code"] == 100
        page = api.reply("ka/show", product_id="8", page="1")["data"]["ka"]
        assert (page["total"], [row["content"] for row in page["data"]]) == (1, ["AAA"])
        assert sandbox.orders()[-1].items == ()


def test_later_schema_version_is_rejected(tmp_path: Path) -> None:
    """A file with a later schema version is rejected with an error that says so, and isn't changed."""
    path = tmp_path / "shop.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(
        LaterVersionError,
        match=r"shop\.sqlite3 has schema version 99, from a later gatepay-async; this one supports up to 5",
    ) as caught:
        Sandbox(path)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 -- pickled in this test
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    connection.close()


def test_failed_upgrade_changes_nothing(tmp_path: Path) -> None:
    """A file that can't be upgraded isn't changed."""
    path = tmp_path / "shop.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA_VERSION_1 + "CREATE TABLE delivery (foreign_column INTEGER);")
    connection.close()
    with pytest.raises(sqlite3.OperationalError, match="delivery"):
        Sandbox(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert "callback_url" not in [row[1] for row in connection.execute("PRAGMA table_info(shop)")]
    connection.close()


def test_keys_are_added_all_or_none() -> None:
    """If one of the keys exists already, add_keys() stores none of them."""
    with Sandbox() as sandbox:
        sandbox.add_keys(3, ["AAA"])
        with pytest.raises(sqlite3.IntegrityError):
            sandbox.add_keys(3, ["BBB", "AAA"])
        assert sandbox.keys(3) == ["AAA"]


def test_sandbox_works_without_a_clock() -> None:
    """Without `clock`, the sandbox uses the system's clock."""
    with Sandbox() as sandbox:
        sandbox.change_shop(licence_until=datetime(2020, 1, 1, tzinfo=UTC))
        state = sandbox.shop()
    assert state is not None
    assert state.licence_until == datetime(2020, 1, 1, tzinfo=UTC)
