"""Like test_walks_simulated.py, with other seeds. One version of Python is enough for these tests."""

import pytest
from seeds import fresh_seed
from test_walks_simulated import WALKS
from walk_simulator import SERVERS, check, simulate

pytestmark = [pytest.mark.slow, pytest.mark.without_coverage, pytest.mark.hang_limit(180)]


def test_more_random_walks_keep_the_contract() -> None:
    """Walks with other seeds than those of the fast lane keep the contract."""
    first_seed = fresh_seed() + WALKS
    conditions = check((seed, simulate(seed)) for seed in range(first_seed, first_seed + WALKS))
    assert sum(conditions[server] for server in SERVERS) == WALKS


def test_a_walk_needs_few_extra_calls() -> None:
    """Without changes, a walk needs one call per page. A thorough walk needs about one in seven more."""
    for prefetch in range(1, 9):
        for thorough in (False, True):
            unchanging = {
                "change_rate": 0,
                "failure_rate": 0,
                "server": "refusing",
                "first_page": 1,
                "rows": 120,
                "per_page": 2,
            }
            outcome = simulate(1, prefetch=prefetch, thorough=thorough, **unchanging)
            assert outcome.violations == []
            assert outcome.calls <= (60 * 8 / 7 + 4 if thorough else 60), (prefetch, thorough)
