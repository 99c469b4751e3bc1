"""As test_walks_simulated.py: other walks, which one Python is enough for."""

import pytest
from seeds import fresh_seed
from test_walks_simulated import WALKS
from walk_simulator import SERVERS, check, simulate

pytestmark = [pytest.mark.slow, pytest.mark.uncounted, pytest.mark.hang_limit(180)]


def test_very_many_random_walks() -> None:
    """More walks, over each kind of server, than those of the fast lane."""
    began = fresh_seed() + WALKS
    tried = check((seed, simulate(seed)) for seed in range(began, began + WALKS))
    assert sum(tried[server] for server in SERVERS) == WALKS


def test_few_calls_more_than_pages() -> None:
    """A quiet stock costs no call more than it has pages; a thorough walk one in seven, and three."""
    for prefetch in range(1, 9):
        for thorough in (False, True):
            quiet = {"rate": 0, "failing": 0, "server": "refusing", "first": 1, "rows": 120, "per_page": 2}
            outcome = simulate(1, prefetch=prefetch, thorough=thorough, **quiet)
            assert outcome.wrong == []
            assert outcome.calls <= (60 * 8 / 7 + 4 if thorough else 60), (prefetch, thorough)
