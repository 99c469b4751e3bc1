"""Uploads of anything over a transport that does anything, and knows the truth; a few, with a fresh seed each time."""

import pytest
import upload_fuzz
from seeds import fresh_seed

pytestmark = pytest.mark.fast


def test_whatever_happens_the_report_is_true() -> None:
    """No report calls a card key stored that isn't on the server, nor one refused or not sent that is."""
    seed = fresh_seed()
    print(f"seed {seed}")  # noqa: T201 -- pytest shows it when the test fails
    assert upload_fuzz.run_many(seed, 12).total() == 12
