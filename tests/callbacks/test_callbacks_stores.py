"""The stores by themselves: claims, leases, fencing, forgetting; what each does when its medium fails."""

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
from delivering import Shop, call, query, word
from redis import Redis as SyncRedis
from waiting import PATIENCE, until

from gatepay_async import InvalidRequestError, callbacks
from gatepay_async.callbacks import Claim, MemoryStore, RedisStore, SQLiteStore, Standing, Store, batch_worker

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

ONE = Claim("shop/1", "one", "facts", 20)
TWO = Claim("shop/1", "two", "facts", 20)
OTHER = Claim("shop/1", "two", "other", 20)


class Clock:
    """Set by hand."""

    now = 1_555_750_250.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    it = Clock()
    monkeypatch.setattr("gatepay_async.callbacks.sqlite.since_boot", lambda: ("boot", it.now))
    return it


@pytest.fixture
async def sqlite(tmp_path: Path, clock: Clock) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "callbacks.sqlite3", clock=clock)
    yield store
    with anyio.CancelScope(shield=True):
        await store.aclose()


@pytest.fixture(params=["memory", "sqlite"])
async def timed(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    """The stores that go by a clock of ours, which forget what is older than an hour."""
    made: Store = MemoryStore(keep=3600, clock=clock)
    if request.param == "sqlite":
        made = SQLiteStore(tmp_path / "callbacks.sqlite3", keep=timedelta(hours=1), clock=clock)
    yield made
    with anyio.CancelScope(shield=True):
        await made.aclose()


@pytest.mark.uncounted
async def test_a_claim(store: Store) -> None:
    """A callback is claimed by one alone, until it is released."""
    assert await store.claim(ONE) is Standing.MINE
    assert await store.claim(TWO) is Standing.TAKEN
    assert await store.claim(Claim("shop/2", "two", "facts", 20)) is Standing.MINE
    await store.release(TWO)  # not its to release
    assert await store.claim(TWO) is Standing.TAKEN
    await store.release(ONE)
    assert await store.claim(TWO) is Standing.MINE


@pytest.mark.uncounted
async def test_a_commit(store: Store) -> None:
    """What is committed stays: it is neither claimed, nor released, nor committed again by another."""
    assert await store.claim(ONE) is Standing.MINE
    assert [await store.commit(ONE), await store.commit(ONE)] == [True, True]
    assert await store.claim(TWO) is Standing.HANDLED
    assert await store.claim(OTHER) is Standing.CONFLICT
    await store.release(ONE)
    await store.release(TWO)
    assert await store.commit(TWO) is False
    assert await store.claim(TWO) is Standing.HANDLED


async def test_a_commit_by_another(store: Store) -> None:
    """Whoever doesn't hold the claim can't commit over the one who does."""
    assert await store.claim(ONE) is Standing.MINE
    assert await store.commit(TWO) is False
    assert await store.claim(TWO) is Standing.TAKEN


@pytest.mark.uncounted
async def test_a_commit_of_what_nobody_holds(store: Store) -> None:
    """A claim that ended, and that nobody has taken up, can still be committed: it was handled."""
    assert await store.commit(ONE) is True
    assert await store.claim(TWO) is Standing.HANDLED


@pytest.mark.parametrize(("look", "standing"), [(1, Standing.TAKEN), (2, Standing.MINE)])
async def test_another_process_in_between(
    sqlite: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: int, standing: Standing
) -> None:
    """Another process that claims between looking and writing is noticed; within the transaction it can't."""
    monkeypatch.setattr(callbacks.sqlite_file, "_LOCK_TIMEOUT_S", 0.01)
    other = SQLiteStore(tmp_path / "callbacks.sqlite3", clock=sqlite._clock)
    stand, looks = sqlite._writer()._read_standing, []
    theirs: list[object] = []

    def watched(database: sqlite3.Connection, claim: Claim) -> Standing:
        found = stand(database, claim)
        looks.append(found)
        if len(looks) == look:
            try:
                theirs.append(anyio.run(other.claim, TWO))  # this is a thread of its own
            except sqlite3.OperationalError as error:
                theirs.append(str(error))
        return found

    monkeypatch.setattr(sqlite._writer(), "_read_standing", watched)
    assert await sqlite.claim(ONE) is standing
    assert theirs == [Standing.MINE if look == 1 else "database is locked"]
    await other.aclose()


async def test_a_lease_ends(timed: Store, clock: Clock) -> None:
    """A claim whose holder died is anybody's when its lease ends, and no earlier; the old holder has lost it."""
    assert await timed.claim(ONE) is Standing.MINE
    clock.now += 19.9
    assert await timed.claim(TWO) is Standing.TAKEN
    clock.now += 0.2
    assert await timed.claim(TWO) is Standing.MINE
    assert await timed.commit(ONE) is False
    await timed.release(ONE)
    assert await timed.commit(TWO) is True


async def test_forgetting(timed: Store, clock: Clock) -> None:
    """What was handled is remembered for as long as was asked for, and then forgotten: a store doesn't only grow."""
    for number in range(250):
        claim = Claim(f"shop/{number}", "one", "facts", 20)
        assert await timed.claim(claim) is Standing.MINE
        assert await timed.commit(claim) is True
    clock.now += 3600
    assert await timed.claim(Claim("shop/0", "two", "facts", 20)) is Standing.HANDLED
    clock.now += 1
    assert await timed.claim(Claim("shop/0", "two", "facts", 20)) is Standing.MINE
    for number in range(300, 304):
        claim = Claim(f"shop/{number}", "one", "facts", 20)
        await timed.claim(claim)
        await timed.commit(claim)
    assert await size_of(timed) == 5


async def size_of(store: Store) -> int:
    if isinstance(store, MemoryStore):
        return len(store._entries)
    assert isinstance(store, SQLiteStore)
    with store._writer().file.open() as database:
        return int(database.execute("SELECT count(*) FROM callback").fetchone()[0])


async def test_forgetting_leaves_claims(clock: Clock) -> None:
    """In memory a claim under way is not forgotten, however old the rest is."""
    store = MemoryStore(keep=1, clock=clock)
    slow = Claim("shop/slow", "one", "facts", 3600)
    assert await store.claim(slow) is Standing.MINE
    clock.now += 10
    await store.claim(ONE)
    await store.commit(ONE)
    assert await store.claim(Claim("shop/slow", "two", "facts", 20)) is Standing.TAKEN
    assert await store.commit(slow) is True


def test_a_keep_that_is_no_time(tmp_path: Path) -> None:
    """How long to remember is a time above 0, for each store."""
    problem = "keep: must be a number of seconds above 0, a timedelta, or None"
    keeps: list[Any] = [0, -1, "1 d", float("nan"), True, timedelta()]
    makes: list[Any] = [MemoryStore, partial(SQLiteStore, tmp_path / "x"), partial(RedisStore, "redis://localhost")]
    assert [(make, keep) for make in makes for keep in keeps if problem not in refusal(make, keep=keep)] == []


def refusal(make: Callable[..., object], *given: object, **options: object) -> str:
    """What is said of arguments that can't be right."""
    try:
        make(*given, **options)
    except InvalidRequestError as error:
        return str(error)
    return "nothing"


# --- SQLite


def test_no_file() -> None:
    """A store in a file wants a file's name."""
    assert [path for path in ("", ":memory:") if "in memory, use MemoryStore" not in refusal(SQLiteStore, path)] == []


def test_no_folder(tmp_path: Path) -> None:
    """A folder that isn't there is noticed when the store is made, not at the first payment."""
    with pytest.raises(InvalidRequestError, match=f"path: there is no folder {tmp_path}/nowhere"):
        SQLiteStore(tmp_path / "nowhere" / "callbacks.sqlite3")


async def test_its_files_are_private(sqlite: SQLiteStore, tmp_path: Path) -> None:
    """The file, and what SQLite puts beside it, can be read by its owner alone."""
    await sqlite.claim(ONE)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {f"callbacks.sqlite3{end}": 0o600 for end in ("", "-wal", "-shm")}


async def test_what_is_committed_survives(sqlite: SQLiteStore, tmp_path: Path) -> None:
    """Another store on the same file knows what the first one has written; closing twice is closing once."""
    await sqlite.claim(ONE)
    await sqlite.commit(ONE)
    await sqlite.aclose()
    await sqlite.aclose()
    again = SQLiteStore(str(tmp_path / "callbacks.sqlite3"))
    assert await again.claim(TWO) is Standing.HANDLED
    await again.aclose()


async def test_commits_are_on_the_disk(sqlite: SQLiteStore) -> None:
    """A commit is synchronous: on the disk before anybody is answered."""
    await sqlite.claim(ONE)
    statements: list[str] = []
    with sqlite._writer().file.open() as database:
        database.set_trace_callback(statements.append)
    await sqlite.commit(ONE)
    assert statements[0] == "PRAGMA synchronous = FULL"
    assert statements[-1] == "COMMIT"


async def test_nothing_blocks_the_loop(sqlite: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite is used in worker threads only."""
    threads = set()
    connect = sqlite3.connect

    def watched(*args: Any, **options: Any) -> sqlite3.Connection:
        threads.add(threading.get_ident())
        connection: sqlite3.Connection = connect(*args, **options)
        return connection

    monkeypatch.setattr(sqlite3, "connect", watched)
    await sqlite.claim(ONE)
    assert threads
    assert threading.get_ident() not in threads


def test_it_closes_itself(tmp_path: Path) -> None:
    """A store that nobody closes leaves no open file behind."""
    store = SQLiteStore(tmp_path / "callbacks.sqlite3")
    anyio.run(store.claim, ONE)
    file = store._writer().file
    assert file._database is not None
    del store

    async def collected() -> None:
        await until(lambda: gc.collect() >= 0 and file._database is None)

    anyio.run(collected)


async def test_closing_what_was_never_opened(tmp_path: Path) -> None:
    """A store that was never used has nothing to close, and makes no file for it."""
    await SQLiteStore(tmp_path / "callbacks.sqlite3").aclose()
    assert list(tmp_path.iterdir()) == []


async def test_a_corrupt_file(tmp_path: Path) -> None:
    """A file that is no database is a fail; when it is put right, payments are handled."""
    path = tmp_path / "callbacks.sqlite3"
    path.write_bytes(b"this is no database, and long enough to be seen to be none" * 100)
    store = SQLiteStore(path)
    shop = Shop(store)
    app = shop.app()
    assert (await call(app, query())).status == 500
    assert isinstance(shop.events[0].error, sqlite3.DatabaseError)
    path.unlink()
    assert await word(app, query()) == "success"
    await store.aclose()


async def test_a_file_that_breaks_under_it(sqlite: SQLiteStore, tmp_path: Path) -> None:
    """A file that is overwritten while it is in use is a fail, never a success."""
    shop = Shop(sqlite)
    app = shop.app()
    assert await word(app, query()) == "success"
    await sqlite.aclose()
    path = tmp_path / "callbacks.sqlite3"
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096))
    assert [await word(app, received) for received in (query(), query(order_id="1"))] == ["fail", "fail"]
    assert all(isinstance(event.error, sqlite3.DatabaseError) for event in shop.events[1:])
    assert len(shop.handled) == 1


async def test_a_full_disk(sqlite: SQLiteStore) -> None:
    """A disk that is full when the claim is written is a fail, and nothing is handled; with room again, it is."""
    shop = Shop(sqlite)
    await fill(sqlite)
    app = shop.app()
    answer = await call(app, query())
    assert (answer.status, answer.body) == (500, b"fail")
    assert "database or disk is full" in str(shop.events[0].error)
    assert shop.handled == []
    # The connection was closed, and the next one has no limit: there is room again.
    assert await word(app, query()) == "success"


async def fill(sqlite: SQLiteStore) -> None:
    """Let no page be added, and fill those that are there."""
    with sqlite._writer().file.open() as database:
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}")
        with suppress(sqlite3.OperationalError):
            for number in itertools.count():
                row = (f"x{number}", "t", "f" * 50, 0.0)
                database.execute("INSERT INTO callback (key, token, facts, at) VALUES (?, ?, ?, ?)", row)


async def test_a_disk_that_is_full_at_the_commit(sqlite: SQLiteStore) -> None:
    """A commit that finds no room is a fail: the handler has run, and will see the callback again."""
    shop = Shop(sqlite)

    async def handler(callback: Any) -> None:
        await shop.handle(callback)
        with sqlite._writer().file.open() as database:
            database.execute("PRAGMA query_only = ON")

    assert (await call(shop.app(handler), query())).status == 500
    assert "readonly" in str(shop.events[0].error)
    assert shop.kinds == ["failed"]


@pytest.mark.parametrize("what", ["a folder", "a link to nowhere"])
async def test_a_path_that_cannot_be_opened(tmp_path: Path, what: str) -> None:
    """A path that can't be opened is a fail with the system's reason."""
    path = tmp_path / "callbacks.sqlite3"
    path.mkdir() if what == "a folder" else path.symlink_to(tmp_path / "no" / "where")
    shop = Shop(SQLiteStore(path))
    assert (await call(shop.app(), query())).status == 500
    assert isinstance(shop.events[0].error, OSError)


async def test_a_database_that_is_locked(sqlite: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another program has locked is waited for, for a while, and then a fail."""
    monkeypatch.setattr(callbacks.sqlite_file, "_LOCK_TIMEOUT_S", 0.01)
    shop = Shop(sqlite)
    assert await word(shop.app(), query(order_id="1")) == "success"
    await sqlite.aclose()
    other = sqlite3.connect(tmp_path / "callbacks.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert await word(shop.app(), query()) == "fail"
    assert await word(shop.app(), query(order_id="1")) == "success"  # reading needs no lock
    other.execute("ROLLBACK")
    assert await word(shop.app(), query()) == "success"
    other.close()
    assert shop.kinds == ["handled", "failed", "repeated", "handled"]


async def test_a_claim_that_was_given_up(sqlite: SQLiteStore) -> None:
    """A thread that comes to its claim after the delivery was cancelled, and before it has released it, leaves it."""
    with sqlite._writer().file._lock:  # as if another thread had the connection
        async with anyio.create_task_group() as group:
            group.start_soon(sqlite.claim, ONE)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert await sqlite.claim(TWO) is Standing.MINE


async def test_many_at_once_wait_for_the_disk_together(sqlite: SQLiteStore) -> None:
    """What gathers while the thread is busy is one transaction, and each caller is told its own outcome after it."""
    claims = [Claim(f"shop/{number}", "one", "facts", 20) for number in range(40)]
    held: dict[str, bool] = {}

    async def pay(claim: Claim) -> None:
        held[claim.key] = await sqlite.commit(claim)

    await sqlite.claim(evolve(claims[0], token="two"))
    statements: list[str] = []
    async with anyio.create_task_group() as group:
        with sqlite._writer().file.open() as database:  # so that the thread waits for it
            database.set_trace_callback(statements.append)
            for claim in claims:
                group.start_soon(pay, claim)
            await anyio.wait_all_tasks_blocked()
            assert held == {}
    assert held == {claim.key: claim is not claims[0] for claim in claims}
    assert statements.count("COMMIT") <= 2  # the first may have been taken alone


async def test_an_error_of_one_is_its_own(sqlite: SQLiteStore) -> None:
    """What can't be read or written fails alone; those in the same transaction are written."""
    no_text: Any = {"no": "text"}
    bad_claim, bad_commit = evolve(ONE, key=no_text), evolve(ONE, facts=no_text)
    outcomes: list[str] = []

    async def do(act: Callable[[Claim], Awaitable[object]], claim: Claim) -> None:
        try:
            outcomes.append(f"{claim.key} {await act(claim)}")
        except sqlite3.Error:
            outcomes.append("error")

    async with anyio.create_task_group() as group:
        with sqlite._writer().file.open():
            group.start_soon(do, sqlite.commit, ONE)
            group.start_soon(do, sqlite.commit, bad_commit)
            group.start_soon(do, sqlite.claim, bad_claim)
            group.start_soon(do, sqlite.commit, evolve(ONE, key="shop/3"))
            await anyio.wait_all_tasks_blocked()
    assert sorted(outcomes) == ["error", "error", "shop/1 True", "shop/3 True"]
    assert await sqlite.claim(TWO) is Standing.HANDLED


async def test_a_lock_stops_only_those_who_write(
    sqlite: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those who wait together, whoever only reads is told, though another program has locked the file."""
    monkeypatch.setattr(callbacks.sqlite_file, "_LOCK_TIMEOUT_S", 0.01)
    await sqlite.commit(ONE)
    other = sqlite3.connect(tmp_path / "callbacks.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    standings: list[Standing] = []

    async def read() -> None:
        standings.append(await sqlite.claim(TWO))

    async def write() -> None:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            await sqlite.commit(evolve(ONE, key="shop/2"))

    async with anyio.create_task_group() as group:
        with sqlite._writer().file.open():
            group.start_soon(read)
            group.start_soon(write)
            await anyio.wait_all_tasks_blocked()
    assert standings == [Standing.HANDLED]
    other.close()


async def test_its_thread_ends(sqlite: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread ends when nothing has come for a while; the next callback starts another."""
    monkeypatch.setattr(batch_worker, "_IDLE_TIMEOUT_S", 0.01)
    for _ in range(2):
        await sqlite.claim(ONE)
        await until(lambda: not sqlite._writer()._worker._is_running)
    assert await sqlite.claim(TWO) is Standing.TAKEN


def test_a_caller_whose_event_loop_has_ended() -> None:
    """Nobody is told there, and nothing breaks."""

    async def ask() -> batch_worker.Pending[None]:
        return batch_worker.Pending(None)

    for backend in ("asyncio", "trio"):
        batch_worker.wake_callers([anyio.run(ask, backend=backend)])


FORK = """
import anyio, os, sys
from gatepay_async.callbacks import Claim, SQLiteStore
store = SQLiteStore(sys.argv[1])
first, second, third = (Claim(f"shop/{n}", "token", "facts", 20) for n in range(3))
anyio.run(store.claim, first)
(here,) = store._writers
if not os.fork():
    assert anyio.run(store.claim, first).name == "TAKEN"
    assert anyio.run(store.claim, second).name == "MINE"
    assert set(store._writers) == {here, os.getpid()}
    anyio.run(store.aclose)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
assert anyio.run(store.claim, second).name == "TAKEN"
assert anyio.run(store.claim, third).name == "MINE"
anyio.run(store.aclose)
print("whole")
"""


def test_a_fork(tmp_path: Path) -> None:
    """A process that forks after it has used the store opens a connection of its own on each side."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(tmp_path / "callbacks.sqlite3")]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (0, b"whole\n"), done.stderr.decode()


TOKENS = """
import os
from gatepay_async.callbacks.tokens import TOKENS
TOKENS.new()
receiving, sending = os.pipe()
if not os.fork():
    os.write(sending, TOKENS.new().encode())
    os._exit(0)
os.wait()
theirs, ours = os.read(receiving, 100).decode(), [TOKENS.new(), TOKENS.new()]
assert len({theirs, *ours}) == 3, "a token came twice"
print("whole")
"""


def test_tokens_after_a_fork() -> None:
    """Both sides of a fork make tokens that the other one doesn't."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", TOKENS]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (0, b"whole\n"), done.stderr.decode()


# --- Redis


def test_a_client_of_another_kind() -> None:
    """A client that would block the event loop, or is none, is noticed when the store is made."""
    clients: list[Any] = [SyncRedis(), None, 7]
    problem = "redis: must be a client of redis.asyncio, or a URL"
    assert [client for client in clients if problem not in refusal(RedisStore, client)] == []


class Without:
    """An importer that doesn't find one module."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, *_: object) -> None:
        if name == self._name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("redis", r"RedisStore needs redis: pip install 'gatepay-async\[redis\]'"),
        ("redis.asyncio", r"No module named 'redis\.asyncio'"),
    ],
)
def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, missing: str, said: str) -> None:
    """Without redis, asking for RedisStore says what to install; a redis that is broken is said to be so."""
    for name in ("gatepay_async.callbacks.redis_store", "redis.asyncio", missing):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Without(missing), *sys.meta_path])
    with pytest.raises(ImportError, match=said):
        callbacks.__getattr__("RedisStore")


def test_another_name() -> None:
    """The room has no other names than it says."""
    with pytest.raises(AttributeError, match="no attribute 'FileStore'"):
        callbacks.__getattr__("FileStore")
