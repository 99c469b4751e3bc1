"""Opens a TCP connection for asyncio: tries a host's addresses in parallel (RFC 8305) and never leaks a socket."""

import asyncio
import socket
from itertools import chain, zip_longest
from typing import Any, Final

import anyio

# Seconds after which the next address is tried too (RFC 8305, 5).
HEAD_START: Final = 0.25

Address = tuple[int, int, int, Any]  # family, type, protocol, and the argument of connect()


async def connect_tcp(host: str, port: int) -> socket.socket:
    """
    Connect to *host*, trying its addresses in parallel.

    uvloop can't do that, and asyncio's own ``create_connection`` may leak a socket when it is cancelled.

    Raises:
        OSError: No address of *host* answers.
    """
    addresses = await _resolve(host, port)
    if len(addresses) == 1:
        return await _connect_to_address(addresses[0])
    race = _Race()
    try:
        await race.run(addresses)
    except BaseException:
        if race.winner is not None:
            race.winner.close()
        raise
    if race.winner is None:
        raise race.errors[0]
    return race.winner


class _Race:
    """
    Connects to several addresses in parallel and keeps the first socket that connects.

    Attributes:
        winner: The socket that connected first, or None if no address answered.
        errors: The errors of the addresses that failed.
    """

    def __init__(self) -> None:
        self.winner: socket.socket | None = None
        self.errors: list[OSError] = []
        self._group = anyio.create_task_group()

    async def run(self, addresses: list[Address]) -> None:
        """Try each address `HEAD_START` seconds after the one before it, or as soon as that one has failed."""
        async with self._group:
            for address in addresses:
                finished = anyio.Event()
                self._group.start_soon(self._attempt, address, finished)
                with anyio.move_on_after(HEAD_START):
                    await finished.wait()

    async def _attempt(self, address: Address, finished: anyio.Event) -> None:
        """Connect to *address*. After a failure, set *finished*; after a success, cancel the other attempts."""
        try:
            connected = await _connect_to_address(address)
        except OSError as error:
            self.errors.append(error)
            finished.set()
            return
        if self.winner is None:
            self.winner = connected
            self._group.cancel_scope.cancel()
        else:  # another address connected in the same turn of the event loop
            connected.close()


async def _resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of *host*, IPv6 and IPv4 alternating (RFC 8305, 4)."""
    try:
        # An IP address is tried first: it needs no look-up in a thread.
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [(family, kind, proto, destination) for family, kind, proto, _, destination in infos]
    first_family = [address for address in addresses if address[0] == addresses[0][0]]
    other_family = [address for address in addresses if address[0] != addresses[0][0]]
    alternating = chain.from_iterable(zip_longest(first_family, other_family))
    return [address for address in alternating if address is not None]


async def _connect_to_address(address: Address) -> socket.socket:
    """Return a non-blocking socket that is connected to *address*."""
    family, kind, proto, destination = address
    connecting = socket.socket(family, kind, proto)
    try:
        connecting.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connecting, destination)
    except BaseException:
        connecting.close()
        raise
    return connecting
