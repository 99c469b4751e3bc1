"""Finds out whether a host is this machine. Requests to it are never sent through a proxy."""

from __future__ import annotations

import ipaddress
import re
import socket

_SHORT_ADDRESS = re.compile(r"[0-9a-fx.]+")  # the system also accepts 127.1 and 0x7f000001 for 127.0.0.1


def is_loopback(host: str) -> bool:
    """
    Whether *host* is this machine: ``localhost`` or a name below it, 127.0.0.0/8, ::1, 0.0.0.0 or ::.

    Names below ``localhost`` are loopback by definition (RFC 6761). Connecting to 0.0.0.0 or :: also reaches this
    machine.
    """
    name = host.lower().rstrip(".").strip("[]")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = as_address(name)
    return address is not None and (address.is_loopback or address.is_unspecified)


def as_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an IP address; None: *name* is a host name. ``::ffff:10.0.0.1`` becomes 10.0.0.1."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return _parse_short_address(name)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _parse_short_address(name: str) -> ipaddress.IPv4Address | None:
    """Parse the forms of an IPv4 address that only the system accepts; None: *name* is none of them."""
    if _SHORT_ADDRESS.fullmatch(name) is None:
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name))
    except OSError:
        return None
