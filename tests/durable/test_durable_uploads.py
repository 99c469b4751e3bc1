"""Durable uploads as an application sees them, on both databases, with real sockets."""

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
from gatepay_async.durable.records.rows import BatchTask
from gatepay_async.durable.spool import writer
from gatepay_async.durable.work import dbos_host, runner
from gatepay_async.durable.work.rate_limiter import RateLimiter

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

# On the other database, too, only what its SQL, its locks, or its connections decide: that costs twice as much.
on_sqlite = pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)


async def test_a_file_is_uploaded(workspace: Workspace, shop: Shop) -> None:
    """A file is uploaded whole, each card key once, and its report is that of a plain upload."""
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
        seen = [progress async for progress in job.progress(every=POLL_S)]
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
    assert (seen[-1].stored, seen[-1].refused, seen[-1].in_flight) == (1704, 2, 0)
    assert seen[-1].read == len(lines)


@pytest.mark.slow
async def test_same_file_same_job(workspace: Workspace, shop: Shop) -> None:
    """The same file for the same product is the same job, whatever has become of it; for another product, another."""
    path = workspace.file(keys_of(10))
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        first = await submit.file(path, product_id=PRODUCT)
        again = await submit.file(workspace.file(keys_of(10), "copy.txt"), product_id=PRODUCT)
        other = await submit.file(path, product_id=9)
        async with uploads.worker():
            await first.wait(every=POLL_S)
            await other.wait(every=POLL_S)
        late = await submit.file(path, product_id=PRODUCT)
        assert (await late.wait(every=POLL_S)).ok
        assert [job.id for job in await submit.jobs()] in ([other.id, first.id], [first.id, other.id])
    assert first.id == again.id == late.id != other.id
    assert sum(shop.sent.values()) == 2


async def test_submitted_at_once(new_room: Workspace, shop: Shop) -> None:
    """The same file submitted several times at once is one job, and each chunk is sent once."""
    path = new_room.file(keys_of(1200))
    uploads = new_room.uploads(shop)
    ids = set()

    async def one() -> None:
        async with uploads.submitter() as submit:
            job = await submit.file(path, product_id=PRODUCT)
            ids.add(job.id)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(one)
    async with uploads.submitter() as submit, uploads.worker():
        report = await (await submit.job(ids.pop())).wait(every=POLL_S)
    assert (ids, report.stored, set(shop.sent.values())) == (set(), 1200, {1})


@on_sqlite
async def test_nothing_to_send(workspace: Workspace, shop: Shop) -> None:
    """A file with nothing in it is done as soon as it is submitted; no worker is needed."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(["", "  "]), product_id=PRODUCT)
        report = await job.wait()
        info = await job.info()
        await job.cancel()
        await job.resume()
    assert (report.read, report.blank, report.ok, info.state) == (2, 2, True, JobState.DONE)
    assert repr(job) == f"<Job {job.id} of 'keys.txt'>"


@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)  # on both, and killed: test_durable_processes.py
async def test_no_key_in_the_database(workspace: Workspace, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """No card key, raw or base64, is in the database, its journals or the logs."""
    keys = [f"SECRET{number:06d}KEY" for number in range(2000)]
    keys[700] = "SECRET\0NUL"
    uploads = workspace.uploads(shop)
    shop.refuse_with["SECRET001234KEY"] = 109
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys), product_id=PRODUCT)
        async with uploads.worker():
            report = await job.wait(every=POLL_S)
        text = b"".join(workspace.kept()) + caplog.text.encode()
    assert report.refused == 2
    assert adds_up(report)
    assert b"keys.txt" in text  # it was looked at where it is
    assert b"SECRET" not in text
    for shift in range(3):
        coded = base64.b64encode(b"-" * shift + b"SECRET001234KEY")
        assert coded[4:-4] not in text


@on_sqlite
async def test_for_its_owner_only(workspace: Workspace, shop: Shop) -> None:
    """What lies in the spool is its owner's only, and goes when all of it is on the server."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (workspace.spool, *workspace.spool.iterdir())}
        assert modes == {0o700, 0o600}
        async with uploads.worker():
            await job.wait(every=POLL_S)
    assert [path.name for path in workspace.spool.iterdir()] == ["digest-key"]


@on_sqlite
async def test_nobody_waits(workspace: Workspace, shop: Shop) -> None:
    """Card keys that are all on the server are deleted from the spool, also if nobody waits for the job."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        await submit.file(workspace.file(["no\0key", *keys_of(9, "MORE")], "bad.txt"), product_id=PRODUCT)
        async with uploads.worker():
            await until(lambda: len([*workspace.spool.glob("*.keys")]) == 1)
            await until(lambda: len(shop.sent) == 2)
        [left] = workspace.spool.glob("*.keys")
        assert b"no\0key" in left.read_bytes()  # for the report


@on_sqlite
async def test_the_spool_has_changed(workspace: Workspace, shop: Shop) -> None:
    """Where the card keys that were put aside are not what they were, nothing is sent, and the report says so."""
    uploads = workspace.uploads(shop)
    jobs: list[Job] = []
    async with uploads.submitter() as submit:
        for harm in ("changed", "cut", "gone"):
            job = await submit.file(workspace.file(["no\0key", *keys_of(900, harm)]), product_id=PRODUCT)
            path = workspace.spool / batches.spool_name(job.id)
            data = path.read_bytes()
            path.write_bytes(data[:-1] + b"X" if harm == "changed" else data[:-100])
            if harm == "gone":
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
async def test_put_aside_again(workspace: Workspace, shop: Shop) -> None:
    """Where the spool has lost what was put aside, the same input submitted again fills it, and resume() goes on."""
    uploads = workspace.uploads(shop)
    path = workspace.file(keys_of(2500))
    async with uploads.submitter() as submit, uploads.worker():
        await submit.file(workspace.file(["one"], "other.txt"), product_id=PRODUCT)
        await until(lambda: bool(shop.sent))
        shop.refuse = 107
        job = await submit.file(path, product_id=PRODUCT)
        await job.wait(every=POLL_S)
        for lost in workspace.spool.glob("*.keys"):
            lost.unlink()
        shop.refuse = 0
        await job.resume()
        assert isinstance((await job.wait(every=POLL_S)).stopped, SourceChangedError)
        again = await submit.file(path, product_id=PRODUCT)
        await again.resume()
        report = await again.wait(every=POLL_S)
    assert again.id == job.id
    assert report.stored + report.refused == 2500
    assert report.stopped is None


@on_sqlite
@pytest.mark.slow
async def test_two_queues_share_a_spool(workspace: Workspace, shop: Shop) -> None:
    """The same file for the same product of two shops is two jobs, also where both put it aside in the same folder."""
    path = workspace.file(keys_of(600))
    one, two = workspace.uploads(shop, name="one"), workspace.uploads(shop, name="two")
    async with one.submitter() as first, two.submitter() as second:
        jobs = [await first.file(path, product_id=PRODUCT), await second.file(path, product_id=PRODUCT)]
        for uploads, job in zip((one, two), jobs, strict=True):
            async with uploads.worker():
                assert (await job.wait(every=POLL_S)).ok


@on_sqlite
async def test_a_submitter_that_is_killed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an input is read, no file has a name under which card keys could be left behind."""
    monkeypatch.setenv("TMPDIR", str(workspace.folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    path = workspace.file([f"SECRET-{number}" for number in range(3000)])
    read = writer.spool
    seen: list[bytes] = []

    def look(*args: object, **options: object) -> object:
        spooled = read(*args, **options)  # type: ignore[arg-type]  # as it was called
        for each in workspace.folder.rglob("*"):
            with suppress(FileNotFoundError, IsADirectoryError):  # SQLite takes its journals away
                seen.extend([each.read_bytes()] if each != path else [])
        return spooled

    monkeypatch.setattr(writer, "spool", look)
    async with workspace.uploads(Shop()).submitter() as submit:
        await submit.file(path, product_id=PRODUCT)
    assert seen
    assert not [content for content in seen if b"SECRET" in content]


@on_sqlite
async def test_the_file_changes_while_it_is_read(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that changes while it is read is not submitted."""
    path = workspace.file(keys_of(10))
    read = writer.spool

    def write_and_read(*args: object, **options: object) -> object:
        with path.open("a") as file:
            file.write("one more\n")
        return read(*args, **options)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(writer, "spool", write_and_read)
    async with workspace.uploads(shop).submitter() as submit:
        with pytest.raises(SourceChangedError, match=r"keys\.txt: has changed while it was read"):
            await submit.file(path, product_id=PRODUCT)
        assert await submit.jobs() == []
    assert not list(workspace.spool.glob("*.keys"))


@pytest.mark.usefixtures("small_batches")
@pytest.mark.slow
async def test_refused_for_all(workspace: Workspace, shop: Shop) -> None:
    """A refusal that every chunk would meet stops the job; resume() sends all, also the chunk that met it."""
    shop.refuse = 107
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
        after = await job.wait(every=POLL_S)
    assert (after.stopped, after.stored, after.ok) == (None, 4500, True)
    assert adds_up(after)
    assert not list(workspace.spool.glob("*.keys"))


@on_sqlite
@pytest.mark.slow
async def test_stopped_between_two_questions(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is stopped while it is asked about is told of as stopped, with the reason."""
    shop.refuse = 107
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        store, ask = job._store, job._store.batches

        def batches(names: list[str]) -> object:
            while any(row.open for row in ask(names).values()):
                pass
            return ask(names)

        monkeypatch.setattr(store, "batches", batches)
        assert isinstance((await job.wait(every=POLL_S)).stopped, EndpointClosedError)


@on_sqlite
async def test_refused_for_its_content(workspace: Workspace, shop: Shop) -> None:
    """Where GatePay objects to one card key, the others of its chunk are stored."""
    shop.refuse_with["KEY-000000123"] = 109
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
async def test_cancelled_and_resumed(workspace: Workspace, shop: Shop) -> None:
    """After cancel() the calls in flight end and nothing more is sent; resume() sends the rest, and nothing twice."""
    shop.latency = POLL_S
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker(concurrency=2):
        job = await submit.file(workspace.file(keys_of(10_000)), product_id=PRODUCT)
        await until(lambda: len(shop.sent) >= 4)
        shop.latency = 1.0  # so that much is left when all that follows has been asked
        with pytest.raises(DurableError, match="cancel it first"):
            await job.delete()
        await job.resume()
        assert (await job.info()).state is JobState.WORKING
        await job.cancel()
        shop.latency = 0
        report = await job.wait(every=POLL_S)
        sent = sum(shop.sent.values())
        assert (await job.info()).state is JobState.CANCELLED
        assert isinstance(report.stopped, DurableError)
        assert 0 < report.stored < 10_000
        assert report.not_sent == 10_000 - report.stored - report.unknown
        assert adds_up(report)
        await job.cancel()
        await job.resume()
        after = await job.wait(every=POLL_S)
    assert after.stored + after.already_there == 10_000
    assert after.ok
    assert sum(shop.sent.values()) - sent <= 20 - sent + report.unknown / 500
    assert set(shop.stored.values()) == {1}


async def test_forgotten(workspace: Workspace, shop: Shop) -> None:
    """A job that has ended can be cleaned away, its card keys with it; the same file is then a new job."""
    shop.refuse = 107
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
        fresh = await submit.file(path, product_id=PRODUCT)
        assert (await fresh.wait(every=POLL_S)).ok
    assert fresh.id == job.id


@on_sqlite
async def test_tidied_up_once_its_end_is_written_down(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that looks whether a job has ended just before that is written down looks again."""
    monkeypatch.setattr(worker, "HOUSEKEEPING_INTERVAL_S", POLL_S)
    too_early = [False, False]
    ended = JobProgress.all_ended
    monkeypatch.setattr(
        JobProgress, "all_ended", lambda job_progress: too_early.pop() if too_early else ended(job_progress)
    )
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        async with uploads.worker():
            await until(lambda: not too_early and not list(workspace.spool.glob("*.keys")))


@pytest.mark.slow
async def test_forgotten_while_it_is_tidied_up(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that finds a job gone, which it has only just seen end, says nothing: all is done."""
    monkeypatch.setattr(worker, "HOUSEKEEPING_INTERVAL_S", POLL_S)
    seen = anyio.Event()
    go_on = anyio.Event()
    tidy = Job.tidy

    async def late(job: Job) -> bool:
        if job.id in it._jobs_to_tidy:
            seen.set()
            await go_on.wait()
        return await tidy(job)

    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        async with uploads.worker() as it:
            monkeypatch.setattr(Job, "tidy", late)
            async for _ in job.progress(every=POLL_S):
                pass
            await seen.wait()
            await job.delete()
            go_on.set()
    assert (caplog.messages, list(workspace.spool.glob("*.keys"))) == ([], [])


@on_sqlite
@pytest.mark.slow
async def test_forgotten_in_the_queue(workspace: Workspace, shop: Shop) -> None:
    """A batch whose job is gone ends, and sends nothing."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        await anyio.to_thread.run_sync(job._store.delete, [job.id])
        async with uploads.worker():
            name = f"{job.id}.0.0"
            with anyio.fail_after(PATIENCE):
                while (await anyio.to_thread.run_sync(job._store.batches, [name]))[name].open:
                    await anyio.sleep(POLL_S)
    assert not shop.sent


@on_sqlite
async def test_the_server_is_down(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody answers, batches wait for longer and longer; then all goes on by itself."""
    monkeypatch.setattr(runner, "MAX_BACKOFF_S", POLL_S)
    shop.down = True
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker(concurrency=2):
        job = await submit.file(workspace.file(keys_of(1500)), product_id=PRODUCT)
        await until(lambda: shop.cut > 20)
        shop.down = False
        report = await job.wait(every=POLL_S)
    assert (report.stored, report.ok, set(shop.stored.values())) == (1500, True, {1})
    assert adds_up(report)


@pytest.mark.slow
async def test_the_server_stays_down(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """After many runs in vain a batch ends, and the report tells what is not known; resume() tries again."""
    monkeypatch.setattr(runner, "MAX_BACKOFF_S", POLL_S)
    monkeypatch.setattr(runner, "MAX_UNANSWERED_RUNS", 1)
    shop.down = True
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker(concurrency=2):
        job = await submit.file(workspace.file(keys_of(1500)), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
        assert (await job.info()).state is JobState.DONE
        assert (report.unknown, report.not_sent, report.stopped) == (1000, 500, None)
        assert isinstance(report.chunks[0].error, TransportError)
        assert adds_up(report)
        shop.down = False
        await job.resume()
        assert (await job.wait(every=POLL_S)).ok


@pytest.mark.slow
@on_sqlite
async def test_one_chunk_alone_fails(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card key that the server can't store stands alone in the end; all others are stored."""
    monkeypatch.setattr(runner, "MAX_BACKOFF_S", POLL_S)
    monkeypatch.setattr(runner, "MAX_UNANSWERED_RUNS", 1)
    shop.refuse_with["KEY-000000001"] = 113
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
async def test_the_spool_is_away(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the spool can't be read, batches wait, and nothing is lost."""
    monkeypatch.setattr(runner, "MAX_BACKOFF_S", POLL_S)

    class Away(FolderSpool):
        failures = 5

        async def read(self, name: str, offset: int, length: int) -> bytes:
            if self.failures:
                self.failures -= 1
                raise PermissionError("SECRET")
            return await super().read(name, offset, length)

    uploads = workspace.uploads(shop, spool=Away(workspace.spool))
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
    assert report.ok


@on_sqlite
async def test_a_bug_of_a_transport(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What isn't GatePay's, nor the network's, stops the job; its text, which may hold anything, is not kept."""

    async def answer(self: object, call: object) -> object:
        raise ZeroDivisionError("SECRET")

    monkeypatch.setattr(AsyncGatePay, "_send_card_keys", answer)
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
    assert (report.unknown, report.not_sent) == (500, 100)  # one chunk was sent, and the other never was
    assert "ZeroDivisionError" in str(report.stopped)
    assert "SECRET" not in str(report.stopped)


@on_sqlite
async def test_a_call_that_cannot_be_right(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is refused before it is sent stops the job."""

    async def answer(self: object, call: object) -> object:
        raise InvalidRequestError(field="client", problem="has been closed")

    monkeypatch.setattr(AsyncGatePay, "_send_card_keys", answer)
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
    assert (report.not_sent, str(report.stopped)) == (600, "client: has been closed")


@pytest.mark.slow
@pytest.mark.usefixtures("small_batches")
async def test_closed_in_the_middle(workspace: Workspace, shop: Shop) -> None:
    """A worker that is closed ends its calls in flight and queues the rest; the next one sends that, once."""
    shop.latency = POLL_S
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(10_000)), product_id=PRODUCT)
        async with uploads.worker(concurrency=2):
            await until(lambda: len(shop.sent) >= 4)
        before = len(shop.sent)
        so_far = (await job.info()).progress
        async with uploads.worker(concurrency=2):
            report = await job.wait(every=POLL_S)
    assert before < 20
    assert (so_far.stored, so_far.not_sent, so_far.in_flight) == (500 * before, 0, 10_000 - 500 * before)
    assert (report.stored, report.ok, set(shop.sent.values())) == (10_000, True, {1})
    assert adds_up(report)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.slow
async def test_closed_by_a_cancellation(workspace: Workspace, shop: Shop) -> None:
    """A worker whose block is cancelled ends as one that is closed: nothing is sent twice, and another can open."""
    shop.latency = POLL_S
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(10_000)), product_id=PRODUCT)
        with anyio.CancelScope() as scope:
            async with uploads.worker(concurrency=2) as it:
                await until(lambda: len(shop.sent) >= 4)
                scope.cancel()
                await anyio.sleep_forever()
        assert await anyio.to_thread.run_sync(job._store.taken) == []
        with pytest.raises(OSError, match="here"):
            async with uploads.worker():
                raise OSError("here")
        async with uploads.worker(concurrency=2):
            report = await job.wait(every=POLL_S)
    assert not it._runner.busy
    assert (report.stored, report.ok, set(shop.sent.values())) == (10_000, True, {1})


@pytest.mark.slow
async def test_cancelled_while_it_opens(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that can't be opened, and is cancelled just then, leaves nothing behind: the next one opens."""
    uploads = workspace.uploads(shop)
    scope = anyio.CancelScope()

    def launch() -> None:
        from_thread.run_sync(scope.cancel)
        raise OSError("here")

    monkeypatch.setattr(DBOS, "launch", launch)
    with pytest.raises(OSError, match="here"), scope:
        async with uploads.worker():
            pass
    monkeypatch.undo()
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        assert (await job.wait(every=POLL_S)).ok


@pytest.mark.slow
async def test_given_back(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a closed worker had and did not end is queued again at once, before anybody looks for its dead."""
    monkeypatch.setattr(dbos_host, "SHUTDOWN_TIMEOUT_S", 1)
    shop.latency = 30.0
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        async with uploads.worker():
            await until(lambda: shop.in_flight == 1)
        name = f"{job.id}.0.0"
        assert (await anyio.to_thread.run_sync(job._store.batches, [name]))[name].queued


@pytest.mark.slow
async def test_the_queue_is_away_at_the_end(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker whose database is away when it is closed says so, and ends; and says when it was away and came back."""
    monkeypatch.setattr(worker, "HOUSEKEEPING_INTERVAL_S", POLL_S)
    uploads = workspace.uploads(shop)

    asked: list[object] = []

    def away(*_: object) -> None:
        asked.append(_)
        raise OperationalError("SELECT", {}, Exception("SECRET"))

    async with uploads.worker() as it:
        it._runner.idle_jobs.add("gatepay:none")  # cleaned away
        await until(lambda: not it._runner.idle_jobs)
        with monkeypatch.context() as patched:
            patched.setattr(it, "_requeue_orphans", away)
            await until(lambda: len(asked) > 2)
            assert "can't reach the queue (OperationalError)" in caplog.text
        await until(lambda: "the queue is available again" in caplog.text)
        monkeypatch.setattr(it, "_requeue_own", away)
    assert "can't requeue this worker's batches: OperationalError" in caplog.text
    assert len(caplog.records) == 3
    assert "SECRET" not in caplog.text


@pytest.mark.slow
async def test_taken_while_it_closes(workspace: Workspace, shop: Shop) -> None:
    """A batch that is taken just as its worker is closed isn't even looked at: it is queued again."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker() as it:
        it._runner.closing = True
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        [kept] = workspace.spool.glob("*.keys")
        aside = kept.rename(workspace.folder / "aside")
        second = f"{job.id}.0.1"
        with anyio.fail_after(PATIENCE):
            while second not in await anyio.to_thread.run_sync(job._store.batches, [second]):
                await anyio.sleep(POLL_S)
        assert not shop.sent
        aside.rename(kept)
        it._runner.closing = False
        report = await job.wait(every=POLL_S)
    assert (report.stored, report.ok, set(shop.sent.values())) == (10, True, {1})


@pytest.mark.slow
async def test_closed_under_a_call_that_hangs(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that doesn't end in time is cut off when its worker is closed; the next worker sends it again."""
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
async def test_a_batch_takes_too_long(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run sends for so many seconds; what is left is another run's, and nothing is sent twice."""
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
async def test_auto(workspace: Workspace, shop: Shop) -> None:
    """Under "auto" a worker sends more than four calls at once, up to the limit. A batch waits for a permit."""
    shop.latency = 0.03
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker(concurrency="auto", global_concurrency=12) as it:
        job = await submit.file(workspace.file(keys_of(10_000)), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
        permits = it._runner._permits
        assert permits is not None
        for _ in range(permits._auto.limit):
            await permits.acquire()
        assert not await it._runner._take_permit(anyio.current_time() + POLL_S)
    assert (report.stored, report.ok, set(shop.sent.values())) == (10_000, True, {1})
    assert 4 < shop.most_in_flight <= 12


@pytest.mark.slow
async def test_at_a_rate(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that joins another one waits until that knows of it, keeps to its half, and has all when it is alone."""
    held: list[float] = []
    monkeypatch.setattr(RateLimiter, "delay_next", lambda _, seconds: held.append(seconds))
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        engine = submit._database.engine(connections=2)
        other = submit._database.worker_locks(engine, "gatepay")
        assert other.acquire("another")
        async with uploads.worker(rate=Rate(8)) as it:
            assert (held, it._rate_limiter.longest_wait(1)) == ([worker.JOIN_DELAY_S], 2 / 8)
            other.release()
            await until(lambda: it._rate_limiter.longest_wait(1) == 1 / 8)
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
def test_cannot_be_right(options: dict[str, object], problem: str) -> None:
    """An argument that can't be right is refused at once, by its name."""
    given: dict[str, object] = {"connect": AsyncGatePay, **options}
    with pytest.raises(InvalidRequestError, match=problem):
        DurableUploads(**given)  # type: ignore[arg-type]  # that is the point


@on_sqlite
async def test_options_of_a_worker(workspace: Workspace, shop: Shop) -> None:
    """A worker's numbers are held to be numbers, and a client without any bound is refused."""
    uploads = workspace.uploads(shop)
    with pytest.raises(InvalidRequestError, match="concurrency"):
        uploads.worker(concurrency=0)
    with pytest.raises(InvalidRequestError, match='concurrency: must be a whole number above 0, or "auto"'):
        uploads.worker(concurrency="all")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(InvalidRequestError, match="global_concurrency"):
        uploads.worker(global_concurrency=0)
    with pytest.raises(InvalidRequestError, match="per"):
        Rate(1, per=None)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(InvalidRequestError, match="per"):
        Rate(1, per=0)
    endless = workspace.uploads(shop)
    endless._connect = lambda: AsyncGatePay(
        "key", "secret", base_url=shop.base_url, timeout=None, deadline=None, retry=RetryPolicy()
    )
    with pytest.raises(InvalidRequestError, match="needs a timeout or a deadline"):
        async with endless.worker():
            pass
    async with uploads.submitter() as submit:
        with pytest.raises(InvalidRequestError, match="product_id"):
            await submit.file(workspace.file([]), product_id=0)
        with pytest.raises(InvalidRequestError, match="path: must be a path"):
            await submit.file(3, product_id=PRODUCT)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(FileNotFoundError):
            await submit.file(workspace.folder / "none", product_id=PRODUCT)


@on_sqlite
async def test_the_lease(workspace: Workspace, shop: Shop) -> None:
    """How long a batch is a worker's is computed from what a call can take, and can't be set."""
    uploads = workspace.uploads(shop)
    async with uploads.worker(concurrency=3, rate=Rate(1, per=2.0)) as it:
        # 30 s of sending, one call of at most 10 s, a turn for each of 3 callers, and a margin
        assert it.lease == 30 + 10 + 3 * 2 + 5


@on_sqlite
async def test_one_worker_a_process(workspace: Workspace, shop: Shop) -> None:
    """A second worker in a process is refused, with what to do."""
    uploads = workspace.uploads(shop)
    async with uploads.worker():
        with pytest.raises(DurableError, match="in their own processes"):
            async with workspace.uploads(shop, name="other").worker():
                pass


def test_not_on_trio() -> None:
    """On another loop than asyncio's the error says so."""

    async def main() -> None:
        DurableUploads(AsyncGatePay, database="sqlite:///none").submitter()

    with pytest.raises(DurableError, match="asyncio"):
        trio.run(main)


def test_beside_the_database(tmp_path: Path) -> None:
    """With SQLite, card keys lie in a folder beside the database, if nothing else is said."""
    uploads = DurableUploads(AsyncGatePay, database=f"sqlite:///{tmp_path}/a.sqlite3")
    assert repr(uploads._spool) == f"FolderSpool('{tmp_path}/a.sqlite3-spool')"


@on_sqlite
async def test_a_batch_of_a_cancelled_job(workspace: Workspace, shop: Shop) -> None:
    """A batch that was taken just as its job was cancelled sends nothing."""
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
async def test_away_and_back(workspace: Workspace, shop: Shop) -> None:
    """A worker that has lost its place sends nothing until it has it again; then it goes on with what it had."""
    shop.latency = POLL_S
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker(concurrency=2) as it:
        job = await submit.file(workspace.file(keys_of(10_000)), product_id=PRODUCT)
        await until(lambda: len(shop.sent) >= 4)
        enter, answers = it._locks.acquire, [False]
        it._locks.acquire = lambda worker: answers.pop() if answers else enter(worker)  # type: ignore[method-assign]  # a double
        await anyio.to_thread.run_sync(it._locks.release)
        shop.latency = 0.3  # so that much is left until it has noticed
        await until(lambda: it._runner.lock_lost)
        shop.latency = 0
        await until(lambda: shop.in_flight == 0)
        report = await job.wait(every=POLL_S)
    assert report.stored + report.already_there == 10_000
    assert set(shop.stored.values()) == {1}


@pytest.mark.slow
async def test_taken_while_away(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that a worker takes while it has lost its place waits until the worker has it again."""
    monkeypatch.setattr(runner, "LOCK_POLL_S", POLL_S)
    uploads, runs = workspace.uploads(shop), []
    task = BatchTask("gatepay:none", 0, PRODUCT, 0, Batch(0, 0, 0, "", 0, 1, 0))

    async def run() -> None:
        runs.append(await it._runner.run(task))

    async with uploads.worker() as it:
        it._runner.lock_lost = True
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await anyio.wait_all_tasks_blocked()
            assert runs == []
            it._runner.lock_lost = False
    assert runs == [BatchResult().to_row()]


@pytest.mark.slow
async def test_one_looks_after_the_dead(workspace: Workspace, shop: Shop) -> None:
    """While another worker looks after what the dead have left, this one doesn't."""
    uploads = workspace.uploads(shop)
    async with uploads.worker() as it:
        database, engine = it._database, it._engine
        with database.worker_locks(engine, "gatepay").reaper_lock() as alone:
            assert alone
            assert await anyio.to_thread.run_sync(it._requeue_orphans) == 1


async def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    """Where the database can't be reached, the error says so, and not its password; so where it is none at all."""
    url = "postgresql://user:hush@127.0.0.1:1/none"
    uploads = DurableUploads(lambda: AsyncGatePay("key", "secret"), database=url, spool=str(tmp_path))
    with pytest.raises(QueueUnavailableError, match=r"can't be used: .*127\.0\.0\.1") as caught:
        async with uploads.submitter():
            pass
    assert "hush" not in str(caught.value)
    with pytest.raises(QueueUnavailableError):
        async with uploads.worker():
            pass
    (tmp_path / "text").write_text("this is no database, whatever it is called; and it has more than one page of it")
    with pytest.raises(QueueUnavailableError, match="file is not a database"):
        async with DurableUploads(AsyncGatePay, database=f"sqlite:///{tmp_path}/text").submitter():
            pass


@pytest.mark.slow
async def test_waits_for_its_database(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """wait() goes on when its database was away for a while."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        ask, failures = job._store.job, [1, 2]

        def away(name: str) -> object:
            if failures:
                failures.pop()
                raise OperationalError("SELECT", {}, Exception("away"))
            return ask(name)

        monkeypatch.setattr(job._store, "job", away)
        assert (await job.wait(every=POLL_S)).ok


@on_sqlite
@pytest.mark.slow
async def test_a_batch_waits_for_its_database(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker must know of a batch that it has taken it asks until the database answers."""
    monkeypatch.setattr(runner, "RETRY_INTERVAL_S", POLL_S)
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker() as it:
        ask, failures = it._store.job, [1, 2]

        def away(name: str) -> object:
            if failures:
                failures.pop()
                raise OperationalError("SELECT", {}, Exception("away"))
            return ask(name)

        monkeypatch.setattr(it._store, "job", away)
        job = await submit.file(workspace.file(keys_of(10)), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
    assert (report.stored, report.ok, failures) == (10, True, [])
