"""Connecting on asyncio: a name's addresses side by side, and no socket lost."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from gatepay_async.pool import connecting
from gatepay_async.pool.connecting import Address, connect_tcp

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

FOUR, SIX = socket.AF_INET, socket.AF_INET6


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Sockets:
    """What stands for sockets: how each address answers, and which were closed."""

    def __init__(self, **answers: Callable[[], Awaitable[None]]) -> None:
        self.answers = answers
        self.tried: list[str] = []
        self.closed: list[str] = []

    async def connect(self, address: Address) -> Any:
        name = address[3][0]
        self.tried.append(name)
        await self.answers[name]()
        return Fake(name, self.closed)


class Fake:
    def __init__(self, name: str, closed: list[str]) -> None:
        self.name = name
        self._closed = closed

    def close(self) -> None:
        self._closed.append(self.name)


async def answer() -> None:
    pass


async def refuse() -> None:
    raise ConnectionRefusedError("refused")


def use(monkeypatch: pytest.MonkeyPatch, sockets: Sockets, *addresses: tuple[int, str]) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        return [(family, socket.SOCK_STREAM, 6, "", (name, 80)) for family, name in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(connecting, "_connect_to_address", sockets.connect)


async def test_families_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address that refuses is followed by the next at once, of the other family first."""
    sockets = Sockets(a=refuse, b=refuse, c=refuse, d=answer)
    use(monkeypatch, sockets, (SIX, "a"), (SIX, "c"), (SIX, "d"), (FOUR, "b"))
    monkeypatch.setattr(connecting, "HEAD_START", 40)
    won: Any = await connect_tcp("name.example", 80)
    assert (won.name, sockets.tried, sockets.closed) == ("d", ["a", "b", "c", "d"], [])


async def test_slow_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that keeps silent is overtaken by the next, and given up."""
    given_up: list[bool] = []

    async def silent() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            given_up.append(True)

    sockets = Sockets(a=silent, b=answer)
    use(monkeypatch, sockets, (SIX, "a"), (FOUR, "b"))
    monkeypatch.setattr(connecting, "HEAD_START", 0)
    won: Any = await connect_tcp("name.example", 80)
    assert (won.name, given_up) == ("b", [True])


async def test_cancelled_without_a_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation while nobody has answered yet ends all attempts."""
    sockets = Sockets(a=anyio.sleep_forever, b=anyio.sleep_forever)
    use(monkeypatch, sockets, (SIX, "a"), (FOUR, "b"))
    monkeypatch.setattr(connecting, "HEAD_START", 0)
    with anyio.CancelScope() as scope:
        asyncio.get_running_loop().call_later(0, scope.cancel)
        await connect_tcp("name.example", 80)
    assert scope.cancelled_caught
    assert sockets.closed == []


async def test_two_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that connect in the same moment one is used, and the other one closed."""
    both = asyncio.Event()

    async def second() -> None:
        asyncio.get_running_loop().call_soon(both.set)
        await both.wait()

    async def first() -> None:
        await both.wait()

    sockets = Sockets(a=first, b=second)
    use(monkeypatch, sockets, (SIX, "a"), (FOUR, "b"))
    monkeypatch.setattr(connecting, "HEAD_START", 0)
    won: Any = await connect_tcp("name.example", 80)
    assert [won.name, *sockets.closed] in (["a", "b"], ["b", "a"], ["a"])


async def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no address answers, what the first one said is raised."""
    use(monkeypatch, Sockets(a=refuse, b=refuse), (SIX, "a"), (FOUR, "b"))
    with pytest.raises(ConnectionRefusedError):
        await connect_tcp("name.example", 80)


async def test_cancelled_with_a_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation in the moment of success closes the socket."""

    async def cancelling() -> None:
        scope.cancel()

    sockets = Sockets(a=cancelling, b=answer)
    use(monkeypatch, sockets, (SIX, "a"), (FOUR, "b"))
    with anyio.CancelScope() as scope:
        await connect_tcp("name.example", 80)
    assert scope.cancelled_caught
    assert sockets.closed == ["a"]


async def test_real_sockets() -> None:
    """A number needs no looking up; a port that nobody listens at refuses."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with await connect_tcp("127.0.0.1", port) as one, await connect_tcp("localhost", port) as two:
            assert one.getpeername() == two.getpeername() == ("127.0.0.1", port)
    with pytest.raises(ConnectionRefusedError):
        await connect_tcp("127.0.0.1", port)
