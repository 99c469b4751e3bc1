"""ka/show page by page."""

import random
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from gatepay_async.sandbox import Sandbox, card_keys
from gatepay_async.sandbox.database import Database

pytestmark = pytest.mark.sockets


def ka(call: Any, page: int | str, product_id: str = "8") -> Any:
    return call.reply("ka/show", product_id=product_id, page=str(page))["data"]["ka"]


def test_a_page_is_the_examples(sandbox: Sandbox, call: Any) -> None:
    """A page has the names of the example, fifty rows in ascending id, and the total over all pages."""
    page = ka(call, 1)
    assert list(page) == ["total", "per_page", "current_page", "last_page", "data"]
    assert {**page, "data": len(page["data"])} == {
        "total": 89, "per_page": 50, "current_page": 1, "last_page": 2, "data": 50,
    }  # fmt: skip
    assert page["data"][0] == {
        "id": sandbox.key_ids(8)[0],
        "admin_id": 6,
        "pay_product_id": 8,
        "pay_order_id": 0,
        "content": "EXAMPLE-8-001",
        "createtime": 1555750250,
        "updatetime": 1555750250,
        "status": "soldin",
    }


def test_an_empty_stock_of_thinkphp(visit: Any) -> None:
    """Without a single row, ThinkPHP's last page is page 0, and so is the one that it shows."""
    with Sandbox(past_last_page="thinkphp") as sandbox:
        sandbox.delete_keys(8, sandbox.key_ids(8))
        page = ka(visit(sandbox), 1)
    assert (page["total"], page["current_page"], page["last_page"], page["data"]) == (0, 0, 0, [])


def test_a_walk_gives_each_key_once(sandbox: Sandbox, call: Any) -> None:
    """All pages together are all keys, in ascending id."""
    rows = ka(call, 1)["data"] + ka(call, 2)["data"]
    assert [row["id"] for row in rows] == sandbox.key_ids(8) == sorted(sandbox.key_ids(8))
    assert [row["content"] for row in rows] == sandbox.keys(8)


@pytest.mark.uncounted
@pytest.mark.parametrize(("count", "last"), [(0, 1), (1, 1), (50, 1), (51, 2), (100, 2), (101, 3)])
def test_the_last_page(count: int, last: int, clock: Any, visit: Any) -> None:
    """last_page is what it takes to show all, and 1 when there is nothing."""
    with Sandbox(seed=False, clock=clock) as sandbox:
        sandbox.add_keys(8, [f"K{number}" for number in range(count)])
        page = ka(visit(sandbox), last)
    assert (page["total"], page["last_page"]) == (count, last)
    assert len(page["data"]) == count - 50 * (last - 1)


@pytest.mark.parametrize("page", [3, 10**18 - 1])
def test_past_the_end_is_empty(page: int, call: Any) -> None:
    """A page past the last has no rows and keeps its number."""
    shown = ka(call, page)
    assert (shown["current_page"], shown["last_page"], shown["data"]) == (page, 2, [])


def test_clamped_pages(clock: Any, visit: Any) -> None:
    """With ``clamp`` a page past the last is the last one, and says so."""
    with Sandbox(clock=clock, past_last_page="clamp") as sandbox:
        call = visit(sandbox)
        assert ka(call, 3) == ka(call, 2)
        assert ka(call, 2)["current_page"] == 2
        assert len(ka(call, 2)["data"]) == 39


def test_leading_zeros_are_digits(call: Any) -> None:
    """Page 02 is page 2."""
    assert ka(call, "02") == ka(call, "2")


def test_deleting_moves_the_rows_up(sandbox: Sandbox, call: Any) -> None:
    """Keys deleted between two pages move the later ones up, as in any paging by offset."""
    ids = sandbox.key_ids(8)
    assert sandbox.delete_keys(8, [*ids[:3], 10**6]) == 3
    assert sandbox.delete_keys(4, ids[3:4]) == 0  # not product 4's
    assert [row["id"] for row in ka(call, 2)["data"]] == ids[53:]


def test_a_deleted_id_is_never_given_again(sandbox: Sandbox) -> None:
    """The id of a deleted key is not given to a later one."""
    sandbox.add_keys(3, ["AAA"])
    [first] = sandbox.key_ids(3)
    sandbox.delete_keys(3, [first])
    sandbox.add_keys(3, ["AAA"])
    assert sandbox.key_ids(3) == [first + 1]


def test_deleted_keys_come_back(sandbox: Sandbox, call: Any) -> None:
    """Restored, keys stand where they stood before, under their old ids."""
    before = [(row["id"], row["content"]) for row in ka(call, 1)["data"]]
    sandbox.delete_keys(8, [key_id for key_id, _ in before[:3]])
    sandbox.restore_keys(8, dict(before[:3]))
    assert [(row["id"], row["content"]) for row in ka(call, 1)["data"]] == before


def test_keys_are_restored_all_or_none(sandbox: Sandbox) -> None:
    """restore_keys() with an id that is there restores none."""
    [first, second, *rest] = sandbox.key_ids(8)
    sandbox.delete_keys(8, [first])
    with pytest.raises(sqlite3.IntegrityError):
        sandbox.restore_keys(8, {first: "OLD-1", second: "OLD-2"})
    assert sandbox.key_ids(8) == [second, *rest]


def test_each_page_is_exact_whatever_was_deleted_and_restored() -> None:
    """Far more keys than a page's search looks at, of two products in turn, deleted and restored at random."""
    chance = random.Random(7)  # noqa: S311 -- no secret
    with closing(Database(":memory:", keys=False, now=1)) as database, database.transaction() as connection:
        for batch in range(6):
            for product in (8, 4):
                card_keys.add(connection, product, [f"{batch}-{number}" for number in range(400)], now=1)
            gone = chance.sample(card_keys.ids(connection, 8), 300 if batch % 2 else 1)
            card_keys.delete(connection, 8, gone)
            back = {key_id: f"back-{key_id}" for key_id in gone if chance.random() < 0.3}
            card_keys.restore(connection, 8, back, now=1)
            for product in (8, 4):
                ids = card_keys.ids(connection, product)
                found = [[row["id"] for row in card_keys.rows(connection, product, page, 7)] for page in range(1, 400)]
                assert found == [ids[start : start + 7] for start in range(0, 7 * 399, 7)]
                assert card_keys.count(connection, product) == len(ids)
