"""A pool used on a second event loop, and in a forked process."""

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
    # The garbage collector closes a socket whose event loop is closed. That is expected here.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def reply_with_name(connection: Connection, request: Request) -> None:
    """Reply with the last part of the requested path."""
    connection.raw.sendall(connection.encrypt(http(request.path.rpartition("/")[2].encode())))


def request_for(server: OddServer, name: str) -> httpx.Request:
    return httpx.Request("POST", server.base_url + name, headers={"content-length": "0"})


async def call(pool: OriginPool, server: OddServer, name: str) -> str:
    with anyio.fail_after(PATIENCE):
        response = await pool.handle_async_request(request_for(server, name))
        return (await response.aread()).decode()


def run(work: Callable[[], Awaitable[Any]], loop: tuple[str, dict[str, Any]]) -> Any:
    """Run *work* on a new event loop of this kind."""
    return anyio.run(work, backend=loop[0], backend_options=loop[1])


@pytest.mark.parametrize("tls", [False, True])
def test_pool_opens_new_connections_on_each_event_loop(*, tls: bool) -> None:
    """On a second event loop the pool opens new connections, and forgets those of a closed event loop."""
    loops = event_loops()
    pairs = [(first, second) for first in loops for second in loops]
    with OddServer(reply_with_name, tls=tls) as server:
        for number, (first, second) in enumerate(pairs, 1):
            pool = OriginPool(server.base_url, ssl_context=server.client_tls, max_connections=1)
            replies = [run(lambda: call(pool, server, "one"), first), run(lambda: call(pool, server, "two"), second)]  # noqa: B023 -- called at once
            assert (replies, len(server.connections)) == (["one", "two"], 2 * number), (first, second)
            run(pool.aclose, first)
            assert repr(pool).endswith(": 0 busy, 0 idle, limit 1; 0 waiting; closed>")
    gc.collect()


def test_connection_is_closed_on_its_own_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose event loop runs in another thread is closed there."""
    closed_by_owner: list[bool] = []
    ready, may_end = threading.Event(), threading.Event()

    async def run_first_loop() -> None:
        await call(pool, server, "one")
        ready.set()
        await asyncio.to_thread(may_end.wait, PATIENCE)
        await asyncio.sleep(0)

    async def run_second_loop() -> None:
        assert await call(pool, server, "two") == "two"
        await pool.aclose()

    monkeypatch.setattr(Wire, "connection_lost", lambda wire, _: closed_by_owner.append(wire.is_on_this_loop()))
    with OddServer(reply_with_name, tls=False) as server:
        pool = OriginPool(server.base_url)
        thread = threading.Thread(target=lambda: asyncio.run(run_first_loop()))
        thread.start()
        ready.wait(PATIENCE)
        asyncio.run(run_second_loop())
        may_end.set()
        thread.join()
    assert closed_by_owner == [True, True]


def test_forked_process_starts_with_an_empty_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fork the pool has no connections, and leaves the parent's sockets alone. A closed pool stays closed."""
    forks = PROCESS.forks
    monkeypatch.setattr(PROCESS, "forks", forks)  # restored at the end of the test

    async def use_after_fork() -> None:
        pool = OriginPool(server.base_url, max_connections=1)
        response = await pool.handle_async_request(request_for(server, "parent"))
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

    with OddServer(reply_with_name, tls=False) as server:
        asyncio.run(use_after_fork())


FORKING = """
import asyncio, os, selectors, ssl, sys
import httpx
from gatepay_async.pool import OriginPool

url = sys.argv[1]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
pool = OriginPool(url, ssl_context=context, max_connections=1)
# Unlike epoll's, this selector's state is not shared with the child after a fork: that is the harder case.
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork() on this platform")
def test_parent_and_child_use_their_own_connections() -> None:
    """After a real fork, parent and child each use their own connections and get their own replies."""
    with OddServer(reply_with_name, tls=True) as server:
        subprocess.run([sys.executable, "-c", FORKING, server.base_url], check=True, timeout=PATIENCE)
        assert [connection.requests for connection in server.connections] == [3, 1]
