"""Real servers in processes of their own, over real sockets: racing, killed, stopped."""

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
from waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

TESTS = Path(__file__).parents[1]


@pytest.fixture(params=["sqlite", "redis"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that several processes share, as merchant.py takes it."""
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return str(tmp_path / "callbacks.sqlite3")


class Servers:
    """Starts merchants, and ends them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, store: str, *options: str) -> tuple[str, subprocess.Popen[str]]:
        """Its URL, and its process."""
        [process] = self._open(1, store, *options)
        return _url(process), process

    def start_all(self, count: int, store: str) -> list[str]:
        """The URLs of so many, which start at the same time."""
        return [_url(process) for process in self._open(count, store)]

    def _open(self, count: int, store: str, *options: str) -> list[subprocess.Popen[str]]:
        command = [sys.executable, str(TESTS / "merchant.py"), str(self.folder), store, *options]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
        new = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(count)]
        self._processes += new
        return new

    def handled(self) -> list[str]:
        log = self.folder / "handled"
        return log.read_text().split() if log.exists() else []

    def given(self) -> int:
        shop = sqlite3.connect(self.folder / "shop.sqlite3")
        (count,) = shop.execute("SELECT count(*) FROM given").fetchone()
        shop.close()
        return int(count)

    def go(self) -> None:
        (self.folder / "go").touch()

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return f"http://127.0.0.1:{int(process.stdout.readline())}/callback"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    it = Servers(tmp_path)
    yield it
    it.close()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as it:
        yield it


async def test_over_a_socket(servers: Servers, client: httpx.AsyncClient, tmp_path: Path) -> None:
    """Uvicorn serves it alone: GET, POST, what is refused, what is too long, another method."""
    url, process = servers.start(str(tmp_path / "callbacks.sqlite3"))
    servers.go()
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
    assert await anyio.to_thread.run_sync(process.wait) in (0, -15)


@pytest.mark.uncounted
async def test_fifty_at_once(servers: Servers, client: httpx.AsyncClient, shared: str) -> None:
    """Fifty deliveries of one payment at once, over four processes: it is handled once, and all hear of success."""
    urls = servers.start_all(4, shared)
    answers: list[str] = []

    async def deliver(number: int) -> None:
        answers.append((await client.get(f"{urls[number % 4]}?{query().decode()}")).text)

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(deliver, number)
        await until(lambda: servers.handled() == ["67848"])
        assert answers == []
        servers.go()
    assert answers == ["success"] * 50
    assert servers.handled() == ["67848"]


@pytest.mark.uncounted
async def test_fifty_payments_at_once(servers: Servers, client: httpx.AsyncClient, shared: str) -> None:
    """Fifty payments at once, each delivered to two processes: each is handled once."""
    urls = servers.start_all(2, shared)
    servers.go()
    answers: list[str] = []

    async def deliver(url: str, number: int) -> None:
        answers.append((await client.get(f"{url}?{query(order_id=str(number)).decode()}")).text)

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            for url in urls:
                tasks.start_soon(deliver, url, number)
    assert answers == ["success"] * 100
    assert sorted(servers.handled(), key=int) == [str(number) for number in range(50)]


async def lost(client: httpx.AsyncClient, url: str) -> None:
    """A delivery whose answer never comes."""
    with pytest.raises(httpx.TransportError):
        await client.get(f"{url}?{query().decode()}")


async def die(servers: Servers, client: httpx.AsyncClient, store: str, where: str) -> None:
    """Deliver to a server that dies there, of kill -9."""
    url, process = servers.start(store, "--block", where)
    servers.go()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lost, client, url)
        await until((servers.folder / f"hangs in {where}").exists)
        process.kill()
    await anyio.to_thread.run_sync(process.wait)


async def end_leases(store: str) -> None:
    """As if their time had passed."""
    if "://" in store:
        async with Redis.from_url(store) as redis:
            assert await redis.pexpire("gatepay:callback:gp-key/67848", 1)
    else:
        database = sqlite3.connect(store)
        with database:
            assert database.execute("UPDATE callback SET ends = 0 WHERE ends IS NOT NULL").rowcount == 1
        database.close()


@pytest.mark.parametrize("where", ["handler", "commit"])
async def test_killed_before_the_commit(servers: Servers, client: httpx.AsyncClient, shared: str, where: str) -> None:
    """Kill -9 in the handler, or between handling and committing: a later delivery is handled, and the goods once."""
    await die(servers, client, shared, where)
    assert servers.handled() == ["67848"]
    await end_leases(shared)
    url, _ = servers.start(shared)
    assert (await client.get(f"{url}?{query().decode()}")).text == "success"
    assert servers.handled() == ["67848", "67848"]
    assert servers.given() == 1


async def test_killed_after_the_commit(servers: Servers, client: httpx.AsyncClient, shared: str) -> None:
    """Kill -9 between committing and answering: the next delivery is answered with success, and not handled again."""
    await die(servers, client, shared, "answer")
    url, _ = servers.start(shared)
    assert (await client.get(f"{url}?{query().decode()}")).text == "success"
    assert servers.handled() == ["67848"]


async def test_stopped_in_the_handler(servers: Servers, client: httpx.AsyncClient, shared: str) -> None:
    """A server that is stopped cancels its handler and releases the claim: the next delivery is handled at once."""

    async def deliver() -> None:
        # uvicorn answers what it cancels with 500, or breaks the connection off.
        try:
            answer = await client.get(f"{url}?{query().decode()}")
        except httpx.TransportError:
            return
        assert answer.text != "success"

    url, process = servers.start(shared, "--hang", "handler")
    servers.go()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deliver)
        await until((servers.folder / "hangs in handler").exists)
        process.terminate()
    await anyio.to_thread.run_sync(process.wait)
    url, _ = servers.start(shared)
    assert (await client.get(f"{url}?{query().decode()}")).text == "success"
    assert servers.handled() == ["67848", "67848"]
