"""As test_walks_simulated.py, for longer."""

import time
from collections.abc import Iterable

import pytest
from seeds import fresh_seed
from walk_simulator import SERVERS, Outcome, check, simulate

pytestmark = [pytest.mark.slow, pytest.mark.hang_limit(180)]

SECONDS = 20  # of CPU


def test_very_many_random_walks() -> None:
    """As many walks as there is time for."""
    began = fresh_seed()
    until = time.process_time() + SECONDS

    def walks() -> Iterable[tuple[int, Outcome]]:
        seed = began
        while time.process_time() < until:
            yield seed, simulate(seed)
            seed += 1

    assert sum(check(walks())[server] for server in SERVERS) > 1000


def test_few_calls_more_than_pages() -> None:
    """A quiet stock costs no call more than it has pages; a thorough walk one in seven, and three."""
    for prefetch in range(1, 9):
        for thorough in (False, True):
            quiet = {"rate": 0, "failing": 0, "server": "refusing", "first": 1, "rows": 400, "per_page": 2}
            outcome = simulate(1, prefetch=prefetch, thorough=thorough, **quiet)
            assert outcome.wrong == []
            assert outcome.calls <= (200 * 8 / 7 + 4 if thorough else 200), (prefetch, thorough)
