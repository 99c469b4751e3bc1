"""The pages of the sandbox's ka/show."""

import random
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from gatepay_async.sandbox import Sandbox, card_keys
from gatepay_async.sandbox.database import SandboxDatabase

pytestmark = pytest.mark.sockets


def fetch_page(api: Any, page: int | str, product_id: str = "8") -> Any:
    return api.reply("ka/show", product_id=product_id, page=str(page))["data"]["ka"]


def test_a_page_looks_like_the_example(sandbox: Sandbox, api: Any) -> None:
    """A page has the fields of GatePay's example, fifty rows in ascending order of id, and the total of all pages."""
    page = fetch_page(api, 1)
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


def test_thinkphp_has_page_0_for_an_empty_stock(connect_to: Any) -> None:
    """With ``thinkphp`` and no rows, both the current page and the last page are 0."""
    with Sandbox(past_last_page="thinkphp") as sandbox:
        sandbox.delete_keys(8, sandbox.key_ids(8))
        page = fetch_page(connect_to(sandbox), 1)
    assert (page["total"], page["current_page"], page["last_page"], page["data"]) == (0, 0, 0, [])


def test_all_pages_contain_each_key_once(sandbox: Sandbox, api: Any) -> None:
    """All pages together contain each card key once, in ascending order of id."""
    rows = fetch_page(api, 1)["data"] + fetch_page(api, 2)["data"]
    assert [row["id"] for row in rows] == sandbox.key_ids(8) == sorted(sandbox.key_ids(8))
    assert [row["content"] for row in rows] == sandbox.keys(8)


@pytest.mark.without_coverage
@pytest.mark.parametrize(("count", "last"), [(0, 1), (1, 1), (50, 1), (51, 2), (100, 2), (101, 3)])
def test_last_page_is_the_number_of_pages(count: int, last: int, clock: Any, connect_to: Any) -> None:
    """last_page is the number of pages with rows, or 1 if there are no rows."""
    with Sandbox(seed=False, clock=clock) as sandbox:
        sandbox.add_keys(8, [f"K{number}" for number in range(count)])
        page = fetch_page(connect_to(sandbox), last)
    assert (page["total"], page["last_page"]) == (count, last)
    assert len(page["data"]) == count - 50 * (last - 1)


@pytest.mark.parametrize("page", [3, 10**18 - 1])
def test_a_page_past_the_last_is_empty(page: int, api: Any) -> None:
    """A page past the last one has no rows, and current_page is the requested number."""
    fetched = fetch_page(api, page)
    assert (fetched["current_page"], fetched["last_page"], fetched["data"]) == (page, 2, [])


def test_clamp_returns_the_last_page(clock: Any, connect_to: Any) -> None:
    """With ``clamp``, a request for a page past the last one gets the last page, with the last page's number."""
    with Sandbox(clock=clock, past_last_page="clamp") as sandbox:
        api = connect_to(sandbox)
        assert fetch_page(api, 3) == fetch_page(api, 2)
        assert fetch_page(api, 2)["current_page"] == 2
        assert len(fetch_page(api, 2)["data"]) == 39


def test_leading_zeros_are_ignored(api: Any) -> None:
    """Page 02 is page 2."""
    assert fetch_page(api, "02") == fetch_page(api, "2")


def test_deleting_moves_the_rows_up(sandbox: Sandbox, api: Any) -> None:
    """If keys are deleted between two pages, later keys move up, as always when paging by offset."""
    ids = sandbox.key_ids(8)
    assert sandbox.delete_keys(8, [*ids[:3], 10**6]) == 3  # no card key has the id 10**6
    assert sandbox.delete_keys(4, ids[3:4]) == 0  # it belongs to product 8
    assert [row["id"] for row in fetch_page(api, 2)["data"]] == ids[53:]


def test_deleted_ids_are_not_reused(sandbox: Sandbox) -> None:
    """A new key never gets the id of a deleted one."""
    sandbox.add_keys(3, ["AAA"])
    [first] = sandbox.key_ids(3)
    sandbox.delete_keys(3, [first])
    sandbox.add_keys(3, ["AAA"])
    assert sandbox.key_ids(3) == [first + 1]


def test_restored_keys_keep_their_ids_and_places(sandbox: Sandbox, api: Any) -> None:
    """Restored keys have their old ids and their old places in the listing."""
    before = [(row["id"], row["content"]) for row in fetch_page(api, 1)["data"]]
    sandbox.delete_keys(8, [key_id for key_id, _ in before[:3]])
    sandbox.restore_keys(8, dict(before[:3]))
    assert [(row["id"], row["content"]) for row in fetch_page(api, 1)["data"]] == before


def test_keys_are_restored_all_or_none(sandbox: Sandbox) -> None:
    """If one of the ids still exists, restore_keys() restores no key at all."""
    [first, second, *rest] = sandbox.key_ids(8)
    sandbox.delete_keys(8, [first])
    with pytest.raises(sqlite3.IntegrityError):
        sandbox.restore_keys(8, {first: "OLD-1", second: "OLD-2"})
    assert sandbox.key_ids(8) == [second, *rest]


def test_pages_stay_exact_after_deleting_and_restoring() -> None:
    """Each page has the right rows after keys of two products were added, deleted and restored at random."""
    randomness = random.Random(7)  # noqa: S311 -- no secret
    with (
        closing(SandboxDatabase(":memory:", with_card_keys=False, now=1)) as database,
        database.transaction() as connection,
    ):
        for batch in range(6):
            for product in (8, 4):
                card_keys.add(connection, product, [f"{batch}-{number}" for number in range(400)], now=1)
            deleted = randomness.sample(card_keys.ids(connection, 8), 300 if batch % 2 else 1)
            card_keys.delete(connection, 8, deleted)
            restored = {key_id: f"restored-{key_id}" for key_id in deleted if randomness.random() < 0.3}
            card_keys.restore(connection, 8, restored, now=1)
            for product in (8, 4):
                ids = card_keys.ids(connection, product)
                pages = [[row["id"] for row in card_keys.rows(connection, product, page, 7)] for page in range(1, 400)]
                assert pages == [ids[start : start + 7] for start in range(0, 7 * 399, 7)]
                assert card_keys.count(connection, product) == len(ids)
