"""Random walks over random stocks, on every kind of server; see walk_simulator.py."""

import anyio
import pytest
from seeds import fresh_seed
from walk_simulator import CHANGE_KINDS, SERVERS, check, simulate, simulate_listing

pytestmark = pytest.mark.fast

WALKS = 150


def test_random_walks_keep_the_contract() -> None:
    """Walks over random stocks, servers and options return each card key once. Each run has a new seed."""
    first_seed = fresh_seed()
    conditions = check((seed, simulate(seed)) for seed in range(first_seed, first_seed + WALKS))
    assert set(conditions) >= {*SERVERS, *CHANGE_KINDS}


def test_thorough_walks_keep_the_contract_if_rows_come_back() -> None:
    """Thorough walks keep the contract if deleted rows come back, which can leave the rank of another row unchanged."""
    change_kinds = ("delete", "come back")
    check((seed, simulate(seed, thorough=True, change_kinds=change_kinds)) for seed in range(120))


def test_a_walk_ends_while_the_stock_changes() -> None:
    """Every walk ends after few calls, even if the stock changes before most replies."""
    first_seed = fresh_seed()
    settings = {"change_rate": 0.7, "max_changes": 10**9, "change_kinds": ("delete", "come back"), "rows": 12}
    outcomes = [(seed, simulate(seed, **settings)) for seed in range(first_seed, first_seed + 15)]
    check(outcomes)
    assert max(outcome.calls for _, outcome in outcomes) < 5000


def test_a_thorough_walk_ends_while_the_stock_grows() -> None:
    """A thorough walk ends after few calls, even if card keys are added before one reply in five."""
    first_seed = fresh_seed()
    growing = {
        "change_rate": 0.2,
        "max_changes": 10**9,
        "change_kinds": ("add",),
        "rows": 120,
        "per_page": 3,
        "failure_rate": 0,
        "first_page": 1,
    }
    outcomes = [
        (first_seed, simulate(first_seed, prefetch=prefetch, thorough=True, **growing)) for prefetch in (1, 2, 4, 8)
    ]
    assert check(outcomes)["gave up"] == 0
    assert all(
        outcome.calls < 2 * outcome.returned for _, outcome in outcomes
    )  # at most two calls per row; a page has three rows


@pytest.mark.anyio
async def test_random_listings_keep_the_contract() -> None:
    """Random walks through CardKeyListing, with failed calls and replies in any order, return each card key once."""
    first_seed = fresh_seed()
    check([(seed, await simulate_listing(seed)) for seed in range(first_seed, first_seed + 40)])


def test_a_seed_determines_the_walk() -> None:
    """Two simulations with the same seed are identical."""
    assert simulate(7).log == simulate(7).log
    assert anyio.run(simulate_listing, 7).log == anyio.run(simulate_listing, 7).log
