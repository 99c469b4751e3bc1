"""Checks whether a socket has unread bytes, which the event loop may not have delivered yet."""

import select
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

# `count_unread_bytes` counts no further than this.
MAX_COUNTED_BYTES: Final = 64 * 1024


def make_readable_check(descriptor: int) -> Callable[[], object]:
    """Return a function whose result is true if *descriptor* has unread bytes or the other end has closed it."""
    if not hasattr(select, "poll"):  # Windows: its select(), unlike others, takes descriptors above 1,023
        return lambda: select.select([descriptor], [], [], 0)[0]
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return partial(poll.poll, 0)


def never_readable() -> bool:
    """Return False: the check of a connection that has no socket."""
    return False


def is_readable(sock: socket.socket | None) -> bool:
    """
    Whether reading returns at once: the socket has unread bytes, or the server has closed it.

    None and a closed socket count as readable, since the next read fails at once.
    """
    return sock is None or sock.fileno() < 0 or bool(make_readable_check(sock.fileno())())


def count_unread_bytes(sock: socket.socket | None) -> int:
    """Return the number of unread bytes that the system holds for *sock*, at most `MAX_COUNTED_BYTES`."""
    if sock is None or not is_readable(sock):
        return 0
    # asyncio's socket object has no recv(). This object shares its descriptor and doesn't close it.
    borrowed = socket.socket(sock.family, sock.type, sock.proto, sock.fileno())
    try:
        return len(borrowed.recv(MAX_COUNTED_BYTES, socket.MSG_PEEK))
    except OSError:  # the connection is broken; the next read raises the error
        return 0
    finally:
        borrowed.detach()
