"""The clients of httpx and httpx2 log each request's URL, and the query of a GET holds a signature."""

from __future__ import annotations

import logging
import re
from typing import Any

# httpcore's log the headers of a reply: a redirect of a signed GET repeats its URL.
_LOGGERS = (
    "httpx", "httpx2", "httpcore.http11", "httpcore.http2", "httpcore.proxy", "httpcore2.http11", "httpcore2.http2",
    "httpcore2.proxy",
)  # fmt: skip
_SIGNATURE = re.compile(r"sign=[0-9A-Za-z%]+")


class _HideQueries(logging.Filter):
    """Shows the URL of a signed GET without its query."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, changed where need be."""
        record.msg = _SIGNATURE.sub("sign=***", str(record.msg))
        args = record.args
        record.args = tuple(_without_query(each) for each in args) if isinstance(args, tuple) else args
        return True


_FILTER = _HideQueries()


def hide_queries_from_logs() -> None:
    """From now on none of these logs a signature; a logger takes a filter once, however often it is added."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)


def _without_query(value: Any) -> Any:
    query = getattr(value, "query", None)  # of a URL, of whichever library
    if isinstance(query, bytes) and b"sign=" in query:
        return f"{value.copy_with(query=None)}?***"
    return value
