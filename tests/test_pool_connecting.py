"""Connecting on asyncio: a host's addresses are tried concurrently, and no socket is leaked."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from gatepay_async.pool import connecting
from gatepay_async.pool.connecting import Address, connect_tcp

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

IPV4, IPV6 = socket.AF_INET, socket.AF_INET6


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeNetwork:
    """Replaces the network: each address has a function that connects or fails. Records which addresses were tried."""

    def __init__(self, **connect_functions: Callable[[], Awaitable[None]]) -> None:
        self.connect_functions = connect_functions
        self.tried: list[str] = []
        self.closed: list[str] = []

    async def connect(self, address: Address) -> Any:
        name = address[3][0]  # the host
        self.tried.append(name)
        await self.connect_functions[name]()
        return FakeSocket(name, self.closed)


class FakeSocket:
    def __init__(self, name: str, closed: list[str]) -> None:
        self.name = name
        self._closed = closed

    def close(self) -> None:
        self._closed.append(self.name)


async def succeed() -> None:
    pass


async def refuse() -> None:
    raise ConnectionRefusedError("refused")


def install(monkeypatch: pytest.MonkeyPatch, network: FakeNetwork, *addresses: tuple[int, str]) -> None:
    """Let the event loop resolve every name to *addresses*, and connect through *network*."""

    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        return [(family, socket.SOCK_STREAM, 6, "", (name, 80)) for family, name in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(connecting, "_connect_to_address", network.connect)


async def test_address_families_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    """If an address refuses, the next one is tried at once, alternating between IPv6 and IPv4."""
    network = FakeNetwork(a=refuse, b=refuse, c=refuse, d=succeed)
    install(monkeypatch, network, (IPV6, "a"), (IPV6, "c"), (IPV6, "d"), (IPV4, "b"))
    monkeypatch.setattr(connecting, "HEAD_START", 40)  # seconds: only a refusal starts the next attempt
    winner: Any = await connect_tcp("name.example", 80)
    assert (winner.name, network.tried, network.closed) == ("d", ["a", "b", "c", "d"], [])


async def test_slow_address_does_not_delay_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that doesn't answer is cancelled when a later one has connected."""
    cancelled: list[bool] = []

    async def never_answer() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)

    network = FakeNetwork(a=never_answer, b=succeed)
    install(monkeypatch, network, (IPV6, "a"), (IPV4, "b"))
    monkeypatch.setattr(connecting, "HEAD_START", 0)
    winner: Any = await connect_tcp("name.example", 80)
    assert (winner.name, cancelled) == ("b", [True])


async def test_cancellation_before_success_ends_all_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    network = FakeNetwork(a=anyio.sleep_forever, b=anyio.sleep_forever)
    install(monkeypatch, network, (IPV6, "a"), (IPV4, "b"))
    monkeypatch.setattr(connecting, "HEAD_START", 0)
    with anyio.CancelScope() as scope:
        asyncio.get_running_loop().call_later(0, scope.cancel)
        await connect_tcp("name.example", 80)
    assert scope.cancelled_caught
    assert network.closed == []


async def test_simultaneous_successes_keep_one_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """If two addresses connect at the same moment, one socket is used and the other is closed."""
    both_connected = asyncio.Event()

    async def second() -> None:
        asyncio.get_running_loop().call_soon(both_connected.set)
        await both_connected.wait()

    async def first() -> None:
        await both_connected.wait()

    network = FakeNetwork(a=first, b=second)
    install(monkeypatch, network, (IPV6, "a"), (IPV4, "b"))
    monkeypatch.setattr(connecting, "HEAD_START", 0)
    winner: Any = await connect_tcp("name.example", 80)
    # ["a"]: the attempt on b was cancelled before it got a socket.
    assert [winner.name, *network.closed] in (["a", "b"], ["b", "a"], ["a"])


async def test_refusal_is_raised_if_all_addresses_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeNetwork(a=refuse, b=refuse), (IPV6, "a"), (IPV4, "b"))
    with pytest.raises(ConnectionRefusedError):
        await connect_tcp("name.example", 80)


async def test_cancellation_at_success_closes_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:

    async def succeed_and_cancel() -> None:
        scope.cancel()

    network = FakeNetwork(a=succeed_and_cancel, b=succeed)
    install(monkeypatch, network, (IPV6, "a"), (IPV4, "b"))
    with anyio.CancelScope() as scope:
        await connect_tcp("name.example", 80)
    assert scope.cancelled_caught
    assert network.closed == ["a"]


async def test_connects_to_real_sockets() -> None:
    """An IP address and a host name connect. A port that nobody listens on refuses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with await connect_tcp("127.0.0.1", port) as first, await connect_tcp("localhost", port) as second:
            assert first.getpeername() == second.getpeername() == ("127.0.0.1", port)
    with pytest.raises(ConnectionRefusedError):
        await connect_tcp("127.0.0.1", port)
