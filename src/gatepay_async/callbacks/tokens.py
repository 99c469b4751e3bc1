"""Tokens that identify claims, unique across all processes."""

from __future__ import annotations

import os
import secrets
from itertools import count


class Tokens:
    """
    Makes tokens from a random number, chosen once per process, and a counter.

    A new random number for each token would take ten times as long while another thread is busy, because the system
    call for it lets that thread run first.
    """

    def __init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        """Choose another random number, because after a fork the parent process continues with the old one."""
        self._start = secrets.token_hex(12)
        self._count = count()

    def new(self) -> str:
        """Return a token that was never returned before. Any thread may call this."""
        return f"{self._start}{next(self._count):08x}"


TOKENS = Tokens()
getattr(os, "register_at_fork", dict)(after_in_child=TOKENS.start_anew)  # Windows has no fork
