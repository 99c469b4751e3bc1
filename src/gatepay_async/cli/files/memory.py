"""Memory that files were in while they were checked."""

import ctypes
import sys


def give_back() -> None:
    """
    Have the system take what is free.

    The C library keeps it for its next objects, and most of Python's are elsewhere: what a million rows took would be
    missing during the upload.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:  # glibc's
        trim(0)
