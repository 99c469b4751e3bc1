"""Where simulators and fuzzers begin: somewhere else each time, unless GATEPAY_TEST_SEED says where."""

import os
import secrets


def fresh_seed() -> int:
    """A new seed, printed by whoever fails; `.ci/run` names one, so that it finds nothing new just when it must not."""
    return int(os.environ.get("GATEPAY_TEST_SEED") or secrets.randbits(32))
