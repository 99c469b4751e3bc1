"""What others do at the wrong moment: wake up, cancel, clean away, submit again, fill the disk."""

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
from gatepay_async.durable.records import batches as batches_room
from gatepay_async.durable.records.results import BatchResult
from gatepay_async.durable.records.rows import BatchTask, RunRow, run_id
from gatepay_async.durable.submitter import Submitter

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

STOP, GO_ON = 19, 18  # signals; SIGSTOP and SIGCONT


async def runs(job: Job, count: int = 3) -> dict[int, RunRow]:
    """The runs of the first batch of *job*, by number."""
    names = [run_id(job.id, 0, run_number) for run_number in range(count)]
    rows = await anyio.to_thread.run_sync(job._store.batches, names)
    return {row.task.run_number: row for row in rows.values()}


async def queue_again(job: Job) -> None:
    """Queue the second run of the only batch of *job*, as a worker does that has lost the first one and can't know."""
    first = (await runs(job))[0]
    await anyio.to_thread.run_sync(job._store.enqueue_run, evolve(first.task, run_number=1))


async def test_a_run_that_nothing_is_left_for(workspace: Workspace, shop: Shop) -> None:
    """A run of a batch that another one has settled sends nothing, and misses no card keys that are gone by then."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(1000)), product_id=PRODUCT)
        assert (await job.wait(every=POLL_S)).ok
        await queue_again(job)
        while (await runs(job))[1].open:
            await anyio.sleep(POLL_S)
        assert (await job.info()).state is JobState.DONE
    assert set(shop.sent.values()) == {1}


async def test_taken_and_taken_again(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two runs of one name in one worker the earlier one has lost it; what it leaves is the later one's."""
    shop.latency = 0.3
    uploads = workspace.uploads(shop)
    taken, lost = anyio.Event(), anyio.Event()
    async with uploads.submitter() as submit, uploads.worker() as it:
        runner, run = it._runner, it._runner._send_batch

        async def first(*_: object) -> BatchResult:
            monkeypatch.setattr(runner, "_send_batch", run)
            taken.set()
            await lost.wait()
            return BatchResult(follows=True)

        monkeypatch.setattr(runner, "_send_batch", first)
        job = await submit.file(workspace.file(keys_of(1000)), product_id=PRODUCT)
        await taken.wait()
        await anyio.to_thread.run_sync(job._store.requeue, [run_id(job.id, 0, 0)])
        await until(lambda: shop.in_flight == 1)
        lost.set()
        report = await job.wait(every=POLL_S)
        assert list(await runs(job)) == [0]
        await until(lambda: not runner._latest)
    assert (report.stored, report.ok, set(shop.sent.values())) == (1000, True, {1})


async def test_all_of_it_is_forgotten(workspace: Workspace, shop: Shop) -> None:
    """delete() removes also a run that nobody asks for; it would speak for the same input, submitted anew."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(1000)), product_id=PRODUCT)
        async with uploads.worker():
            await job.wait(every=POLL_S)
        await queue_again(job)
        await job.delete()
        assert await runs(job) == {}


@define
class Held(Shop):
    """One that answers its first calls only when it is told to, each by itself; later ones at once."""

    told: list[anyio.Event] = field(factory=list)

    async def think(self) -> None:
        if self.told:
            await self.told.pop(0).wait()


async def test_cancelled_just_as_it_is_taken(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch taken between the two statements of a cancellation, by a worker at the job, is `not_sent`."""
    monkeypatch.setattr(batches_room, "CHUNKS_PER_BATCH", 1)
    monkeypatch.setattr(worker, "HOUSEKEEPING_INTERVAL_S", 60)
    first, second, cancelled = anyio.Event(), anyio.Event(), anyio.Event()
    async with serving(Held(told=[first, second])) as shop:
        uploads = workspace.uploads(shop)
        async with uploads.submitter() as submit, uploads.worker(concurrency=2) as it:
            run = it._runner.run
            client = submit._store._client
            cancel = client.cancel_workflows
            job = await submit.file(workspace.file(keys_of(1500)), product_id=PRODUCT)
            [free] = [await free_one(shop, job)]

            def late(names: list[str]) -> None:
                assert names == [free]
                from_thread.run_sync(first.set)
                wait_until(lambda: not job._store.batches(names)[free].queued)
                cancel(names)
                from_thread.run_sync(cancelled.set)

            async def after_that(task: BatchTask, *, late: bool) -> dict[str, Any]:
                await cancelled.wait()
                return await run(task, late=late)

            monkeypatch.setattr(client, "cancel_workflows", late)
            monkeypatch.setattr(it._runner, "run", after_that)
            await job.cancel()
            second.set()
            while (await job.info()).state is JobState.WORKING:
                await anyio.sleep(POLL_S)
            assert (sum(shop.sent.values()), shop.in_flight) == (2, 0)
            before = await job.wait(every=POLL_S)
            assert (before.stored, before.not_sent, before.unknown) == (1000, 500, 0)
            await job.resume()
            report = await job.wait(every=POLL_S)
    assert (report.stored, report.ok, set(shop.sent.values())) == (1500, True, {1})


async def test_cancelled_just_as_it_begins(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is cancelled before its first call, by whomever, makes none: others may count on that by then."""
    async with workspace.uploads(shop).submitter() as submit, workspace.uploads(shop).worker() as it:
        begin, ended = it._store.mark_begun, anyio.Event()

        def late(name: str) -> bool:
            it._store._client.cancel_workflow(name)
            from_thread.run_sync(ended.set)
            return begin(name)

        monkeypatch.setattr(it._store, "mark_begun", late)
        await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        await ended.wait()
        await until(lambda: not it._runner.busy)
    assert not shop.sent


async def free_one(shop: Shop, job: Job) -> str:
    """The batch of three that is queued still, while the two others are sent."""
    await until(lambda: shop.in_flight == 2)
    names = [run_id(job.id, number, 0) for number in range(3)]
    rows = await anyio.to_thread.run_sync(job._store.batches, names)
    [free] = [name for name in names if rows[name].queued]
    return free


async def test_submitted_again_just_as_it_ends(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is put aside when the last of it has just been stored doesn't stay."""
    shop.latency = 0.3
    uploads = workspace.uploads(shop)
    path = workspace.file(keys_of(600))
    async with uploads.submitter() as submit, uploads.worker():
        await submit.file(path, product_id=PRODUCT)
        await until(lambda: shop.in_flight)
        put = submit._spool.put

        async def late(name: str, file: BinaryIO) -> None:
            await until(lambda: not list(workspace.spool.glob("*.keys")))
            await put(name, file)
            assert list(workspace.spool.glob("*.keys"))

        monkeypatch.setattr(submit._spool, "put", late)
        await submit.file(path, product_id=PRODUCT)
        assert not list(workspace.spool.glob("*.keys"))


@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)
async def test_left_by_the_dead(workspace: Workspace, shop: Shop) -> None:
    """Card keys that a worker left which was killed just before it deleted them are deleted by the next one."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        [kept] = workspace.spool.glob("*.keys")
        content = kept.read_bytes()
        async with uploads.worker():
            await job.wait(every=POLL_S)
        kept.write_bytes(content)
        async with uploads.worker():
            await until(lambda: not kept.exists())


class Stubborn(FolderSpool):
    """One in which some can't be deleted."""

    kept = ""

    async def delete(self, name: str) -> None:
        """As ``Spool.delete``."""
        if name == self.kept:
            raise PermissionError(13, "no")
        await super().delete(name)


@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)
async def test_one_that_cannot_be_deleted(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that can't be deleted doesn't keep those of other jobs from being deleted."""
    monkeypatch.setattr(worker, "HOUSEKEEPING_INTERVAL_S", POLL_S)
    spool = Stubborn(workspace.spool)
    uploads = workspace.uploads(shop, spool=spool)
    async with uploads.submitter() as submit:
        one = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        spool.kept = batches_room.spool_name(one.id)
        async with uploads.worker() as it:
            await until(lambda: one.id in it._jobs_to_tidy)
            two = await submit.file(workspace.file(keys_of(20)), product_id=PRODUCT)
            await until(lambda: [path.name for path in workspace.spool.glob("*.keys")] == [spool.kept])
            assert (await two.info()).state is JobState.DONE


async def test_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where card keys can't be put aside, none of them are left lying there."""
    spool = FolderSpool(tmp_path / "spool")
    await spool.secret()

    def full(source: BinaryIO, target: BinaryIO) -> None:
        target.write(source.read(8))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("shutil.copyfileobj", full)
        with pytest.raises(OSError, match="No space"):
            await spool.put("job.keys", BytesIO(b"0 KEY-1\n" * 100))
    (tmp_path / "spool" / "job.keys").mkdir()
    with pytest.raises(OSError, match=r"job\.keys"):
        await spool.put("job.keys", BytesIO(b"0 KEY-1\n" * 100))
    assert {path.name for path in (tmp_path / "spool").iterdir()} == {"digest-key", "job.keys"}


@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)
async def test_a_name_that_is_no_text(workspace: Workspace, shop: Shop) -> None:
    """A file whose name isn't UTF-8 is submitted as any other, under a name that can be shown."""

    class Odd:
        name = "k\udcff.txt"

        async def copy_to(self, file: BinaryIO) -> None:
            file.write(b"KEY-1\n")

    async with workspace.uploads(shop).submitter() as submit:
        job = await submit.file(Odd(), product_id=PRODUCT)
        assert (await job.info()).name == "k?.txt"


async def test_no_folder_for_the_database(tmp_path: Path) -> None:
    """Where the database's file can't be made, it is the queue that can't be used."""
    uploads = DurableUploads(lambda: pytest.fail("no client"), database=f"sqlite:///{tmp_path}/none/a.sqlite3")
    with pytest.raises(QueueUnavailableError, match=r"none/a\.sqlite3: No such file or directory"):
        async with uploads.submitter():
            pass


async def test_resumed_and_cleaned_away(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that somebody cleans away while another resumes it is gone."""
    async with workspace.uploads(shop).submitter() as submit:
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        await job.cancel()
        await look_and(monkeypatch, submit, job)
        with pytest.raises(DurableError, match="no longer exists; someone has deleted it"):
            await job.resume()


async def look_and(monkeypatch: pytest.MonkeyPatch, submit: Submitter, job: Job) -> None:
    """Have another clean *job* away, just when it has been looked at."""
    other, look = await submit.job(job.id), job._refresh

    async def slow() -> None:
        await look()
        await other.delete()

    monkeypatch.setattr(job, "_refresh", slow)


@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)
async def test_the_database_goes_at_the_end(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """wait() has its report, though the database goes away in the moment when all has ended."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        ask = job._refresh_if_exists

        async def once() -> bool:
            if job._job_progress.all_ended():
                raise QueueUnavailableError(reason="restarted")
            return await ask()

        monkeypatch.setattr(job, "_refresh_if_exists", once)
        with anyio.fail_after(60):
            assert (await job.wait(every=POLL_S)).ok
