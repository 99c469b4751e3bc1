"""As test_upload_fuzz, for longer."""

import pytest
import upload_fuzz
from seeds import fresh_seed

pytestmark = [pytest.mark.slow, pytest.mark.uncounted, pytest.mark.hang_limit(180)]


def test_whatever_happens_the_report_is_true_for_longer() -> None:
    """Hundreds of uploads of anything: none of their reports says what isn't so."""
    seed = fresh_seed()
    print(f"seed {seed}")  # noqa: T201 -- pytest shows it when the test fails
    ended = upload_fuzz.run_many(seed, 120)
    print(ended)  # noqa: T201 -- likewise
    assert ended.total() == 120
    assert {"ok", "stopped", "incomplete", "durable"} <= set(ended)
