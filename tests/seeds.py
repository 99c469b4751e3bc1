"""The seeds of simulators and fuzzers: a new seed for each run, or the one in GATEPAY_TEST_SEED."""

import os
import secrets


def fresh_seed() -> int:
    """Return a seed. `.ci/run` always sets the same one, so that a build doesn't fail because of a new seed."""
    return int(os.environ.get("GATEPAY_TEST_SEED") or secrets.randbits(32))
