"""Durable uploads through their public interface, on SQLite and PostgreSQL, with real sockets."""

import base64
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
import trio
from anyio import from_thread
from dbos import DBOS
from durable_shop import Shop
from durable_workspace import POLL_S, PRODUCT, Workspace, adds_up, keys_of
from sqlalchemy.exc import OperationalError
from waiting import PATIENCE, until

from gatepay_async import (
    AsyncGatePay,
    DuplicateKeysError,
    EndpointClosedError,
    Fate,
    InvalidRequestError,
    RetryPolicy,
    TransportError,
)
from gatepay_async.durable import (
    DurableError,
    DurableUploads,
    FolderSpool,
    Job,
    JobState,
    QueueUnavailableError,
    Rate,
    SourceChangedError,
    worker,
)
from gatepay_async.durable.records import batches
from gatepay_async.durable.records.batches import Batch
from gatepay_async.durable.records.job_progress import JobProgress
from gatepay_async.durable.records.results import BatchResult
from gatepay_async.durable.records.rows import BatchTask, RunRow
from gatepay_async.durable.spool import writer
from gatepay_async.durable.work import dbos_host, runner
from gatepay_async.durable.work.rate_limiter import RateLimiter

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

# GatePay's codes in replies of ka/create.
ENDPOINT_CLOSED = 107  # applies to every chunk
KEY_REFUSED = 109  # applies to a single card key
STORAGE_FAILED = 113  # GatePay's database is down, or can't store a card key

# PostgreSQL doubles the time, so only tests whose result depends on SQL, locks or connections run on it, too.
on_sqlite = pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)


async def test_uploaded_file_has_the_report_of_a_plain_upload(workspace: Workspace, shop: Shop) -> None:
    """Each card key of a file is stored once, and the report equals that of ``upload_card_keys``."""
    lines = [
        "\ufeffKEY-first",
        *keys_of(1700),
        "",
        "  KEY-blank  ",
        "KEY-000000003",
        "卡密-一",
        "no\0key",
        "x\0y",
        "last",
    ]
    path = workspace.file(lines)
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker(concurrency=2):
        job = await submit.file(path, product_id=PRODUCT)
        progress_values = [progress async for progress in job.progress(every=POLL_S)]
        report = await job.wait(every=POLL_S)
    stored = set(shop.stored)
    async with AsyncGatePay("key", "secret", base_url=shop.base_url) as gatepay:
        shop.stored.clear()
        with path.open(encoding="utf-8") as file:
            plain = await gatepay.upload_card_keys(PRODUCT, file)
    assert stored == set(shop.stored)
    assert set(shop.stored.values()) == {1}
    assert [str(outcome.error) for outcome in report.chunks] == [str(outcome.error) for outcome in plain.chunks]
    assert (repr(report), report.ok) == (repr(plain), False)
    assert [outcome.keys for outcome in report.chunks] == [outcome.keys for outcome in plain.chunks]
    assert adds_up(report)
    assert (progress_values[-1].stored, progress_values[-1].refused, progress_values[-1].in_flight) == (1704, 2, 0)
    assert progress_values[-1].read == len(lines)


@on_sqlite
async def test_first_run_of_a_batch_looks_for_no_earlier_runs(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run of a batch doesn't query the database for the results of earlier runs, since there are none."""
    queries: list[list[str]] = []
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker() as this_worker:
        runs_by_id = this_worker._store.runs_by_id

        def record_query(ids: list[str]) -> dict[str, RunRow]:
            queries.append(ids)
            return runs_by_id(ids)

        monkeypatch.setattr(this_worker._store, "runs_by_id", record_query)
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        assert (await job.wait(every=POLL_S)).ok
    assert [] not in queries  # a query for earlier runs would have an empty list of IDs


@pytest.mark.slow
async def test_same_file_and_product_return_the_same_job(workspace: Workspace, shop: Shop) -> None:
    """Submitting the same content for the same product returns the existing job. Another product makes another job."""
    path = workspace.file(keys_of(10))
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        first = await submit.file(path, product_id=PRODUCT)
        job_of_copy = await submit.file(workspace.file(keys_of(10), "copy.txt"), product_id=PRODUCT)
        other_job = await submit.file(path, product_id=9)
        async with uploads.worker():
            await first.wait(every=POLL_S)
            await other_job.wait(every=POLL_S)
        job_of_ended_upload = await submit.file(path, product_id=PRODUCT)
        assert (await job_of_ended_upload.wait(every=POLL_S)).ok
        # In any order: both may have been created in the same millisecond.
        assert [job.id for job in await submit.jobs()] in (
            [other_job.id, first.id],
            [first.id, other_job.id],
        )
    assert first.id == job_of_copy.id == job_of_ended_upload.id != other_job.id
    assert sum(shop.sent.values()) == 2


async def test_concurrent_submissions_of_a_file_make_one_job(empty_workspace: Workspace, shop: Shop) -> None:
    """If the same file is submitted four times concurrently, there is one job, and each chunk is sent once."""
    path = empty_workspace.file(keys_of(1200))
    uploads = empty_workspace.uploads(shop)
    ids = set()

    async def submit_file() -> None:
        async with uploads.submitter() as submit:
            job = await submit.file(path, product_id=PRODUCT)
            ids.add(job.id)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(submit_file)
    async with uploads.submitter() as submit, uploads.worker():
        [job_id] = ids
        report = await (await submit.job(job_id)).wait(every=POLL_S)
    assert (report.stored, set(shop.sent.values())) == (1200, {1})


@on_sqlite
async def test_file_without_card_keys_is_done_when_submitted(workspace: Workspace, shop: Shop) -> None:
    """The job of a file without card keys is done at once, without a worker; ``cancel`` and ``resume`` do nothing."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(["", "  "]), product_id=PRODUCT)
        report = await job.wait()
        info = await job.info()
        await job.cancel()
        await job.resume()
    assert (report.read, report.blank, report.ok, info.state) == (2, 2, True, JobState.DONE)
    assert repr(job) == f"<Job {job.id} of 'keys.txt'>"


# test_durable_processes.py checks the same on both databases, with a worker that is killed.
@on_sqlite
async def test_database_and_logs_contain_no_card_key(
    workspace: Workspace, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """The database, its journals and the logs contain no card key, neither raw nor in base64."""
    keys = [f"SECRET{number:06d}KEY" for number in range(2000)]
    keys[700] = "SECRET\0NUL"
    uploads = workspace.uploads(shop)
    shop.refuse_with["SECRET001234KEY"] = KEY_REFUSED
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys), product_id=PRODUCT)
        async with uploads.worker():
            report = await job.wait(every=POLL_S)
        text = b"".join(workspace.database_contents()) + caplog.text.encode()
    assert report.refused == 2
    assert adds_up(report)
    assert b"keys.txt" in text  # so the right files were searched
    assert b"SECRET" not in text
    for shift in range(3):  # three bytes are encoded together, so the result depends on the position
        encoded = base64.b64encode(b"-" * shift + b"SECRET001234KEY")
        assert encoded[4:-4] not in text


@on_sqlite
async def test_only_the_owner_can_read_the_spool(workspace: Workspace, shop: Shop) -> None:
    """Only the owner can read the spool and its files. Once the server has all card keys, their file is deleted."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (workspace.spool, *workspace.spool.iterdir())}
        assert modes == {0o700, 0o600}
        async with uploads.worker():
            await job.wait(every=POLL_S)
    assert [path.name for path in workspace.spool.iterdir()] == ["digest-key"]


@on_sqlite
async def test_spool_is_emptied_without_a_call_of_wait(workspace: Workspace, shop: Shop) -> None:
    """When the server has all card keys of a job, they are deleted from the spool, even if nobody calls ``wait``."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        await submit.file(workspace.file(["no\0key", *keys_of(9, "MORE")], "bad.txt"), product_id=PRODUCT)
        async with uploads.worker():
            await until(lambda: len([*workspace.spool.glob("*.keys")]) == 1)
            await until(lambda: len(shop.sent) == 2)
        [remaining] = workspace.spool.glob("*.keys")
        assert b"no\0key" in remaining.read_bytes()  # the report lists this refused card key


@on_sqlite
async def test_job_whose_spool_file_changed_is_stopped(workspace: Workspace, shop: Shop) -> None:
    """If the spool's file was changed, cut or deleted, nothing is sent, and the report has a ``SourceChangedError``."""
    uploads = workspace.uploads(shop)
    jobs: list[Job] = []
    async with uploads.submitter() as submit:
        for damage in ("changed", "cut", "gone"):
            job = await submit.file(workspace.file(["no\0key", *keys_of(900, damage)]), product_id=PRODUCT)
            path = workspace.spool / batches.spool_name(job.id)
            data = path.read_bytes()
            path.write_bytes(data[:-1] + b"X" if damage == "changed" else data[:-100])
            if damage == "gone":
                path.unlink()
            jobs.append(job)
        async with uploads.worker():
            reports = [await job.wait(every=POLL_S) for job in jobs]
        assert [(await job.info()).state for job in jobs] == [JobState.STOPPED] * 3
    assert not shop.sent
    assert [type(report.stopped) for report in reports] == [SourceChangedError] * 3
    assert [(report.not_sent, report.refused) for report in reports] == [(900, 1)] * 3
    assert all(adds_up(report) for report in reports)


@on_sqlite
@pytest.mark.usefixtures("small_batches")
@pytest.mark.slow
async def test_submitting_again_restores_a_lost_spool_file(workspace: Workspace, shop: Shop) -> None:
    """If a spool file was deleted, submitting the input again restores it, and ``resume`` sends the rest."""
    uploads = workspace.uploads(shop)
    path = workspace.file(keys_of(2500))
    async with uploads.submitter() as submit, uploads.worker():
        await submit.file(workspace.file(["one"], "other.txt"), product_id=PRODUCT)
        await until(lambda: bool(shop.sent))
        shop.refuse = ENDPOINT_CLOSED
        job = await submit.file(path, product_id=PRODUCT)
        await job.wait(every=POLL_S)
        for path_in_spool in workspace.spool.glob("*.keys"):
            path_in_spool.unlink()
        shop.refuse = 0
        await job.resume()
        assert isinstance((await job.wait(every=POLL_S)).stopped, SourceChangedError)
        resubmitted_job = await submit.file(path, product_id=PRODUCT)
        await resubmitted_job.resume()
        report = await resubmitted_job.wait(every=POLL_S)
    assert resubmitted_job.id == job.id
    assert report.stored == 2500
    assert report.stopped is None


@on_sqlite
@pytest.mark.slow
async def test_two_queues_can_share_a_spool(workspace: Workspace, shop: Shop) -> None:
    """The same file submitted to two queues makes two jobs, even if the queues share a spool."""
    path = workspace.file(keys_of(600))
    queues = [workspace.uploads(shop, name="one"), workspace.uploads(shop, name="two")]
    async with queues[0].submitter() as first, queues[1].submitter() as second:
        jobs = [await first.file(path, product_id=PRODUCT), await second.file(path, product_id=PRODUCT)]
        for uploads, job in zip(queues, jobs, strict=True):
            async with uploads.worker():
                assert (await job.wait(every=POLL_S)).ok


@on_sqlite
async def test_submitter_writes_no_card_key_to_a_named_file(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an input is read, no named file holds card keys, so a killed submitter leaves none behind."""
    monkeypatch.setenv("TMPDIR", str(workspace.folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    path = workspace.file([f"SECRET-{number}" for number in range(3000)])
    spool = writer.spool
    contents: list[bytes] = []

    def spool_and_read_files(*args: object, **options: object) -> object:
        spooled = spool(*args, **options)  # type: ignore[arg-type]  # passed on unchanged
        for file in workspace.folder.rglob("*"):
            with suppress(FileNotFoundError, IsADirectoryError):  # SQLite deletes its journals meanwhile
                contents.extend([file.read_bytes()] if file != path else [])
        return spooled

    monkeypatch.setattr(writer, "spool", spool_and_read_files)
    async with workspace.uploads(Shop()).submitter() as submit:
        await submit.file(path, product_id=PRODUCT)
    assert contents
    assert not [content for content in contents if b"SECRET" in content]


@on_sqlite
async def test_file_that_changes_while_it_is_read_is_refused(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Submitting a file that changes while it is read raises ``SourceChangedError`` and creates no job."""
    path = workspace.file(keys_of(10))
    spool = writer.spool

    def write_and_read(*args: object, **options: object) -> object:
        with path.open("a") as file:
            file.write("one more\n")
        return spool(*args, **options)  # type: ignore[arg-type]  # passed on unchanged

    monkeypatch.setattr(writer, "spool", write_and_read)
    async with workspace.uploads(shop).submitter() as submit:
        with pytest.raises(SourceChangedError, match=r"keys\.txt: has changed while it was read"):
            await submit.file(path, product_id=PRODUCT)
        assert await submit.jobs() == []
    assert not list(workspace.spool.glob("*.keys"))


@pytest.mark.usefixtures("small_batches")
@pytest.mark.slow
async def test_refusal_of_every_chunk_stops_the_job_until_resume(workspace: Workspace, shop: Shop) -> None:
    """A refusal that applies to every chunk stops the job. ``resume`` then sends all chunks, also the refused one."""
    shop.refuse = ENDPOINT_CLOSED
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker(concurrency=2):
        job = await submit.file(workspace.file(keys_of(4500)), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
        assert (await job.info()).state is JobState.STOPPED
        assert isinstance(report.stopped, EndpointClosedError)
        assert (report.stored, report.refused + report.not_sent, report.unknown) == (0, 4500, 0)
        assert adds_up(report)
        assert {key for outcome in report.chunks for key in outcome.keys} == set(keys_of(4500))
        assert all(outcome.error is not None for outcome in report.chunks)
        shop.refuse = 0
        await job.resume()
        final_report = await job.wait(every=POLL_S)
    assert (final_report.stopped, final_report.stored, final_report.ok) == (None, 4500, True)
    assert adds_up(final_report)
    assert not list(workspace.spool.glob("*.keys"))


@on_sqlite
@pytest.mark.slow
async def test_job_that_is_stopped_during_a_query_reports_the_reason(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a job is stopped between two queries of ``wait``, the report has the error that stopped it."""
    shop.refuse = ENDPOINT_CLOSED
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        store, query_runs = job._store, job._store.runs_by_id

        def query_after_the_stop(names: list[str]) -> object:
            while any(row.open for row in query_runs(names).values()):
                pass  # until the worker has stopped the job
            return query_runs(names)

        monkeypatch.setattr(store, "runs_by_id", query_after_the_stop)
        assert isinstance((await job.wait(every=POLL_S)).stopped, EndpointClosedError)


@on_sqlite
async def test_refused_card_key_does_not_stop_the_rest_of_its_chunk(workspace: Workspace, shop: Shop) -> None:
    """If GatePay refuses one card key, the others of its chunk are stored, and ``resume`` changes nothing."""
    shop.refuse_with["KEY-000000123"] = KEY_REFUSED
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
        await job.resume()
        assert repr(await job.wait(every=POLL_S)) == repr(report)
    [bad] = [outcome for outcome in report.chunks if outcome.fate is Fate.REFUSED]
    assert (bad.keys, bad.first_line, report.stored) == (("KEY-000000123",), 124, 599)
    assert isinstance(bad.error, DuplicateKeysError)
    assert adds_up(report)


@pytest.mark.slow
@pytest.mark.usefixtures("small_batches")
async def test_resume_after_cancel_sends_the_rest_once(workspace: Workspace, shop: Shop) -> None:
    """After ``cancel``, calls in flight finish and nothing more is sent. ``resume`` sends the rest, each chunk once."""
    shop.latency = POLL_S
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker(concurrency=2):
        job = await submit.file(workspace.file(keys_of(10_000)), product_id=PRODUCT)
        await until(lambda: len(shop.sent) >= 4)
        shop.latency = 1.0  # so that the job is still working during the calls below
        with pytest.raises(DurableError, match="cancel it first"):
            await job.delete()
        await job.resume()
        assert (await job.info()).state is JobState.WORKING
        await job.cancel()
        shop.latency = 0
        report = await job.wait(every=POLL_S)
        assert (await job.info()).state is JobState.CANCELLED
        assert isinstance(report.stopped, DurableError)
        assert 0 < report.stored < 10_000
        assert report.not_sent == 10_000 - report.stored - report.unknown
        assert adds_up(report)
        await job.cancel()
        await job.resume()
        final_report = await job.wait(every=POLL_S)
    assert final_report.stored + final_report.already_there == 10_000
    assert final_report.ok
    # Of the 20 chunks, only those with an unknown outcome may be sent twice.
    assert sum(shop.sent.values()) <= 20 + report.unknown / 500
    assert set(shop.stored.values()) == {1}


async def test_deleted_job_can_be_submitted_again(workspace: Workspace, shop: Shop) -> None:
    """``delete`` removes an ended job and its card keys. Submitting the file again makes a new job with the same ID."""
    shop.refuse = ENDPOINT_CLOSED
    uploads = workspace.uploads(shop)
    path = workspace.file(keys_of(600))
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(path, product_id=PRODUCT)
        await job.wait(every=POLL_S)
        await job.delete()
        assert (await submit.jobs(), list(workspace.spool.glob("*.keys"))) == ([], [])
        with pytest.raises(DurableError, match="there is no job"):
            await submit.job(job.id)
        with pytest.raises(DurableError, match="no longer exists"):
            await job.info()
        shop.refuse = 0
        new_job = await submit.file(path, product_id=PRODUCT)
        assert (await new_job.wait(every=POLL_S)).ok
    assert new_job.id == job.id


@on_sqlite
async def test_worker_checks_again_whether_a_job_has_ended(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that checks a job before its last result is stored checks again later and deletes the card keys."""
    monkeypatch.setattr(worker, "HOUSEKEEPING_INTERVAL_S", POLL_S)
    first_answers = [False, False]
    ended = JobProgress.all_ended
    monkeypatch.setattr(
        JobProgress, "all_ended", lambda job_progress: first_answers.pop() if first_answers else ended(job_progress)
    )
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        async with uploads.worker():
            await until(lambda: not first_answers and not list(workspace.spool.glob("*.keys")))


@pytest.mark.slow
async def test_worker_ignores_that_an_ended_job_was_deleted(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker logs nothing if a job is deleted just before the worker deletes the job's card keys."""
    monkeypatch.setattr(worker, "HOUSEKEEPING_INTERVAL_S", POLL_S)
    worker_arrived = anyio.Event()
    deleted = anyio.Event()
    tidy = Job.tidy

    async def tidy_after_deletion(job: Job) -> bool:
        if job.id in this_worker._jobs_to_tidy:
            worker_arrived.set()
            await deleted.wait()
        return await tidy(job)

    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        async with uploads.worker() as this_worker:
            monkeypatch.setattr(Job, "tidy", tidy_after_deletion)
            async for _ in job.progress(every=POLL_S):
                pass
            await worker_arrived.wait()
            await job.delete()
            deleted.set()
    assert (caplog.messages, list(workspace.spool.glob("*.keys"))) == ([], [])


@on_sqlite
@pytest.mark.slow
async def test_batch_of_a_deleted_job_is_not_sent(workspace: Workspace, shop: Shop) -> None:
    """A queued batch whose job was deleted ends without sending anything."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        await anyio.to_thread.run_sync(job._store.delete, [job.id])
        async with uploads.worker():
            first_run_id = f"{job.id}.0.0"  # batch 0, run 0
            with anyio.fail_after(PATIENCE):
                while (await anyio.to_thread.run_sync(job._store.runs_by_id, [first_run_id]))[first_run_id].open:
                    await anyio.sleep(POLL_S)
    assert not shop.sent


@on_sqlite
async def test_upload_continues_when_the_server_is_back(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the server is down, batches are retried. When it is back, the upload continues without any call."""
    monkeypatch.setattr(runner, "MAX_BACKOFF_S", POLL_S)
    shop.down = True
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker(concurrency=2):
        job = await submit.file(workspace.file(keys_of(1500)), product_id=PRODUCT)
        await until(lambda: shop.cut_connections > 20)
        shop.down = False
        report = await job.wait(every=POLL_S)
    assert (report.stored, report.ok, set(shop.stored.values())) == (1500, True, {1})
    assert adds_up(report)


@pytest.mark.slow
async def test_batch_ends_after_too_many_runs_without_a_reply(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After too many runs without a reply, a batch ends and the report counts unknown outcomes. ``resume`` retries."""
    monkeypatch.setattr(runner, "MAX_BACKOFF_S", POLL_S)
    monkeypatch.setattr(runner, "MAX_UNANSWERED_RUNS", 1)
    shop.down = True
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker(concurrency=2):
        job = await submit.file(workspace.file(keys_of(1500)), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
        assert (await job.info()).state is JobState.DONE
        assert (report.unknown, report.not_sent, report.stopped) == (
            1000,
            500,
            None,
        )  # a run gives up before the third chunk
        assert isinstance(report.chunks[0].error, TransportError)
        assert adds_up(report)
        shop.down = False
        await job.resume()
        assert (await job.wait(every=POLL_S)).ok


@pytest.mark.slow
@on_sqlite
async def test_card_key_that_cannot_be_stored_is_refused_alone(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the server can't store one card key, only this one is refused in the end; all others are stored."""
    monkeypatch.setattr(runner, "MAX_BACKOFF_S", POLL_S)
    monkeypatch.setattr(runner, "MAX_UNANSWERED_RUNS", 1)
    shop.refuse_with["KEY-000000001"] = STORAGE_FAILED
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(2000)), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
    assert (report.stored, report.refused) == (1999, 1)
    (refused,) = [outcome for outcome in report.chunks if outcome.error]
    assert (refused.first_line, refused.last_line, refused.keys) == (2, 2, ("KEY-000000001",))
    assert adds_up(report)


@on_sqlite
@pytest.mark.slow
async def test_batches_wait_while_the_spool_cannot_be_read(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While reading the spool fails, batches are retried; afterwards all card keys are sent."""
    monkeypatch.setattr(runner, "MAX_BACKOFF_S", POLL_S)

    class FailingSpool(FolderSpool):
        failures = 5

        async def read(self, name: str, offset: int, length: int) -> bytes:
            if self.failures:
                self.failures -= 1
                raise PermissionError("SECRET")
            return await super().read(name, offset, length)

    uploads = workspace.uploads(shop, spool=FailingSpool(workspace.spool))
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
    assert report.ok


@on_sqlite
async def test_unexpected_exception_stops_the_job(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception from a bug stops the job. The report names its class, not its text, which may contain secrets."""

    async def raise_bug(self: object, call: object) -> object:
        raise ZeroDivisionError("SECRET")

    monkeypatch.setattr(AsyncGatePay, "_send_card_keys", raise_bug)
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
    assert (report.unknown, report.not_sent) == (500, 100)  # the first chunk may have arrived; the second wasn't sent
    assert "ZeroDivisionError" in str(report.stopped)
    assert "SECRET" not in str(report.stopped)


@on_sqlite
async def test_invalid_call_stops_the_job(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ``InvalidRequestError``, raised before a call is sent, stops the job; nothing counts as sent."""

    async def raise_invalid(self: object, call: object) -> object:
        raise InvalidRequestError(field="client", problem="has been closed")

    monkeypatch.setattr(AsyncGatePay, "_send_card_keys", raise_invalid)
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
    assert (report.not_sent, str(report.stopped)) == (600, "client: has been closed")


@pytest.mark.slow
@pytest.mark.usefixtures("small_batches")
async def test_closed_worker_finishes_its_calls_and_requeues_the_rest(workspace: Workspace, shop: Shop) -> None:
    """A worker that is closed finishes its calls in flight and requeues the rest, which the next worker sends once."""
    shop.latency = POLL_S
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(10_000)), product_id=PRODUCT)
        async with uploads.worker(concurrency=2):
            await until(lambda: len(shop.sent) >= 4)
        chunks_sent = len(shop.sent)
        so_far = (await job.info()).progress
        async with uploads.worker(concurrency=2):
            report = await job.wait(every=POLL_S)
    assert chunks_sent < 20  # the file has 20 chunks
    assert (so_far.stored, so_far.not_sent, so_far.in_flight) == (500 * chunks_sent, 0, 10_000 - 500 * chunks_sent)
    assert (report.stored, report.ok, set(shop.sent.values())) == (10_000, True, {1})
    assert adds_up(report)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.slow
async def test_cancelled_worker_block_closes_the_worker(workspace: Workspace, shop: Shop) -> None:
    """Cancelling the block of a worker closes the worker: nothing is sent twice, and another worker can open."""
    shop.latency = POLL_S
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(10_000)), product_id=PRODUCT)
        with anyio.CancelScope() as scope:
            async with uploads.worker(concurrency=2) as this_worker:
                await until(lambda: len(shop.sent) >= 4)
                scope.cancel()
                await anyio.sleep_forever()
        assert await anyio.to_thread.run_sync(job._store.taken) == []
        with pytest.raises(OSError, match="expected"):
            async with uploads.worker():
                raise OSError("expected")
        async with uploads.worker(concurrency=2):
            report = await job.wait(every=POLL_S)
    assert not this_worker._runner.busy
    assert (report.stored, report.ok, set(shop.sent.values())) == (10_000, True, {1})


@pytest.mark.slow
async def test_worker_can_open_after_a_cancelled_attempt_to_open(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If opening a worker fails and is cancelled at the same time, another worker can still be opened afterwards."""
    uploads = workspace.uploads(shop)
    scope = anyio.CancelScope()

    def launch() -> None:
        from_thread.run_sync(scope.cancel)
        raise OSError("expected")

    monkeypatch.setattr(DBOS, "launch", launch)
    with pytest.raises(OSError, match="expected"), scope:
        async with uploads.worker():
            pass
    monkeypatch.undo()
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        assert (await job.wait(every=POLL_S)).ok


@pytest.mark.slow
async def test_closed_worker_requeues_unfinished_batches_at_once(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed worker requeues the batches it didn't finish, without waiting for another worker to find them."""
    monkeypatch.setattr(dbos_host, "SHUTDOWN_TIMEOUT_S", 1)
    shop.latency = 30.0
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        async with uploads.worker():
            await until(lambda: shop.in_flight == 1)
        first_run_id = f"{job.id}.0.0"  # batch 0, run 0
        assert (await anyio.to_thread.run_sync(job._store.runs_by_id, [first_run_id]))[first_run_id].queued


@pytest.mark.slow
async def test_worker_logs_an_unavailable_database_once(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker logs one warning each: when the database fails, when it is back, and when closing can't requeue."""
    monkeypatch.setattr(worker, "HOUSEKEEPING_INTERVAL_S", POLL_S)
    uploads = workspace.uploads(shop)

    failed_queries: list[object] = []

    def fail(*arguments: object) -> None:
        failed_queries.append(arguments)
        raise OperationalError("SELECT", {}, Exception("SECRET"))

    async with uploads.worker() as this_worker:
        this_worker._runner.idle_jobs.add("gatepay:none")  # as if this job had been deleted
        await until(lambda: not this_worker._runner.idle_jobs)
        with monkeypatch.context() as patched:
            patched.setattr(this_worker, "_requeue_orphans", fail)
            await until(lambda: len(failed_queries) > 2)
            assert "can't reach the queue (OperationalError)" in caplog.text
        await until(lambda: "the queue is available again" in caplog.text)
        monkeypatch.setattr(this_worker, "_requeue_own", fail)
    assert "can't requeue this worker's batches: OperationalError" in caplog.text
    assert len(caplog.records) == 3
    assert "SECRET" not in caplog.text


@pytest.mark.slow
async def test_batch_that_a_closing_worker_takes_is_requeued(workspace: Workspace, shop: Shop) -> None:
    """If a worker takes a batch while it is closing, it requeues the batch without reading the spool."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker() as this_worker:
        this_worker._runner.closing = True
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        [spool_file] = workspace.spool.glob("*.keys")
        moved = spool_file.rename(workspace.folder / "moved")  # so that reading it would stop the job
        second_run_id = f"{job.id}.0.1"  # batch 0, run 1
        with anyio.fail_after(PATIENCE):
            while second_run_id not in await anyio.to_thread.run_sync(job._store.runs_by_id, [second_run_id]):
                await anyio.sleep(POLL_S)
        assert not shop.sent
        moved.rename(spool_file)
        this_worker._runner.closing = False
        report = await job.wait(every=POLL_S)
    assert (report.stored, report.ok, set(shop.sent.values())) == (10, True, {1})


@pytest.mark.slow
async def test_closing_worker_cancels_a_call_that_hangs(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closing worker cancels a call that exceeds the shutdown timeout. The next worker sends the chunk again."""
    monkeypatch.setattr(dbos_host, "SHUTDOWN_TIMEOUT_S", POLL_S)
    shop.latency = 5.0
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        async with uploads.worker():
            await until(lambda: shop.in_flight == 1)
        shop.latency = 0
        async with uploads.worker():
            report = await job.wait(every=POLL_S)
    assert report.stored + report.already_there == 10


@on_sqlite
@pytest.mark.slow
async def test_run_that_takes_too_long_leaves_the_rest_to_another_run(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run stops sending after ``MAX_RUN_S``. Another run sends the rest, and no chunk is sent twice."""
    monkeypatch.setattr(runner, "MAX_RUN_S", 0.3)
    shop.latency = 0.35  # so that a run sends one chunk
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(1500)), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
    assert (report.stored, report.ok, set(shop.sent.values())) == (1500, True, {1})


@pytest.mark.usefixtures("small_batches")
@on_sqlite
@pytest.mark.slow
async def test_auto_concurrency_rises_up_to_the_limit(workspace: Workspace, shop: Shop) -> None:
    """With ``concurrency="auto"``, more than 4 calls are in flight, up to the limit. Each batch waits for a permit."""
    shop.latency = 0.03
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker(concurrency="auto", global_concurrency=12) as this_worker:
        job = await submit.file(workspace.file(keys_of(10_000)), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
        permits = this_worker._runner._permits
        assert permits is not None
        for _ in range(permits._auto.limit):
            await permits.acquire()
        state = runner._JobState(active=True, manifest=job._row.manifest)
        assert not await this_worker._runner._may_send(state, anyio.current_time() + POLL_S)
    assert (report.stored, report.ok, set(shop.sent.values())) == (10_000, True, {1})
    assert 4 < shop.most_in_flight <= 12


@pytest.mark.slow
async def test_workers_share_the_rate(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that joins another one delays its first call and uses half the rate; alone again, it uses all of it."""
    delays: list[float] = []
    monkeypatch.setattr(RateLimiter, "delay_next", lambda _, seconds: delays.append(seconds))
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        engine = submit._database.engine(connections=2)
        other_worker = submit._database.worker_locks(engine, "gatepay")
        assert other_worker.acquire("other")
        async with uploads.worker(rate=Rate(8)) as this_worker:
            # Two workers share 8 calls a second, so each of them makes a call every 2/8 s.
            assert (delays, this_worker._rate_limiter.longest_wait(1)) == ([worker.JOIN_DELAY_S], 2 / 8)
            other_worker.release()
            await until(lambda: this_worker._rate_limiter.longest_wait(1) == 1 / 8)
        engine.dispose()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"database": "mysql://host/db"}, "database: must be sqlite"),
        ({"database": "sqlite://"}, "database: must be sqlite"),
        ({"database": "sqlite:///:memory:"}, "database: must be sqlite"),
        ({"database": "no url"}, "database: must be sqlite"),
        ({"database": "postgresql://host/db"}, "spool: is missing"),
        ({"database": "sqlite:///a", "name": "A b"}, "name: must be 1 to 63"),
        ({"database": "sqlite:///a", "connect": None}, "connect: must be a callable"),
    ],
)
def test_invalid_argument_is_named_in_the_error(options: dict[str, object], problem: str) -> None:
    """``DurableUploads`` raises ``InvalidRequestError`` for an invalid argument, with the argument's name."""
    arguments: dict[str, object] = {"connect": AsyncGatePay, **options}
    with pytest.raises(InvalidRequestError, match=problem):
        DurableUploads(**arguments)  # type: ignore[arg-type]  # the test passes a wrong type


@on_sqlite
async def test_invalid_worker_options_are_refused(workspace: Workspace, shop: Shop) -> None:
    """Invalid options of a worker or a submitted file, and a client without a timeout, are refused."""
    uploads = workspace.uploads(shop)
    with pytest.raises(InvalidRequestError, match="concurrency"):
        uploads.worker(concurrency=0)
    with pytest.raises(InvalidRequestError, match='concurrency: must be a whole number above 0, or "auto"'):
        uploads.worker(concurrency="all")  # type: ignore[arg-type]  # the test passes a wrong type
    with pytest.raises(InvalidRequestError, match="global_concurrency"):
        uploads.worker(global_concurrency=0)
    with pytest.raises(InvalidRequestError, match="rate: must be an instance of Rate, not of int"):
        uploads.worker(rate=3)  # type: ignore[arg-type]  # the test passes a wrong type
    with pytest.raises(InvalidRequestError, match="spool: must be a Spool: int has no secret, put, read, delete"):
        DurableUploads(AsyncGatePay, database="sqlite:///x", spool=3)  # type: ignore[arg-type]  # a wrong type
    with pytest.raises(InvalidRequestError, match="per"):
        Rate(1, per=None)  # type: ignore[arg-type]  # the test passes a wrong type
    with pytest.raises(InvalidRequestError, match="per"):
        Rate(1, per=0)
    without_timeout = workspace.uploads(shop)
    without_timeout._connect = lambda: AsyncGatePay(
        "key", "secret", base_url=shop.base_url, timeout=None, deadline=None, retry=RetryPolicy()
    )
    with pytest.raises(InvalidRequestError, match="needs a timeout or a deadline"):
        async with without_timeout.worker():
            pass
    async with uploads.submitter() as submit:
        with pytest.raises(InvalidRequestError, match="product_id"):
            await submit.file(workspace.file([]), product_id=0)
        with pytest.raises(InvalidRequestError, match="path: must be a path"):
            await submit.file(3, product_id=PRODUCT)  # type: ignore[arg-type]  # the test passes a wrong type
        with pytest.raises(FileNotFoundError):
            await submit.file(workspace.folder / "none", product_id=PRODUCT)


@on_sqlite
async def test_lease_is_computed_from_the_longest_call(workspace: Workspace, shop: Shop) -> None:
    """The lease of a batch follows from the longest possible call, the rate and the concurrency."""
    uploads = workspace.uploads(shop)
    async with uploads.worker(concurrency=3, rate=Rate(1, per=2.0)) as this_worker:
        # 30 s of sending, 10 s for the longest call, 2 s for each of 3 calls that wait for the rate, 5 s as a margin
        assert this_worker.lease == 30 + 10 + 3 * 2 + 5


@on_sqlite
async def test_second_worker_in_a_process_is_refused(workspace: Workspace, shop: Shop) -> None:
    """Opening a second worker in a process raises an error that says to use another process."""
    uploads = workspace.uploads(shop)
    async with uploads.worker():
        with pytest.raises(DurableError, match="in their own processes"):
            async with workspace.uploads(shop, name="other").worker():
                pass


def test_error_on_trio_names_asyncio() -> None:
    """On trio, durable uploads raise an error that says they need asyncio."""

    async def main() -> None:
        DurableUploads(AsyncGatePay, database="sqlite:///none").submitter()

    with pytest.raises(DurableError, match="asyncio"):
        trio.run(main)


def test_default_spool_is_next_to_the_sqlite_file(tmp_path: Path) -> None:
    """Without the option ``spool``, the spool is a folder next to the SQLite file."""
    uploads = DurableUploads(AsyncGatePay, database=f"sqlite:///{tmp_path}/a.sqlite3")
    assert repr(uploads._spool) == f"FolderSpool('{tmp_path}/a.sqlite3-spool')"


@on_sqlite
async def test_batch_taken_while_its_job_is_cancelled_sends_nothing(workspace: Workspace, shop: Shop) -> None:
    """A batch that a worker takes after its job was marked as cancelled sends nothing."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        await anyio.to_thread.run_sync(job._store.stop, job.id, [])
        async with uploads.worker():
            report = await job.wait(every=POLL_S)
    assert (report.not_sent, len(shop.sent)) == (600, 0)
    assert adds_up(report)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.slow
async def test_worker_that_loses_its_lock_pauses_until_it_has_it_again(workspace: Workspace, shop: Shop) -> None:
    """A worker that has lost its lock sends nothing until it holds the lock again; then it continues its batches."""
    shop.latency = POLL_S
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker(concurrency=2) as this_worker:
        job = await submit.file(workspace.file(keys_of(10_000)), product_id=PRODUCT)
        await until(lambda: len(shop.sent) >= 4)
        acquire, first_answers = this_worker._locks.acquire, [False]
        this_worker._locks.acquire = lambda worker: first_answers.pop() if first_answers else acquire(worker)  # type: ignore[method-assign]  # a test double
        await anyio.to_thread.run_sync(this_worker._locks.release)
        shop.latency = 0.3  # so that chunks are left when the worker notices
        await until(lambda: this_worker._runner.lock_lost)
        shop.latency = 0
        await until(lambda: shop.in_flight == 0)
        report = await job.wait(every=POLL_S)
    assert report.stored + report.already_there == 10_000
    assert set(shop.stored.values()) == {1}


@pytest.mark.slow
async def test_batch_taken_without_the_lock_waits_for_the_lock(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that a worker takes after losing its lock waits until the worker holds the lock again."""
    monkeypatch.setattr(runner, "LOCK_POLL_S", POLL_S)
    uploads, results = workspace.uploads(shop), []
    batch = Batch(number=0, offset=0, length=0, digest="", count=0, first_line=1, last_line=0)
    task = BatchTask("gatepay:none", run_number=0, product_id=PRODUCT, failures=0, batch=batch)  # no such job exists

    async def run() -> None:
        results.append(await this_worker._runner.run(task))

    async with uploads.worker() as this_worker:
        this_worker._runner.lock_lost = True
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await anyio.wait_all_tasks_blocked()
            assert results == []
            this_worker._runner.lock_lost = False
    assert results == [BatchResult().to_row()]


@pytest.mark.slow
async def test_worker_skips_requeueing_while_another_does_it(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another worker requeues orphaned batches, this worker doesn't."""
    uploads = workspace.uploads(shop)
    async with uploads.worker() as this_worker:
        database, engine = this_worker._database, this_worker._engine
        requeued: list[object] = []
        with monkeypatch.context() as patch:
            with database.worker_locks(engine, "gatepay").reaper_lock() as locked:
                assert locked
                patch.setattr(this_worker._store, "requeue", requeued.append)
                assert await anyio.to_thread.run_sync(this_worker._requeue_orphans) == 1  # the number of workers
                assert requeued == []
            await until(lambda: requeued)  # the worker's housekeeping requeues again


async def test_unusable_database_raises_an_error_without_the_password(tmp_path: Path) -> None:
    """An unreachable database, or a file that is no database, raises an error. It doesn't contain the password."""
    url = "postgresql://user:hush@127.0.0.1:1/none"
    uploads = DurableUploads(lambda: AsyncGatePay("key", "secret"), database=url, spool=str(tmp_path))
    with pytest.raises(QueueUnavailableError, match=r"can't be used: .*127\.0\.0\.1") as caught:
        async with uploads.submitter():
            pass
    assert "hush" not in str(caught.value)
    with pytest.raises(QueueUnavailableError):
        async with uploads.worker():
            pass
    (tmp_path / "text").write_text("not a database " * 10)
    with pytest.raises(QueueUnavailableError, match="file is not a database"):
        async with DurableUploads(AsyncGatePay, database=f"sqlite:///{tmp_path}/text").submitter():
            pass


@pytest.mark.slow
async def test_wait_continues_after_database_failures(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``wait`` continues after queries have failed because the database was unavailable."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        query_job, failures = job._store.job, ["first", "second"]

        def fail_twice(name: str) -> object:
            if failures:
                failures.pop()
                raise OperationalError("SELECT", {}, Exception("away"))
            return query_job(name)

        monkeypatch.setattr(job._store, "job", fail_twice)
        assert (await job.wait(every=POLL_S)).ok


@on_sqlite
@pytest.mark.slow
async def test_worker_retries_the_query_for_a_batchs_job(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that has taken a batch retries the query for the batch's job until the database responds."""
    monkeypatch.setattr(runner, "RETRY_INTERVAL_S", POLL_S)
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker() as this_worker:
        query_job, failures = this_worker._store.job, ["first", "second"]

        def fail_twice(name: str) -> object:
            if failures:
                failures.pop()
                raise OperationalError("SELECT", {}, Exception("away"))
            return query_job(name)

        monkeypatch.setattr(this_worker._store, "job", fail_twice)
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
    assert (report.stored, report.ok, failures) == (10, True, [])
