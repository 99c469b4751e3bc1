"""Races: a job is cancelled, deleted or submitted again at the worst moment, or a deletion or write fails."""

from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import pytest
from anyio import from_thread
from attrs import define, evolve, field
from durable_shop import Shop, serving
from durable_workspace import POLL_S, PRODUCT, Workspace, keys_of
from waiting import until, wait_until

from gatepay_async.durable import DurableError, DurableUploads, FolderSpool, JobState, QueueUnavailableError, worker
from gatepay_async.durable.jobs import Job
from gatepay_async.durable.records import batches
from gatepay_async.durable.records.results import BatchResult
from gatepay_async.durable.records.rows import BatchTask, RunRow, run_id
from gatepay_async.durable.submitter import Submitter

pytestmark = [pytest.mark.slow, pytest.mark.anyio]


async def first_batch_runs(job: Job, count: int = 3) -> dict[int, RunRow]:
    """Return the existing runs of the first batch of *job*, by their number from 0 to *count* - 1."""
    run_ids = [run_id(job.id, 0, run_number) for run_number in range(count)]
    rows = await anyio.to_thread.run_sync(job._store.runs_by_id, run_ids)
    return {row.task.run_number: row for row in rows.values()}


async def enqueue_second_run(job: Job) -> None:
    """Enqueue a second run of the only batch of *job*, as a worker does that doesn't know the first run's result."""
    first = (await first_batch_runs(job))[0]
    await anyio.to_thread.run_sync(job._store.enqueue_run, evolve(first.task, run_number=1))


async def test_run_of_a_settled_batch_sends_nothing(workspace: Workspace, shop: Shop) -> None:
    """A run of a batch that another run has settled sends nothing, even if the spool's file is deleted by then."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(1000)), product_id=PRODUCT)
        assert (await job.wait(every=POLL_S)).ok
        await enqueue_second_run(job)
        while (await first_batch_runs(job))[1].open:
            await anyio.sleep(POLL_S)
        assert (await job.info()).state is JobState.DONE
    assert set(shop.sent.values()) == {1}


async def test_run_that_is_taken_twice_uses_the_later_result(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a run is requeued and the same worker takes it again, the result of the first time is ignored."""
    shop.latency = 0.3
    uploads = workspace.uploads(shop)
    taken, superseded = anyio.Event(), anyio.Event()
    async with uploads.submitter() as submit, uploads.worker() as this_worker:
        runner, check_and_send = this_worker._runner, this_worker._runner._check_and_send

        async def wait_until_superseded(*_: object) -> BatchResult:
            monkeypatch.setattr(runner, "_check_and_send", check_and_send)
            taken.set()
            await superseded.wait()
            return BatchResult(has_next_run=True)  # if it weren't ignored, there would be a second run

        monkeypatch.setattr(runner, "_check_and_send", wait_until_superseded)
        job = await submit.file(workspace.file(keys_of(1000)), product_id=PRODUCT)
        await taken.wait()
        await anyio.to_thread.run_sync(job._store.requeue, [run_id(job.id, 0, 0)])
        await until(lambda: shop.in_flight == 1)
        superseded.set()
        report = await job.wait(every=POLL_S)
        assert list(await first_batch_runs(job)) == [0]
        await until(lambda: not runner._latest_tasks)
    assert (report.stored, report.ok, set(shop.sent.values())) == (1000, True, {1})


async def test_delete_removes_all_runs(workspace: Workspace, shop: Shop) -> None:
    """``delete`` also removes superfluous runs, which would count as results if the input were submitted again."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(1000)), product_id=PRODUCT)
        async with uploads.worker():
            await job.wait(every=POLL_S)
        await enqueue_second_run(job)
        await job.delete()
        assert await first_batch_runs(job) == {}


@define
class HoldingShop(Shop):
    """A server that delays its first replies, each until an event of ``releases`` is set."""

    releases: list[anyio.Event] = field(factory=list)

    async def wait_before_reply(self) -> None:
        if self.releases:
            await self.releases.pop(0).wait()


async def test_batch_taken_while_its_job_is_cancelled_is_not_sent(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that is taken between the two SQL statements of ``cancel`` isn't sent, and counts as ``not_sent``."""
    monkeypatch.setattr(batches, "CHUNKS_PER_BATCH", 1)
    monkeypatch.setattr(worker, "HOUSEKEEPING_INTERVAL_S", 60)  # so that the worker doesn't notice the cancellation
    release_first, release_second, cancelled = anyio.Event(), anyio.Event(), anyio.Event()
    async with serving(HoldingShop(releases=[release_first, release_second])) as shop:
        uploads = workspace.uploads(shop)
        async with uploads.submitter() as submit, uploads.worker(concurrency=2) as this_worker:
            run = this_worker._runner.run
            client = submit._store._client
            cancel_workflows = client.cancel_workflows
            job = await submit.file(workspace.file(keys_of(1500)), product_id=PRODUCT)
            queued_id = await id_of_queued_run(shop, job)

            def cancel_once_taken(names: list[str]) -> None:
                assert names == [queued_id]
                from_thread.run_sync(release_first.set)
                wait_until(lambda: not job._store.runs_by_id(names)[queued_id].queued)
                cancel_workflows(names)
                from_thread.run_sync(cancelled.set)

            async def run_after_cancellation(task: BatchTask, **options: bool) -> dict[str, Any]:
                await cancelled.wait()
                return await run(task, **options)

            monkeypatch.setattr(client, "cancel_workflows", cancel_once_taken)
            monkeypatch.setattr(this_worker._runner, "run", run_after_cancellation)
            await job.cancel()
            release_second.set()
            while (await job.info()).state is JobState.WORKING:
                await anyio.sleep(POLL_S)
            assert (sum(shop.sent.values()), shop.in_flight) == (2, 0)
            report = await job.wait(every=POLL_S)
            assert (report.stored, report.not_sent, report.unknown) == (1000, 500, 0)
            await job.resume()
            report = await job.wait(every=POLL_S)
    assert (report.stored, report.ok, set(shop.sent.values())) == (1500, True, {1})


async def test_run_cancelled_before_its_first_call_sends_nothing(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is cancelled before its first call sends nothing, because its chunks already count as not sent."""
    async with workspace.uploads(shop).submitter() as submit, workspace.uploads(shop).worker() as this_worker:
        mark_begun, cancelled = this_worker._store.mark_begun, anyio.Event()

        def cancel_and_mark_begun(name: str) -> bool:
            this_worker._store._client.cancel_workflow(name)
            from_thread.run_sync(cancelled.set)
            return mark_begun(name)

        monkeypatch.setattr(this_worker._store, "mark_begun", cancel_and_mark_begun)
        await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        await cancelled.wait()
        await until(lambda: not this_worker._runner.busy)
    assert not shop.sent


async def id_of_queued_run(shop: Shop, job: Job) -> str:
    """Return the ID of the run that is still queued while the runs of the other two batches are being sent."""
    await until(lambda: shop.in_flight == 2)
    run_ids = [run_id(job.id, number, 0) for number in range(3)]
    rows = await anyio.to_thread.run_sync(job._store.runs_by_id, run_ids)
    [queued_id] = [row_id for row_id in run_ids if rows[row_id].queued]
    return queued_id


async def test_submitting_again_just_as_the_job_ends_leaves_no_spool_file(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a job ends while its input is submitted again, the new spool file is deleted."""
    shop.latency = 0.3
    uploads = workspace.uploads(shop)
    path = workspace.file(keys_of(600))
    async with uploads.submitter() as submit, uploads.worker():
        await submit.file(path, product_id=PRODUCT)
        await until(lambda: shop.in_flight)
        put = submit._spool.put

        async def put_after_the_end(name: str, file: BinaryIO) -> None:
            await until(lambda: not list(workspace.spool.glob("*.keys")))
            await put(name, file)
            assert list(workspace.spool.glob("*.keys"))

        monkeypatch.setattr(submit._spool, "put", put_after_the_end)
        await submit.file(path, product_id=PRODUCT)
        assert not list(workspace.spool.glob("*.keys"))


@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)
async def test_worker_deletes_card_keys_left_by_a_killed_worker(workspace: Workspace, shop: Shop) -> None:
    """If a worker was killed just before it deleted an ended job's card keys, the next worker deletes them."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        [spool_file] = workspace.spool.glob("*.keys")
        content = spool_file.read_bytes()
        async with uploads.worker():
            await job.wait(every=POLL_S)
        spool_file.write_bytes(content)
        async with uploads.worker():
            await until(lambda: not spool_file.exists())


class UndeletableSpool(FolderSpool):
    """A spool in which one file can't be deleted."""

    undeletable = ""

    async def delete(self, name: str) -> None:
        """Delete the file, unless it is the undeletable one."""
        if name == self.undeletable:
            raise PermissionError(13, "no")
        await super().delete(name)


@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)
async def test_failed_deletion_does_not_stop_other_deletions(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the file of one job can't be deleted, the files of other jobs are still deleted."""
    monkeypatch.setattr(worker, "HOUSEKEEPING_INTERVAL_S", POLL_S)
    spool = UndeletableSpool(workspace.spool)
    uploads = workspace.uploads(shop, spool=spool)
    async with uploads.submitter() as submit:
        first = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        spool.undeletable = batches.spool_name(first.id)
        async with uploads.worker() as this_worker:
            await until(lambda: first.id in this_worker._jobs_to_tidy)
            second = await submit.file(workspace.file(keys_of(20)), product_id=PRODUCT)
            await until(lambda: [path.name for path in workspace.spool.glob("*.keys")] == [spool.undeletable])
            assert (await second.info()).state is JobState.DONE


async def test_failed_write_leaves_no_card_keys_in_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If writing to the spool fails, no file with card keys remains."""
    spool = FolderSpool(tmp_path / "spool")
    await spool.secret()  # writes the file digest-key

    def copy_until_disk_full(source: BinaryIO, target: BinaryIO) -> None:
        target.write(source.read(8))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("shutil.copyfileobj", copy_until_disk_full)
        with pytest.raises(OSError, match="No space"):
            await spool.put("job.keys", BytesIO(b"0 KEY-1\n" * 100))
    (tmp_path / "spool" / "job.keys").mkdir()  # now the file is written, and renaming it fails
    with pytest.raises(OSError, match=r"job\.keys"):
        await spool.put("job.keys", BytesIO(b"0 KEY-1\n" * 100))
    assert {path.name for path in (tmp_path / "spool").iterdir()} == {"digest-key", "job.keys"}


@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)
async def test_input_name_that_is_not_utf8_is_replaced(workspace: Workspace, shop: Shop) -> None:
    """An input whose name isn't UTF-8 is submitted with a question mark in place of each undecodable byte."""

    class UndecodableName:
        name = "k\udcff.txt"

        async def copy_to(self, file: BinaryIO) -> None:
            file.write(b"KEY-1\n")

    async with workspace.uploads(shop).submitter() as submit:
        job = await submit.file(UndecodableName(), product_id=PRODUCT)
        assert (await job.info()).name == "k?.txt"


async def test_missing_folder_of_the_database_raises_queue_unavailable(tmp_path: Path) -> None:
    """If the SQLite file can't be created, opening a submitter raises ``QueueUnavailableError``."""
    uploads = DurableUploads(lambda: pytest.fail("no client"), database=f"sqlite:///{tmp_path}/none/a.sqlite3")
    with pytest.raises(QueueUnavailableError, match=r"none/a\.sqlite3: No such file or directory"):
        async with uploads.submitter():
            pass


async def test_resume_of_a_job_deleted_meanwhile_raises_an_error(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a job is deleted during ``resume``, ``resume`` raises an error that says so."""
    async with workspace.uploads(shop).submitter() as submit:
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        await job.cancel()
        await delete_after_refresh(monkeypatch, submit, job)
        with pytest.raises(DurableError, match="no longer exists; someone has deleted it"):
            await job.resume()


async def delete_after_refresh(monkeypatch: pytest.MonkeyPatch, submit: Submitter, job: Job) -> None:
    """Delete *job* through another ``Job`` object, right after *job* has read its rows."""
    same_job, refresh = await submit.job(job.id), job._refresh

    async def refresh_then_delete() -> None:
        await refresh()
        await same_job.delete()

    monkeypatch.setattr(job, "_refresh", refresh_then_delete)


@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)
async def test_wait_returns_the_report_if_the_database_fails_at_the_end(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``wait`` returns the report even if the database becomes unavailable right after the job has ended."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        refresh_if_exists = job._refresh_if_exists

        async def refresh_until_ended() -> bool:
            if job._job_progress.all_ended():
                raise QueueUnavailableError(reason="restarted")
            return await refresh_if_exists()

        monkeypatch.setattr(job, "_refresh_if_exists", refresh_until_ended)
        with anyio.fail_after(60):
            assert (await job.wait(every=POLL_S)).ok
