"""Finds the proxy for a URL in the environment or the system's settings."""

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
from gatepay_async.protocol.web_addresses import DEFAULT_PORTS
from gatepay_async.words.problem import Problem

_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


@frozen
class Proxy:
    """
    The proxy for a URL.

    Attributes:
        url: The URL of the proxy, which may contain user and password.
        variable: The environment variable that contains this URL. Empty if it is from the system's settings.
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
    No proxy is used for a URL.

    Attributes:
        host_excluded: Whether a proxy is set, but NO_PROXY or the system's settings exclude this host.
    """

    host_excluded: bool


def proxy_for(url: httpx.URL) -> Proxy | Bypass:
    """
    Find the proxy for *url* in HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, or in the system's settings.

    This machine is always reached directly. Otherwise card keys and signatures would leave it in clear text.

    Raises:
        InvalidRequestError: The proxy is invalid. ``.field`` is the variable.
    """
    settings = getproxies()
    key = next((name for name in (url.scheme, "all") if settings.get(name, "").strip()), None)  # http, https or all
    if key is None:
        return Bypass(host_excluded=False)
    # Without NO_PROXY, use the exceptions of the system's settings: the proxy may be from there too.
    is_host_excluded = is_excluded(url, settings["no"]) if "no" in settings else bool(proxy_bypass(url.host))
    if is_loopback(url.host) or is_host_excluded:
        return Bypass(host_excluded=True)
    variable = next((name for name in (f"{key}_proxy", f"{key.upper()}_PROXY") if os.environ.get(name)), "")
    return Proxy(_parse_proxy(settings[key].strip(), variable or f"{key.upper()}_PROXY"), variable)


def _parse_proxy(text: str, variable: str) -> httpx.URL:
    """Parse the URL of a proxy. Errors name *variable*."""
    try:
        url = parse_url(text if "://" in text else f"http://{text}", schemes=_PROXY_SCHEMES)  # curl adds http:// too
    except BadUrlError as error:
        problem = error.problem
    else:
        if not url.scheme.startswith("socks") or find_spec("socksio") is not None:
            return url
        problem = Problem("needs_socksio")
    # The error neither quotes the URL nor is chained, because the URL may contain a password.
    raise InvalidRequestError(field=variable, problem=Problem("proxy_unusable", problem=problem))


def is_excluded(url: httpx.URL, no_proxy: str) -> bool:
    """
    Whether *no_proxy* contains the host of *url*.

    Entries are separated by commas or spaces. An entry is ``*``, a host name, an address with or without brackets, or a
    network (``10.0.0.0/8``, ``fd00::/8``). Each may have a port. A host name includes all its subdomains; it may be
    written as ``.example.com`` or ``*.example.com`` too.
    """
    return any(_matches(entry.lower(), url) for entry in re.split(r"[,\s]+", no_proxy) if entry)


def _matches(entry: str, url: httpx.URL) -> bool:
    """Whether one *entry* of NO_PROXY, in lower case, includes the host of *url*."""
    if entry == "*":
        return True
    host, port = _split_port(entry.rpartition("://")[2].rstrip("/"))
    if port and port != str(url.port or DEFAULT_PORTS[url.scheme]):
        return False
    address = as_address(url.host)
    if address is not None:
        return _network_contains(host, address)
    name = url.raw_host.decode("ascii").lower().rstrip(".")
    domain = _to_ascii(host.removeprefix("*").strip("."))
    return bool(domain) and (name == domain or name.endswith(f".{domain}"))


def _split_port(entry: str) -> tuple[str, str]:
    """Split ``host``, ``host:port``, ``[::1]``, ``[::1]:port`` or ``::1`` into host and port."""
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        return (host + rest, "") if rest.startswith("/") else (host, rest.removeprefix(":"))
    host, _, port = entry.rpartition(":")
    return (host, port) if host and ":" not in host else (entry, "")


def _network_contains(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether *network*, which may also be a single address, contains *address*. False if *network* is invalid."""
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _to_ascii(host: str) -> str:
    """Encode a host name as it is sent: ``例え.jp`` is ``xn--r8jz45g.jp``."""
    try:
        return httpx.URL(scheme="http", host=host).raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError):
        return host
