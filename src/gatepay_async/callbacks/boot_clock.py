"""A clock for leases, which counts from the boot. A change of the system time neither ends nor extends a lease."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

_LINUX_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id_and_seconds() -> tuple[str, float]:
    """
    Return the ID of the machine's last boot, and the seconds since that boot. All processes get the same values.

    On systems without boot IDs, the ID is empty. Then only the seconds, which restart at 0, show a reboot.
    """
    return _boot_id(), _boot_seconds()


@cache
def _boot_id() -> str:
    try:
        return _LINUX_BOOT_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def _boot_seconds() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # of Linux; unlike monotonic(), it continues while the machine sleeps
    return time.monotonic() if clock is None else time.clock_gettime(clock)
