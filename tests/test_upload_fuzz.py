"""Random uploads over a transport with random faults, which records what is stored; see upload_fuzz.py."""

import pytest
import upload_fuzz
from seeds import fresh_seed

pytestmark = pytest.mark.fast


def test_reports_of_random_uploads_agree_with_the_server() -> None:
    """Card keys that a report counts as stored are on the server; those that are refused or not sent aren't."""
    seed = fresh_seed()
    print(f"seed {seed}")  # noqa: T201 -- pytest shows it when the test fails
    assert upload_fuzz.run_many(seed, 12).total() == 12
