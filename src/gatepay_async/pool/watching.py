"""Asks the system what has come over a socket, where the event loop may not have told of it yet."""

import select
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

AT_MOST: Final = 64 * 1024


def watch(descriptor: int) -> Callable[[], object]:
    """Give a function whose result is true when something has come there, the end included."""
    if not hasattr(select, "poll"):  # Windows, where select() takes any number of descriptor
        return lambda: select.select([descriptor], [], [], 0)[0]
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return partial(poll.poll, 0)  # what has happened there: nothing, mostly


def never() -> bool:
    """What is not there can't be read from."""
    return False


def is_readable(raw: socket.socket | None) -> bool:
    """
    Whether reading would not wait: on a connection at rest, that the server has closed it.

    A socket that is gone counts as readable, since the next read says at once that it has ended.
    """
    return raw is None or raw.fileno() < 0 or bool(watch(raw.fileno())())


def count_waiting(raw: socket.socket | None) -> int:
    """How many bytes the system holds for *raw*, as far as that can be seen."""
    if raw is None or not is_readable(raw):
        return 0
    # asyncio's own object for a socket can't read; this one borrows the descriptor.
    borrowed = socket.socket(raw.family, raw.type, raw.proto, raw.fileno())
    try:
        return len(borrowed.recv(AT_MOST, socket.MSG_PEEK))
    except OSError:  # it is broken, as reading will say
        return 0
    finally:
        borrowed.detach()
