"""Fixtures for the tests of callbacks: each kind of store, and a real Redis."""

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

# .ci/run sets this where a redis-server is installed. Otherwise tests that need one are skipped.
REDIS_IS_REQUIRED = os.environ.get("GATEPAY_TEST_REDIS") == "required"


@pytest.fixture(scope="session")
def redis_program() -> str:
    """Return the path of redis-server. Without it, skip the test, or fail if Redis is required."""
    path = shutil.which("redis-server")
    if path is None and REDIS_IS_REQUIRED:
        pytest.fail("redis-server is not installed, but GATEPAY_TEST_REDIS=required")
    if path is None:
        pytest.skip("redis-server is not installed")
    return path


@pytest.fixture(scope="session")
def redis_server(redis_program: str) -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(dir=socket_folder()) as folder:
        server = RedisServer(Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Empty the Redis, and return its URL."""
    with Redis.from_url(redis_server.url) as redis:
        redis.flushall()
    return redis_server.url


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.slow)])
async def store(request: pytest.FixtureRequest, anyio_backend: str, tmp_path: Path) -> AsyncIterator[Store]:
    """Create a store of each kind, on each event loop that it supports."""
    new_store: Store
    if request.param == "redis":
        if anyio_backend != "asyncio":
            pytest.skip("redis-py supports asyncio only")
        new_store = RedisStore(request.getfixturevalue("redis_url"))
    else:
        new_store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "callbacks.sqlite3")
    yield new_store
    with anyio.CancelScope(shield=True):
        await new_store.aclose()


@pytest.fixture
def shop(store: Store) -> Shop:
    """Create a merchant for each kind of store."""
    return Shop(store)


@pytest.fixture
def memory_shop() -> Shop:
    """Create a merchant for tests that don't depend on the kind of store."""
    return Shop(MemoryStore())
