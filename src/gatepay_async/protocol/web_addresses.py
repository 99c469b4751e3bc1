"""Validates URLs that GatePay or a customer's browser will open: ``notify_url`` and ``return_url``."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from gatepay_async.protocol import checks
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_URL_CHARS = 2000  # of a whole URL
# Leaves room for the fields that GatePay adds, within the 8 kB that web servers accept.
_MAX_QUERY_CHARS = 700
# The characters of RFC 3986 without "#", because a fragment is never sent.
_WEB_ADDRESS = re.compile(r"https?://[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+", re.IGNORECASE)
# The fields that GatePay adds to the query.
_ADDED_TO = {
    "notify_url": frozenset(
        ("appkey", "order_id", "out_order_id", "price", "realprice", "type", "paytime", "extend", "sign")
    ),
    "return_url": frozenset(("price", "type", "product_id", "order_id", "out_order_id", "sign")),
}


def web_address(instance: object, attribute: Any, value: Any) -> None:
    """An attrs validator: requires an absolute http(s) URL whose query has none of the fields that GatePay adds."""
    checks.text(instance, attribute, value)
    problem = _problem_of(value, _ADDED_TO[attribute.name])
    if problem is not None:
        raise InvalidRequestError(field=attribute.name, problem=problem)


def _problem_of(url: str, added: frozenset[str]) -> Problem | None:
    """Return what is wrong with *url*, or None. GatePay adds the fields *added* to its query."""
    if len(url) > _MAX_URL_CHARS or _WEB_ADDRESS.fullmatch(url) is None:
        return Problem("not_web_url")
    parts = _split(url)
    if parts is None:
        return Problem("not_web_url")
    if len(parts.query) > _MAX_QUERY_CHARS:
        return Problem("url_query_too_long", most=_MAX_QUERY_CHARS)
    taken = sorted(added.intersection(name for name, _ in parse_qsl(parts.query, keep_blank_values=True)))
    return Problem("url_takes_field", name=taken[0]) if taken else None


def _split(url: str) -> SplitResult | None:
    """Split *url*. None: its host, port or brackets are invalid, or it contains a user name."""
    try:
        parts = urlsplit(url)
        is_valid = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        return None
    return parts if is_valid else None
