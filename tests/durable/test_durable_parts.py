"""Unit tests of durable uploads: stored rows, digests, the rate limiter, locks, the spool and the database."""

import importlib
import io
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
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
from gatepay_async.durable.records.results import BatchResult
from gatepay_async.durable.records.rows import JobManifest
from gatepay_async.durable.spool import writer
from gatepay_async.durable.storage import worker_locks
from gatepay_async.durable.storage.database import QueueDatabase
from gatepay_async.durable.work.rate_limiter import RateLimiter
from gatepay_async.protocol import bulk, callback_errors, errors
from gatepay_async.protocol.bulk import Chunk, ChunkOutcome, Fate
from gatepay_async.protocol.errors import GatePayError
from gatepay_async.sqlite_files import connect
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


@pytest.mark.without_coverage
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_error_survives_a_round_trip_through_json(error: GatePayError) -> None:
    """An error that is read from JSON has the same class, attributes and texts as before."""
    restored = stored_errors.of_json(json.loads(json.dumps(stored_errors.as_json(error))))
    assert (type(restored), vars(restored), str(restored)) == (type(error), vars(error), str(error))
    problems = [getattr(instance, "problem", Problem.of("")) for instance in (restored, error)]
    assert problems[0].as_json("zh") == problems[1].as_json("zh")


@rows(("row", "name"), json.loads((Path(__file__).parents[1] / "samples" / "stored_errors.json").read_text("utf-8")))
def test_errors_stored_by_older_versions_can_be_read(row: dict[str, Any], name: str) -> None:
    """Errors recorded from this version and the previous one can be read. The previous one stored no problem names."""
    restored = stored_errors.of_json(row)
    problem = vars(restored)["problem"]
    assert (type(restored).__name__, restored.args, problem.name) == (row["class"], tuple(row["says"]), name)
    assert list(problem.facts) == list(row["problem_data"]["facts"] if "problem_data" in row else ["text"])
    assert name != "other" or problem.in_("zh") == row["problem"]


def test_error_of_an_unknown_class_keeps_its_text() -> None:
    """An error whose class this version doesn't know is read as a ``GatePayError`` with the stored text."""
    restored = stored_errors.of_json({"class": "LaterError", "says": ["its text"], "more": 1})
    assert (type(restored), str(restored)) == (GatePayError, "its text")


FAILED_FATES = st.sampled_from([Fate.REFUSED, Fate.UNKNOWN, Fate.NOT_SENT])
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
    fate=FAILED_FATES,
    attempts=st.integers(0, 4),
)


@given(st.lists(STORED), st.lists(FAILED), st.booleans())
def test_batch_result_survives_a_round_trip_through_json(
    done: list[ChunkOutcome],
    rest: list[ChunkOutcome],
    has_next_run: bool,  # noqa: FBT001 -- hypothesis passes it by position
) -> None:
    """A batch result that is read from JSON equals the original."""
    run = BatchResult([*done, *rest], has_next_run=has_next_run)
    assert BatchResult.from_row(json.loads(json.dumps(run.to_row()))) == run


def test_equal_outcomes_are_stored_as_one_entry() -> None:
    """Twenty chunks with equal outcomes take one entry of seven numbers in the database."""
    chunks = [Chunk(n, tuple(range(500 * n + 1, 500 * n + 501)), ("KEY",) * 500) for n in range(20)]
    run = BatchResult([bulk.stored(chunk, count=500, attempts=1) for chunk in chunks])
    assert run.to_row() == {"done": [[0, 1, 500, 500, 500, 1, 20]]}
    assert BatchResult.from_row(run.to_row()) == run


KEYS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1, max_size=20)


@given(st.lists(KEYS, unique=True, min_size=1, max_size=40), st.integers(1, 5), st.data())
def test_spooled_card_keys_are_read_with_their_lines(keys: list[str], first: int, data: st.DataObject) -> None:
    """Card keys read from the spool have the line numbers of the input."""
    steps = data.draw(st.lists(st.integers(1, 9), min_size=len(keys) - 1, max_size=len(keys) - 1))
    lines = [first]
    for step in steps:
        lines.append(lines[-1] + step)
    pairs = list(zip(lines, keys, strict=True))
    written = b"".join(batches.lines_of(pairs, lines[0]))
    batch = Batch(
        number=3,
        offset=0,
        length=len(written),
        digest="",
        count=len(keys),
        first_line=lines[0],
        last_line=lines[-1],
    )
    [chunk] = batches.chunks_of(written, batch)
    assert (chunk.index, chunk.lines, chunk.keys) == (3 * batches.CHUNKS_PER_BATCH, tuple(lines), tuple(keys))


@given(st.lists(st.one_of(KEYS, st.just(""), st.just("bad\0key"), st.just("\x85")), max_size=60))
def test_spooled_lines_are_all_counted(lines: list[str]) -> None:
    """Each line of an input is counted in one column of the manifest, and all digests match the spooled bytes."""
    target = io.BytesIO()
    source = [f"{line}\n".encode() for line in lines]
    spooled = writer.spool(source, target, name="n", product_id=8, secret=SECRET)
    manifest = JobManifest.from_row(json.loads(json.dumps(spooled.manifest.to_row())))
    assert manifest == spooled.manifest
    refused = manifest.refused.count if manifest.refused else 0
    assert manifest.read == len(lines) == manifest.blank + manifest.duplicates + manifest.count + refused
    data = target.getvalue()
    assert (len(data), batches.keyed_digest(SECRET, data).hexdigest()) == (manifest.size, manifest.digest)
    for batch in spooled.batches:
        batch_data = data[batch.offset : batch.offset + batch.length]
        batches.check_unchanged(batch_data, batch, product_id=8, secret=SECRET, source="n")


def test_digest_depends_on_the_secret() -> None:
    """Digests with different secrets differ, so that card keys can't be guessed from the database alone."""
    assert batches.keyed_digest(b"a" * 32, b"KEY").digest() != batches.keyed_digest(b"b" * 32, b"KEY").digest()


def test_altered_or_moved_batch_is_refused() -> None:
    """A batch is refused if its bytes are cut or changed, or if its product, number or position differs."""
    without_digest = Batch(number=0, offset=0, length=3, digest="", count=1, first_line=1, last_line=1)
    batch = evolve(without_digest, digest=batches.digest_of_batch(SECRET, b"KEY", without_digest, product_id=8))
    batches.check_unchanged(b"KEY", batch, product_id=8, secret=SECRET, source="n")
    changes: list[dict[str, Any]] = [{"number": 2}, {"offset": 2}, {"count": 2}, {"first_line": 2}, {"last_line": 2}]
    changed = [evolve(batch, **change) for change in changes]
    wrong = [
        (b"KE", batch, 8),
        (b"KEX", batch, 8),
        (b"KEY", batch, 9),
        *((b"KEY", changed_batch, 8) for changed_batch in changed),
    ]
    for data, changed_batch, product_id in wrong:
        with pytest.raises(SourceChangedError, match="has changed since it was submitted"):
            batches.check_unchanged(data, changed_batch, product_id=product_id, secret=SECRET, source="n")


def test_queues_with_similar_names_use_different_spool_files() -> None:
    """The file name contains the queue's name unambiguously, so that queues can share a spool."""
    assert batches.spool_name("gatepay:2-ab") != batches.spool_name("gatepay-2:ab")


@pytest.mark.anyio
async def test_spool_refuses_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    """The spool opens only regular files, because a named pipe would block for ever. A folder raises an error."""
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
async def test_rate_limiter_spaces_calls_evenly() -> None:
    """A worker's calls are spaced by its share of the rate, also after a late call. Without a rate, no call waits."""
    now, delay = 100.0, 0.0
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds + delay

    rate_limiter = RateLimiter(Rate(50), now=lambda: now)
    rate_limiter.set_workers(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anyio, "sleep", sleep)
        await rate_limiter.acquire()
        await rate_limiter.acquire()
        delay = 5.0  # seconds by which the next sleeps are too long
        await rate_limiter.acquire()
        await rate_limiter.acquire()
        now = 200.0
        await rate_limiter.acquire()
        await RateLimiter(None).acquire()
    # Three workers share 50 calls a second, so each of them sends one every 3/50 s.
    assert slept == pytest.approx([0.0, 0.06, 0.06, 0.06, 0.0])
    assert rate_limiter.longest_wait(4) == pytest.approx(0.24)
    assert RateLimiter(None).longest_wait(4) == 0


@pytest.mark.anyio
async def test_delay_next_delays_the_next_call() -> None:
    """After ``delay_next(3)``, the next call waits 3 seconds."""
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
def database_and_engine(workspace: Workspace) -> Iterator[tuple[QueueDatabase, sa.Engine]]:
    """Yield a database and an engine for it."""
    database = QueueDatabase(workspace.database)
    engine = database.engine(connections=8)
    yield database, engine
    engine.dispose()


def test_now_is_the_databases_clock_in_utc(database_and_engine: tuple[QueueDatabase, sa.Engine]) -> None:
    """``QueueDatabase.now`` returns the time of the database's clock, in UTC."""
    database, engine = database_and_engine
    assert abs(database.now(engine) - datetime.now(UTC)) < timedelta(minutes=5)


def test_worker_lock_is_held_by_one_worker(database_and_engine: tuple[QueueDatabase, sa.Engine]) -> None:
    """A name's lock has one holder in each queue. ``check_workers`` counts live workers and returns the dead ones."""
    database, engine = database_and_engine
    first, second, in_other_queue = (database.worker_locks(engine, queue) for queue in ("a", "a", "b"))
    assert not first.is_held()
    assert first.acquire("one")
    assert first.is_held()
    assert not second.acquire("one")
    assert second.acquire("two")
    assert in_other_queue.acquire("one")
    assert first.check_workers({"one", "two", "three"}) == (2, {"three"})
    assert in_other_queue.check_workers({"one", "two"}) == (1, {"two"})
    second.release()
    second.release()  # has no effect
    assert not second.is_held()
    assert first.check_workers({"one", "two"}) == (1, {"two"})
    first.release()
    in_other_queue.release()


def test_released_lock_is_free_before_the_connection_closes(
    database_and_engine: tuple[QueueDatabase, sa.Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A released lock is free at once, even if the database hasn't noticed yet that the connection was closed."""
    database, engine = database_and_engine
    first, second = (database.worker_locks(engine, "a") for _ in range(2))
    assert first.acquire("one")
    monkeypatch.setattr(sa.Connection, "invalidate", lambda _: None)
    first.release()
    assert second.check_workers({"one"}) == (0, {"one"})
    assert second.acquire("one")
    second.release()


def test_reaper_lock_is_held_by_one_worker(database_and_engine: tuple[QueueDatabase, sa.Engine]) -> None:
    """Only one worker of a queue at a time holds the reaper lock, and so may requeue the batches of dead workers."""
    database, engine = database_and_engine
    first, second = (database.worker_locks(engine, "a") for _ in range(2))
    with first.reaper_lock() as locked:
        assert locked
        with second.reaper_lock() as locked_too:
            assert not locked_too
    with second.reaper_lock() as locked_later:
        assert locked_later


def test_worker_notices_a_lost_lock_and_can_acquire_it_again(
    workspace: Workspace, database_and_engine: tuple[QueueDatabase, sa.Engine]
) -> None:
    """If PostgreSQL ends the connection that holds the lock, ``is_held`` is false, and ``acquire`` succeeds again."""
    database, engine = database_and_engine
    if database.is_sqlite:
        pytest.skip(reason="a lock on a file is not lost")
    first = database.worker_locks(engine, "a")
    assert first.acquire("one")
    with engine.connect() as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE locktype = 'advisory' AND granted "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )
    assert not first.is_held()
    assert first.acquire("one")
    first.release()


def after_next_connect(monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]) -> None:
    """Call *change* once, between opening and locking the next lock file."""

    def connect_and_change(path: Path, *, timeout: float) -> sqlite3.Connection:
        connection = connect(path, timeout=timeout)
        monkeypatch.setattr(worker_locks, "connect", connect)
        change(path)
        return connection

    monkeypatch.setattr(worker_locks, "connect", connect_and_change)


def replace_file(path: Path) -> None:
    path.unlink()
    path.touch()


@pytest.mark.parametrize("change", [Path.unlink, replace_file])
def test_acquire_does_not_lock_a_deleted_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    """If the lock file is deleted or replaced while it is being locked, ``acquire`` locks the file that exists."""
    first, second = (worker_locks.FileWorkerLocks(tmp_path / "db", "a") for _ in range(2))
    after_next_connect(monkeypatch, change)
    assert first.acquire("one")
    assert second.check_workers({"one"}) == (1, set())
    first.release()
    monkeypatch.setattr(worker_locks, "MAX_LOCK_TRIES", 0)
    assert not first.acquire("one")


def test_check_does_not_delete_the_file_of_a_restarted_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a dead worker's successor replaces the lock file during a check, the successor counts as alive."""
    dead, checking, successor = (worker_locks.FileWorkerLocks(tmp_path / "db", "a") for _ in range(3))
    assert dead.acquire("one")
    assert dead._lock is not None
    dead._lock.close()  # as the system does when the process dies

    def restart(path: Path) -> None:
        path.unlink()
        assert successor.acquire("one")

    after_next_connect(monkeypatch, restart)
    assert checking.check_workers({"one"}) == (1, set())
    assert checking.check_workers({"one"}) == (1, set())
    successor.release()


def test_lock_file_of_a_dead_worker_is_deleted(tmp_path: Path) -> None:
    """The lock file of a dead worker is deleted. An error of the deletion is ignored."""
    first, second = (worker_locks.FileWorkerLocks(tmp_path / "db", "a") for _ in range(2))
    assert first.acquire("one")
    assert first._lock is not None
    first._lock.close()  # as the system does when the process dies
    assert len(list(tmp_path.glob("*.worker"))) == 1
    assert second.check_workers({"one"}) == (0, {"one"})
    assert not list(tmp_path.glob("*.worker"))
    worker_locks._unlink(tmp_path)  # a folder, which can't be unlinked


@pytest.mark.anyio
async def test_concurrent_callers_get_the_same_digest_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If several spools create the digest key concurrently, all of them use the same one."""
    spools = [FolderSpool(tmp_path / "a" / "b") for _ in range(8)]
    secrets = set()

    async def read_secret(spool: FolderSpool) -> None:
        secrets.add(await spool.secret())

    monkeypatch.setattr(Path, "exists", lambda _: False)  # so that all of them try to create the file
    async with anyio.create_task_group() as group:
        for spool in spools:
            group.start_soon(read_secret, spool)
    assert len(secrets) == 1
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["digest-key"]
    assert repr(spools[0]) == f"FolderSpool({str(tmp_path / 'a' / 'b')!r})"


@pytest.mark.anyio
async def test_spool_works_where_folders_cannot_be_synchronised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a system that can't synchronise a folder to disk, files can be stored, read and deleted."""
    monkeypatch.setattr("gatepay_async.durable.spool.folder._POSIX", False)
    spool = FolderSpool(tmp_path / "spool")
    await spool.put("name", io.BytesIO(b"0123456789"))
    assert await spool.read("name", 3, 4) == b"3456"
    await spool.delete("name")
    await spool.delete("name")
    with pytest.raises(SourceChangedError, match="is gone"):
        await spool.read("name", 0, 1)


def test_database_repr_contains_no_password() -> None:
    """The ``repr`` of a database doesn't contain the password of its URL."""
    assert "secret" not in repr(QueueDatabase("postgresql://user:secret@host/db"))
    assert QueueDatabase("postgres://user:secret@host/db").file is None


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_new_sqlite_file_is_private(tmp_path: Path) -> None:
    """A new SQLite file has mode 0600. The mode of an existing file isn't changed."""
    QueueDatabase(f"sqlite:///{tmp_path}/new").engine(connections=1).dispose()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    (tmp_path / "new").chmod(0o640)
    QueueDatabase(f"sqlite:///{tmp_path}/new").engine(connections=1).dispose()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_connection_returned_after_dispose_is_closed(workspace: Workspace) -> None:
    """A connection that a thread returns after ``dispose`` is closed at once, not by the garbage collector."""
    engine = QueueDatabase(workspace.database).engine(connections=2)
    late_connection = engine.connect()
    with engine.connect():
        pass
    driver_connection: Any = late_connection.connection.dbapi_connection
    engine.dispose()
    late_connection.close()
    with pytest.raises(Exception, match="closed"):
        driver_connection.execute("SELECT 1")


@pytest.mark.parametrize("version", [(3, 40, 1), (3, 42, 0)])
def test_old_sqlite_gets_a_clock_with_milliseconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...]
) -> None:
    """SQLite before 3.42 has no ``unixepoch('subsec')``: we add it, also for column defaults. 3.42 keeps its own."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    engine = QueueDatabase(f"sqlite:///{tmp_path}/new").engine(connections=1)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (a, at DEFAULT (unixepoch('subsec') * 1000))"))
        connection.execute(sa.text("INSERT INTO t (a) VALUES (1)"))
        [at] = connection.execute(sa.text("SELECT at FROM t")).scalars()
    engine.dispose()
    with closing(sqlite3.connect(":memory:")) as plain:
        [builtin] = plain.execute("SELECT unixepoch('subsec')").fetchone()
    # The SQLite that runs this test may be an old one that pretends to be 3.42: then nothing adds the milliseconds.
    assert at is None if version >= (3, 42) and builtin is None else abs(at / 1000 - time.time()) < PATIENCE


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("gatepay_async.durable", "dbos", "durable"),
        ("gatepay_async.durable", "gatepay_async.durable.storage.job_store", ""),
        ("gatepay_async.durable.objects", "obstore", "s3"),
    ],
)
def test_missing_extra_is_named_in_the_import_error(
    module: str, missing: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the extra is missing, the error says how to install it. If a module of our own is missing, it does not."""
    for name in [name for name in sys.modules if name.startswith(module)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(module)
    assert caught.value.name == missing
    assert (f"pip install 'gatepay-async[{extra}]'" in str(caught.value)) == bool(extra)
