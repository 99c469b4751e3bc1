"""A clock that nobody sets: for leases, which a jump of the wall clock must neither end nor extend."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

_LINUX_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def since_boot() -> tuple[str, float]:
    """
    Which boot of this machine it is, and the seconds since then; the same in all processes of the machine.

    Where the system does not name its boots, the name is empty. The seconds then tell: they start again at 0.
    """
    return _boot_id(), _boot_seconds()


@cache
def _boot_id() -> str:
    try:
        return _LINUX_BOOT_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def _boot_seconds() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # goes on while the machine sleeps; Linux has it
    return time.monotonic() if clock is None else time.clock_gettime(clock)
