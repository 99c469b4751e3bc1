"""Which proxy the environment names for a URL, or none."""

from __future__ import annotations

import ipaddress
import os
import re
from importlib.util import find_spec
from urllib.request import getproxies, proxy_bypass

import httpx
from attrs import field, frozen

from gatepay_async.exchange.loopback import as_address, is_loopback
from gatepay_async.exchange.urls import BadUrlError, parse_url
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEMES = ("http", "https", "socks5", "socks5h")


@frozen
class Proxy:
    """
    A proxy to go through.

    Attributes:
        url: May hold a user and a password.
        variable: The environment variable that names it; empty: the system's settings do.
    """

    url: httpx.URL = field(repr=False)
    variable: str

    @property
    def address(self) -> str:
        """Host and port, without user and password."""
        host = f"[{self.url.host}]" if ":" in self.url.host else self.url.host
        return host if self.url.port is None else f"{host}:{self.url.port}"


@frozen
class Bypass:
    """
    Why a URL is reached without a proxy.

    Attributes:
        listed: A proxy is set, and NO_PROXY or the system's settings except this host from it.
    """

    listed: bool


def proxy_for(url: httpx.URL) -> Proxy | Bypass:
    """
    What HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say of *url*, or the system's settings.

    This machine is always reached directly: a proxy would carry card keys and signatures away in clear text.

    Raises:
        InvalidRequestError: What is named is no proxy; ``.field`` is the variable.
    """
    settings = getproxies()
    kind = next((each for each in (url.scheme, "all") if settings.get(each, "").strip()), None)
    if kind is None:
        return Bypass(listed=False)
    # Where NO_PROXY isn't set, the proxy may be the system's, which has a list of its own.
    listed = is_listed(url, settings["no"]) if "no" in settings else bool(proxy_bypass(url.host))
    if is_loopback(url.host) or listed:
        return Bypass(listed=True)
    variable = next((each for each in (f"{kind}_proxy", f"{kind.upper()}_PROXY") if os.environ.get(each)), "")
    return Proxy(_parse_proxy(settings[kind].strip(), variable or f"{kind.upper()}_PROXY"), variable)


def _parse_proxy(text: str, variable: str) -> httpx.URL:
    try:
        url = parse_url(text if "://" in text else f"http://{text}", schemes=_SCHEMES)  # as curl takes it
    except BadUrlError as error:
        problem = error.problem
    else:
        if not url.scheme.startswith("socks") or find_spec("socksio") is not None:
            return url
        problem = Problem("needs_socksio")
    # Neither repeated nor chained: there may be a password in it.
    raise InvalidRequestError(field=variable, problem=Problem("proxy_unusable", problem=problem))


def is_listed(url: httpx.URL, no_proxy: str) -> bool:
    """
    Whether *no_proxy* names the host of *url*.

    Entries are separated by commas or spaces: ``*``, a host and all below it (``.example.com`` and ``*.example.com``
    likewise), an address with or without brackets, a network (``10.0.0.0/8``, ``fd00::/8``); each with or without
    a port.
    """
    return any(_matches(entry.lower(), url) for entry in re.split(r"[,\s]+", no_proxy) if entry)


def _matches(entry: str, url: httpx.URL) -> bool:
    if entry == "*":
        return True
    host, port = _split_port(entry.rpartition("://")[2].rstrip("/"))
    if port and port != str(url.port or _DEFAULT_PORTS[url.scheme]):
        return False
    address = as_address(url.host)
    if address is not None:
        return _network_contains(host, address)
    name = url.raw_host.decode("ascii").lower().rstrip(".")
    domain = _to_ascii(host.removeprefix("*").strip("."))
    return bool(domain) and (name == domain or name.endswith(f".{domain}"))


def _split_port(entry: str) -> tuple[str, str]:
    """Host and port of ``host``, ``host:port``, ``[::1]``, ``[::1]:port``, ``::1``."""
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        return (host + rest, "") if rest.startswith("/") else (host, rest.removeprefix(":"))
    host, _, port = entry.rpartition(":")
    return (host, port) if host and ":" not in host else (entry, "")


def _network_contains(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _to_ascii(host: str) -> str:
    """As it travels: ``例え.jp`` is ``xn--r8jz45g.jp``."""
    try:
        return httpx.URL(scheme="http", host=host).raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError):
        return host
