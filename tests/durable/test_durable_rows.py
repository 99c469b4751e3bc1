"""Invalid rows in the queue's database are refused before memory is allocated or loops are run for them."""

from __future__ import annotations

import json
import sqlite3
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from copy import deepcopy
from io import BytesIO
from typing import Any, cast

import anyio
import pytest
from attrs import evolve
from dbos import WorkflowStatus
from durable_shop import Shop
from durable_workspace import POLL_S, PRODUCT, Workspace, keys_of
from sqlalchemy.exc import OperationalError
from waiting import until

from gatepay_async.durable import DurableError, FolderSpool
from gatepay_async.durable.errors import QueueUnavailableError, UnreadableRowError
from gatepay_async.durable.records import batches
from gatepay_async.durable.records.rows import JobManifest
from gatepay_async.durable.storage import job_store
from gatepay_async.durable.storage.database import in_thread
from gatepay_async.durable.work.runner import Runner
from gatepay_async.protocol.errors import InvalidRequestError

pytestmark = [pytest.mark.sockets, pytest.mark.anyio, pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)]

# Values that an attacker may write in place of any value.
HOSTILE: list[Any] = [2**60, -(2**60), 1e300, True, "\x1b" * 10**6, [[]], {"a": 1}]
BATCH = {"number": -1, "offset": 0, "length": 9, "digest": "d", "count": 1, "first_line": 1, "last_line": 1}
MANIFEST: dict[str, Any] = {
    "product_id": 8, "name": "n", "read": 6, "blank": 1, "duplicates": 0, "count": 4, "batches": 1, "size": 9,
    "digest": "d", "refused": BATCH, "problems": BATCH, "invisible": [3],
}  # fmt: skip
ERROR: dict[str, Any] = {
    "class": "StorageFailedError", "says": ["no"], "code": 113, "message": "no", "endpoint": "ka/create",
    "time": "2026-11-23T10:00:00+00:00",
}  # fmt: skip
PROBLEM: dict[str, Any] = {"name": "nul", "text": "contains a NUL character; the file may be UTF-16", "facts": {}}
STOP_ERROR: dict[str, Any] = {
    "class": "DurableError", "says": ["no"], "problem": "no",
    "problem_data": {"name": "lines", "text": "no", "facts": {"first": 1, "last": 2, "problem": PROBLEM}},
}  # fmt: skip
# A run's row holds the product, the failures and the batch: offset, length, digest, count, first line and last line.
FIELDS: list[Any] = [8, 0, 0, 9, "d", 4, 1, 5]
# "done" and "rest" begin with the chunk, its first and last line, and its count of card keys.
RUN: dict[str, Any] = {
    "done": [[0, 1, 2, 2, 2, 1, 1]],
    "rest": [[0, 3, 5, 2, 1, "refused", ERROR]],
    "stopped": STOP_ERROR,
}
SET_UNREADABLE_BATCH = "UPDATE workflow_input SET inputs = '{\"positionalArgs\":[8,0,-1]}' WHERE workflow_uuid = :name"


@pytest.fixture
def anyio_backend() -> str:
    """DBOS supports asyncio only."""
    return "asyncio"


def make_row(name: str, *arguments: Any, **attributes: Any) -> WorkflowStatus:
    """Return a row as DBOS does."""
    row = WorkflowStatus()
    row.workflow_id, row.status, row.created_at, row.updated_at, row.attributes = name, "SUCCESS", 0, 0, None
    row.input = {"args": tuple(arguments), "kwargs": {}}
    vars(row).update(attributes)
    return row


def spoilt_copies(valid: Any) -> Iterator[Any]:
    """Yield copies of *valid* in which one value, at any depth, is replaced by one of ``HOSTILE``."""
    items = dict[Any, Any](valid).items() if isinstance(valid, dict) else enumerate(list[Any](valid))
    for key, value in items:
        inner = spoilt_copies(cast("object", value)) if isinstance(value, dict | list) else iter(())
        for replacement in (*HOSTILE, *inner):
            copy: Any = deepcopy(cast("object", valid))
            copy[key] = replacement
            yield copy


def is_refused(row: WorkflowStatus, read: Callable[[WorkflowStatus], object]) -> bool:
    """Whether *read* refuses *row*, with an error that contains no control character."""
    try:
        read(row)
    except UnreadableRowError as error:
        return "\x1b" not in str(error)
    return False


def make_job_row(manifest: object, **attributes: Any) -> WorkflowStatus:
    """Return the row of a job."""
    return make_row("q:j", manifest, **attributes)


def make_run_row(name: str = "q:j.0.0", fields: Sequence[Any] = FIELDS, **attributes: Any) -> WorkflowStatus:
    """Return the row of a run of a batch."""
    return make_row(name, *fields, **attributes)


def test_row_with_a_hostile_value_is_refused(workspace: Workspace) -> None:
    """A row is refused if any number, text or list in it is replaced by a hostile value."""
    assert job_store._job_row(make_job_row(MANIFEST)).manifest == JobManifest.from_row(MANIFEST)
    assert job_store._run_row(make_run_row(output=RUN)).result is not None
    accepted = [
        manifest for manifest in spoilt_copies(MANIFEST) if not is_refused(make_job_row(manifest), job_store._job_row)
    ]
    spoilt_batches = [[8, 0, *batch] for batch in spoilt_copies(FIELDS[2:])]
    accepted += [batch for batch in spoilt_batches if not is_refused(make_run_row(fields=batch), job_store._run_row)]
    accepted += [run for run in spoilt_copies(RUN) if not is_refused(make_run_row(output=run), job_store._run_row)]
    # Unknown facts of a problem are accepted: a later version may have stored them, and the text is stored, too.
    assert [value for value in accepted if '"facts": {"a": 1}' not in json.dumps(value)] == []


def test_malformed_row_is_refused(workspace: Workspace) -> None:
    """Reading a row with values that DBOS would not write raises ``UnreadableRowError`` and no other error."""
    deeply_nested: Any = []
    for _ in range(10_000):
        deeply_nested = [deeply_nested]
    jobs = [
        make_row("q:j"), make_job_row("text"), make_job_row(MANIFEST, created_at=1e30),
        make_job_row(MANIFEST, created_at="x"), make_job_row(MANIFEST, input="a text"),
        *(make_job_row({**MANIFEST, **changes}) for changes in (
            {"more": 1}, {"name": deeply_nested}, {"read": 7}, {"batches": 2},
        )),
    ]  # fmt: skip
    runs = [
        *map(make_run_row, ("none", "q:j.x.0", "q:j.0.-1", f"q:j.0.{10**9}", f"q:j.{10**9}.0")),
        make_run_row(fields=[*FIELDS, 1]), make_run_row(attributes=[1]), make_run_row(output=[1]),
        make_run_row(output={"done": [[0, 1, 2, 2, 2, 1, 10**9]]}),  # stands for a thousand million chunks
        make_run_row(output={"done": [[40, 1, 2, 2, 2, 1, 1]]}),  # a chunk of another batch
        make_run_row(output={"done": [[0, 1, 2, 3, 2, 1, 1]] * 2}),  # more card keys than the batch has
        make_run_row(output={"stopped": {**ERROR, "says": ["\x1b[2J"]}}),
        make_run_row(output={"stopped": {"class": "TransportError", "says": []}}),
    ]  # fmt: skip
    assert [row.input for row in jobs if not is_refused(row, job_store._job_row)] == []
    assert [(row.workflow_id, row.output) for row in runs if not is_refused(row, job_store._run_row)] == []


async def test_unexpected_error_ends_the_batch(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected error ends the batch. Its class is logged, but not its text, which may contain a card key."""

    async def run(*_: Any, **__: Any) -> dict[str, Any]:
        raise OSError("KEY-00001 is odd")

    monkeypatch.setattr(Runner, "run", run)
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(3)), product_id=PRODUCT)
        async with uploads.worker():
            report = await job.wait(every=POLL_S)
    assert (report.ok, report.stored, report.not_sent) == (False, 0, 3)
    assert "OSError in a worker" in caplog.text
    assert "is odd" not in caplog.text


async def test_undecodable_row_does_not_affect_other_jobs(
    workspace: Workspace, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """If DBOS can't decode a row, or its text isn't UTF-8, other jobs are listed, and workers send them."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        bad = await submit.file(workspace.file(keys_of(3, "BAD"), "bad.txt"), product_id=PRODUCT)
        not_utf8 = await submit.file(workspace.file(keys_of(3, "ODD"), "odd.txt"), product_id=PRODUCT)
        good = await submit.file(workspace.file(keys_of(3, "GOOD"), "good.txt"), product_id=PRODUCT)
        alter(
            workspace, "UPDATE workflow_status SET authenticated_roles = '\x1b[2J' WHERE workflow_uuid = :name", bad.id
        )
        alter(
            workspace,
            # The text is "[SECRET" and a byte that isn't UTF-8.
            "UPDATE workflow_input SET inputs = CAST(x'5b534543524554ff' AS TEXT) WHERE workflow_uuid = :name",
            not_utf8.id,
        )
        assert [job.id for job in await submit.jobs()] == [good.id]
        with pytest.raises(DurableError, match="a row of the database can't be read"):
            await submit.job(bad.id)
        async with uploads.worker(concurrency=1) as this_worker:
            this_worker._runner.idle_jobs.add(bad.id)  # as if the worker had just run a batch of this job
            assert (await good.wait(every=POLL_S)).ok
            await until(lambda: not this_worker._runner.idle_jobs)
    assert "can't reach the queue" not in caplog.text
    assert not any(text in caplog.text for text in ("\x1b", "SECRET"))


async def test_unreadable_batch_does_not_stop_tidying(
    workspace: Workspace, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker drops a job with an unreadable batch from its list, and deletes the card keys of the other jobs."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        ended_job = await submit.file(workspace.file(keys_of(3, "ENDED"), "ended.txt"), product_id=PRODUCT)
        [spool_file] = workspace.spool.glob("*.keys")
        content = spool_file.read_bytes()
        async with uploads.worker():
            await ended_job.wait(every=POLL_S)
        spool_file.write_bytes(content)
        job = await submit.file(workspace.file(keys_of(3)), product_id=PRODUCT)
        first_run_id = f"{job.id}.0.0"  # batch 0, run 0
        alter(workspace, SET_UNREADABLE_BATCH, first_run_id)
        async with uploads.worker() as this_worker:
            this_worker._runner.idle_jobs.add(job.id)
            await until(lambda: job.id not in this_worker._runner.idle_jobs)
            await until(lambda: not this_worker._jobs_to_tidy and not spool_file.exists())
    assert "can't reach the queue" not in caplog.text


async def test_batch_with_an_unreadable_earlier_run_is_not_sent(workspace: Workspace, shop: Shop) -> None:
    """If the row of a batch's earlier run can't be read, the batch isn't sent, and the job stops with the reason."""
    shop.down = True
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(3)), product_id=PRODUCT)
        first = (await anyio.to_thread.run_sync(job._store.runs_by_id, [f"{job.id}.0.0"]))[f"{job.id}.0.0"]
        await anyio.to_thread.run_sync(job._store.enqueue_run, evolve(first.task, run_number=1))
        alter(workspace, "UPDATE workflow_status SET status = 'SUCCESS' WHERE workflow_uuid = :name", first.task.id)
        alter(workspace, SET_UNREADABLE_BATCH, first.task.id)
        second_run_id = f"{job.id}.0.1"  # batch 0, run 1
        async with uploads.worker():
            while (await anyio.to_thread.run_sync(job._store.runs_by_id, [second_run_id]))[second_run_id].open:
                await anyio.sleep(POLL_S)
        run = (await anyio.to_thread.run_sync(job._store.runs_by_id, [second_run_id]))[second_run_id].result
    assert run is not None
    assert "can't be read" in str(run.stopped)
    assert shop.cut_connections == 0


async def test_worker_ignores_a_wrong_size_in_a_row(workspace: Workspace, shop: Shop) -> None:
    """A worker sends what the spool holds, even if a row claims a size of 2**47 bytes."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(3)), product_id=PRODUCT)
        size = (workspace.spool / batches.spool_name(job.id)).stat().st_size
        changed = f"replace(inputs, '\"size\":{size},', '\"size\":{2**47},')"
        alter(workspace, f"UPDATE workflow_input SET inputs = {changed} WHERE workflow_uuid = :name", job.id)  # noqa: S608 -- no input from outside
        async with uploads.worker():
            assert (await job.wait(every=POLL_S)).ok


async def test_reading_more_than_a_file_holds_allocates_no_memory(workspace: Workspace) -> None:
    """Reading 2**47 bytes from a short file returns the bytes there are, without allocating the rest."""
    spool = FolderSpool(workspace.spool)
    await spool.put("name", BytesIO(b"12345"))
    assert [await spool.read("name", offset, 2**47) for offset in (3, 9)] == [b"45", b""]


async def test_input_with_too_many_batches_is_refused(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Submitting an input that needs more than ``MAX_BATCHES`` batches raises an error."""
    monkeypatch.setattr(batches, "CHUNKS_PER_BATCH", 1)
    monkeypatch.setattr(batches, "MAX_BATCHES", 2)
    async with workspace.uploads(Shop()).submitter() as submit:
        with pytest.raises(InvalidRequestError, match="more than 1,000 card keys; split it"):
            await submit.file(workspace.file(keys_of(1001)), product_id=PRODUCT)


async def test_traceback_of_a_full_disk_contains_no_card_key(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk is full, the locals of the traceback contain neither a card key nor the digest key."""

    def raise_disk_full(*arguments: object) -> None:
        del arguments  # this test's own frame is in the traceback, too
        raise OSError(28, "No space left on device")

    for target in ("gatepay_async.durable.records.batches.lines_of", "shutil.copyfileobj"):
        with monkeypatch.context() as patched:
            async with workspace.uploads(Shop()).submitter() as submit:
                patched.setattr(target, raise_disk_full)
                with pytest.raises(OSError, match="No space") as caught:
                    await submit.file(workspace.file(keys_of(3, "SECRET")), product_id=PRODUCT)
        text = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
        assert "SECRET-" not in text
        assert repr((workspace.spool / "digest-key").read_bytes()) not in text


async def test_database_error_contains_no_password(workspace: Workspace) -> None:
    """The error for an unavailable database contains no password and no control character, and is short."""

    def fail() -> None:
        password = "hush"
        raise OperationalError(f"SELECT {password}", {}, Exception("away \x1b[2J" + "x" * 1000))

    with pytest.raises(QueueUnavailableError) as caught:
        await in_thread(fail)
    text = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "hush" not in text
    assert "\x1b" not in text
    assert len(str(caught.value)) < 400
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def alter(workspace: Workspace, change: str, name: str) -> None:
    """Change one row of the queue's database, as an attacker would."""
    with closing(sqlite3.connect(workspace.folder / "uploads.sqlite3")) as database, database:
        assert database.execute(change, {"name": name}).rowcount == 1
