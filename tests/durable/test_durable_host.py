"""A worker in a process whose application runs DBOS itself; and databases that go away."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import pytest
from dbos import DBOS, DBOSConfig
from durable_shop import Shop
from durable_workspace import POLL_S, PRODUCT, Workspace, keys_of
from waiting import PATIENCE, until

from gatepay_async.durable import DurableError
from gatepay_async.durable.records.rows import run_id
from gatepay_async.durable.storage import job_store
from gatepay_async.durable.storage.database import Database
from gatepay_async.durable.work import dbos_host

pytestmark = [pytest.mark.slow, pytest.mark.anyio]


@asynccontextmanager
async def hosting(workspace: Workspace, *, executor: str = "host-1", launch: bool = True) -> AsyncGenerator[None]:
    """An application's own DBOS."""
    # The engine is ours: with that of its own, DBOS can't use an old SQLite from Python 3.12 on.
    engine = Database(workspace.database).engine(connections=20)
    config = DBOSConfig(
        name="the-application",
        system_database_url=workspace.database,
        system_database_engine=engine,
        executor_id=executor,
        application_version="app-7",
        log_level="WARNING",
    )
    try:
        DBOS(config=config)
        if launch:
            await anyio.to_thread.run_sync(DBOS.launch)
        yield
    finally:
        await anyio.to_thread.run_sync(DBOS.destroy)
        engine.dispose()


async def test_in_the_applications_own(workspace: Workspace, shop: Shop) -> None:
    """A worker works in the DBOS that the application runs, and leaves it running; what that takes waits for it."""
    uploads = workspace.uploads(shop, version="app-7")
    async with hosting(workspace), uploads.submitter() as submit:
        async with uploads.worker():
            first = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
            assert (await first.wait(every=POLL_S)).ok
        assert DBOS.executor_id == "host-1"
        second = await submit.file(workspace.file(keys_of(700)), product_id=PRODUCT)
        name = run_id(second.id, 0, 0)
        with anyio.fail_after(PATIENCE):
            while (await anyio.to_thread.run_sync(second._store.batches, [name]))[name].queued:
                await anyio.sleep(POLL_S)
        async with uploads.worker():
            report = await second.wait(every=POLL_S)
        assert await DBOS.list_queues_async()
    assert (report.stored, report.already_there) == (100, 600)


async def test_closed_in_the_applications_own(workspace: Workspace, shop: Shop) -> None:
    """A worker that is closed in an application's DBOS, which goes on, lets its calls in flight end before it is."""
    shop.latency = 1.0
    uploads = workspace.uploads(shop, version="app-7")
    async with hosting(workspace), uploads.submitter() as submit:
        async with uploads.worker():
            job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
            await until(lambda: shop.in_flight == 1)
        assert (shop.in_flight, len(shop.stored)) == (0, 500)
        async with uploads.worker():
            report = await job.wait(every=POLL_S)
    assert (report.stored, report.ok, set(shop.sent.values())) == (600, True, {1})


async def test_taken_for_somebody_else(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that an application took before its worker was open, and that isn't its any more, is not sent."""
    uploads = workspace.uploads(shop, version="app-7")
    ask, answers = job_store.JobStore.is_taken, []
    find_queue, begun = dbos_host._queue_of, []

    def is_taken(self: job_store.JobStore, name: str, executor: str) -> bool:
        answers.append(ask(self, name, executor))
        return answers[-1]

    def queue_of(name: str) -> str | None:
        queue = find_queue(name)
        begun.append(name)
        return queue

    monkeypatch.setattr(job_store.JobStore, "is_taken", is_taken)
    monkeypatch.setattr(dbos_host, "_queue_of", queue_of)
    async with hosting(workspace), uploads.submitter() as submit:
        async with uploads.worker():
            pass
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        name = run_id(job.id, 0, 0)
        # Not merely taken from the queue: DBOS does not begin a run that was cancelled before.
        await until(lambda: name in begun)
        await anyio.to_thread.run_sync(job._store._client.cancel_workflow, name)
        async with uploads.worker():
            await until(lambda: bool(answers))
    assert (answers, len(shop.sent)) == ([False], 0)


async def test_what_a_host_must_be(workspace: Workspace, shop: Shop) -> None:
    """A DBOS of another version or database, not launched, or of a name that is taken: the error says what to do."""
    uploads = workspace.uploads(shop, version="app-7")
    async with hosting(workspace, launch=False):
        with pytest.raises(DurableError, match="isn't launched yet"):
            async with uploads.worker():
                pass
        assert DBOS.executor_id == "host-1"  # it is the application's, and still there
        await anyio.to_thread.run_sync(DBOS.launch)
    async with hosting(workspace):
        with pytest.raises(DurableError, match="application_version of your DBOS is 'app-7'"):
            async with workspace.uploads(shop).worker():
                pass
    elsewhere = Workspace(workspace.folder, f"sqlite:///{workspace.folder}/elsewhere")
    async with hosting(elsewhere):
        with pytest.raises(DurableError, match="different databases"):
            async with uploads.worker():
                pass
        async with uploads.submitter() as submit:
            one = submit._database.worker_locks(submit._database.engine(connections=2), "gatepay")
        assert one.acquire("host-1")
        with pytest.raises(DurableError, match="executor_id is 'host-1'"):
            async with uploads.worker():
                pass
        one.release()


async def test_two_shops_in_one(workspace: Workspace, shop: Shop) -> None:
    """In an application's own DBOS, a process has a worker for each of several shops."""
    one, two = (workspace.uploads(shop, version="app-7", name=name) for name in ("shop-1", "shop-2"))
    async with hosting(workspace), one.worker(), two.worker(), one.submitter() as first, two.submitter() as second:
        path = workspace.file(keys_of(600))
        jobs = [await first.file(path, product_id=PRODUCT), await second.file(path, product_id=PRODUCT)]
        assert [(await job.wait(every=POLL_S)).ok for job in jobs] == [True, True]
    assert sum(shop.sent.values()) == 4
