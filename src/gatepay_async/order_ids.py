"""Generates order numbers that start and end with a letter; ``new_out_order_id`` explains why."""

from __future__ import annotations

import os
import secrets
import threading
import time

# Crockford's base 32, without I, L, O and U. It is in ASCII order, so that texts sort like the numbers.
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH = 26  # digits of 5 bits: 48 bits of milliseconds and 80 random bits
_RANDOM_BITS = 80


class _Sequence:
    """The ascending numbers of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> int:
        """Return a number greater than the last one, even if the clock was set back."""
        number = (time.time_ns() // 1_000_000 << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
        with self._lock:
            # In the same millisecond, or after the clock was set back, add a random number to the last one.
            if number <= self._last:
                number = self._last + 1 + secrets.randbits(32)
            self._last = number
            return number


_sequence = _Sequence()


def _restart_sequence() -> None:
    """Start anew after a fork: a thread of the parent may hold the lock, and the parent continues the old sequence."""
    global _sequence  # noqa: PLW0603 -- one for each process
    _sequence = _Sequence()


# Systems without fork don't have register_at_fork. There, dict() accepts the argument and does nothing with it.
getattr(os, "register_at_fork", dict)(after_in_child=_restart_sequence)


def new_out_order_id() -> str:
    """
    Return a new order number, such as ``T01JD9Z6M3KQ8T5V0A7WYC2RNFHX``: 28 capital letters and digits.

    Order numbers are unique (with 80 random bits in each millisecond). As texts, they sort by the time of creation:
    exactly within one process, to the millisecond across several. The function is thread-safe.

    The number starts and ends with a letter, because GatePay signs ``order_id``, ``out_order_id`` and ``price`` without
    separators: the callbacks of order ``1001`` at ``2.00`` and of order ``100`` at ``12.00`` have the same signature.
    """
    number = _sequence.next()
    return "T" + "".join(_DIGITS[number >> shift & 31] for shift in range(5 * (_LENGTH - 1), -1, -5)) + "X"
