"""The parts of durable uploads, each by itself."""

import importlib
import io
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa
from attrs import evolve
from durable_workspace import Workspace
from hypothesis import given
from hypothesis import strategies as st
from tables import rows
from waiting import PATIENCE

from gatepay_async.durable import FolderSpool, Rate, SourceChangedError
from gatepay_async.durable.errors import DurableError
from gatepay_async.durable.records import batches, stored_errors
from gatepay_async.durable.records.batches import Batch
from gatepay_async.durable.records.manifest import JobManifest
from gatepay_async.durable.records.results import BatchResult
from gatepay_async.durable.spool import writer
from gatepay_async.durable.storage import worker_locks
from gatepay_async.durable.storage.database import Database
from gatepay_async.durable.work.rate_limiter import RateLimiter
from gatepay_async.protocol import bulk, callback_errors, errors
from gatepay_async.protocol.bulk import Chunk, ChunkOutcome, Fate
from gatepay_async.protocol.errors import GatePayError
from gatepay_async.words.problem import Problem

pytestmark = pytest.mark.sockets

SECRET = b"s" * 32

ERRORS = [
    errors.InvalidRequestError(field="keys", problem=Problem("line", line=3, problem=Problem("nul"))),
    errors.SignatureRejectedError(code=106, message="签名错误", endpoint="ka/create", attempts=2, in_doubt=True),
    errors.StorageFailedError(
        code=113, message="", endpoint="ka/create", time=datetime.fromisoformat("2026-11-23T10:00:00+00:00")
    ),
    errors.RefusedError(code=999, message="?", endpoint="ka/create"),
    errors.ProtocolError(endpoint="ka/create", http_status=502, problem="is HTML", excerpt="<html>", retry_after=3.0),
    errors.ProtocolError(endpoint="ka/create", http_status=200, problem="is cut", path="data"),
    errors.TransportError(endpoint="ka/create", sent=True, problem="cut off", attempts=4),
    errors.TransportError(endpoint="ka/create", sent=True, problem=Problem("no_whole_reply", seconds=2.5)),
    errors.DeadlineExceededError(endpoint="ka/create", sent=False, problem="too late"),
    callback_errors.CallbackSignatureError(problem="not signed"),
    DurableError(problem="it was cancelled"),
    SourceChangedError(source="keys", problem="is gone"),
    GatePayError("something else"),
]


@pytest.mark.uncounted
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_as_json(error: GatePayError) -> None:
    """An error comes back from JSON as it was: its class, its manifest, its words."""
    back = stored_errors.of_json(json.loads(json.dumps(stored_errors.as_json(error))))
    assert (type(back), vars(back), str(back)) == (type(error), vars(error), str(error))
    problems = [getattr(each, "problem", Problem.of("")) for each in (back, error)]
    assert problems[0].as_json("zh") == problems[1].as_json("zh")


@rows(("row", "name"), json.loads((Path(__file__).parents[1] / "samples" / "stored_errors.json").read_text("utf-8")))
def test_recorded_errors(row: dict[str, Any], name: str) -> None:
    """Rows that this version, and the one before it, have stored can be read. The older ones have no names."""
    back = stored_errors.of_json(row)
    problem = vars(back)["problem"]
    assert (type(back).__name__, back.args, problem.name) == (row["class"], tuple(row["says"]), name)
    assert list(problem.facts) == list(row["problem_data"]["facts"] if "problem_data" in row else ["text"])
    assert name != "other" or problem.in_("zh") == row["problem"]


def test_an_error_of_a_later_version() -> None:
    """An error of a class that this version doesn't know keeps its words."""
    back = stored_errors.of_json({"class": "LaterError", "says": ["what it said"], "more": 1})
    assert (type(back), str(back)) == (GatePayError, "what it said")


FATES = st.sampled_from([Fate.REFUSED, Fate.UNKNOWN, Fate.NOT_SENT])
STORED = st.builds(
    ChunkOutcome,
    index=st.integers(0, 50),
    first_line=st.integers(1, 10**6),
    last_line=st.integers(1, 10**6),
    count=st.integers(1, 500),
    fate=st.just(Fate.STORED),
    stored=st.none() | st.integers(0, 500),
    attempts=st.integers(1, 4),
)
FAILED = st.builds(
    ChunkOutcome,
    index=st.integers(0, 50),
    first_line=st.integers(1, 10**6),
    last_line=st.integers(1, 10**6),
    count=st.integers(1, 500),
    fate=FATES,
    attempts=st.integers(0, 4),
)


@given(st.lists(STORED), st.lists(FAILED), st.booleans())
def test_runs_as_rows(done: list[ChunkOutcome], rest: list[ChunkOutcome], follows: bool) -> None:  # noqa: FBT001 -- hypothesis gives it
    """A run comes back from JSON as it was."""
    run = BatchResult([*done, *rest], follows=follows)
    assert BatchResult.from_row(json.loads(json.dumps(run.to_row()))) == run


def test_twenty_alike_are_one_entry() -> None:
    """A batch that went well takes a few numbers in the database."""
    chunks = [Chunk(n, tuple(range(500 * n + 1, 500 * n + 501)), ("KEY",) * 500) for n in range(20)]
    run = BatchResult([bulk.stored(chunk, count=500, attempts=1) for chunk in chunks])
    assert run.to_row() == {"done": [[0, 1, 500, 500, 500, 1, 20]]}
    assert BatchResult.from_row(run.to_row()) == run


KEYS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1, max_size=20)


@given(st.lists(KEYS, unique=True, min_size=1, max_size=40), st.integers(1, 5), st.data())
def test_keys_come_back(keys: list[str], first: int, data: st.DataObject) -> None:
    """What lies in the spool comes back with the lines that it stood in."""
    steps = data.draw(st.lists(st.integers(1, 9), min_size=len(keys) - 1, max_size=len(keys) - 1))
    lines = [first]
    for step in steps:
        lines.append(lines[-1] + step)
    pairs = list(zip(lines, keys, strict=True))
    written = b"".join(batches.lines_of(pairs, lines[0]))
    [chunk] = batches.chunks_of(written, Batch(3, 0, len(written), "", len(keys), lines[0], lines[-1]))
    assert (chunk.index, chunk.lines, chunk.keys) == (3 * batches.CHUNKS_PER_BATCH, tuple(lines), tuple(keys))


@given(st.lists(st.one_of(KEYS, st.just(""), st.just("bad\0key"), st.just("\x85")), max_size=60))
def test_spooled_as_uploaded(lines: list[str]) -> None:
    """A submission reads, cleans and deduplicates as a plain upload does; every line is accounted for."""
    target = io.BytesIO()
    source = [f"{line}\n".encode() for line in lines]
    spooled = writer.spool(source, target, name="n", product_id=8, secret=SECRET)
    manifest = JobManifest.from_row(json.loads(json.dumps(spooled.manifest.to_row())))
    assert manifest == spooled.manifest
    refused = manifest.refused.count if manifest.refused else 0
    assert manifest.read == len(lines) == manifest.blank + manifest.duplicates + manifest.count + refused
    data = target.getvalue()
    assert (len(data), batches.digest(SECRET, data)) == (manifest.size, manifest.digest)
    for batch in spooled.batches:
        own = data[batch.offset : batch.offset + batch.length]
        batches.check(own, batch, product_id=8, secret=SECRET, source="n")


def test_digests_need_the_key() -> None:
    """What stands in the database of a card key can't be tried without what lies in the spool."""
    assert batches.digest(b"a" * 32, b"KEY") != batches.digest(b"b" * 32, b"KEY")


def test_not_what_was_put_aside() -> None:
    """Bytes that are too few, or others, for another product, or in another place, are not accepted."""
    bare = Batch(0, 0, 3, "", 1, 1, 1)
    batch = evolve(bare, digest=batches.digest_of_batch(SECRET, b"KEY", bare, product_id=8))
    batches.check(b"KEY", batch, product_id=8, secret=SECRET, source="n")
    places: list[dict[str, Any]] = [{"number": 2}, {"offset": 2}, {"count": 2}, {"first_line": 2}, {"last_line": 2}]
    moved = [evolve(batch, **place) for place in places]
    wrong = [(b"KE", batch, 8), (b"KEX", batch, 8), (b"KEY", batch, 9), *((b"KEY", other, 8) for other in moved)]
    for data, other, product_id in wrong:
        with pytest.raises(SourceChangedError, match="has changed since it was submitted"):
            batches.check(data, other, product_id=product_id, secret=SECRET, source="n")


def test_no_queue_names_the_files_of_another() -> None:
    """Queues that share a spool have files of their own, whatever their names."""
    assert batches.spool_name("gatepay:2-ab") != batches.spool_name("gatepay-2:ab")


@pytest.mark.anyio
async def test_no_regular_file(tmp_path: Path) -> None:
    """Something else in the place of a file of the spool is refused; a named pipe would be waited for for ever."""
    spool = FolderSpool(tmp_path / "spool")
    await spool.secret()
    (tmp_path / "spool" / "some.keys").mkdir()
    with pytest.raises(DurableError, match="is not a regular file"):
        await spool.read("some.keys", 0, 1)
    (tmp_path / "spool" / "digest-key").unlink()
    (tmp_path / "spool" / "digest-key").mkdir()
    with pytest.raises(DurableError, match="is not a regular file"):
        await spool.secret()


@pytest.mark.anyio
async def test_evenly_spaced() -> None:
    """Calls of a worker are spaced by its share of the rate, also after one that came late; without one, none waits."""
    now, late = 100.0, 0.0
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds + late

    rate_limiter = RateLimiter(Rate(50), now=lambda: now)
    rate_limiter.set_workers(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anyio, "sleep", sleep)
        await rate_limiter.acquire()
        await rate_limiter.acquire()
        late = 5.0
        await rate_limiter.acquire()
        await rate_limiter.acquire()
        now = 200.0
        await rate_limiter.acquire()
        await RateLimiter(None).acquire()
    assert slept == pytest.approx([0.0, 0.06, 0.06, 0.06, 0.0])
    assert rate_limiter.longest_wait(4) == pytest.approx(0.24)
    assert RateLimiter(None).longest_wait(4) == 0


@pytest.mark.anyio
async def test_held() -> None:
    """A worker that is told to hold makes its next call when that time is over."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    rate_limiter = RateLimiter(Rate(50), now=lambda: 100.0)
    rate_limiter.delay_next(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anyio, "sleep", sleep)
        await rate_limiter.acquire()
    assert slept == [3.0]


@pytest.fixture
def kept(workspace: Workspace) -> Iterator[tuple[Database, sa.Engine]]:
    """A database, with an engine."""
    database = Database(workspace.database)
    engine = database.engine(connections=8)
    yield database, engine
    engine.dispose()


def test_the_clock(kept: tuple[Database, sa.Engine]) -> None:
    """The clock that counts is the database's, in UTC."""
    database, engine = kept
    assert abs(database.now(engine) - datetime.now(UTC)) < timedelta(minutes=5)


def test_presence(kept: tuple[Database, sa.Engine]) -> None:
    """Who is there is told from who is not, by everybody; nobody can be there twice."""
    database, engine = kept
    one, two, other = (database.worker_locks(engine, queue) for queue in ("a", "a", "b"))
    assert not one.is_held()
    assert one.acquire("one")
    assert one.is_held()
    assert not two.acquire("one")
    assert two.acquire("two")
    assert other.acquire("one")
    assert one.check_workers({"one", "two", "three"}) == (2, {"three"})
    assert other.check_workers({"one", "two"}) == (1, {"two"})
    two.release()
    two.release()
    assert not two.is_held()
    assert one.check_workers({"one", "two"}) == (1, {"two"})
    one.release()
    other.release()


def test_gone_at_once(kept: tuple[Database, sa.Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has left is there no more, however long the database takes to notice that a connection was closed."""
    database, engine = kept
    one, two = (database.worker_locks(engine, "a") for _ in range(2))
    assert one.acquire("one")
    monkeypatch.setattr(sa.Connection, "invalidate", lambda _: None)
    one.release()
    assert two.check_workers({"one"}) == (0, {"one"})
    assert two.acquire("one")
    two.release()


def test_alone(kept: tuple[Database, sa.Engine]) -> None:
    """One at a time looks after what the dead have left."""
    database, engine = kept
    one, two = (database.worker_locks(engine, "a") for _ in range(2))
    with one.reaper_lock() as first:
        assert first
        with two.reaper_lock() as second:
            assert not second
    with two.reaper_lock() as third:
        assert third


def test_the_lock_is_lost(workspace: Workspace, kept: tuple[Database, sa.Engine]) -> None:
    """Who has lost the connection that says that it is there knows it, and can come back."""
    database, engine = kept
    if database.is_sqlite:
        pytest.skip(reason="a lock on a file is not lost")
    one = database.worker_locks(engine, "a")
    assert one.acquire("one")
    with engine.connect() as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE locktype = 'advisory' AND granted "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )
    assert not one.is_held()
    assert one.acquire("one")
    one.release()


def test_cleared_away_under_its_hands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose file is taken for a dead one's while it is opened makes another."""
    lock = worker_locks._lock_file
    harm = [1]

    def locked(path: Path, *, wait: float = 0) -> sqlite3.Connection | None:
        found = lock(path, wait=wait)
        if harm.pop() if harm else 0:
            path.unlink()
        return found

    monkeypatch.setattr(worker_locks, "_lock_file", locked)
    one = worker_locks.FileWorkerLocks(tmp_path / "db", "a")
    assert one.acquire("one")
    assert one.check_workers({"one"}) == (1, set())
    one.release()
    monkeypatch.setattr(worker_locks, "MAX_LOCK_TRIES", 0)
    assert not one.acquire("one")


def test_what_the_dead_leave(tmp_path: Path) -> None:
    """The file of a dead worker is cleared away; one that the system won't give is left."""
    one, two = (worker_locks.FileWorkerLocks(tmp_path / "db", "a") for _ in range(2))
    assert one.acquire("one")
    assert one._lock is not None
    one._lock.close()  # as the system does when it dies
    assert len(list(tmp_path.glob("*.worker"))) == 1
    assert two.check_workers({"one"}) == (0, {"one"})
    assert not list(tmp_path.glob("*.worker"))
    worker_locks._unlink(tmp_path)


@pytest.mark.anyio
async def test_one_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the digests is made once, also when several ask at once, and is its owner's only."""
    spools = [FolderSpool(tmp_path / "a" / "b") for _ in range(8)]
    found = set()

    async def ask(spool: FolderSpool) -> None:
        found.add(await spool.secret())

    monkeypatch.setattr(Path, "exists", lambda _: False)  # none finds it; all make one
    async with anyio.create_task_group() as group:
        for spool in spools:
            group.start_soon(ask, spool)
    assert len(found) == 1
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["digest-key"]
    assert repr(spools[0]) == f"FolderSpool({str(tmp_path / 'a' / 'b')!r})"


@pytest.mark.anyio
async def test_a_spool_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a folder can't be synchronised, a file is put there all the same."""
    monkeypatch.setattr("gatepay_async.durable.spool.folder._POSIX", False)
    spool = FolderSpool(tmp_path / "spool")
    await spool.put("name", io.BytesIO(b"0123456789"))
    assert await spool.read("name", 3, 4) == b"3456"
    await spool.delete("name")
    await spool.delete("name")
    with pytest.raises(SourceChangedError, match="is gone"):
        await spool.read("name", 0, 1)


def test_a_database_shows_no_password() -> None:
    """The password of a database is in no repr."""
    assert "secret" not in repr(Database("postgresql://user:secret@host/db"))
    assert Database("postgres://user:secret@host/db").file is None


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_new_database_is_its_owners(tmp_path: Path) -> None:
    """A SQLite file that is made here is its owner's only; one that is there is left as it is."""
    Database(f"sqlite:///{tmp_path}/new").engine(connections=1).dispose()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    (tmp_path / "new").chmod(0o640)
    Database(f"sqlite:///{tmp_path}/new").engine(connections=1).dispose()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_given_back_late(workspace: Workspace) -> None:
    """A connection that a thread gives back after the end is closed, and not left to be collected."""
    engine = Database(workspace.database).engine(connections=2)
    late = engine.connect()
    with engine.connect():
        pass
    own: Any = late.connection.dbapi_connection
    engine.dispose()
    late.close()
    with pytest.raises(Exception, match="closed"):
        own.execute("SELECT 1")


@pytest.mark.parametrize("version", [(3, 40, 1), (3, 42, 0)])
def test_the_clock_of_an_old_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...]) -> None:
    """A SQLite that knows no milliseconds is given them, in the defaults of columns, too; a newer one keeps its own."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    engine = Database(f"sqlite:///{tmp_path}/new").engine(connections=1)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (a, at DEFAULT (unixepoch('subsec') * 1000))"))
        connection.execute(sa.text("INSERT INTO t (a) VALUES (1)"))
        [at] = connection.execute(sa.text("SELECT at FROM t")).scalars()
    engine.dispose()
    with closing(sqlite3.connect(":memory:")) as own:
        [knows] = own.execute("SELECT unixepoch('subsec')").fetchone()
    assert at is None if version >= (3, 42) and knows is None else abs(at / 1000 - time.time()) < PATIENCE


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("gatepay_async.durable", "dbos", "durable"),
        ("gatepay_async.durable", "gatepay_async.durable.storage.job_store", ""),
        ("gatepay_async.durable.objects", "obstore", "s3"),
    ],
)
def test_without_the_extra(module: str, missing: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the extra is missing, the error says how to install it. If a module of our own is missing, it does not."""
    for name in [name for name in sys.modules if name.startswith(module)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(module)
    assert caught.value.name == missing
    assert (f"pip install 'gatepay-async[{extra}]'" in str(caught.value)) == bool(extra)
