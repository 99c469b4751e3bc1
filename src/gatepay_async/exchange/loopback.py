"""Whether a host is this machine: then nothing leaves it, and no proxy is to see it."""

from __future__ import annotations

import ipaddress
import re
import socket

_ADDRESS_IN_SHORT = re.compile(r"[0-9a-fx.]+")  # 127.1 and 0x7f000001 are 127.0.0.1 to whoever connects


def is_loopback(host: str) -> bool:
    """
    Whether *host* is this machine: ``localhost``, 127.0.0.0/8, ::1, and what else leads there.

    Names below ``localhost`` are loopback by definition (RFC 6761). Connecting to 0.0.0.0 or :: connects to this
    machine as well.
    """
    name = host.lower().rstrip(".").strip("[]")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = as_address(name)
    return address is not None and (address.is_loopback or address.is_unspecified)


def as_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that *name* spells, or None: it is a name. ``::ffff:10.0.0.1`` is 10.0.0.1."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return _parse_short_address(name)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _parse_short_address(name: str) -> ipaddress.IPv4Address | None:
    if _ADDRESS_IN_SHORT.fullmatch(name) is None:
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name))
    except OSError:
        return None
