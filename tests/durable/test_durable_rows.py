"""Rows of the queue's database that hold anything: refused, before anything is allocated or looped over."""

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
from gatepay_async.durable.records.manifest import JobManifest
from gatepay_async.durable.storage import job_store
from gatepay_async.durable.storage.database import in_thread
from gatepay_async.durable.work.runner import Runner
from gatepay_async.protocol.errors import InvalidRequestError

pytestmark = [pytest.mark.sockets, pytest.mark.anyio, pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)]

HOSTILE: list[Any] = [2**60, -(2**60), 1e300, True, "\x1b" * 10**6, [[]], {"a": 1}]
BATCH = {"number": -1, "offset": 0, "length": 9, "digest": "d", "count": 1, "first_line": 1, "last_line": 1}
FACTS: dict[str, Any] = {
    "product_id": 8, "name": "n", "read": 6, "blank": 1, "duplicates": 0, "count": 4, "batches": 1, "size": 9,
    "digest": "d", "refused": BATCH, "problems": BATCH, "invisible": [3],
}  # fmt: skip
ERROR: dict[str, Any] = {
    "class": "StorageFailedError", "says": ["no"], "code": 113, "message": "no", "endpoint": "ka/create",
    "time": "2026-11-23T10:00:00+00:00",
}  # fmt: skip
FACT: dict[str, Any] = {"name": "nul", "text": "contains a NUL character; the file may be UTF-16", "facts": {}}
CUT: dict[str, Any] = {
    "class": "DurableError", "says": ["no"], "problem": "no",
    "problem_data": {"name": "lines", "text": "no", "facts": {"first": 1, "last": 2, "problem": FACT}},
}  # fmt: skip
FIELDS: list[Any] = [8, 0, 0, 9, "d", 4, 1, 5]
RUN: dict[str, Any] = {"done": [[0, 1, 2, 2, 2, 1, 1]], "rest": [[0, 3, 5, 2, 1, "refused", ERROR]], "stopped": CUT}
NO_BATCH = "UPDATE workflow_input SET inputs = '{\"positionalArgs\":[8,0,-1]}' WHERE workflow_uuid = :name"


@pytest.fixture
def anyio_backend() -> str:
    """DBOS knows no other loop."""
    return "asyncio"


def row_of(job: str, *arguments: Any, **facts: Any) -> WorkflowStatus:
    """As DBOS gives one."""
    row = WorkflowStatus()
    row.workflow_id, row.status, row.created_at, row.updated_at, row.attributes = job, "SUCCESS", 0, 0, None
    row.input = {"args": tuple(arguments), "kwargs": {}}
    vars(row).update(facts)
    return row


def spoilt(whole: Any) -> Iterator[Any]:
    """Copies of *whole*, with something hostile in the place of each of its values, and of those within them."""
    items = dict[Any, Any](whole).items() if isinstance(whole, dict) else enumerate(list[Any](whole))
    for place, value in items:
        inner = spoilt(cast("object", value)) if isinstance(value, dict | list) else iter(())
        for other in (*HOSTILE, *inner):
            copy: Any = deepcopy(cast("object", whole))
            copy[place] = other
            yield copy


def unreadable(row: WorkflowStatus, read: Callable[[WorkflowStatus], object]) -> bool:
    """Whether *read* refuses it."""
    try:
        read(row)
    except UnreadableRowError as error:
        return "\x1b" not in str(error)
    return False


def of_job(facts: object, **others: Any) -> WorkflowStatus:
    """The row of a job."""
    return row_of("q:j", facts, **others)


def of_run(name: str = "q:j.0.0", fields: Sequence[Any] = FIELDS, **others: Any) -> WorkflowStatus:
    """The row of a run of a batch."""
    return row_of(name, *fields, **others)


def test_hostile_values(workspace: Workspace) -> None:
    """Whatever stands in the place of a number, a text or a list, the row is refused, and at once."""
    assert job_store._job_row(of_job(FACTS)).manifest == JobManifest.from_row(FACTS)
    assert job_store._batch_row(of_run(output=RUN)).result is not None
    missed = [facts for facts in spoilt(FACTS) if not unreadable(of_job(facts), job_store._job_row)]
    batches_ = [[8, 0, *batch] for batch in spoilt(FIELDS[2:])]
    missed += [batch for batch in batches_ if not unreadable(of_run(fields=batch), job_store._batch_row)]
    missed += [run for run in spoilt(RUN) if not unreadable(of_run(output=run), job_store._batch_row)]
    # Facts that this version doesn't know are a later one's: the sentence stays as it was stored.
    assert [each for each in missed if '"facts": {"a": 1}' not in json.dumps(each)] == []


def test_rows_that_are_no_rows(workspace: Workspace) -> None:
    """A name, a time or attributes that DBOS would not write make a row unreadable, and no other error."""
    deep: Any = []
    for _ in range(10_000):
        deep = [deep]
    jobs = [
        row_of("q:j"), of_job("text"), of_job(FACTS, created_at=1e30), of_job(FACTS, created_at="x"),
        of_job(FACTS, input="a text"), of_job({**FACTS, "more": 1}), of_job({**FACTS, "name": deep}),
        of_job({**FACTS, "read": 7}), of_job({**FACTS, "batches": 2}),
    ]  # fmt: skip
    runs = [
        *map(of_run, ("none", "q:j.x.0", "q:j.0.-1", f"q:j.0.{10**9}", f"q:j.{10**9}.0")),
        of_run(fields=[*FIELDS, 1]), of_run(attributes=[1]), of_run(output=[1]),
        of_run(output={"done": [[0, 1, 2, 2, 2, 1, 10**9]]}),
        of_run(output={"done": [[40, 1, 2, 2, 2, 1, 1]]}),
        of_run(output={"done": [[0, 1, 2, 3, 2, 1, 1]] * 2}),
        of_run(output={"stopped": {**ERROR, "says": ["\x1b[2J"]}}),
        of_run(output={"stopped": {"class": "TransportError", "says": []}}),
    ]  # fmt: skip
    assert [row.input for row in jobs if not unreadable(row, job_store._job_row)] == []
    assert [(row.workflow_id, row.output) for row in runs if not unreadable(row, job_store._batch_row)] == []


async def test_an_error_that_nobody_expected(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends the batch; its class is told, and nothing that it says."""

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


async def test_one_that_cannot_be_loaded(workspace: Workspace, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """A row that DBOS can't load, or whose text is no UTF-8, hides no other job, and no worker stops at it."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        bad = await submit.file(workspace.file(keys_of(3, "BAD"), "bad.txt"), product_id=PRODUCT)
        odd = await submit.file(workspace.file(keys_of(3, "ODD"), "odd.txt"), product_id=PRODUCT)
        good = await submit.file(workspace.file(keys_of(3, "GOOD"), "good.txt"), product_id=PRODUCT)
        alter(
            workspace, "UPDATE workflow_status SET authenticated_roles = '\x1b[2J' WHERE workflow_uuid = :name", bad.id
        )
        alter(
            workspace,
            "UPDATE workflow_input SET inputs = CAST(x'5b534543524554ff' AS TEXT) WHERE workflow_uuid = :name",
            odd.id,
        )
        assert [job.id for job in await submit.jobs()] == [good.id]
        with pytest.raises(DurableError, match="a row of the database can't be read"):
            await submit.job(bad.id)
        async with uploads.worker(concurrency=1) as it:
            it._runner.idle_jobs.add(bad.id)
            assert (await good.wait(every=POLL_S)).ok
            await until(lambda: not it._runner.idle_jobs)
    assert "can't reach the queue" not in caplog.text
    assert not any(text in caplog.text for text in ("\x1b", "SECRET"))


async def test_a_batch_that_cannot_be_read(workspace: Workspace, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """A worker doesn't ask for ever whether a job with such a batch has ended, and tidies up after the others."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        other = await submit.file(workspace.file(keys_of(3, "OTHER"), "other.txt"), product_id=PRODUCT)
        [kept] = workspace.spool.glob("*.keys")
        content = kept.read_bytes()
        async with uploads.worker():
            await other.wait(every=POLL_S)
        kept.write_bytes(content)
        job = await submit.file(workspace.file(keys_of(3)), product_id=PRODUCT)
        name = f"{job.id}.0.0"
        alter(
            workspace,
            "UPDATE workflow_input SET inputs = '{\"positionalArgs\":[8,0,-1]}' WHERE workflow_uuid = :name",
            name,
        )
        async with uploads.worker() as it:
            it._runner.idle_jobs.add(job.id)
            await until(lambda: job.id not in it._runner.idle_jobs)
            await until(lambda: not it._jobs_to_tidy and not kept.exists())
    assert "can't reach the queue" not in caplog.text


async def test_a_run_before_that_cannot_be_read(workspace: Workspace, shop: Shop) -> None:
    """Where it can't be read what a batch has met before, it is not sent again, and the job ends with the reason."""
    shop.down = True
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(3)), product_id=PRODUCT)
        first = (await anyio.to_thread.run_sync(job._store.batches, [f"{job.id}.0.0"]))[f"{job.id}.0.0"]
        await anyio.to_thread.run_sync(job._store.enqueue_run, evolve(first.task, run_number=1))
        alter(workspace, "UPDATE workflow_status SET status = 'SUCCESS' WHERE workflow_uuid = :name", first.task.id)
        alter(workspace, NO_BATCH, first.task.id)
        second = f"{job.id}.0.1"
        async with uploads.worker():
            while (await anyio.to_thread.run_sync(job._store.batches, [second]))[second].open:
                await anyio.sleep(POLL_S)
        run = (await anyio.to_thread.run_sync(job._store.batches, [second]))[second].result
    assert run is not None
    assert "can't be read" in str(run.stopped)
    assert shop.cut == 0


async def test_a_size_that_is_not_there(workspace: Workspace, shop: Shop) -> None:
    """A worker reads as much as the spool holds, whatever a row says of it."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(3)), product_id=PRODUCT)
        size = (workspace.spool / batches.spool_name(job.id)).stat().st_size
        changed = f"replace(inputs, '\"size\":{size},', '\"size\":{2**47},')"
        alter(workspace, f"UPDATE workflow_input SET inputs = {changed} WHERE workflow_uuid = :name", job.id)  # noqa: S608 -- ours
        async with uploads.worker():
            assert (await job.wait(every=POLL_S)).ok


async def test_more_than_there_is(workspace: Workspace) -> None:
    """No memory is allocated for what a row says of a file that is shorter."""
    spool = FolderSpool(workspace.spool)
    await spool.put("name", BytesIO(b"12345"))
    assert [await spool.read("name", offset, 2**47) for offset in (3, 9)] == [b"45", b""]


async def test_more_than_a_job_can_be(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input of more batches than a row may name is refused when it is submitted."""
    monkeypatch.setattr(batches, "CHUNKS_PER_BATCH", 1)
    monkeypatch.setattr(batches, "MAX_BATCHES", 2)
    async with workspace.uploads(Shop()).submitter() as submit:
        with pytest.raises(InvalidRequestError, match="more than 1,000 card keys; split it"):
            await submit.file(workspace.file(keys_of(1001)), product_id=PRODUCT)


async def test_no_key_in_a_traceback(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is full amid card keys, neither they nor the digest key stay in the locals of a traceback."""

    def full(*given: object) -> None:
        del given  # this frame is ours, and stays
        raise OSError(28, "No space left on device")

    for place in (("gatepay_async.durable.records.batches", "lines_of"), ("shutil", "copyfileobj")):
        with monkeypatch.context() as patched:
            async with workspace.uploads(Shop()).submitter() as submit:
                patched.setattr(".".join(place), full)
                with pytest.raises(OSError, match="No space") as caught:
                    await submit.file(workspace.file(keys_of(3, "SECRET")), product_id=PRODUCT)
        shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
        assert "SECRET-" not in shown
        assert repr((workspace.spool / "digest-key").read_bytes()) not in shown


async def test_no_password_in_a_traceback(workspace: Workspace) -> None:
    """Where the database can't be used, neither its password nor what a driver says at length hangs on the error."""

    def away() -> None:
        password = "hush"
        raise OperationalError(f"SELECT {password}", {}, Exception("away \x1b[2J" + "x" * 1000))

    with pytest.raises(QueueUnavailableError) as caught:
        await in_thread(away)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "hush" not in shown
    assert "\x1b" not in shown
    assert len(str(caught.value)) < 400
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def alter(workspace: Workspace, change: str, name: str) -> None:
    """Change one row of the queue's database, as somebody else would."""
    with closing(sqlite3.connect(workspace.folder / "uploads.sqlite3")) as database, database:
        assert database.execute(change, {"name": name}).rowcount == 1
