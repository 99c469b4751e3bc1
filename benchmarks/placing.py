"""Pin client and server to different CPUs, so that they don't compete for CPU time."""

import os
import sys
from functools import cache

if sys.platform == "linux":

    @cache
    def cpus() -> list[int]:
        """Return the CPUs that this process may use. Cached, because `place_on` reduces them to one."""
        return sorted(os.sched_getaffinity(0))

    def place_on(cpu: int | None) -> str:
        """Pin this process to a CPU (None: don't pin), and return a description for the output."""
        if cpu is None:
            return "not pinned: there is one CPU only"
        os.sched_setaffinity(0, {cpu})
        return f"pinned to CPU {cpu}"

else:

    def cpus() -> list[int]:
        """Return no CPUs: pinning isn't supported on this system."""
        return []

    def place_on(cpu: int | None) -> str:  # noqa: ARG001 -- the same signature as on Linux
        """Return a description for the output: pinning isn't supported on this system."""
        return "not pinned: not supported on this system"


def two_cpus() -> tuple[int | None, int | None]:
    """Return a CPU for the client and one for the server, or None for both if there are fewer than two."""
    usable = cpus()
    return (usable[0], usable[-1]) if len(usable) > 1 else (None, None)
