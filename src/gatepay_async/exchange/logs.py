"""httpx's client logs each request's URL, and the query of a GET holds a signature."""

from __future__ import annotations

import logging

import httpx

_LOGGER = logging.getLogger("httpx")


class _HideQueries(logging.Filter):
    """Shows the URL of a signed GET without its query."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, changed where need be."""
        if isinstance(record.args, tuple):
            record.args = tuple(_without_query(each) for each in record.args)
        return True


_FILTER = _HideQueries()


def hide_queries_from_logs() -> None:
    """From now on httpx logs no signature; a logger takes a filter once, however often it is added."""
    _LOGGER.addFilter(_FILTER)


def _without_query(value: object) -> object:
    if isinstance(value, httpx.URL) and b"sign=" in value.query:
        return f"{value.copy_with(query=None)}?***"
    return value
