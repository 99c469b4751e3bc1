"""Returns memory that the check of files has used to the operating system."""

import ctypes
import sys

_MMAP_THRESHOLD = -3  # glibc's M_MMAP_THRESHOLD
_LARGE_BYTES = 2**20


def separate_large_blocks() -> None:
    """
    Let glibc return each large block to the system when it is freed.

    By default, after the first freed block of up to 32 MiB, glibc allocates large blocks between small objects. When
    they are freed, holes remain that the system doesn't get back.
    """
    set_option = getattr(_library(), "mallopt", None)
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, _LARGE_BYTES)


def release_memory() -> None:
    """
    Return free memory to the system.

    By default, glibc keeps free memory for its own later allocations. But Python allocates most objects elsewhere, so
    the memory of a million rows would stay unused during the upload.
    """
    trim = getattr(_library(), "malloc_trim", None)
    if trim is not None:  # other C libraries don't have this function
        trim(0)


def _library() -> object:
    return ctypes.CDLL(None) if sys.platform.startswith("linux") else None
