"""A log of requests: which endpoint was called and when, without the contents."""

from collections import deque
from threading import Lock
from typing import NamedTuple

__all__ = ["RequestLog", "SeenRequest"]

MAX_REQUESTS = 10_000


class SeenRequest(NamedTuple):
    """A request to an endpoint: the endpoint's path, and the time in epoch seconds."""

    endpoint: str
    at: float


class RequestLog:
    """The last 10,000 requests. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._seen = deque[SeenRequest](maxlen=MAX_REQUESTS)

    def record(self, endpoint: str, at: float) -> None:
        """Add one request."""
        with self._lock:
            self._seen.append(SeenRequest(endpoint, at))

    def read(self) -> list[SeenRequest]:
        """Return the requests, oldest first."""
        with self._lock:
            return list(self._seen)
