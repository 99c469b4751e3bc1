"""Checks callback and return URLs. By default, a callback URL must lead to this machine."""

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qsl, urlsplit

from attrs import frozen

from gatepay_async.words import say
from gatepay_async.words.pages import PAGES

__all__ = ["CallbackUrlError", "Target", "check", "check_return", "target_of"]

MAX_URL_CHARS = 2000
# The limit for the URL's own query. It leaves room for the callback's fields within the 8 kB that web servers accept.
MAX_QUERY_CHARS = 700
_PORTS = {"http": 80, "https": 443}
# The characters of RFC 3986 without "#", because a fragment is never sent.
_URL_CHARS = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+")
_LOOPBACK_ADDRESSES = ("127.0.0.1", "::1")


class CallbackUrlError(ValueError):
    """
    The URL can't be used for callbacks.

    Attributes:
        problem: The name of the text in :mod:`gatepay_async.words.pages` that says what is wrong.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(f"not a callback URL. {say(PAGES[problem], 'en')}")
        self.problem = problem


@frozen(kw_only=True)
class Target:
    """
    The server that a URL refers to.

    Attributes:
        hosts: The hosts to try, in this order.
        name: The name that the certificate must have.
        port: The port.
        tls: Whether to use TLS.
        authority: The ``Host`` header.
    """

    hosts: tuple[str, ...]
    name: str
    port: int
    tls: bool
    authority: str


# The fields that GatePay appends to a callback URL and to a return URL. The URL must not have any of them itself.
_CALLBACK_NAMES = {"appkey", "order_id", "out_order_id", "price", "realprice", "type", "paytime", "extend", "sign"}
_RETURN_NAMES = {"price", "type", "product_id", "order_id", "out_order_id", "sign"}


def check(url: str, *, beyond_loopback: bool) -> None:
    """
    Check that *url* can be a shop's callback URL.

    Raises:
        CallbackUrlError: *url* can't be a callback URL.
    """
    _check_url_and_query(url, _CALLBACK_NAMES, beyond_loopback=beyond_loopback)


def check_return(url: str) -> None:
    """
    Check that *url* can be a return URL, for the customer's browser. It may lead to any machine.

    Raises:
        CallbackUrlError: *url* can't be a return URL.
    """
    _check_url_and_query(url, _RETURN_NAMES, beyond_loopback=True)


def _check_url_and_query(url: str, reserved_names: set[str], *, beyond_loopback: bool) -> None:
    target_of(url, beyond_loopback=beyond_loopback)
    query = urlsplit(url).query
    if len(query) > MAX_QUERY_CHARS:
        raise CallbackUrlError("url_query")
    if reserved_names & {name for name, _ in parse_qsl(query, keep_blank_values=True)}:
        raise CallbackUrlError("url_taken")


def target_of(url: str, *, beyond_loopback: bool) -> Target:
    """
    Parse *url*, without a DNS lookup: ``localhost`` is this machine by definition (RFC 6761).

    Raises:
        CallbackUrlError: *url* is invalid, or leads to a machine that isn't allowed.
    """
    parts = _parse(url)
    name = str(parts.hostname)
    hosts = _loopback_hosts(name)
    if not hosts and not beyond_loopback:
        raise CallbackUrlError("url_host")
    return Target(
        hosts=hosts or (name,),
        name=name,
        port=parts.port or _PORTS[parts.scheme],
        tls=parts.scheme == "https",
        authority=parts.netloc,
    )


def _parse(url: str) -> SplitResult:
    """Split *url*, and check its form."""
    if len(url) > MAX_URL_CHARS or _URL_CHARS.fullmatch(url) is None:
        raise CallbackUrlError("url_form")
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port or invalid brackets
        raise CallbackUrlError("url_form") from None
    if not is_valid:
        raise CallbackUrlError("url_form")
    if "@" in parts.netloc:
        raise CallbackUrlError("url_user")
    return parts


def _loopback_hosts(name: str) -> tuple[str, ...]:
    """Return the loopback addresses that *name* stands for; empty: it is another machine."""
    if name == "localhost" or name.endswith(".localhost"):
        return _LOOPBACK_ADDRESSES
    try:
        return (name,) if ip_address(name).is_loopback else ()
    except ValueError:
        return ()
