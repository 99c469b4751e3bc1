"""
Who is measured: ours, what a careful user would write instead, and the floor below all of them.

Each is an asynchronous context manager that gives a function which makes one call. The others give bytes; `decoded`
puts the decoding of ours behind them. One that isn't installed, or doesn't know the event loop, is left out.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast
from urllib.parse import urlencode

import aiohttp

from benchmarks.serving import Served
from gatepay_async import AsyncGatePay
from gatepay_async.protocol.calls import KaShow
from gatepay_async.protocol.messages import Reply, decode

Call = Callable[[], Awaitable[object]]
Peer = Callable[[Served, int], AbstractAsyncContextManager[Call]]

APPKEY, APPSECRET, PRODUCT = "appkey", "appsecret", 8
# As long as ours; nobody checks it.
FORM = {"appkey": APPKEY, "product_id": str(PRODUCT), "page": "1", "sign": "0" * 32}


def client(served: Served, **options: Any) -> AsyncGatePay:
    """Ours, with the default settings but for what is given."""
    return AsyncGatePay(APPKEY, APPSECRET, base_url=served.base_url, **options)


@asynccontextmanager
async def ours(served: Served, callers: int) -> AsyncGenerator[Call]:  # noqa: ARG001 -- the defaults must do
    """`AsyncGatePay`, as it comes."""
    async with client(served) as gatepay:
        yield lambda: gatepay.list_card_keys(PRODUCT)


@asynccontextmanager
async def raw_httpx(served: Served, callers: int, *, library: str = "httpx") -> AsyncGenerator[Call]:
    """One client for all, its limits raised; form in, bytes out. httpx2 has the same face."""
    url, httpx = served.base_url + "ka/show", import_module(library)
    limits = httpx.Limits(max_connections=callers, max_keepalive_connections=callers)
    async with httpx.AsyncClient(limits=limits) as shared:

        async def call() -> bytes:
            return cast("bytes", (await shared.post(url, data=FORM)).content)

        yield call


@asynccontextmanager
async def niquests(served: Served, callers: int) -> AsyncGenerator[Call]:
    """One session for all, its pool as large as there are callers."""
    url = served.base_url + "ka/show"
    async with import_module("niquests").AsyncSession(pool_maxsize=callers) as session:

        async def call() -> bytes:
            return cast("bytes", (await session.post(url, data=FORM)).content)

        yield call


@asynccontextmanager
async def pyreqwest(served: Served, callers: int) -> AsyncGenerator[Call]:
    """One client for all, its limits raised."""
    url = served.base_url + "ka/show"
    builder = import_module("pyreqwest.client").ClientBuilder().max_connections(callers).timeout(timedelta(seconds=10))
    async with builder.pool_max_idle_per_host(callers).build() as shared:

        async def call() -> bytes:
            response = await shared.post(url).form(FORM).build().send()
            return cast("bytes", await response.bytes())

        yield call


@asynccontextmanager
async def aiohttp_by_hand(served: Served, callers: int) -> AsyncGenerator[Call]:
    """One session for all, its limit raised; form in, bytes out."""
    url = served.base_url + "ka/show"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=callers)) as session:

        async def call() -> bytes:
            async with session.post(url, data=FORM) as response:
                return await response.read()

        yield call


@asynccontextmanager
async def floor(served: Served, callers: int) -> AsyncGenerator[Call]:  # noqa: ARG001 -- opens what it needs
    """The same bytes over bare asyncio, with no client at all: what the event loop itself costs."""
    body = urlencode(FORM).encode()
    head = "POST /api/ka/show HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-www-form-urlencoded\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    loop = asyncio.get_running_loop()
    connections: list[_Bare] = []
    at_rest: list[_Bare] = []

    async def call() -> bytes:
        if at_rest:
            connection = at_rest.pop()
        else:
            _, connection = await loop.create_connection(_Bare, "127.0.0.1", served.port)
            connections.append(connection)
        answer = await connection.exchange(request)
        at_rest.append(connection)
        return answer

    yield call
    for connection in connections:
        connection.transport.close()


class _Bare(asyncio.Protocol):
    """One connection that sends bytes and finds the end of the reply, and nothing else."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()

    def exchange(self, request: bytes) -> asyncio.Future[bytes]:
        self._answer: asyncio.Future[bytes] = self._loop.create_future()
        self._buffer = b""
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        head = self._buffer.find(b"\r\n\r\n")
        name = self._buffer.find(b"content-length:", 0, head)
        if head < 0 or len(self._buffer) < head + 4 + int(self._buffer[name + 15 : self._buffer.find(b"\r", name)]):
            return
        self._answer.set_result(self._buffer[head + 4 :])


@asynccontextmanager
async def decoded(peer: Peer, served: Served, callers: int) -> AsyncGenerator[Call]:
    """What *peer* gives, read and checked as ours is."""
    what = KaShow(PRODUCT)
    async with peer(served, callers) as call:

        async def call_and_decode() -> object:
            return decode(what, Reply(200, bytes(cast("bytes", await call()))))

        yield call_and_decode


OTHERS: dict[str, Peer] = {
    "raw httpx": raw_httpx,
    "httpx2": partial(raw_httpx, library="httpx2"),
    "aiohttp by hand": aiohttp_by_hand,
    "niquests": niquests,
    "pyreqwest": pyreqwest,
}
ON_TRIO = ("raw httpx", "httpx2")


def present(*, trio: bool = False) -> dict[str, Peer]:
    """Ours, and each of the others that can be measured here, for its bytes and decoded; and the floor, on asyncio."""
    peers: dict[str, Peer] = {"ours": ours}
    for name, peer in OTHERS.items():
        module = name.split()[-1] if name == "raw httpx" else name.split()[0]
        if find_spec(module) is not None and (not trio or name in ON_TRIO):
            peers[f"{name}, bytes"] = peer
            peers[f"{name}, decoded"] = partial(decoded, peer)
    return peers if trio else {**peers, "floor, bytes": floor}
