"""Client and server on two CPUs, so that neither takes the other's time."""

import os
import sys
from functools import cache

if sys.platform == "linux":

    @cache
    def cpus() -> list[int]:
        """The CPUs that this process may use before it is placed on one of them."""
        return sorted(os.sched_getaffinity(0))

    def place_on(cpu: int | None) -> str:
        """Run on that CPU only; None: anywhere. Says what was done."""
        if cpu is None:
            return "not pinned: there is one CPU only"
        os.sched_setaffinity(0, {cpu})
        return f"pinned to CPU {cpu}"

else:

    def cpus() -> list[int]:
        """Unknown here."""
        return []

    def place_on(cpu: int | None) -> str:
        """Do nothing: this system has no way to say it. Says so."""
        return f"not pinned to CPU {cpu}: this system can't"


def two_cpus() -> tuple[int | None, int | None]:
    """One for the client and one for the server; None and None where there are no two."""
    here = cpus()
    return (here[0], here[-1]) if len(here) > 1 else (None, None)
