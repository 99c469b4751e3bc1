"""What came: the endpoints called and when, and nothing of what the calls held."""

from collections import deque
from threading import Lock
from typing import NamedTuple

__all__ = ["RequestLog", "SeenRequest"]

MAX_REQUESTS = 10_000


class SeenRequest(NamedTuple):
    """A request that came to an endpoint: its path, and when, in epoch seconds."""

    endpoint: str
    at: float


class RequestLog:
    """The last 10,000 requests; safe from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._seen = deque[SeenRequest](maxlen=MAX_REQUESTS)

    def record(self, endpoint: str, at: float) -> None:
        """Write down one request."""
        with self._lock:
            self._seen.append(SeenRequest(endpoint, at))

    def read(self) -> list[SeenRequest]:
        """Give what is written, oldest first."""
        with self._lock:
            return list(self._seen)
