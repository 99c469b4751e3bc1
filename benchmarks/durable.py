"""
Benchmarks of durable uploads, with real worker processes on SQLite and PostgreSQL; some of them kill workers.

    PYTHONPATH=tests python -m benchmarks.durable                  run all benchmarks; takes about ten minutes
    PYTHONPATH=tests python -m benchmarks.durable kill scaling     run two of them
    PYTHONPATH=tests python -m benchmarks.durable kill --kills 5   run a short version

`nox -s durable` runs all of them. Each benchmark prints its results and goals. It fails if a card key is lost or stored
twice.
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
LATENCY_S = 0.05  # the server takes this long for each call
WARM_UP_CHUNKS = 60  # after so many sent chunks, every worker holds a batch


def print_row(what: str, result: object, goal: str) -> None:
    """Print a result and its goal."""
    print(f"{what}: {result} (goal: {goal})", flush=True)


@asynccontextmanager
async def workspaces(kind: str) -> AsyncGenerator[tuple[Workspace, Postgres | None]]:
    """Yield an empty workspace and the PostgreSQL server; the server is None for SQLite."""
    with tempfile.TemporaryDirectory(prefix="gatepay-durable-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # noqa: ASYNC240 -- for PostgreSQL's user; no other task runs
        if kind == "sqlite":
            yield Workspace(folder, f"sqlite:///{folder}/uploads.sqlite3"), None
            return
        server = Postgres(folder / "postgres")
        server.start()
        try:
            yield Workspace(folder, server.url(server.new_database())), server
        finally:
            server.stop()


@asynccontextmanager
async def fast_server(latency: float) -> AsyncGenerator[Shop]:
    """Run `benchmarks.server` in a process of its own. The yielded `Shop` has its base URL, and counts nothing."""
    command = [sys.executable, "-m", "benchmarks.server", "--latency", str(latency)]
    async with await anyio.open_process(command, cwd=ROOT, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        port = (await process.stdout.receive()).decode().split('"port": ')[1].split(",")[0]
        yield Shop(base_url=f"http://127.0.0.1:{port}/api/")
        await process.stdin.aclose()


async def kill(kills: int) -> None:
    """Kill one worker after the other at a random moment; check that no card key is lost."""
    for kind in ("sqlite", "postgresql"):
        keys = keys_of(400_000)
        total_repeated = 0  # chunks
        async with workspaces(kind) as (workspace, _), serving(Shop(latency=0.02)) as shop:  # noqa: SIM117 -- more readable in two steps
            async with workspace.uploads(shop).submitter() as submit:
                job = await submit.file(workspace.file(keys), product_id=PRODUCT)
                for number in range(kills):
                    async with workspace.process(shop, concurrency=4) as process:
                        sent_before, calls_before = dict(shop.sent), sum(shop.sent.values())
                        await anyio.sleep(random.uniform(0, 0.6))  # noqa: S311 -- not secret
                        process.kill()
                        await process.wait()
                    # `shop.sent` counts calls by the first card key of the chunk. A chunk without earlier calls is new.
                    new_chunks = sum(
                        shop.sent[first] - sent_before.get(first, 0) == shop.sent[first] for first in shop.sent
                    )
                    repeated = sum(shop.sent.values()) - calls_before - new_chunks
                    assert repeated <= 4 * CHUNKS_PER_BATCH, "more chunks were repeated than the 4 batches in flight"
                    total_repeated += repeated
                    print(
                        f"  {kind}: kill {number + 1}: {len(shop.stored):,} stored, {repeated} chunks repeated",
                        flush=True,
                    )
                async with workspace.process(shop, concurrency=4):
                    report = await job.wait(every=0.1)
        assert set(shop.stored) == set(keys)
        assert set(shop.stored.values()) == {1}
        assert adds_up(report)
        assert report.stored + report.already_there == len(keys)
        print_row(
            f"{kills} kills, {kind}",
            f"each key stored once, the report adds up, {total_repeated} chunks repeated",
            "the same",
        )


async def takeover(_: int) -> None:
    """Kill one of three workers; measure how long until the other two hold its batches."""
    async with (
        workspaces("postgresql") as (workspace, _server),
        serving(Shop(latency=LATENCY_S)) as shop,
        AsyncExitStack() as stack,
    ):
        submit = await stack.enter_async_context(workspace.uploads(shop).submitter())
        keys = keys_of(300_000)
        job = await submit.file(workspace.file(keys), product_id=PRODUCT)
        options = {"concurrency": 4, "global_concurrency": 10}
        workers = [await stack.enter_async_context(workspace.process(shop, **options)) for _ in range(3)]
        await until(lambda: len(shop.sent) > WARM_UP_CHUNKS)
        holders = await anyio.to_thread.run_sync(_holders, job)
        workers[0].kill()
        killed_at = time.monotonic()
        # The loop ends when the killed worker, at least, holds no batch any more.
        while holders <= await anyio.to_thread.run_sync(_holders, job):  # noqa: ASYNC110 -- the other process sends no event
            await anyio.sleep(0.02)
        took = time.monotonic() - killed_at
        report = await job.wait(every=0.1)
        assert set(shop.stored.values()) == {1}
        assert report.stored + report.already_there == len(keys)
        calls_after = [at for at in shop.times if killed_at < at < killed_at + 5]
        pause = max((later - earlier for earlier, later in pairwise(calls_after)), default=0.0)
        print_row("1 of 3 killed: its batches taken over", f"{took:.1f} s", "within lease + 2 s")
        print_row("longest pause of all calls in the 5 s after", f"{pause:.2f} s", "the others never stop")
        print_row("most calls in flight", shop.most_in_flight, "at most 10, the global_concurrency")


def _holders(job: Job) -> set[str | None]:
    """Return the ids of the workers that hold batches of the job."""
    return {row.executor_id for row in job._store.taken()}


async def outages(_: int) -> None:
    """Restart the database during an upload, then cut the connection to it for 20 s."""
    keys = keys_of(200_000)
    async with workspaces("postgresql") as (workspace, server), serving(Shop(latency=LATENCY_S)) as shop:
        assert server is not None
        async with link_to(server.port) as link, workspace.uploads(shop).submitter() as submit:
            # Its workers connect to the database through `link`, which can cut the connection.
            through_link = Workspace(workspace.folder, workspace.database.replace(str(server.port), str(link.port)))
            async with through_link.process(shop, concurrency=4), through_link.process(shop, concurrency=4):
                job = await submit.file(workspace.file(keys), product_id=PRODUCT)
                await until(lambda: len(shop.sent) > WARM_UP_CHUNKS)
                await anyio.to_thread.run_sync(lambda: server.stop(at_once=True))
                await anyio.to_thread.run_sync(server.start)
                restored_at, calls_before = time.monotonic(), len(shop.times)
                await until(lambda: len(shop.times) > calls_before + 10)
                seconds = time.monotonic() - restored_at
                print_row("PostgreSQL restarted: calls continue after", f"{seconds:.1f} s", "without intervention")
                await link.cut_off()
                await anyio.sleep(20)
                idle = time.monotonic() - shop.times[-1]
                link.cut = False
                restored_at, calls_before = time.monotonic(), len(shop.times)
                await until(lambda: len(shop.times) > calls_before + 10)
                result = (
                    f"no call for {idle:.1f} s; calls continue {time.monotonic() - restored_at:.1f} s after the cut"
                )
                print_row("PostgreSQL unreachable for 20 s", result, "calls stop, then continue without intervention")
                report = await job.wait(every=0.1)
        assert set(shop.stored.values()) == {1}
        assert set(shop.stored) == set(keys)
        assert adds_up(report)
        print_row("lost in both outages", len(keys) - report.stored - report.already_there, "0")


async def speed(_: int) -> None:
    """Upload a million card keys: one worker with concurrency 8 on SQLite, compared with a plain upload."""
    async with fast_server(LATENCY_S) as shop, workspaces("sqlite") as (workspace, _server):
        path = workspace.file(keys_of(1_000_000))
        async with AsyncGatePay(APPKEY, APPSECRET, base_url=shop.base_url) as gatepay:
            start = time.monotonic()
            with path.open(encoding="utf-8") as file:
                assert (await gatepay.upload_card_keys(PRODUCT, file, concurrency=8)).ok
            plain_seconds = time.monotonic() - start
        took = await _time_durable(workspace, shop, path, workers=1, concurrency=8)
        print_row(
            "1,000,000 keys, SQLite, one worker with concurrency 8",
            f"{plain_seconds / took:.2f} x of {plain_seconds:.1f} s",
            "0.80 x",
        )


async def scaling(_: int) -> None:
    """Upload a million card keys with 1, 2 and 4 workers, each with concurrency 4, on PostgreSQL."""
    seconds: list[float] = []
    for workers in (1, 2, 4):
        async with fast_server(LATENCY_S) as shop, workspaces("postgresql") as (workspace, _server):
            path = workspace.file(keys_of(1_000_000))
            seconds.append(await _time_durable(workspace, shop, path, workers=workers, concurrency=4))
        print(f"  {workers} workers: {1_000_000 / KEYS_PER_CALL / seconds[-1]:.0f} chunks a second", flush=True)
    print_row("2 workers, relative to 1", f"{seconds[0] / seconds[1]:.2f} x", "1.8 x")
    print_row("4 workers, relative to 1", f"{seconds[0] / seconds[2]:.2f} x", "3.2 x")


async def _time_durable(workspace: Workspace, shop: Shop, path: Path, *, workers: int, concurrency: int) -> float:
    """Return the seconds from submitting to the end of the upload. The workers start before that."""
    async with AsyncExitStack() as stack:
        submit = await stack.enter_async_context(workspace.uploads(shop).submitter())
        for _ in range(workers):
            await stack.enter_async_context(workspace.process(shop, concurrency=concurrency))
        job = await submit.file(path, product_id=PRODUCT)  # returns when workers can take the first batch
        start = time.monotonic()
        assert (await job.wait(every=0.2)).ok
        return time.monotonic() - start


async def capacity(_: int) -> None:
    """Measure PostgreSQL's CPU time for an idle worker and for a batch."""
    seconds, workers, batches = 10.0, 4, 100
    async with fast_server(0.0) as shop, workspaces("postgresql") as (workspace, server), AsyncExitStack() as stack:
        assert server is not None
        submit = await stack.enter_async_context(workspace.uploads(shop).submitter())
        for _number in range(workers):
            await stack.enter_async_context(workspace.process(shop, concurrency=4))
        before = _cpu_seconds(server)
        await anyio.sleep(seconds)
        idle_share = (_cpu_seconds(server) - before) / seconds / workers
        before, start = _cpu_seconds(server), time.monotonic()
        job = await submit.file(workspace.file(keys_of(batches * CHUNKS_PER_BATCH * KEYS_PER_CALL)), product_id=PRODUCT)
        assert (await job.wait(every=0.2)).ok
        took = time.monotonic() - start
        seconds_per_batch = (_cpu_seconds(server) - before - idle_share * workers * took) / batches
    print_row(
        "PostgreSQL's CPU for a batch of 10,000 card keys",
        f"{seconds_per_batch * 1000:.1f} ms",
        "no goal; for the docs",
    )
    print_row("PostgreSQL's CPU for an idle worker", f"{idle_share:.1%} of a core", "no goal; for the docs")


def _cpu_seconds(server: Postgres) -> float:
    """Return the CPU seconds of all processes of the server, including those that have ended."""
    assert server._process is not None
    root = psutil.Process(server._process.pid)
    own = root.cpu_times()  # children_user and children_system are those of ended children
    running = [child.cpu_times() for child in root.children()]
    return own.children_user + own.children_system + sum(times.user + times.system for times in [own, *running])


async def rate(_: int) -> None:
    """Upload with three workers that share a rate limit of 50 calls a second."""
    async with workspaces("postgresql") as (workspace, _server), serving(Shop()) as shop, AsyncExitStack() as stack:
        submit = await stack.enter_async_context(workspace.uploads(shop).submitter())
        for _ in range(3):
            await stack.enter_async_context(workspace.process(shop, concurrency=4, rate=(50, 1.0)))
        job = await submit.file(workspace.file(keys_of(500_000)), product_id=PRODUCT)
        start = time.monotonic()
        assert (await job.wait(every=0.2)).ok
        mean = len(shop.times) / (time.monotonic() - start)
        print_row("rate 50 a second, 3 workers", f"most in a second {shop.most_in(1.0)}, mean {mean:.0f}", "at most 60")


async def growth(_: int) -> None:
    """
    Measure by how many bytes a batch makes the database grow.

    The first job of one batch allocates the first pages of each index. Of the two large jobs after it, the second can
    reuse the space of deleted rows.
    """
    sizes = {"once": 1, "first": 500, "later": 500}  # batches of each job
    for kind in ("sqlite", "postgresql"):
        bytes_per_batch: dict[str, int] = {}
        async with fast_server(0.0) as shop, workspaces(kind) as (workspace, server):  # noqa: SIM117 -- more readable in two steps
            async with workspace.uploads(shop).submitter() as submit, workspace.process(shop, concurrency=8):
                for name, batches in sizes.items():
                    before = await anyio.to_thread.run_sync(_size, workspace, server)
                    job = await submit.file(
                        workspace.file(keys_of(batches * CHUNKS_PER_BATCH * KEYS_PER_CALL, name)), product_id=PRODUCT
                    )
                    assert (await job.wait(every=0.5)).ok
                    bytes_per_batch[name] = (
                        await anyio.to_thread.run_sync(_size, workspace, server) - before
                    ) // batches
                for job in await submit.jobs():
                    await job.delete()
                remaining = len(await submit.jobs())
        print_row(
            f"{kind}: bytes a batch",
            f"{bytes_per_batch['first']}, of later jobs {bytes_per_batch['later']}; "
            f"{bytes_per_batch['once'] // 1000} kB once",
            f"1500; after delete() {remaining} jobs are left",
        )


def _size(workspace: Workspace, server: Postgres | None) -> int:
    """Return the size of the database in bytes, after SQLite's checkpoint or PostgreSQL's VACUUM."""
    if server is None:
        with sqlite3.connect(workspace.folder / "uploads.sqlite3") as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        return (workspace.folder / "uploads.sqlite3").stat().st_size
    with psycopg.connect(workspace.database, autocommit=True) as connection:
        connection.execute("VACUUM")
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
        return int(row[0])


# All benchmarks take the number of kills; only `kill` uses it.
BENCHMARKS: dict[str, Callable[[int], Awaitable[None]]] = {
    benchmark.__name__: benchmark for benchmark in (kill, takeover, outages, speed, scaling, capacity, rate, growth)
}


def main() -> None:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(description="Runs the benchmarks of durable uploads.")
    parser.add_argument("benchmarks", nargs="*", metavar="benchmark", help=f"default: all of {', '.join(BENCHMARKS)}")
    parser.add_argument("--kills", type=int, default=50)
    options = parser.parse_args()
    for name in options.benchmarks or BENCHMARKS:
        anyio.run(BENCHMARKS[name], options.kills)


if __name__ == "__main__":
    main()
