"""Tokens for claims, unique across processes and machines."""

from __future__ import annotations

import os
import secrets
import time
from hashlib import blake2b
from itertools import count
from typing import Final

_START: Final = secrets.token_hex(8)
_COUNT: Final = count()


def new_token() -> str:
    """
    Return a token that nobody has returned before. Any thread may call this.

    It consists of a random number, the process ID, the time and a counter. The random number alone is not enough: a
    fork (also uWSGI's, which Python doesn't notice) and a restored snapshot of a virtual machine copy it. A new random
    number for each token would take ten times as long if another thread is busy: Python releases the GIL to read the
    number from the system, and the other thread runs first.
    """
    parts = f"{_START} {os.getpid()} {time.time_ns()} {next(_COUNT)}"
    return blake2b(parts.encode(), digest_size=16).hexdigest()
