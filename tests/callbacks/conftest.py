"""The stores, and a real Redis."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from delivering import Shop
from redis import Redis
from redis_server import RedisServer
from surroundings import socket_folder

from gatepay_async.callbacks import MemoryStore, RedisStore, SQLiteStore, Store

# .ci/run sets it once there is a redis-server; without one the tests that need it are skipped, and say so.
MUST_HAVE_REDIS = os.environ.get("GATEPAY_TEST_REDIS") == "required"


@pytest.fixture(scope="session")
def redis_program() -> str:
    """Skips, with the reason, where there is none; where there must be one, that is a failure."""
    found = shutil.which("redis-server")
    if found is None and MUST_HAVE_REDIS:
        pytest.fail("there is no redis-server, and GATEPAY_TEST_REDIS says that there must be one")
    if found is None:
        pytest.skip("there is no redis-server here")
    return found


@pytest.fixture(scope="session")
def redis_server(redis_program: str) -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(dir=socket_folder()) as folder:
        server = RedisServer(Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Of an empty Redis."""
    with Redis.from_url(redis_server.url) as redis:
        redis.flushall()
    return redis_server.url


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.slow)])
async def store(request: pytest.FixtureRequest, anyio_backend: str, tmp_path: Path) -> AsyncIterator[Store]:
    """Each of the stores, on each loop that it is for."""
    made: Store
    if request.param == "redis":
        if anyio_backend != "asyncio":
            pytest.skip("redis-py speaks asyncio only")
        made = RedisStore(request.getfixturevalue("redis_url"))
    else:
        made = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "callbacks.sqlite3")
    yield made
    with anyio.CancelScope(shield=True):
        await made.aclose()


@pytest.fixture
def shop(store: Store) -> Shop:
    """A merchant over each of the stores."""
    return Shop(store)


@pytest.fixture
def memory_shop() -> Shop:
    """A merchant whose store is beside the point."""
    return Shop(MemoryStore())
