"""A pool in another place than where it was used first: on a second event loop, and in a forked process."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest
from odd_server import Connection, OddServer, Request, event_loops, http
from waiting import PATIENCE

from gatepay_async.pool import OriginPool
from gatepay_async.pool.asyncio_wire import Wire
from gatepay_async.pool.owner import PROCESS

pytestmark = [
    pytest.mark.sockets,
    # That a socket is left to the garbage collector is what must happen here: its event loop is no more.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def named(connection: Connection, request: Request) -> None:
    """Answer with what was asked for."""
    connection.raw.sendall(connection.encrypt(http(request.path.rpartition("/")[2].encode())))


def post(server: OddServer, name: str) -> httpx.Request:
    return httpx.Request("POST", server.base_url + name, headers={"content-length": "0"})


async def call(pool: OriginPool, server: OddServer, name: str) -> str:
    with anyio.fail_after(PATIENCE):
        response = await pool.handle_async_request(post(server, name))
        return (await response.aread()).decode()


def run(work: Callable[[], Awaitable[Any]], kind: tuple[str, dict[str, Any]]) -> Any:
    return anyio.run(work, backend=kind[0], backend_options=kind[1])


@pytest.mark.parametrize("tls", [False, True])
def test_one_event_loop_after_the_other(*, tls: bool) -> None:
    """A pool opens connections of its own on each event loop; those of one that is over are let go."""
    kinds = event_loops()
    pairs = [(first, second) for first in kinds for second in kinds]
    with OddServer(named, tls=tls) as server:
        for number, (first, second) in enumerate(pairs, 1):
            pool = OriginPool(server.base_url, ssl_context=server.client_tls, max_connections=1)
            came = [run(lambda: call(pool, server, "one"), first), run(lambda: call(pool, server, "two"), second)]  # noqa: B023 -- called at once
            assert (came, len(server.connections)) == (["one", "two"], 2 * number), (first, second)
            run(pool.aclose, first)
            assert repr(pool).endswith(": 0 busy, 0 idle, limit 1; 0 waiting; closed>")
    gc.collect()


def test_an_event_loop_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection of an event loop in another thread is closed there, and by nobody else."""
    closed_by_owner: list[bool] = []
    ready, done = threading.Event(), threading.Event()

    async def first() -> None:
        await call(pool, server, "one")
        ready.set()
        await asyncio.to_thread(done.wait, PATIENCE)
        await asyncio.sleep(0)

    async def second() -> None:
        assert await call(pool, server, "two") == "two"
        await pool.aclose()

    monkeypatch.setattr(Wire, "connection_lost", lambda wire, _: closed_by_owner.append(wire.is_on_this_loop()))
    with OddServer(named, tls=False) as server:
        pool = OriginPool(server.base_url)
        thread = threading.Thread(target=lambda: asyncio.run(first()))
        thread.start()
        ready.wait(PATIENCE)
        asyncio.run(second())
        done.set()
        thread.join()
    assert closed_by_owner == [True, True]


def test_a_process_that_was_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked process begins with an empty pool, closed or not as it was, and touches nothing that it shares."""
    forks = PROCESS.forks
    monkeypatch.setattr(PROCESS, "forks", forks)  # put back at the end

    async def play() -> None:
        pool = OriginPool(server.base_url, max_connections=1)
        response = await pool.handle_async_request(post(server, "parent"))
        (slot,) = pool._slots._busy
        PROCESS.note_fork()
        assert await call(pool, server, "child") == "child"
        wire: Any = slot.connection
        assert not wire.is_on_this_loop()
        transport = wire._transport
        await wire.aclose()
        assert not transport.is_closing()
        await pool.aclose()
        PROCESS.note_fork()
        with pytest.raises(httpx.ConnectError, match="closed"):
            await call(pool, server, "child")
        PROCESS.note_fork()
        await pool.aclose()
        transport.abort()
        del response

    with OddServer(named, tls=False) as server:
        asyncio.run(play())


FORKING = """
import asyncio, os, selectors, ssl, sys
import httpx
from gatepay_async.pool import OriginPool

url = sys.argv[1]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
pool = OriginPool(url, ssl_context=context, max_connections=1)
# One that isn't shared after a fork, as epoll is: the harder case.
loop = asyncio.SelectorEventLoop(selectors.PollSelector())

async def call(name):
    request = httpx.Request("POST", url + name, headers={"content-length": "0"}, extensions={"timeout": {"read": 20}})
    response = await pool.handle_async_request(request)
    return (await response.aread()).decode()

async def parent():
    assert await call("before") == "before"
    child = os.fork()
    if not child:
        asyncio._set_running_loop(None)
        assert asyncio.run(call("child")) == "child"
        os._exit(0)
    assert await call("parent") == "parent"
    assert os.waitpid(child, 0)[1] == 0
    assert await call("again") == "again"

loop.run_until_complete(parent())
loop.run_until_complete(pool.aclose())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
def test_a_fork() -> None:
    """Parent and child each talk over their own connections, and get their own replies."""
    with OddServer(named, tls=True) as server:
        subprocess.run([sys.executable, "-c", FORKING, server.base_url], check=True, timeout=PATIENCE)
        assert [connection.requests for connection in server.connections] == [3, 1]
