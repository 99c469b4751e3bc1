"""Random walks over random stocks, of every kind of server; see walk_simulator.py."""

import secrets
import time
from collections import Counter
from collections.abc import Iterable

import anyio
import pytest
from walk_simulator import KINDS, SERVERS, Outcome, simulate, simulate_listing

pytestmark = pytest.mark.fast

SECONDS = 20  # of CPU, for the long run


def check(outcomes: Iterable[tuple[int, Outcome]]) -> Counter[str]:
    """Fail with how to see the first wrong walks again; otherwise count what they met."""
    met: Counter[str] = Counter()
    wrong: list[str] = []
    for seed, outcome in outcomes:
        wrong += [f"python tests/walk_simulator.py --replay {seed}: {each}" for each in outcome.wrong]
        met[outcome.settings.server] += 1
        met.update(outcome.settings.kinds)
        met["gave up"] += outcome.unsettled
    assert not wrong, "\n".join(wrong[:10])
    return met


def test_no_random_walk_loses_a_key() -> None:
    """Whatever the stock, its changes, the server and the options are, the contract holds. A new seed each run."""
    began = secrets.randbits(48)
    met = check((seed, simulate(seed)) for seed in range(began, began + 300))
    assert set(met) >= {*SERVERS, *KINDS}


def test_a_stock_that_never_rests() -> None:
    """Every walk ends after few calls, also while the stock changes before each reply and never stops."""
    began = secrets.randbits(48)
    settings = {"rate": 0.7, "changes": 10**9, "kinds": ("delete", "come back"), "rows": 12}
    outcomes = [(seed, simulate(seed, **settings)) for seed in range(began, began + 15)]
    check(outcomes)
    assert max(outcome.calls for _, outcome in outcomes) < 5000


@pytest.mark.anyio
async def test_no_random_listing_loses_a_key() -> None:
    """The same through the listing itself, whose calls fail now and then, and are answered in any order."""
    began = secrets.randbits(48)
    check([(seed, await simulate_listing(seed)) for seed in range(began, began + 40)])


@pytest.mark.slow
def test_very_many_random_walks() -> None:
    """As many walks as there is time for."""
    began = secrets.randbits(48)
    until = time.process_time() + SECONDS

    def walks() -> Iterable[tuple[int, Outcome]]:
        seed = began
        while time.process_time() < until:
            yield seed, simulate(seed)
            seed += 1

    assert sum(check(walks())[server] for server in SERVERS) > 1000


@pytest.mark.slow
def test_few_calls_more_than_pages() -> None:
    """A quiet stock costs no call more than it has pages; a thorough walk one in seven, and three."""
    for prefetch in range(1, 9):
        for thorough in (False, True):
            quiet = {"rate": 0, "failing": 0, "server": "refusing", "first": 1, "rows": 400, "per_page": 2}
            outcome = simulate(1, prefetch=prefetch, thorough=thorough, **quiet)
            assert outcome.wrong == []
            assert outcome.calls <= (200 * 8 / 7 + 4 if thorough else 200), (prefetch, thorough)


def test_a_seed_is_a_walk() -> None:
    """The same seed is the same walk again."""
    assert simulate(7).log == simulate(7).log
    assert anyio.run(simulate_listing, 7).log == anyio.run(simulate_listing, 7).log
