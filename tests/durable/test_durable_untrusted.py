"""An attacker who can change the database or the spool can't run code or have other card keys sent."""

import base64
import io
import logging
import os
import pickle
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import obstore
import pytest
from dbos import _serialization
from durable_shop import Shop
from durable_workspace import POLL_S, PRODUCT, Workspace, keys_of
from obstore.store import MemoryStore

from gatepay_async.durable import DurableError, FolderSpool, SourceChangedError
from gatepay_async.durable.objects import ObjectSpool
from gatepay_async.durable.storage import pickle_guard

pytestmark = [pytest.mark.sockets, pytest.mark.anyio, pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)]


@pytest.fixture
def anyio_backend() -> str:
    """DBOS supports asyncio only."""
    return "asyncio"


class _Attack:
    """Creates the file *proof* when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._proof,)


def alter(workspace: Workspace, change: str, **values: str) -> None:
    """Change one row of the queue's database, as an attacker would."""
    with closing(sqlite3.connect(workspace.folder / "uploads.sqlite3")) as database, database:
        assert database.execute(change, values).rowcount == 1


def insert_pickle(workspace: Workspace, proof: Path, name: str) -> None:
    """Replace the input of the row *name* with a pickle that creates *proof* when it is loaded."""
    text = base64.b64encode(pickle.dumps(_Attack(proof))).decode()
    alter(workspace, "UPDATE workflow_input SET inputs = :text WHERE workflow_uuid = :name", text=text, name=name)
    alter(workspace, "UPDATE workflow_status SET serialization = 'py_pickle' WHERE workflow_uuid = :name", name=name)


async def test_pickle_in_a_jobs_row_is_not_loaded(
    workspace: Workspace, shop: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A job whose row contains a pickle is left out of the list, with a warning. The other jobs are listed."""
    uploads, proof = workspace.uploads(shop), tmp_path / "proof"
    async with uploads.submitter() as submit:
        bad = await submit.file(workspace.file(keys_of(3, "BAD"), "bad.txt"), product_id=PRODUCT)
        good = await submit.file(workspace.file(keys_of(3, "GOOD"), "good.txt"), product_id=PRODUCT)
        insert_pickle(workspace, proof, bad.id)
        assert [job.id for job in await submit.jobs()] == [good.id]
        assert f"the row {bad.id!a} of the database can't be read" in caplog.text
        with pytest.raises(DurableError, match="can't be read"):
            await submit.job(bad.id)
    assert not proof.exists()


def test_dbos_logs_nothing_while_we_read_rows(workspace: Workspace) -> None:
    """While we read rows, DBOS's logger is silent, because DBOS quotes rows that it can't decode."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]  # a test double
    dbos = logging.getLogger("dbos")
    dbos.addHandler(handler)
    with pickle_guard.refuse_in_thread():
        dbos.error("while reading")
    dbos.error("afterwards")
    dbos.removeHandler(handler)
    assert messages == ["afterwards"]


async def test_batch_with_a_changed_product_is_not_sent(workspace: Workspace, shop: Shop) -> None:
    """A batch whose row names another product is not sent, so that its card keys aren't sold as that product."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(3)), product_id=PRODUCT)
        change = "UPDATE workflow_input SET inputs = replace(inputs, :old, :new) WHERE workflow_uuid = :name"
        old, new = f"[{PRODUCT},", f"[{PRODUCT + 1},"
        alter(workspace, f"{change} AND instr(inputs, :old) > 0", old=old, new=new, name=f"{job.id}.0.0")
        async with uploads.worker():
            report = await job.wait(every=POLL_S)
    assert isinstance(report.stopped, SourceChangedError)
    assert (report.stored, len(shop.sent)) == (0, 0)


# The IDs of queued rows that belong to no job of the queue, and the status in which each row ends. SUCCESS: its job may
# have been deleted. ERROR: the ID is that of a run in another queue, or not that of a run.
STATUS_OF_FOREIGN_ROWS = {
    "nobody.0.0": "ERROR", "other:job.0.0": "ERROR", "gatepay:none.0.0": "SUCCESS", "\x1b[2J": "ERROR",
    "gatepay:a.0": "ERROR", "gatepay:a.-1.0": "ERROR", "gatepay:a.0.999999999": "ERROR",
}  # fmt: skip


@pytest.mark.slow
async def test_batches_without_a_job_end_and_block_no_worker(
    workspace: Workspace, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """Queued rows that belong to no job of this queue end, and workers go on with the other jobs."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        for name in STATUS_OF_FOREIGN_ROWS:
            bad = await submit.file(workspace.file([f"BAD {name}"], "bad.txt"), product_id=PRODUCT)
            for table in ("workflow_status", "workflow_input"):
                rename = f"UPDATE {table} SET workflow_uuid = :new WHERE workflow_uuid = :name"  # noqa: S608 -- no input from outside
                alter(workspace, rename, name=f"{bad.id}.0.0", new=name)
        good = await submit.file(workspace.file(keys_of(3, "GOOD"), "good.txt"), product_id=PRODUCT)
        async with uploads.worker(concurrency=1):
            assert (await good.wait(every=POLL_S)).ok
    assert {name: status_of(workspace, name) for name in STATUS_OF_FOREIGN_ROWS} == STATUS_OF_FOREIGN_ROWS
    assert len(shop.sent) == 1
    assert "\x1b" not in caplog.text


SET_OTHER_NAME = "UPDATE workflow_status SET name = 'theirs' WHERE workflow_uuid = :name"
SET_CLASS = "UPDATE workflow_status SET class_name = 'os', config_name = 'x' WHERE workflow_uuid = :name"


@pytest.mark.slow
async def test_workflows_of_other_programs_in_our_queue_are_cancelled(
    workspace: Workspace, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """Another program's row in our queue is cancelled, so that it doesn't count against the concurrency limit."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        names: list[str] = []
        for number, change in enumerate((SET_OTHER_NAME, SET_CLASS)):
            bad = await submit.file(workspace.file(keys_of(3, f"BAD{number}"), "bad.txt"), product_id=PRODUCT)
            names.append(f"{bad.id}.0.0")
            alter(workspace, change, name=names[-1])
        good = await submit.file(workspace.file(keys_of(3, "GOOD"), "good.txt"), product_id=PRODUCT)
        async with uploads.worker(concurrency=1, global_concurrency=1):
            assert (await good.wait(every=POLL_S)).ok
    for name in names:
        assert status_of(workspace, name) == "CANCELLED"
        assert name in caplog.text


def status_of(workspace: Workspace, name: str) -> str:
    """Return the status of a row."""
    with closing(sqlite3.connect(workspace.folder / "uploads.sqlite3")) as database:
        select = "SELECT status FROM workflow_status WHERE workflow_uuid = ?"
        return str(database.execute(select, [name]).fetchone()[0])


@pytest.mark.slow
async def test_batch_of_a_dead_worker_is_requeued_and_sent(workspace: Workspace, shop: Shop) -> None:
    """A batch that was taken by a worker that no longer exists is requeued and sent by a live one."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(3)), product_id=PRODUCT)
        set_taken = "UPDATE workflow_status SET status = 'PENDING', executor_id = 'dead' WHERE workflow_uuid = :name"
        alter(workspace, set_taken, name=f"{job.id}.0.0")
        async with uploads.worker():
            assert (await job.wait(every=POLL_S)).ok


async def test_pickle_in_a_batchs_row_is_not_loaded(workspace: Workspace, shop: Shop, tmp_path: Path) -> None:
    """A worker doesn't run a batch whose row contains a pickle. The other jobs are sent."""
    uploads, proof = workspace.uploads(shop), tmp_path / "proof"
    async with uploads.submitter() as submit:
        bad = await submit.file(workspace.file(keys_of(3, "BAD"), "bad.txt"), product_id=PRODUCT)
        insert_pickle(workspace, proof, f"{bad.id}.0.0")
        good = await submit.file(workspace.file(keys_of(3, "GOOD"), "good.txt"), product_id=PRODUCT)
        async with uploads.worker():
            report = await good.wait(every=POLL_S)
        assert report.ok
        with pytest.raises(DurableError, match="can't be read"):
            await bad.info()
    assert not proof.exists()
    assert not any(key.startswith("BAD") for key in shop.stored)


async def test_application_can_use_pickle_while_no_worker_runs(workspace: Workspace, shop: Shop) -> None:
    """DBOS's pickle serializer is blocked only while one of our workers is open."""
    text = base64.b64encode(pickle.dumps("theirs")).decode()
    assert _serialization.DBOSDefaultSerializer.deserialize(text) == "theirs"
    async with workspace.uploads(shop).worker():
        with pytest.raises(pickle_guard.PickledRowError):
            _serialization.DBOSDefaultSerializer.deserialize(text)
    assert _serialization.DBOSDefaultSerializer.deserialize(text) == "theirs"


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has file modes")
async def test_spool_that_other_users_can_write_to_is_refused(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spool that another user owns or can write to is refused, because that user could insert card keys."""
    folder = tmp_path / "spool"
    spool = FolderSpool(folder)
    await spool.put("x", io.BytesIO(b"abc"))
    for mode in (0o720, 0o702, 0o777):
        folder.chmod(mode)
        for operation in (spool.secret(), spool.put("x", io.BytesIO()), spool.read("x", 0, 1)):
            with pytest.raises(DurableError, match="other users can write to the spool"):
                await operation
    folder.chmod(0o750)
    assert await spool.read("x", 0, 3) == b"abc"
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(DurableError, match="belongs to another user"):
        await spool.read("x", 0, 1)


async def test_digest_key_of_the_wrong_length_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    """A digest key that isn't 32 bytes long is refused: with a short one, card keys could be guessed from digests."""
    for length in (0, 1, 31, 33):
        folder = tmp_path / str(length)
        folder.mkdir(mode=0o700)
        (folder / "digest-key").write_bytes(bytes(length))
        store = MemoryStore()
        obstore.put(store, "gatepay/digest-key", bytes(length))
        for spool in (FolderSpool(folder), ObjectSpool(store)):
            with pytest.raises(DurableError, match=f"must hold 32 bytes, not {length}"):
                await spool.secret()
