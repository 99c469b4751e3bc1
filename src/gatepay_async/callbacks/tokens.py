"""Tokens that tell one claim from all others, of other processes too."""

from __future__ import annotations

import os
import secrets
from itertools import count


class Tokens:
    """
    Makes tokens: a random number of this process, and a counter.

    A random number for each token would take ten times as long while another thread works: reading it from the system
    lets that thread run first.
    """

    def __init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        """Choose another number: after a fork, the parent process goes on with the old one."""
        self._start = secrets.token_hex(12)
        self._count = count()

    def new(self) -> str:
        """Return a token that was never returned before. Any thread may call this."""
        return f"{self._start}{next(self._count):08x}"


TOKENS = Tokens()
getattr(os, "register_at_fork", dict)(after_in_child=TOKENS.start_anew)  # Windows has no fork
