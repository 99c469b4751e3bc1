"""Random walks over random stocks, of every kind of server; see walk_simulator.py."""

import anyio
import pytest
from seeds import fresh_seed
from walk_simulator import KINDS, SERVERS, check, simulate, simulate_listing

pytestmark = pytest.mark.fast

WALKS = 150


def test_no_random_walk_loses_a_key() -> None:
    """Whatever the stock, its changes, the server and the options are, the contract holds. A new seed each run."""
    began = fresh_seed()
    met = check((seed, simulate(seed)) for seed in range(began, began + WALKS))
    assert set(met) >= {*SERVERS, *KINDS}


def test_rows_that_come_back_under_a_thorough_walk() -> None:
    """Rows that come back can leave another at its rank although some before it were deleted; no walk goes by that."""
    kinds = ("delete", "come back")
    check((seed, simulate(seed, thorough=True, kinds=kinds)) for seed in range(120))


def test_a_stock_that_never_rests() -> None:
    """Every walk ends after few calls, also while the stock changes before each reply and never stops."""
    began = fresh_seed()
    settings = {"rate": 0.7, "changes": 10**9, "kinds": ("delete", "come back"), "rows": 12}
    outcomes = [(seed, simulate(seed, **settings)) for seed in range(began, began + 15)]
    check(outcomes)
    assert max(outcome.calls for _, outcome in outcomes) < 5000


def test_a_thorough_walk_of_a_stock_that_grows_steadily() -> None:
    """It ends, and after few calls, though keys are added at every fifth request: it does not need a quiet minute."""
    began = fresh_seed()
    growing = {"rate": 0.2, "changes": 10**9, "kinds": ("add",), "rows": 120, "per_page": 3, "failing": 0, "first": 1}
    outcomes = [(began, simulate(began, prefetch=prefetch, thorough=True, **growing)) for prefetch in (1, 2, 4, 8)]
    assert check(outcomes)["gave up"] == 0
    assert all(outcome.calls < 2 * outcome.given for _, outcome in outcomes)  # six calls for a page of three


@pytest.mark.anyio
async def test_no_random_listing_loses_a_key() -> None:
    """The same through the listing itself, whose calls fail now and then, and are answered in any order."""
    began = fresh_seed()
    check([(seed, await simulate_listing(seed)) for seed in range(began, began + 40)])


def test_a_seed_is_a_walk() -> None:
    """The same seed is the same walk again."""
    assert simulate(7).log == simulate(7).log
    assert anyio.run(simulate_listing, 7).log == anyio.run(simulate_listing, 7).log
