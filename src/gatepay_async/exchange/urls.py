"""Parses URLs from outside: arguments and environment variables."""

from __future__ import annotations

import httpx

from gatepay_async.protocol import invisible
from gatepay_async.words.problem import Problem

MAX_PORT = 65_535
# The limits for a host name, and for each of its labels, the parts between the dots (RFC 1035, 2.3.4).
_MAX_HOST_CHARS, _MAX_LABEL_CHARS = 253, 63


class BadUrlError(ValueError):
    """
    The URL is invalid.

    Attributes:
        problem: Why. It never repeats the URL, which may contain a password.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


def parse_url(text: str, *, schemes: tuple[str, ...] = ("http", "https")) -> httpx.URL:
    """
    Parse *text*, an absolute URL.

    Raises:
        BadUrlError: *text* is not a valid absolute URL with one of the *schemes*.
    """
    code_point = "U+0020" if " " in text else invisible.first_code_point(text)
    if code_point is not None:
        raise BadUrlError(Problem("url_invisible", code=code_point))
    try:
        url = httpx.URL(text)
        host = url.host
    except (httpx.InvalidURL, ValueError):  # url.host raises idna's errors, which are ValueErrors
        url, host = httpx.URL(), ""
    if not url.scheme and not host and "://" in text:
        raise BadUrlError(Problem("url_unreadable"))
    if url.scheme not in schemes or not host:
        raise BadUrlError(Problem("url_scheme", schemes=" or ".join(f"{scheme}://" for scheme in schemes)))
    if url.port is not None and not 0 < url.port <= MAX_PORT:
        raise BadUrlError(Problem("url_port", port=url.port))
    if not _is_host(url.raw_host.decode("ascii")):
        raise BadUrlError(Problem("url_host"))
    return url


def _is_host(name: str) -> bool:
    """Whether *name* is an IPv6 address, or its length and the length of its labels are allowed."""
    if ":" in name:  # an IPv6 address, which httpx has validated
        return True
    labels = name.removesuffix(".").split(".")
    return len(name) <= _MAX_HOST_CHARS and all(0 < len(label) <= _MAX_LABEL_CHARS for label in labels)
