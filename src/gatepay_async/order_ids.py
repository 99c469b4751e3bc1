"""Order numbers that a callback can't be made to lie about."""

from __future__ import annotations

import os
import secrets
import threading
import time

# Crockford's: no I, L, O, U; in the order of ASCII, so that text sorts as the number does.
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH = 26  # digits of 5 bits: 48 bits of milliseconds and 80 of chance
_CHANCE = 80


class _Last:
    """The number given last, by one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0

    def next(self) -> int:
        """A greater one, whatever the clock does."""
        fresh = (time.time_ns() // 1_000_000 << _CHANCE) | secrets.randbits(_CHANCE)
        with self._lock:
            # Within a millisecond, or while a clock that was set back catches up: a little more than the last.
            if fresh <= self._number:
                fresh = self._number + 1 + secrets.randbits(32)
            self._number = fresh
            return fresh


_last = _Last()


def _begin_anew() -> None:
    """After a fork: the lock may be held by a thread that isn't there, and the parent goes on from the same number."""
    global _last  # noqa: PLW0603 -- one for each process
    _last = _Last()


# Where there is no fork, there is no such function.
getattr(os, "register_at_fork", dict)(after_in_child=_begin_anew)


def new_out_order_id() -> str:
    """
    A new order number, such as ``T01JD9Z6M3KQ8T5V0A7WYC2RNFHX``: 28 capital letters and digits.

    Unique (80 bits of chance in each millisecond), and sorted as text in the order in which they were made: to
    the millisecond among several processes, exactly within one. Any thread may call it.

    It begins and ends in a letter, so that no digit of it can slide: GatePay signs ``order_id``, ``out_order_id`` and
    ``price`` without anything in between, and for an order ``1001`` at ``2.00`` the callback of order ``100`` at
    ``12.00`` would carry the same signature.
    """
    number = _last.next()
    return "T" + "".join(_DIGITS[number >> shift & 31] for shift in range(5 * (_LENGTH - 1), -1, -5)) + "X"
