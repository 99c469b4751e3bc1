"""Memory that files were in while they were checked."""

import ctypes
import sys

_MMAP_THRESHOLD = -3  # glibc's M_MMAP_THRESHOLD
_LARGE_BYTES = 2**20


def keep_large_apart() -> None:
    """
    Have the system take a large block as soon as it is free.

    Else the C library puts the next ones among small objects, once one of up to 32 MiB has been freed, and a hole stays
    where each of them was.
    """
    set_option = getattr(_library(), "mallopt", None)
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, _LARGE_BYTES)


def give_back() -> None:
    """
    Have the system take what is free.

    The C library keeps it for its next objects, and most of Python's are elsewhere: what a million rows took would be
    missing during the upload.
    """
    trim = getattr(_library(), "malloc_trim", None)
    if trim is not None:  # glibc's
        trim(0)


def _library() -> object:
    return ctypes.CDLL(None) if sys.platform.startswith("linux") else None
