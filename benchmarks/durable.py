"""
The figures of durable uploads: real processes, real kills, both databases.

    PYTHONPATH=tests python -m benchmarks.durable                  all of them; some ten minutes
    PYTHONPATH=tests python -m benchmarks.durable kill scaling     some
    PYTHONPATH=tests python -m benchmarks.durable kill --kills 5   a look

`nox -s durable` runs it. Each prints what it found, and the goal; a key lost or stored twice ends it with an error.
"""

import argparse
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import anyio
import anyio.to_thread
import psutil
import psycopg
from durable_shop import Shop, serving
from durable_worker import APPKEY, APPSECRET
from durable_workspace import Workspace, adds_up, keys_of
from postgres import Postgres, link_to
from waiting import until

from benchmarks.serving import ROOT
from gatepay_async import AsyncGatePay
from gatepay_async.durable import Job
from gatepay_async.durable.records.batches import CHUNKS_PER_BATCH

PRODUCT, KEYS_PER_CALL = 8, 500
LATENCY = 0.05  # seconds that the server takes
WARM = 60  # chunks, by which all workers have some


def said(what: str, found: object, goal: str) -> None:
    """One row."""
    print(f"{what}: {found} (wanted: {goal})", flush=True)


@asynccontextmanager
async def workspaces(kind: str) -> AsyncGenerator[tuple[Workspace, Postgres | None]]:
    """Yield an empty workspace, and with PostgreSQL its server too."""
    with tempfile.TemporaryDirectory(prefix="gatepay-durable-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # noqa: ASYNC240 -- PostgreSQL's user must reach it; nothing else runs
        if kind == "sqlite":
            yield Workspace(folder, f"sqlite:///{folder}/uploads.sqlite3"), None
            return
        server = Postgres(folder / "postgres")
        server.start()
        try:
            yield Workspace(folder, server.url(server.database())), server
        finally:
            server.stop()


@asynccontextmanager
async def fast_server(latency: float) -> AsyncGenerator[Shop]:
    """The fast server of the other benchmarks, in a process of its own; it counts nothing that is asked for here."""
    command = [sys.executable, "-m", "benchmarks.server", "--latency", str(latency)]
    async with await anyio.open_process(command, cwd=ROOT, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        port = (await process.stdout.receive()).decode().split('"port": ')[1].split(",")[0]
        yield Shop(base_url=f"http://127.0.0.1:{port}/api/")
        await process.stdin.aclose()


async def kill(kills: int) -> None:
    """One worker after the other is killed at a random moment; nothing is lost."""
    for kind in ("sqlite", "postgresql"):
        keys = keys_of(400_000)
        again = 0
        async with workspaces(kind) as (workspace, _), serving(Shop(latency=0.02)) as shop:  # noqa: SIM117 -- as it reads best
            async with workspace.uploads(shop).submitter() as submit:
                job = await submit.file(workspace.file(keys), product_id=PRODUCT)
                for number in range(kills):
                    async with workspace.process(shop, concurrency=4) as process:
                        before, calls = dict(shop.sent), sum(shop.sent.values())
                        await anyio.sleep(random.uniform(0, 0.6))  # noqa: S311 -- any moment
                        process.kill()
                        await process.wait()
                    new = sum(shop.sent[first] - before.get(first, 0) == shop.sent[first] for first in shop.sent)
                    repeated = sum(shop.sent.values()) - calls - new
                    assert repeated <= 4 * CHUNKS_PER_BATCH, "more was sent again than the batches in flight"
                    again += repeated
                    print(
                        f"  {kind}: kill {number + 1}: {len(shop.stored):,} stored, {repeated} sent again", flush=True
                    )
                async with workspace.process(shop, concurrency=4):
                    report = await job.wait(every=0.1)
        assert set(shop.stored) == set(keys)
        assert set(shop.stored.values()) == {1}
        assert adds_up(report)
        assert report.stored + report.already_there == len(keys)
        said(f"{kills} kills, {kind}", f"each key once, the ledger adds up, {again} chunks sent again", "the same")


async def takeover(_: int) -> None:
    """Three workers, one killed: how long until what it had is being sent by others."""
    async with (
        workspaces("postgresql") as (workspace, _server),
        serving(Shop(latency=LATENCY)) as shop,
        AsyncExitStack() as stack,
    ):
        submit = await stack.enter_async_context(workspace.uploads(shop).submitter())
        keys = keys_of(300_000)
        job = await submit.file(workspace.file(keys), product_id=PRODUCT)
        options = {"concurrency": 4, "global_concurrency": 10}
        workers = [await stack.enter_async_context(workspace.process(shop, **options)) for _ in range(3)]
        await until(lambda: len(shop.sent) > WARM)
        holders = await anyio.to_thread.run_sync(_holders, job)
        workers[0].kill()
        killed = time.monotonic()
        while holders <= await anyio.to_thread.run_sync(_holders, job):  # noqa: ASYNC110 -- another process
            await anyio.sleep(0.02)
        took = time.monotonic() - killed
        report = await job.wait(every=0.1)
        assert set(shop.stored.values()) == {1}
        assert report.stored + report.already_there == len(keys)
        late = [at for at in shop.times if killed < at < killed + 5]
        pause = max((b - a for a, b in pairwise(late)), default=0.0)
        said("1 of 3 killed: its batches taken over", f"{took:.1f} s", "within lease + 2 s")
        said("longest pause of all calls in the 5 s after", f"{pause:.2f} s", "the others never stop")
        said("most calls in flight", shop.most_in_flight, "at most 10, the global_concurrency")


def _holders(job: Job) -> set[str | None]:
    return {row.executor_id for row in job._store.taken()}


async def outages(_: int) -> None:
    """The database restarted under load; the way to it cut for 20 s."""
    keys = keys_of(200_000)
    async with workspaces("postgresql") as (workspace, server), serving(Shop(latency=LATENCY)) as shop:
        assert server is not None
        async with link_to(server.port) as link, workspace.uploads(shop).submitter() as submit:
            far = Workspace(workspace.folder, workspace.database.replace(str(server.port), str(link.port)))
            async with far.process(shop, concurrency=4), far.process(shop, concurrency=4):
                job = await submit.file(workspace.file(keys), product_id=PRODUCT)
                await until(lambda: len(shop.sent) > WARM)
                await anyio.to_thread.run_sync(lambda: server.stop(at_once=True))
                await anyio.to_thread.run_sync(server.start)
                up, before = time.monotonic(), len(shop.times)
                await until(lambda: len(shop.times) > before + 10)
                said("PostgreSQL restarted: calls go on after", f"{time.monotonic() - up:.1f} s", "by itself")
                await link.cut_off()
                await anyio.sleep(20)
                idle = time.monotonic() - shop.times[-1]
                link.cut = False
                up, before = time.monotonic(), len(shop.times)
                await until(lambda: len(shop.times) > before + 10)
                back = f"no call for {idle:.1f} s, on again after {time.monotonic() - up:.1f} s"
                said("the way to it cut for 20 s", back, "work stops, then goes on by itself")
                report = await job.wait(every=0.1)
        assert set(shop.stored.values()) == {1}
        assert set(shop.stored) == set(keys)
        assert adds_up(report)
        said("both: lost", len(keys) - report.stored - report.already_there, "0")


async def speed(_: int) -> None:
    """A million card keys: one worker of 8 on SQLite, beside a plain upload."""
    async with fast_server(LATENCY) as shop, workspaces("sqlite") as (workspace, _server):
        path = workspace.file(keys_of(1_000_000))
        async with AsyncGatePay(APPKEY, APPSECRET, base_url=shop.base_url) as gatepay:
            start = time.monotonic()
            with path.open(encoding="utf-8") as file:
                assert (await gatepay.upload_card_keys(PRODUCT, file, concurrency=8)).ok
            plain = time.monotonic() - start
        took = await _durable(workspace, shop, path, workers=1, concurrency=8)
        said("1,000,000 keys, SQLite, one worker of 8", f"{plain / took:.2f} x of {plain:.1f} s", "0.80 x")


async def scaling(_: int) -> None:
    """A million card keys: 1, 2 and 4 workers of 4 on PostgreSQL."""
    found: list[float] = []
    for workers in (1, 2, 4):
        async with fast_server(LATENCY) as shop, workspaces("postgresql") as (workspace, _server):
            path = workspace.file(keys_of(1_000_000))
            found.append(await _durable(workspace, shop, path, workers=workers, concurrency=4))
        print(f"  {workers} workers: {2000 / found[-1]:.0f} chunks a second", flush=True)
    said("2 workers of 4 beside 1", f"{found[0] / found[1]:.2f} x", "1.8 x")
    said("4 workers of 4 beside 1", f"{found[0] / found[2]:.2f} x", "3.2 x")


async def _durable(workspace: Workspace, shop: Shop, path: Path, *, workers: int, concurrency: int) -> float:
    """Seconds from the first call to the end, the workers being open before."""
    async with AsyncExitStack() as stack:
        submit = await stack.enter_async_context(workspace.uploads(shop).submitter())
        for _ in range(workers):
            await stack.enter_async_context(workspace.process(shop, concurrency=concurrency))
        job = await submit.file(path, product_id=PRODUCT)  # its end is when the first batch can be taken
        start = time.monotonic()
        assert (await job.wait(every=0.2)).ok
        return time.monotonic() - start


async def capacity(_: int) -> None:
    """What PostgreSQL itself does: for a worker that finds nothing, and for a batch."""
    seconds, workers, batches = 10.0, 4, 100
    async with fast_server(0.0) as shop, workspaces("postgresql") as (workspace, server), AsyncExitStack() as stack:
        assert server is not None
        submit = await stack.enter_async_context(workspace.uploads(shop).submitter())
        for _number in range(workers):
            await stack.enter_async_context(workspace.process(shop, concurrency=4))
        before = _cpu(server)
        await anyio.sleep(seconds)
        idle = (_cpu(server) - before) / seconds / workers
        before, start = _cpu(server), time.monotonic()
        job = await submit.file(workspace.file(keys_of(batches * CHUNKS_PER_BATCH * KEYS_PER_CALL)), product_id=PRODUCT)
        assert (await job.wait(every=0.2)).ok
        took = time.monotonic() - start
        busy = (_cpu(server) - before - idle * workers * took) / batches
    said("PostgreSQL's CPU for a batch of 10,000 card keys", f"{busy * 1000:.1f} ms", "no goal; for the docs")
    said("PostgreSQL's CPU for an open worker", f"{idle:.1%} of a core", "no goal; for the docs")


def _cpu(server: Postgres) -> float:
    """Seconds of CPU that it has used, in all its processes, those that have ended, too."""
    assert server._process is not None
    root = psutil.Process(server._process.pid)
    spent = root.cpu_times()
    living = [each.cpu_times() for each in root.children()]
    return spent.children_user + spent.children_system + sum(each.user + each.system for each in [spent, *living])


async def rate(_: int) -> None:
    """Three workers, 50 calls a second together."""
    async with workspaces("postgresql") as (workspace, _server), serving(Shop()) as shop, AsyncExitStack() as stack:
        submit = await stack.enter_async_context(workspace.uploads(shop).submitter())
        for _ in range(3):
            await stack.enter_async_context(workspace.process(shop, concurrency=4, rate=(50, 1.0)))
        job = await submit.file(workspace.file(keys_of(500_000)), product_id=PRODUCT)
        start = time.monotonic()
        assert (await job.wait(every=0.2)).ok
        mean = len(shop.times) / (time.monotonic() - start)
        said("rate 50 a second, 3 workers", f"most in a second {shop.most_in(1.0)}, mean {mean:.0f}", "at most 60")


async def growth(_: int) -> None:
    """Bytes of the database: once, for the first pages of every index; a batch of a big job; a batch of the next.

    The next one takes up the space of dead rows.
    """
    sizes = {"once": 1, "first": 500, "later": 500}  # batches
    for kind in ("sqlite", "postgresql"):
        grown: dict[str, int] = {}
        async with fast_server(0.0) as shop, workspaces(kind) as (workspace, server):  # noqa: SIM117 -- as above
            async with workspace.uploads(shop).submitter() as submit, workspace.process(shop, concurrency=8):
                for mark, batches in sizes.items():
                    before = await anyio.to_thread.run_sync(_size, workspace, server)
                    job = await submit.file(
                        workspace.file(keys_of(batches * CHUNKS_PER_BATCH * KEYS_PER_CALL, mark)), product_id=PRODUCT
                    )
                    assert (await job.wait(every=0.5)).ok
                    grown[mark] = (await anyio.to_thread.run_sync(_size, workspace, server) - before) // batches
                for job in await submit.jobs():
                    await job.delete()
                left = len(await submit.jobs())
        said(
            f"{kind}: bytes a batch",
            f"{grown['first']}, of later jobs {grown['later']}; {grown['once'] // 1000} kB once",
            f"1500; after delete() {left} jobs are left",
        )


def _size(workspace: Workspace, server: Postgres | None) -> int:
    if server is None:
        with sqlite3.connect(workspace.folder / "uploads.sqlite3") as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        return (workspace.folder / "uploads.sqlite3").stat().st_size
    with psycopg.connect(workspace.database, autocommit=True) as connection:
        connection.execute("VACUUM")
        found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert found is not None
        return int(found[0])


FIGURES: dict[str, Callable[[int], Awaitable[None]]] = {
    each.__name__: each for each in (kill, takeover, outages, speed, scaling, capacity, rate, growth)
}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description="Measures durable uploads.")
    parser.add_argument("figures", nargs="*", metavar="figure", help=f"some of: {', '.join(FIGURES)}; none: all")
    parser.add_argument("--kills", type=int, default=50)
    given = parser.parse_args()
    for name in given.figures or FIGURES:
        anyio.run(FIGURES[name], given.kills)


if __name__ == "__main__":
    main()
