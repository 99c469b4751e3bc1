"""As test_walks_simulated.py, for longer."""

import pytest
from seeds import fresh_seed
from walk_simulator import SERVERS, check, simulate

pytestmark = [pytest.mark.slow, pytest.mark.hang_limit(180)]

WALKS = 300


def test_very_many_random_walks() -> None:
    """Hundreds of walks, over each kind of server."""
    began = fresh_seed()
    tried = check((seed, simulate(seed)) for seed in range(began, began + WALKS))
    assert sum(tried[server] for server in SERVERS) == WALKS


def test_few_calls_more_than_pages() -> None:
    """A quiet stock costs no call more than it has pages; a thorough walk one in seven, and three."""
    for prefetch in range(1, 9):
        for thorough in (False, True):
            quiet = {"rate": 0, "failing": 0, "server": "refusing", "first": 1, "rows": 400, "per_page": 2}
            outcome = simulate(1, prefetch=prefetch, thorough=thorough, **quiet)
            assert outcome.wrong == []
            assert outcome.calls <= (200 * 8 / 7 + 4 if thorough else 200), (prefetch, thorough)
