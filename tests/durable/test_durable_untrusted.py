"""Durable uploads whose database or spool somebody else has written to: no code of theirs runs, nothing is sent."""

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
    """DBOS knows no other loop."""
    return "asyncio"


class _Attack:
    """Unpickled, it writes a file."""

    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._proof,)


def alter(workspace: Workspace, change: str, **values: str) -> None:
    """Change one row of the queue's database, as somebody else would."""
    with closing(sqlite3.connect(workspace.folder / "uploads.sqlite3")) as database, database:
        assert database.execute(change, values).rowcount == 1


def poison(workspace: Workspace, proof: Path, name: str) -> None:
    """Have a row hold a pickle that leaves *proof* when it is loaded."""
    text = base64.b64encode(pickle.dumps(_Attack(proof))).decode()
    alter(workspace, "UPDATE workflow_input SET inputs = :text WHERE workflow_uuid = :name", text=text, name=name)
    alter(workspace, "UPDATE workflow_status SET serialization = 'py_pickle' WHERE workflow_uuid = :name", name=name)


async def test_a_pickled_job(
    workspace: Workspace, shop: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A job's row that names pickle is not loaded: it is left out, with a warning, and the others are there."""
    uploads, proof = workspace.uploads(shop), tmp_path / "proof"
    async with uploads.submitter() as submit:
        bad = await submit.file(workspace.file(keys_of(3, "BAD"), "bad.txt"), product_id=PRODUCT)
        good = await submit.file(workspace.file(keys_of(3, "GOOD"), "good.txt"), product_id=PRODUCT)
        poison(workspace, proof, bad.id)
        assert [job.id for job in await submit.jobs()] == [good.id]
        assert f"the row {bad.id!a} of the database can't be read" in caplog.text
        with pytest.raises(DurableError, match="can't be read"):
            await submit.job(bad.id)
    assert not proof.exists()


def test_dbos_quotes_nothing(workspace: Workspace) -> None:
    """What DBOS logs of rows that it can't decode, and it quotes them, is not logged where we ask for them."""
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]  # a double
    dbos = logging.getLogger("dbos")
    dbos.addHandler(handler)
    with pickle_guard.refuse_in_thread():
        dbos.error("quoted")
    dbos.error("said")
    dbos.removeHandler(handler)
    assert heard == ["said"]


async def test_another_product(workspace: Workspace, shop: Shop) -> None:
    """A batch whose row was changed to another product is not sent: its card keys would be sold as something else."""
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


STRANGERS = {
    "nobody.0.0": "ERROR", "other:job.0.0": "ERROR", "gatepay:none.0.0": "SUCCESS", "\x1b[2J": "ERROR",
    "gatepay:a.0": "ERROR", "gatepay:a.-1.0": "ERROR", "gatepay:a.0.999999999": "ERROR",
}  # fmt: skip


@pytest.mark.slow
async def test_batches_of_nobody(workspace: Workspace, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """A row that belongs to no job here takes no worker's place for ever: it ends, and the other jobs are done."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        for name in STRANGERS:
            bad = await submit.file(workspace.file([f"BAD {name}"], "bad.txt"), product_id=PRODUCT)
            for table in ("workflow_status", "workflow_input"):
                rename = f"UPDATE {table} SET workflow_uuid = :new WHERE workflow_uuid = :name"  # noqa: S608 -- ours
                alter(workspace, rename, name=f"{bad.id}.0.0", new=name)
        good = await submit.file(workspace.file(keys_of(3, "GOOD"), "good.txt"), product_id=PRODUCT)
        async with uploads.worker(concurrency=1):
            assert (await good.wait(every=POLL_S)).ok
    assert {name: status_of(workspace, name) for name in STRANGERS} == STRANGERS
    assert len(shop.sent) == 1
    assert "\x1b" not in caplog.text


OTHER_NAME = "UPDATE workflow_status SET name = 'theirs' WHERE workflow_uuid = :name"
OF_A_CLASS = "UPDATE workflow_status SET class_name = 'os', config_name = 'x' WHERE workflow_uuid = :name"


@pytest.mark.slow
async def test_workflows_of_others(workspace: Workspace, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """A row of our queue that is another program's doesn't count as being run: it is cancelled, and jobs are done."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        names: list[str] = []
        for number, theirs in enumerate((OTHER_NAME, OF_A_CLASS)):
            bad = await submit.file(workspace.file(keys_of(3, f"BAD{number}"), "bad.txt"), product_id=PRODUCT)
            names.append(f"{bad.id}.0.0")
            alter(workspace, theirs, name=names[-1])
        good = await submit.file(workspace.file(keys_of(3, "GOOD"), "good.txt"), product_id=PRODUCT)
        async with uploads.worker(concurrency=1, global_concurrency=1):
            assert (await good.wait(every=POLL_S)).ok
    for name in names:
        assert status_of(workspace, name) == "CANCELLED"
        assert name in caplog.text


def status_of(workspace: Workspace, name: str) -> str:
    """The state of a row."""
    with closing(sqlite3.connect(workspace.folder / "uploads.sqlite3")) as database:
        asked = "SELECT status FROM workflow_status WHERE workflow_uuid = ?"
        return str(database.execute(asked, [name]).fetchone()[0])


@pytest.mark.slow
async def test_what_a_dead_worker_had(workspace: Workspace, shop: Shop) -> None:
    """A batch of a worker that is there no more is queued again by one that is, and sent."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(3)), product_id=PRODUCT)
        taken = "UPDATE workflow_status SET status = 'PENDING', executor_id = 'dead' WHERE workflow_uuid = :name"
        alter(workspace, taken, name=f"{job.id}.0.0")
        async with uploads.worker():
            assert (await job.wait(every=POLL_S)).ok


async def test_a_pickled_batch(workspace: Workspace, shop: Shop, tmp_path: Path) -> None:
    """A worker runs no batch whose row names pickle; the other jobs are done."""
    uploads, proof = workspace.uploads(shop), tmp_path / "proof"
    async with uploads.submitter() as submit:
        bad = await submit.file(workspace.file(keys_of(3, "BAD"), "bad.txt"), product_id=PRODUCT)
        poison(workspace, proof, f"{bad.id}.0.0")
        good = await submit.file(workspace.file(keys_of(3, "GOOD"), "good.txt"), product_id=PRODUCT)
        async with uploads.worker():
            report = await good.wait(every=POLL_S)
        assert report.ok
        with pytest.raises(DurableError, match="can't be read"):
            await bad.info()
    assert not proof.exists()
    assert not any(key.startswith("BAD") for key in shop.stored)


async def test_pickles_of_others(workspace: Workspace, shop: Shop) -> None:
    """An application may go on using pickle in a DBOS of its own; only while one of ours works it may not."""
    text = base64.b64encode(pickle.dumps("theirs")).decode()
    assert _serialization.DBOSDefaultSerializer.deserialize(text) == "theirs"
    async with workspace.uploads(shop).worker():
        with pytest.raises(pickle_guard.PickledRowError):
            _serialization.DBOSDefaultSerializer.deserialize(text)
    assert _serialization.DBOSDefaultSerializer.deserialize(text) == "theirs"


@pytest.mark.skipif(os.name != "posix", reason="only POSIX says who may write into a folder")
async def test_a_spool_of_others(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool that others can write into, or that is theirs, is refused: what lies in it would be sent."""
    folder = tmp_path / "spool"
    spool = FolderSpool(folder)
    await spool.put("x", io.BytesIO(b"abc"))
    for mode in (0o720, 0o702, 0o777):
        folder.chmod(mode)
        for ask in (spool.secret(), spool.put("x", io.BytesIO()), spool.read("x", 0, 1)):
            with pytest.raises(DurableError, match="other users can write to the spool"):
                await ask
    folder.chmod(0o750)
    assert await spool.read("x", 0, 3) == b"abc"
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(DurableError, match="belongs to another user"):
        await spool.read("x", 0, 1)


async def test_a_key_of_the_wrong_length(workspace: Workspace, tmp_path: Path) -> None:
    """A digest key that is not 32 bytes long is refused: with none, card keys could be guessed from their digests."""
    for length in (0, 1, 31, 33):
        folder = tmp_path / str(length)
        folder.mkdir(mode=0o700)
        (folder / "digest-key").write_bytes(bytes(length))
        store = MemoryStore()
        obstore.put(store, "gatepay/digest-key", bytes(length))
        for spool in (FolderSpool(folder), ObjectSpool(store)):
            with pytest.raises(DurableError, match=f"must hold 32 bytes, not {length}"):
                await spool.secret()
