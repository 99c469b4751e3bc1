"""More random uploads than in test_upload_fuzz.py; see upload_fuzz.py."""

import pytest
import upload_fuzz
from seeds import fresh_seed

pytestmark = [pytest.mark.slow, pytest.mark.without_coverage, pytest.mark.hang_limit(180)]


def test_reports_of_many_random_uploads_agree_with_the_server() -> None:
    """The reports of 120 random uploads agree with what the server stored."""
    seed = fresh_seed()
    print(f"seed {seed}")  # noqa: T201 -- pytest shows it when the test fails
    endings = upload_fuzz.run_many(seed, 120)
    print(endings)  # noqa: T201 -- pytest shows it when the test fails
    assert endings.total() == 120
    assert {"ok", "stopped", "incomplete", "durable"} <= set(endings)
