"""The file: what survives a restart, and what two sandboxes on one file see."""

import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gatepay_async.sandbox import LaterVersionError, Sandbox

pytestmark = pytest.mark.sockets


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


# What version 1 laid out, typed off from its release.
FIRST_LAYOUT = """
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


def test_a_file_of_the_first_layout(tmp_path: Path, clock: Any) -> None:
    """A file that an earlier version made is brought up to date: nothing is lost, and its orders can be paid."""
    path = tmp_path / "shop.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript(FIRST_LAYOUT)
    connection.close()
    for _ in range(2):
        with Sandbox(path, clock=clock) as sandbox:
            paid, pending = sandbox.orders()
            assert (paid.state, paid.paid_at, paid.realprice) == ("paid", 1555750250, Decimal("0.99"))
            assert (pending.out_order_id, pending.state, pending.expires_at) == ("T-2-X", "pending", None)
            assert (sandbox.keys(8), sandbox.appsecret) == (["AAA"], "secret")
            assert (pending.endpoint, pending.items, pending.name) == ("pay/create", ((8, 1),), "p")
    with Sandbox(path, clock=clock, callback_url="http://127.0.0.1:1") as sandbox:
        assert sandbox.pay(2).state == "paid"
        assert len(sandbox.deliveries()) == 1


# What versions 2 and 3 added to that, and a callback that waits.
THIRD_LAYOUT = """
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


def test_a_file_of_the_third_layout(tmp_path: Path, clock: Any, visit: Any) -> None:
    """Its waiting callback goes to the shop's URL still; its orders are found, and the later endpoints work."""
    path = tmp_path / "shop.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript(FIRST_LAYOUT + THIRD_LAYOUT)
    connection.close()
    with Sandbox(path, clock=clock) as sandbox:
        claimed = sandbox._outbox.claim()
        assert claimed is not None
        assert (claimed.attempt, str(claimed.url).partition("?")[0]) == (2, "http://127.0.0.1:1/callback")
        state = sandbox.shop()
        assert state is not None
        assert (len(str(state.token)), state.agent, state.closed_pay_types) == (16, True, frozenset())
        call = visit(sandbox)
        assert call.reply("order/check", out_order_id="T-1-X")["data"]["order_name"] == "p"
        assert call.reply("anypay/create")["code"] == 100
        page = call.reply("ka/show", product_id="8", page="1")["data"]["ka"]
        assert (page["total"], [row["content"] for row in page["data"]]) == (1, ["AAA"])
        assert sandbox.orders()[-1].items == ()


def test_a_file_of_a_later_layout(tmp_path: Path) -> None:
    """A file that a later version made is refused with a sentence that says so, and left as it is."""
    path = tmp_path / "shop.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(
        LaterVersionError,
        match=r"shop\.sqlite3 has schema version 99, from a later gatepay-async; this one supports up to 5",
    ):
        Sandbox(path)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    connection.close()


def test_a_layout_is_whole_or_not_there(tmp_path: Path) -> None:
    """A file that can't be brought up to date stays what it was."""
    path = tmp_path / "shop.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript(FIRST_LAYOUT + "CREATE TABLE delivery (somebody_elses INTEGER);")
    connection.close()
    with pytest.raises(sqlite3.OperationalError, match="delivery"):
        Sandbox(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert "callback_url" not in [row[1] for row in connection.execute("PRAGMA table_info(shop)")]
    connection.close()


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
