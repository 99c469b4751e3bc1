"""Checks callback and return URLs. By default, a callback URL must lead to this machine."""

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qsl, urlsplit

from attrs import frozen

from gatepay_async.words.arguments import InvalidArgumentError, check_str
from gatepay_async.words.problem import Problem

__all__ = ["CallbackUrlError", "Target", "check", "check_return", "target_of"]

MAX_URL_CHARS = 2000
# The limit for the URL's own query. It leaves room for the callback's fields within the 8 kB that web servers accept.
MAX_QUERY_CHARS = 700
_PORTS = {"http": 80, "https": 443}
# The characters of RFC 3986 without "#", because a fragment is never sent.
_URL_CHARS = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+")
_LOOPBACK_ADDRESSES = ("127.0.0.1", "::1")


class CallbackUrlError(InvalidArgumentError):
    """
    The URL can't be used for callbacks, or as a return URL.

    Attributes:
        field: The name of the parameter at fault, such as ``"callback_url"``.
        problem: What is wrong with the URL. The pages have a text of the same name.
    """


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


def check(url: str, *, beyond_loopback: bool, name: str = "callback_url") -> None:
    """
    Check that *url*, the argument *name*, can be a shop's callback URL.

    Raises:
        CallbackUrlError: *url* can't be a callback URL.
    """
    _check_url_and_query(name, url, _CALLBACK_NAMES, beyond_loopback=beyond_loopback)


def check_return(url: str, *, name: str = "return_url") -> None:
    """
    Check that *url*, the argument *name*, can be a return URL, for the customer's browser. It may lead to any machine.

    Raises:
        CallbackUrlError: *url* can't be a return URL.
    """
    _check_url_and_query(name, url, _RETURN_NAMES, beyond_loopback=True)


def _check_url_and_query(name: str, url: str, reserved_names: set[str], *, beyond_loopback: bool) -> None:
    check_str(name, url)
    target_of(url, beyond_loopback=beyond_loopback, name=name)
    query = urlsplit(url).query
    if len(query) > MAX_QUERY_CHARS:
        raise CallbackUrlError(field=name, problem=Problem("url_query"))
    if reserved_names & {parameter for parameter, _ in parse_qsl(query, keep_blank_values=True)}:
        raise CallbackUrlError(field=name, problem=Problem("url_taken"))


def target_of(url: str, *, beyond_loopback: bool, name: str = "callback_url") -> Target:
    """
    Parse *url*, without a DNS lookup: ``localhost`` is this machine by definition (RFC 6761).

    Raises:
        CallbackUrlError: *url* is invalid, or leads to a machine that isn't allowed.
    """
    parts = _parse(name, url)
    host = str(parts.hostname)
    hosts = _loopback_hosts(host)
    if not hosts and not beyond_loopback:
        raise CallbackUrlError(field=name, problem=Problem("url_not_local"))
    return Target(
        hosts=hosts or (host,),
        name=host,
        port=parts.port or _PORTS[parts.scheme],
        tls=parts.scheme == "https",
        authority=parts.netloc,
    )


def _parse(name: str, url: str) -> SplitResult:
    """Split *url*, the argument *name*, and check its form."""
    bad_form = CallbackUrlError(field=name, problem=Problem("url_form"))
    if len(url) > MAX_URL_CHARS or _URL_CHARS.fullmatch(url) is None:
        raise bad_form
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port or invalid brackets
        raise bad_form from None
    if not is_valid:
        raise bad_form
    if "@" in parts.netloc:
        raise CallbackUrlError(field=name, problem=Problem("url_user"))
    return parts


def _loopback_hosts(name: str) -> tuple[str, ...]:
    """Return the loopback addresses that *name* stands for; empty: it is another machine."""
    if name == "localhost" or name.endswith(".localhost"):
        return _LOOPBACK_ADDRESSES
    try:
        return (name,) if ip_address(name).is_loopback else ()
    except ValueError:
        return ()
