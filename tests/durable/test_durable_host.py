"""Workers in a process whose application runs its own DBOS."""

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
from gatepay_async.durable.storage.database import QueueDatabase
from gatepay_async.durable.work import dbos_host

pytestmark = [pytest.mark.slow, pytest.mark.anyio]


@asynccontextmanager
async def hosting(workspace: Workspace, *, executor: str = "host-1", launch: bool = True) -> AsyncGenerator[None]:
    """Run an application's own DBOS."""
    # We pass our engine, because DBOS's own can't use an old SQLite on Python 3.12 or later.
    engine = QueueDatabase(workspace.database).engine(connections=20)
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


async def test_worker_uses_the_applications_dbos_and_leaves_it_running(workspace: Workspace, shop: Shop) -> None:
    """A worker uses the application's DBOS. A batch that DBOS starts without a worker waits until one is open."""
    uploads = workspace.uploads(shop, version="app-7")
    async with hosting(workspace), uploads.submitter() as submit:
        async with uploads.worker():
            first = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
            assert (await first.wait(every=POLL_S)).ok
        assert DBOS.executor_id == "host-1"
        second = await submit.file(workspace.file(keys_of(700)), product_id=PRODUCT)
        first_run_id = run_id(second.id, 0, 0)
        with anyio.fail_after(PATIENCE):
            while (await anyio.to_thread.run_sync(second._store.runs_by_id, [first_run_id]))[first_run_id].queued:
                await anyio.sleep(POLL_S)
        async with uploads.worker():
            report = await second.wait(every=POLL_S)
        assert await DBOS.list_queues_async()  # raises an error if DBOS was destroyed
    # The second file begins with the card keys of the first.
    assert (report.stored, report.already_there) == (100, 600)


async def test_closed_worker_in_the_applications_dbos_finishes_its_calls(workspace: Workspace, shop: Shop) -> None:
    """Closing a worker in an application's DBOS waits for the calls in flight, though DBOS keeps running."""
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


async def test_batch_that_was_cancelled_before_the_worker_opened_is_not_sent(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that the application's DBOS started, and that was cancelled before the worker opened, is not sent."""
    uploads = workspace.uploads(shop, version="app-7")
    original_is_taken, answers = job_store.JobStore.is_taken, []
    original_queue_of, started_runs = dbos_host._queue_of, []

    def is_taken(self: job_store.JobStore, name: str, executor: str) -> bool:
        answers.append(original_is_taken(self, name, executor))
        return answers[-1]

    def queue_of(name: str) -> str | None:
        queue = original_queue_of(name)
        started_runs.append(name)
        return queue

    monkeypatch.setattr(job_store.JobStore, "is_taken", is_taken)
    monkeypatch.setattr(dbos_host, "_queue_of", queue_of)
    async with hosting(workspace), uploads.submitter() as submit:
        async with uploads.worker():
            pass
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        name = run_id(job.id, 0, 0)
        # Wait until DBOS has started the run: one that is cancelled earlier never starts.
        await until(lambda: name in started_runs)
        await anyio.to_thread.run_sync(job._store._client.cancel_workflow, name)
        async with uploads.worker():
            await until(lambda: bool(answers))
    assert (answers, len(shop.sent)) == ([False], 0)


async def test_unsuitable_dbos_of_the_application_raises_an_error(workspace: Workspace, shop: Shop) -> None:
    """The error says what to do if DBOS isn't launched, has another version or database, or its name is in use."""
    uploads = workspace.uploads(shop, version="app-7")
    async with hosting(workspace, launch=False):
        with pytest.raises(DurableError, match="isn't launched yet"):
            async with uploads.worker():
                pass
        assert DBOS.executor_id == "host-1"  # the application's DBOS wasn't destroyed
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
            locks = submit._database.worker_locks(submit._database.engine(connections=2), "gatepay")
        assert locks.acquire("host-1")
        with pytest.raises(DurableError, match="executor_id 'host-1'"):
            async with uploads.worker():
                pass
        locks.release()


async def test_application_can_run_a_worker_for_each_of_two_shops(workspace: Workspace, shop: Shop) -> None:
    """With an application's own DBOS, one process can run workers of two queues."""
    shop_1, shop_2 = (workspace.uploads(shop, version="app-7", name=name) for name in ("shop-1", "shop-2"))
    async with (
        hosting(workspace),
        shop_1.worker(),
        shop_2.worker(),
        shop_1.submitter() as first,
        shop_2.submitter() as second,
    ):
        path = workspace.file(keys_of(600))
        jobs = [await first.file(path, product_id=PRODUCT), await second.file(path, product_id=PRODUCT)]
        assert [(await job.wait(every=POLL_S)).ok for job in jobs] == [True, True]
    assert sum(shop.sent.values()) == 4
