"""Hides signatures in the logs of httpx and httpx2, which contain the URLs of requests."""

from __future__ import annotations

import logging
import re
from typing import Any

# httpcore logs the headers of replies, and a redirect repeats the URL of a signed GET.
_LOGGERS = (
    "httpx", "httpx2", "httpcore.http11", "httpcore.http2", "httpcore.proxy", "httpcore2.http11", "httpcore2.http2",
    "httpcore2.proxy",
)  # fmt: skip
_SIGNATURE = re.compile(r"sign=[0-9A-Za-z%]+")


class _HideQueries(logging.Filter):
    """Replaces signatures in the message, and whole queries of signed GETs in its arguments."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record. Always return True, so that the record is logged."""
        record.msg = _SIGNATURE.sub("sign=***", str(record.msg))
        args = record.args
        record.args = tuple(_without_query(value) for value in args) if isinstance(args, tuple) else args
        return True


_FILTER = _HideQueries()


def hide_queries_from_logs() -> None:
    """Add the filter to all loggers. Adding it several times has no further effect."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)


def _without_query(value: Any) -> Any:
    """Return *value*; or, if it is the URL of a signed GET, its text without the query."""
    query = getattr(value, "query", None)  # the URLs of httpx and httpx2 have this attribute
    if isinstance(query, bytes) and b"sign=" in query:
        return f"{value.copy_with(query=None)}?***"
    return value
