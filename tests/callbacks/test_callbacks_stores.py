"""The callback stores: claims, commits, leases and expiry, and errors of their file or server."""

import gc
import itertools
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve
from delivering import Shop, call, query, reply_to
from redis import Redis as SyncRedis
from waiting import PATIENCE, until

from gatepay_async import InvalidRequestError, callbacks
from gatepay_async.callbacks import Claim, MemoryStore, RedisStore, SQLiteStore, Standing, Store, batch_worker

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

# The claims of three deliveries of one payment: key, token, facts, and lease in seconds. The third has other facts.
FIRST_DELIVERY = Claim("shop/1", "one", "facts", 20)
SECOND_DELIVERY = Claim("shop/1", "two", "facts", 20)
CONFLICTING_DELIVERY = Claim("shop/1", "two", "other", 20)


class Clock:
    """A clock that the test sets."""

    now = 1_555_750_250.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    new_clock = Clock()
    monkeypatch.setattr("gatepay_async.callbacks.sqlite.boot_id_and_seconds", lambda: ("boot", new_clock.now))
    return new_clock


@pytest.fixture
async def sqlite(tmp_path: Path, clock: Clock) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "callbacks.sqlite3", clock=clock)
    yield store
    with anyio.CancelScope(shield=True):
        await store.aclose()


@pytest.fixture(params=["memory", "sqlite"])
async def clocked_store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    """Create a store with the test's clock, which deletes entries older than an hour."""
    new_store: Store = MemoryStore(keep=3600, clock=clock)
    if request.param == "sqlite":
        new_store = SQLiteStore(tmp_path / "callbacks.sqlite3", keep=timedelta(hours=1), clock=clock)
    yield new_store
    with anyio.CancelScope(shield=True):
        await new_store.aclose()


@pytest.mark.without_coverage
async def test_claim_is_held_until_it_is_released(store: Store) -> None:
    """Only one token can claim a callback, until that token releases it."""
    assert await store.claim(FIRST_DELIVERY) is Standing.MINE
    assert await store.claim(SECOND_DELIVERY) is Standing.TAKEN
    assert await store.claim(Claim("shop/2", "two", "facts", 20)) is Standing.MINE
    await store.release(SECOND_DELIVERY)  # no effect: FIRST_DELIVERY holds the claim
    assert await store.claim(SECOND_DELIVERY) is Standing.TAKEN
    await store.release(FIRST_DELIVERY)
    assert await store.claim(SECOND_DELIVERY) is Standing.MINE


@pytest.mark.without_coverage
async def test_committed_callback_stays_handled(store: Store) -> None:
    """A committed callback can't be claimed, released, or committed with another token."""
    assert await store.claim(FIRST_DELIVERY) is Standing.MINE
    assert [await store.commit(FIRST_DELIVERY), await store.commit(FIRST_DELIVERY)] == [True, True]
    assert await store.claim(SECOND_DELIVERY) is Standing.HANDLED
    assert await store.claim(CONFLICTING_DELIVERY) is Standing.CONFLICT
    await store.release(FIRST_DELIVERY)
    await store.release(SECOND_DELIVERY)
    assert await store.commit(SECOND_DELIVERY) is False
    assert await store.claim(SECOND_DELIVERY) is Standing.HANDLED


async def test_only_the_holder_can_commit(store: Store) -> None:
    """While one token holds the claim, another one can't commit."""
    assert await store.claim(FIRST_DELIVERY) is Standing.MINE
    assert await store.commit(SECOND_DELIVERY) is False
    assert await store.claim(SECOND_DELIVERY) is Standing.TAKEN


@pytest.mark.without_coverage
async def test_callback_that_nobody_claims_can_be_committed(store: Store) -> None:
    """A callback without a current claim can be committed: it was handled, even if its lease has ended meanwhile."""
    assert await store.commit(FIRST_DELIVERY) is True
    assert await store.claim(SECOND_DELIVERY) is Standing.HANDLED


# The second read is inside our transaction.
@pytest.mark.parametrize(("read_number", "standing"), [(1, Standing.TAKEN), (2, Standing.MINE)])
async def test_claim_of_another_process_between_read_and_write_is_noticed(
    sqlite: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_number: int, standing: Standing
) -> None:
    """A claim that another process makes after our first read is noticed. During our transaction it can't make one."""
    monkeypatch.setattr(callbacks.sqlite_file, "LOCK_TIMEOUT_S", 0.01)
    other_store = SQLiteStore(tmp_path / "callbacks.sqlite3", clock=sqlite._clock)
    read_standing, standings = sqlite._writer()._read_standing, []
    others_results: list[object] = []

    def read_then_claim(database: sqlite3.Connection, claim: Claim) -> Standing:
        current = read_standing(database, claim)
        standings.append(current)
        if len(standings) == read_number:
            try:
                # We are in a worker thread, so we can start an event loop.
                others_results.append(anyio.run(other_store.claim, SECOND_DELIVERY))
            except sqlite3.OperationalError as error:
                others_results.append(str(error).rpartition(": ")[2])
        return current

    monkeypatch.setattr(sqlite._writer(), "_read_standing", read_then_claim)
    assert await sqlite.claim(FIRST_DELIVERY) is standing
    assert others_results == [Standing.MINE if read_number == 1 else "database is locked"]
    await other_store.aclose()


async def test_expired_claim_can_be_taken_by_another_token(clocked_store: Store, clock: Clock) -> None:
    """When a lease ends, and not earlier, another token can claim. The former holder can't commit any more."""
    assert await clocked_store.claim(FIRST_DELIVERY) is Standing.MINE
    clock.now += 19.9
    assert await clocked_store.claim(SECOND_DELIVERY) is Standing.TAKEN
    clock.now += 0.2
    assert await clocked_store.claim(SECOND_DELIVERY) is Standing.MINE
    assert await clocked_store.commit(FIRST_DELIVERY) is False
    await clocked_store.release(FIRST_DELIVERY)
    assert await clocked_store.commit(SECOND_DELIVERY) is True


async def test_handled_callbacks_are_deleted_after_the_keep_time(clocked_store: Store, clock: Clock) -> None:
    """A handled callback is remembered for the ``keep`` time and then deleted, so that the store doesn't only grow."""
    for number in range(250):
        claim = Claim(f"shop/{number}", "one", "facts", 20)
        assert await clocked_store.claim(claim) is Standing.MINE
        assert await clocked_store.commit(claim) is True
    clock.now += 3600
    assert await clocked_store.claim(Claim("shop/0", "two", "facts", 20)) is Standing.HANDLED
    clock.now += 1
    assert await clocked_store.claim(Claim("shop/0", "two", "facts", 20)) is Standing.MINE
    for number in range(300, 304):
        claim = Claim(f"shop/{number}", "one", "facts", 20)
        await clocked_store.claim(claim)
        await clocked_store.commit(claim)
    assert await count_entries(clocked_store) == 5  # shop/0, claimed again, and the four new ones


async def count_entries(store: Store) -> int:
    if isinstance(store, MemoryStore):
        return len(store._entries)
    assert isinstance(store, SQLiteStore)
    with store._writer().file.open() as database:
        return int(database.execute("SELECT count(*) FROM callback").fetchone()[0])


async def test_memory_store_keeps_claims_in_progress(clock: Clock) -> None:
    """``MemoryStore`` doesn't delete a claim whose lease hasn't ended, even if it is older than ``keep``."""
    store = MemoryStore(keep=1, clock=clock)
    slow = Claim("shop/slow", "one", "facts", 3600)
    assert await store.claim(slow) is Standing.MINE
    clock.now += 10
    await store.claim(FIRST_DELIVERY)
    await store.commit(FIRST_DELIVERY)
    assert await store.claim(Claim("shop/slow", "two", "facts", 20)) is Standing.TAKEN
    assert await store.commit(slow) is True


def test_invalid_keep_is_refused(tmp_path: Path) -> None:
    """Each store refuses a ``keep`` that isn't a duration above 0."""
    problem = "keep: must be a number of seconds above 0, a timedelta, or None"
    keeps: list[Any] = [0, -1, "1 d", float("nan"), True, timedelta()]
    stores: list[Any] = [MemoryStore, partial(SQLiteStore, tmp_path / "x"), partial(RedisStore, "redis://localhost")]
    assert [(create, keep) for create in stores for keep in keeps if problem not in error_of(create, keep=keep)] == []


def error_of(create: Callable[..., object], *arguments: object, **options: object) -> str:
    """Return the text of the ``InvalidRequestError`` that *create* raises, or "no error"."""
    try:
        create(*arguments, **options)
    except InvalidRequestError as error:
        return str(error)
    return "no error"


# --- SQLite


def test_sqlite_store_refuses_a_path_that_names_no_file() -> None:
    """``SQLiteStore`` refuses an empty path and ``:memory:``."""
    assert [path for path in ("", ":memory:") if "in memory, use MemoryStore" not in error_of(SQLiteStore, path)] == []


def test_missing_folder_is_refused_when_the_store_is_created(tmp_path: Path) -> None:
    """A missing folder raises an error when the store is created, not at the first payment."""
    with pytest.raises(InvalidRequestError, match=f"path: there is no folder {tmp_path}/nowhere"):
        SQLiteStore(tmp_path / "nowhere" / "callbacks.sqlite3")


async def test_only_the_owner_can_read_the_files(sqlite: SQLiteStore, tmp_path: Path) -> None:
    """The database and SQLite's files next to it have mode 0600."""
    await sqlite.claim(FIRST_DELIVERY)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {f"callbacks.sqlite3{suffix}": 0o600 for suffix in ("", "-wal", "-shm")}


async def test_commit_survives_closing_the_store(sqlite: SQLiteStore, tmp_path: Path) -> None:
    """A new store on the same file knows earlier commits. A store can be closed twice."""
    await sqlite.claim(FIRST_DELIVERY)
    await sqlite.commit(FIRST_DELIVERY)
    await sqlite.aclose()
    await sqlite.aclose()
    reopened = SQLiteStore(str(tmp_path / "callbacks.sqlite3"))
    assert await reopened.claim(SECOND_DELIVERY) is Standing.HANDLED
    await reopened.aclose()


async def test_commit_is_synchronous(sqlite: SQLiteStore) -> None:
    """A commit is on disk before ``commit`` returns."""
    await sqlite.claim(FIRST_DELIVERY)
    statements: list[str] = []
    with sqlite._writer().file.open() as database:
        database.set_trace_callback(statements.append)
    await sqlite.commit(FIRST_DELIVERY)
    assert statements[0] == "PRAGMA synchronous = FULL"
    assert statements[-1] == "COMMIT"


async def test_sqlite_runs_outside_the_event_loops_thread(sqlite: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite connections are opened in worker threads only, so that they don't block the event loop."""
    threads = set()
    connect = sqlite3.connect

    def connect_and_record_thread(*args: Any, **options: Any) -> sqlite3.Connection:
        threads.add(threading.get_ident())
        connection: sqlite3.Connection = connect(*args, **options)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_and_record_thread)
    await sqlite.claim(FIRST_DELIVERY)
    assert threads
    assert threading.get_ident() not in threads


def test_store_that_is_collected_closes_its_file(tmp_path: Path) -> None:
    """A store that is garbage-collected without ``aclose`` closes its file."""
    store = SQLiteStore(tmp_path / "callbacks.sqlite3")
    anyio.run(store.claim, FIRST_DELIVERY)
    file = store._writer().file
    assert file._database is not None
    del store

    async def wait_until_closed() -> None:
        # `gc.collect() >= 0` is always true: it is there to collect.
        await until(lambda: gc.collect() >= 0 and file._database is None)

    anyio.run(wait_until_closed)


async def test_closing_an_unused_store_creates_no_file(tmp_path: Path) -> None:
    """Closing a store that was never used creates no file."""
    await SQLiteStore(tmp_path / "callbacks.sqlite3").aclose()
    assert list(tmp_path.iterdir()) == []


async def test_file_that_is_no_database_fails_deliveries_until_it_is_deleted(tmp_path: Path) -> None:
    """If the file is no database, deliveries fail with its path. Once it is deleted, payments are handled."""
    path = tmp_path / "callbacks.sqlite3"
    path.write_bytes(b"not a database" * 500)
    store = SQLiteStore(path)
    shop = Shop(store)
    app = shop.app()
    assert (await call(app, query())).status == 500
    assert isinstance(shop.events[0].error, sqlite3.DatabaseError)
    assert str(shop.events[0].error) == f"{path}: file is not a database"
    path.unlink()
    assert await reply_to(app, query()) == "success"
    await store.aclose()


async def test_overwritten_file_fails_deliveries(sqlite: SQLiteStore, tmp_path: Path) -> None:
    """If the file is overwritten with garbage, deliveries fail; none is answered with success."""
    shop = Shop(sqlite)
    app = shop.app()
    assert await reply_to(app, query()) == "success"
    await sqlite.aclose()
    path = tmp_path / "callbacks.sqlite3"
    # Keep the first page, so that SQLite still recognises the file as a database.
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096))
    assert [await reply_to(app, received) for received in (query(), query(order_id="1"))] == ["fail", "fail"]
    assert all(isinstance(event.error, sqlite3.DatabaseError) for event in shop.events[1:])
    assert len(shop.handled) == 1


async def test_delivery_fails_while_the_disk_is_full(sqlite: SQLiteStore) -> None:
    """If the claim can't be written because the disk is full, the delivery fails unhandled. With space, it succeeds."""
    shop = Shop(sqlite)
    await fill_database(sqlite)
    app = shop.app()
    answer = await call(app, query())
    assert (answer.status, answer.body) == (500, b"fail")
    assert "database or disk is full" in str(shop.events[0].error)
    assert shop.handled == []
    # The store has reopened the file, and the new connection has no page limit.
    assert await reply_to(app, query()) == "success"


async def fill_database(sqlite: SQLiteStore) -> None:
    """Forbid SQLite to add pages, and fill the existing ones with rows."""
    with sqlite._writer().file.open() as database:
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}")
        with suppress(sqlite3.OperationalError):
            for number in itertools.count():
                row = (f"x{number}", "t", "f" * 50, 0.0)
                database.execute("INSERT INTO callback (key, token, facts, at) VALUES (?, ?, ?, ?)", row)


async def test_delivery_fails_if_the_commit_cannot_be_written(sqlite: SQLiteStore) -> None:
    """If the commit can't be written, the delivery fails, though the handler has run."""
    shop = Shop(sqlite)

    async def handler(callback: Any) -> None:
        await shop.handle(callback)
        with sqlite._writer().file.open() as database:
            database.execute("PRAGMA query_only = ON")

    assert (await call(shop.app(handler), query())).status == 500
    assert "readonly" in str(shop.events[0].error)
    assert shop.event_kinds == ["failed"]


@pytest.mark.parametrize("kind", ["folder", "broken link"])
async def test_path_that_cannot_be_opened_fails_deliveries(tmp_path: Path, kind: str) -> None:
    """If the path can't be opened when a callback comes, deliveries fail, and the event has the system's error."""
    path = tmp_path / "callbacks.sqlite3"
    shop = Shop(SQLiteStore(path))
    path.mkdir() if kind == "folder" else path.symlink_to(tmp_path / "no" / "where")
    assert (await call(shop.app(), query())).status == 500
    assert isinstance(shop.events[0].error, OSError)


async def test_delivery_fails_while_another_program_locks_the_file(
    sqlite: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another program keeps the file locked, a new delivery fails after the lock timeout."""
    monkeypatch.setattr(callbacks.sqlite_file, "LOCK_TIMEOUT_S", 0.01)
    shop = Shop(sqlite)
    assert await reply_to(shop.app(), query(order_id="1")) == "success"
    await sqlite.aclose()
    other_program = sqlite3.connect(tmp_path / "callbacks.sqlite3", isolation_level=None)
    other_program.execute("BEGIN IMMEDIATE")
    assert await reply_to(shop.app(), query()) == "fail"
    assert await reply_to(shop.app(), query(order_id="1")) == "success"  # a repeated delivery only reads
    other_program.execute("ROLLBACK")
    assert await reply_to(shop.app(), query()) == "success"
    other_program.close()
    assert shop.event_kinds == ["handled", "failed", "repeated", "handled"]


async def test_claim_of_a_cancelled_delivery_is_not_written(sqlite: SQLiteStore) -> None:
    """If a delivery is cancelled before the worker thread writes its claim, the claim isn't written."""
    with sqlite._writer().file._lock:  # so that the worker thread has to wait
        async with anyio.create_task_group() as group:
            group.start_soon(sqlite.claim, FIRST_DELIVERY)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert await sqlite.claim(SECOND_DELIVERY) is Standing.MINE


async def test_waiting_commits_share_one_transaction(sqlite: SQLiteStore) -> None:
    """Commits that wait for the worker thread are written in one transaction, and each caller gets its own result."""
    claims = [Claim(f"shop/{number}", "one", "facts", 20) for number in range(40)]
    results: dict[str, bool] = {}

    async def commit(claim: Claim) -> None:
        results[claim.key] = await sqlite.commit(claim)

    await sqlite.claim(evolve(claims[0], token="two"))
    statements: list[str] = []
    async with anyio.create_task_group() as group:
        with sqlite._writer().file.open() as database:  # so that the worker thread has to wait
            database.set_trace_callback(statements.append)
            for claim in claims:
                group.start_soon(commit, claim)
            await anyio.wait_all_tasks_blocked()
            assert results == {}
    assert results == {claim.key: claim is not claims[0] for claim in claims}
    assert statements.count("COMMIT") <= 2  # two, if the worker thread took the first request before the others arrived


async def test_error_of_one_operation_does_not_affect_others(sqlite: SQLiteStore) -> None:
    """An operation whose values SQLite can't store fails alone. Others in the same transaction are written."""
    unsupported: Any = {"a": "dict"}
    bad_claim, bad_commit = evolve(FIRST_DELIVERY, key=unsupported), evolve(FIRST_DELIVERY, facts=unsupported)
    outcomes: list[str] = []

    async def run(operation: Callable[[Claim], Awaitable[object]], claim: Claim) -> None:
        try:
            outcomes.append(f"{claim.key} {await operation(claim)}")
        except sqlite3.Error:
            outcomes.append("error")

    async with anyio.create_task_group() as group:
        with sqlite._writer().file.open():
            group.start_soon(run, sqlite.commit, FIRST_DELIVERY)
            group.start_soon(run, sqlite.commit, bad_commit)
            group.start_soon(run, sqlite.claim, bad_claim)
            group.start_soon(run, sqlite.commit, evolve(FIRST_DELIVERY, key="shop/3"))
            await anyio.wait_all_tasks_blocked()
    assert sorted(outcomes) == ["error", "error", "shop/1 True", "shop/3 True"]
    assert await sqlite.claim(SECOND_DELIVERY) is Standing.HANDLED


async def test_locked_file_fails_writes_but_not_reads(
    sqlite: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another program has locked the file, a claim that only reads succeeds. A commit in the same batch fails."""
    monkeypatch.setattr(callbacks.sqlite_file, "LOCK_TIMEOUT_S", 0.01)
    await sqlite.commit(FIRST_DELIVERY)
    other_program = sqlite3.connect(tmp_path / "callbacks.sqlite3", isolation_level=None)
    other_program.execute("BEGIN IMMEDIATE")
    standings: list[Standing] = []

    async def read() -> None:
        standings.append(await sqlite.claim(SECOND_DELIVERY))

    async def write() -> None:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            await sqlite.commit(evolve(FIRST_DELIVERY, key="shop/2"))

    async with anyio.create_task_group() as group:
        with sqlite._writer().file.open():
            group.start_soon(read)
            group.start_soon(write)
            await anyio.wait_all_tasks_blocked()
    assert standings == [Standing.HANDLED]
    other_program.close()


async def test_idle_worker_thread_ends_and_is_restarted(sqlite: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker thread ends after an idle time. The next callback starts a new one."""
    monkeypatch.setattr(batch_worker, "_IDLE_TIMEOUT_S", 0.01)
    for _ in range(2):
        await sqlite.claim(FIRST_DELIVERY)
        await until(lambda: not sqlite._writer()._worker._is_running)
    assert await sqlite.claim(SECOND_DELIVERY) is Standing.TAKEN


def test_waking_a_caller_whose_event_loop_has_ended_is_ignored() -> None:
    """Waking a caller whose event loop has ended raises no error."""

    async def create_pending() -> batch_worker.Pending[None]:
        return batch_worker.Pending(None)

    for backend in ("asyncio", "trio"):
        batch_worker.wake_callers([anyio.run(create_pending, backend=backend)])


FORK_PROGRAM = """
import anyio, os, sys
from gatepay_async.callbacks import Claim, SQLiteStore
store = SQLiteStore(sys.argv[1])
first, second, third = (Claim(f"shop/{n}", "token", "facts", 20) for n in range(3))
anyio.run(store.claim, first)
(parent,) = store._writers
if not os.fork():
    assert anyio.run(store.claim, first).name == "TAKEN"
    assert anyio.run(store.claim, second).name == "MINE"
    assert set(store._writers) == {parent, os.getpid()}
    anyio.run(store.aclose)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
assert anyio.run(store.claim, second).name == "TAKEN"
assert anyio.run(store.claim, third).name == "MINE"
anyio.run(store.aclose)
print("passed")
"""


def test_store_works_in_both_processes_after_a_fork(tmp_path: Path) -> None:
    """After a fork, parent and child each use their own connection and see each other's claims."""
    command = [
        sys.executable,
        "-W",
        "ignore::DeprecationWarning",
        "-c",
        FORK_PROGRAM,
        str(tmp_path / "callbacks.sqlite3"),
    ]
    finished = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    assert (finished.returncode, finished.stdout) == (0, b"passed\n"), finished.stderr.decode()


TOKENS_SCRIPT = """
import ctypes, os
from gatepay_async.callbacks.tokens import new_token
receiving, sending = os.pipe()
new_token()
if not ctypes.PyDLL(None).fork():  # as uWSGI forks, without Python's os.fork()
    os.write(sending, new_token().encode())
    os._exit(0)
os.wait()
child, parent = os.read(receiving, 100).decode(), [new_token(), new_token()]
assert len({child, *parent}) == 3, "two tokens are equal"
print("passed")
"""


def test_tokens_differ_after_a_fork_in_c() -> None:
    """A process and its fork make different tokens, even if the fork is made without Python."""
    finished = subprocess.run([sys.executable, "-c", TOKENS_SCRIPT], capture_output=True, timeout=PATIENCE, check=False)
    assert (finished.returncode, finished.stdout) == (0, b"passed\n"), finished.stderr.decode()


# --- Redis


def test_redis_store_refuses_what_is_no_asyncio_client() -> None:
    """A blocking Redis client, or an object that is no client, is refused when the store is created."""
    clients: list[Any] = [SyncRedis(), None, 7]
    problem = "redis: must be a client of redis.asyncio, or a URL"
    assert [client for client in clients if problem not in error_of(RedisStore, client)] == []


class MissingModule:
    """An import hook that raises ``ModuleNotFoundError`` for one module."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, *_: object) -> None:
        if name == self._name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("redis", r"RedisStore needs redis: pip install 'gatepay-async\[redis\]'"),
        ("redis.asyncio", r"No module named 'redis\.asyncio'"),
    ],
)
def test_importing_redis_store_without_redis_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, missing: str, message: str
) -> None:
    """Without redis, the import error says what to install. If only a module of redis is missing, it names that."""
    for name in ("gatepay_async.callbacks.redis_store", "redis.asyncio", missing):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [MissingModule(missing), *sys.meta_path])
    with pytest.raises(ImportError, match=message):
        callbacks.__getattr__("RedisStore")


def test_unknown_name_of_the_package_raises_attribute_error() -> None:
    """Accessing a name that ``gatepay_async.callbacks`` doesn't have raises ``AttributeError``."""
    with pytest.raises(AttributeError, match="no attribute 'FileStore'"):
        callbacks.__getattr__("FileStore")
