"""
The clients that the benchmarks compare: ours, other HTTP clients, and bare asyncio as the lower bound ("floor").

Each client is an async context manager that yields a function; the function makes one call. The other clients' calls
return bytes; `decoded` also decodes them as our client does. Clients that aren't installed, or don't support the event
loop, are left out.
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
Peer = Callable[[Served, int], AbstractAsyncContextManager[Call]]  # the int is the number of callers

APPKEY, APPSECRET, PRODUCT = "appkey", "appsecret", 8
# As long as the form that our client sends. The benchmarks' server doesn't check the signature.
FORM = {"appkey": APPKEY, "product_id": str(PRODUCT), "page": "1", "sign": "0" * 32}


def client(served: Served, **options: Any) -> AsyncGatePay:
    """Return our client with default settings, except for *options*."""
    return AsyncGatePay(APPKEY, APPSECRET, base_url=served.base_url, **options)


@asynccontextmanager
async def ours(served: Served, callers: int) -> AsyncGenerator[Call]:  # noqa: ARG001 -- measured with default limits
    """Use `AsyncGatePay` with default settings."""
    async with client(served) as gatepay:
        yield lambda: gatepay.list_card_keys(PRODUCT)


@asynccontextmanager
async def raw_httpx(served: Served, callers: int, *, library: str = "httpx") -> AsyncGenerator[Call]:
    """Share one client with raised limits between all callers. httpx2 has the same API as httpx."""
    url, httpx = served.base_url + "ka/show", import_module(library)
    limits = httpx.Limits(max_connections=callers, max_keepalive_connections=callers)
    async with httpx.AsyncClient(limits=limits) as shared:

        async def call() -> bytes:
            return cast("bytes", (await shared.post(url, data=FORM)).content)

        yield call


@asynccontextmanager
async def niquests(served: Served, callers: int) -> AsyncGenerator[Call]:
    """Share one session between all callers, with a connection for each."""
    url = served.base_url + "ka/show"
    async with import_module("niquests").AsyncSession(pool_maxsize=callers) as session:

        async def call() -> bytes:
            return cast("bytes", (await session.post(url, data=FORM)).content)

        yield call


@asynccontextmanager
async def pyreqwest(served: Served, callers: int) -> AsyncGenerator[Call]:
    """Share one client with raised limits between all callers."""
    url = served.base_url + "ka/show"
    builder = import_module("pyreqwest.client").ClientBuilder().max_connections(callers).timeout(timedelta(seconds=10))
    async with builder.pool_max_idle_per_host(callers).build() as shared:

        async def call() -> bytes:
            response = await shared.post(url).form(FORM).build().send()
            return cast("bytes", await response.bytes())

        yield call


@asynccontextmanager
async def aiohttp_by_hand(served: Served, callers: int) -> AsyncGenerator[Call]:
    """Share one session with a raised limit between all callers."""
    url = served.base_url + "ka/show"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=callers)) as session:

        async def call() -> bytes:
            async with session.post(url, data=FORM) as response:
                return await response.read()

        yield call


@asynccontextmanager
async def floor(served: Served, callers: int) -> AsyncGenerator[Call]:  # noqa: ARG001 -- opens connections as needed
    """Exchange the same bytes over bare asyncio, without a client: the cost of the event loop alone."""
    request = post_request("ka/show", urlencode(FORM).encode())
    async with bare_exchange(served) as exchange:
        yield lambda: exchange(request)


def post_request(endpoint: str, form: bytes) -> bytes:
    """Return a whole HTTP request that sends *form* to *endpoint*."""
    head = f"POST /api/{endpoint} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-www-form-urlencoded\r\n"
    return f"{head}content-length: {len(form)}\r\n\r\n".encode() + form


@asynccontextmanager
async def bare_exchange(served: Served) -> AsyncGenerator[Callable[[bytes], Awaitable[bytes]]]:
    """Yield a function that sends a request over bare asyncio, and returns the body of the response."""
    loop = asyncio.get_running_loop()
    connections: list[_BareConnection] = []
    idle: list[_BareConnection] = []

    async def exchange(request: bytes) -> bytes:
        if idle:
            connection = idle.pop()
        else:
            _, connection = await loop.create_connection(_BareConnection, "127.0.0.1", served.port)
            connections.append(connection)
        response = await connection.exchange(request)
        idle.append(connection)
        return response

    yield exchange
    for connection in connections:
        connection.transport.close()


class _BareConnection(asyncio.Protocol):
    """A connection that sends bytes and only looks for the end of the response."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()

    def exchange(self, request: bytes) -> asyncio.Future[bytes]:
        self._response: asyncio.Future[bytes] = self._loop.create_future()
        self._buffer = b""
        self.transport.write(request)
        return self._response

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        end = self._buffer.find(b"\r\n\r\n")
        name = self._buffer.find(b"content-length:", 0, end)  # 15 characters
        if end < 0 or len(self._buffer) < end + 4 + int(self._buffer[name + 15 : self._buffer.find(b"\r", name)]):
            return
        self._response.set_result(self._buffer[end + 4 :])


@asynccontextmanager
async def decoded(peer: Peer, served: Served, callers: int) -> AsyncGenerator[Call]:
    """Decode and check the bytes that *peer* returns as our client does."""
    ka_show = KaShow(PRODUCT)
    async with peer(served, callers) as call:

        async def call_and_decode() -> object:
            return decode(ka_show, Reply(200, bytes(cast("bytes", await call()))))

        yield call_and_decode


OTHERS: dict[str, Peer] = {
    "raw httpx": raw_httpx,
    "httpx2": partial(raw_httpx, library="httpx2"),
    "aiohttp by hand": aiohttp_by_hand,
    "niquests": niquests,
    "pyreqwest": pyreqwest,
}
ON_TRIO = ("raw httpx", "httpx2")


def available_peers(*, trio: bool = False) -> dict[str, Peer]:
    """Return ours, each other installed client with and without decoding, and on asyncio the floor, by their names."""
    peers: dict[str, Peer] = {"ours": ours}
    for name, peer in OTHERS.items():
        # "raw httpx" is the only name that does not start with the name of its module.
        module = name.split()[-1] if name == "raw httpx" else name.split()[0]
        if find_spec(module) is not None and (not trio or name in ON_TRIO):
            peers[f"{name}, bytes"] = peer
            peers[f"{name}, decoded"] = partial(decoded, peer)
    return peers if trio else {**peers, "floor, bytes": floor}
