"""The seeds of simulators and fuzzers: a new one each time, or that of GATEPAY_TEST_SEED."""

import os
import secrets


def fresh_seed() -> int:
    """Return a seed. A failed test prints it. `.ci/run` sets one, so that a commit doesn't fail for a new seed."""
    return int(os.environ.get("GATEPAY_TEST_SEED") or secrets.randbits(32))
