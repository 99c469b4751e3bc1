"""Callback servers in separate processes: concurrent deliveries, and servers that are killed or stopped."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import httpx
import pytest
from delivering import query
from redis.asyncio import Redis
from surroundings import python_path
from waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

TESTS = Path(__file__).parents[1]


@pytest.fixture(params=["sqlite", "redis"])
def shared_store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the path or URL of a store that several processes can share, for merchant.py."""
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return str(tmp_path / "callbacks.sqlite3")


class Servers:
    """Starts and kills processes of merchant.py."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, store: str, *options: str) -> tuple[str, subprocess.Popen[str]]:
        """Start a server. Return its URL and its process."""
        [process] = self._open(1, store, *options)
        return _url(process), process

    def start_all(self, count: int, store: str) -> list[str]:
        """Start *count* servers at the same time. Return their URLs."""
        return [_url(process) for process in self._open(count, store)]

    def _open(self, count: int, store: str, *options: str) -> list[subprocess.Popen[str]]:
        command = [sys.executable, str(TESTS / "merchant.py"), str(self.folder), store, *options]
        environment = {**os.environ, "PYTHONPATH": python_path(TESTS)}
        processes = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(count)
        ]
        self._processes += processes
        return processes

    def handled(self) -> list[str]:
        log = self.folder / "handled"
        return log.read_text().split() if log.exists() else []

    def count_delivered_goods(self) -> int:
        shop = sqlite3.connect(self.folder / "shop.sqlite3")
        (count,) = shop.execute("SELECT count(*) FROM delivered").fetchone()
        shop.close()
        return int(count)

    def let_handlers_finish(self) -> None:
        (self.folder / "go").touch()  # merchant.py's handlers wait for this file

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return f"http://127.0.0.1:{int(process.stdout.readline())}/callback"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    started = Servers(tmp_path)
    yield started
    started.close()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as http:
        yield http


async def test_uvicorn_serves_the_app(servers: Servers, client: httpx.AsyncClient, tmp_path: Path) -> None:
    """Uvicorn serves the app without a framework: a GET, a POST, no fields, a body that is too long, and a HEAD."""
    url, process = servers.start(str(tmp_path / "callbacks.sqlite3"))
    servers.let_handlers_finish()
    text = query().decode()
    form = {"content-type": "application/x-www-form-urlencoded"}
    answers = [
        await client.get(f"{url}?{text}"),
        await client.post(url, content=text, headers=form),
        await client.get(url),
        await client.post(url, content=b"y" * 5_000_000),
        await client.head(f"{url}?{text}"),
    ]
    assert [(answer.status_code, answer.text) for answer in answers] == [
        (200, "success"),
        (200, "success"),
        (400, "fail"),
        (400, "fail"),
        (405, ""),
    ]
    assert answers[0].headers["content-type"] == "text/plain; charset=utf-8"
    assert servers.handled() == ["67848"]
    process.terminate()
    assert await anyio.to_thread.run_sync(process.wait) in (0, -15)  # -15: ended by SIGTERM


@pytest.mark.without_coverage
async def test_concurrent_deliveries_over_four_processes_are_handled_once(
    servers: Servers, client: httpx.AsyncClient, shared_store: str
) -> None:
    """Of fifty concurrent deliveries of one payment to four processes, one is handled, and all get ``success``."""
    urls = servers.start_all(4, shared_store)
    answers: list[str] = []

    async def deliver(number: int) -> None:
        answers.append((await client.get(f"{urls[number % 4]}?{query().decode()}")).text)

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(deliver, number)
        await until(lambda: servers.handled() == ["67848"])
        assert answers == []
        servers.let_handlers_finish()
    assert answers == ["success"] * 50
    assert servers.handled() == ["67848"]


@pytest.mark.without_coverage
async def test_concurrent_payments_over_two_processes_are_each_handled_once(
    servers: Servers, client: httpx.AsyncClient, shared_store: str
) -> None:
    """Each of fifty payments is delivered to two processes concurrently, and handled once."""
    urls = servers.start_all(2, shared_store)
    servers.let_handlers_finish()
    answers: list[str] = []

    async def deliver(url: str, number: int) -> None:
        answers.append((await client.get(f"{url}?{query(order_id=str(number)).decode()}")).text)

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            for url in urls:
                tasks.start_soon(deliver, url, number)
    assert answers == ["success"] * 100
    assert sorted(servers.handled(), key=int) == [str(number) for number in range(50)]


async def deliver_without_response(client: httpx.AsyncClient, url: str) -> None:
    """Make a delivery whose connection breaks before the response."""
    with pytest.raises(httpx.TransportError):
        await client.get(f"{url}?{query().decode()}")


async def deliver_and_kill(servers: Servers, client: httpx.AsyncClient, store: str, where: str) -> None:
    """Make a delivery to a server, and kill the server when it is at *where*."""
    url, process = servers.start(store, "--block", where)
    servers.let_handlers_finish()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deliver_without_response, client, url)
        await until((servers.folder / f"hangs in {where}").exists)
        process.kill()
    await anyio.to_thread.run_sync(process.wait)


async def end_leases(store: str) -> None:
    """End all leases in *store*, as if their time had passed."""
    if "://" in store:
        async with Redis.from_url(store) as redis:
            assert await redis.pexpire("gatepay:callback:gp-key/67848", 1)
    else:
        database = sqlite3.connect(store)
        with database:
            assert database.execute("UPDATE callback SET ends = 0 WHERE ends IS NOT NULL").rowcount == 1
        database.close()


@pytest.mark.parametrize("where", ["handler", "commit"])
async def test_server_killed_before_the_commit_leaves_the_callback_to_the_next(
    servers: Servers, client: httpx.AsyncClient, shared_store: str, where: str
) -> None:
    """If a server is killed in the handler or before the commit, the handler runs again. Goods are delivered once."""
    await deliver_and_kill(servers, client, shared_store, where)
    assert servers.handled() == ["67848"]
    await end_leases(shared_store)
    url, _ = servers.start(shared_store)
    assert (await client.get(f"{url}?{query().decode()}")).text == "success"
    assert servers.handled() == ["67848", "67848"]
    assert servers.count_delivered_goods() == 1


async def test_callback_committed_by_a_killed_server_is_not_handled_again(
    servers: Servers, client: httpx.AsyncClient, shared_store: str
) -> None:
    """If a server is killed between commit and response, the next delivery gets ``success`` without handling."""
    await deliver_and_kill(servers, client, shared_store, "answer")
    url, _ = servers.start(shared_store)
    assert (await client.get(f"{url}?{query().decode()}")).text == "success"
    assert servers.handled() == ["67848"]


async def test_stopped_server_releases_its_claim(
    servers: Servers, client: httpx.AsyncClient, shared_store: str
) -> None:
    """A server that is stopped cancels its handler and releases the claim, so the next delivery is handled at once."""

    async def deliver() -> None:
        # Uvicorn responds with 500 to a request that it cancels, or closes the connection.
        try:
            answer = await client.get(f"{url}?{query().decode()}")
        except httpx.TransportError:
            return
        assert answer.text != "success"

    url, process = servers.start(shared_store, "--hang", "handler")
    servers.let_handlers_finish()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deliver)
        await until((servers.folder / "hangs in handler").exists)
        process.terminate()
    await anyio.to_thread.run_sync(process.wait)
    url, _ = servers.start(shared_store)
    assert (await client.get(f"{url}?{query().decode()}")).text == "success"
    assert servers.handled() == ["67848", "67848"]
