"""
This version reads the database and the spool of version 0.1.

``samples/durable_rows.json`` holds the rows and files that version 0.1 wrote, with its clock set back by a year. There
are five jobs: one is done, one is done except for refused card keys, one was stopped by a refusal, one has a run that
got no reply, and one is queued. Don't change this file; record the rows of another version in a file of their own.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from durable_shop import Shop
from durable_workspace import POLL_S, Workspace, adds_up

from gatepay_async import EmptyContentError, EndpointClosedError, Fate, TransportError
from gatepay_async.durable import JobState
from gatepay_async.durable.records.results import BatchResult
from gatepay_async.durable.records.rows import BatchTask, JobManifest

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

SAMPLE = Path(__file__).parents[1] / "samples" / "durable_rows.json"
RECORDED: dict[str, Any] = json.loads(SAMPLE.read_text("utf-8"))
ROWS: dict[str, list[dict[str, Any]]] = RECORDED["tables"]
# The columns of each job's report that aren't 0, by the name of its input.
COLUMNS = {
    "done.txt": {"read": 1200, "stored": 1200},
    "parts.txt": {"read": 7, "blank": 1, "duplicates": 1, "stored": 3, "refused": 2},
    "stopped.txt": {"read": 2, "refused": 2},
    "waiting.txt": {"read": 2},
    "queued.txt": {"read": 3},
}


@pytest.fixture
def anyio_backend() -> str:
    """DBOS runs only on asyncio."""
    return "asyncio"


@pytest.fixture(params=["sqlite"])
def recorded(workspace: Workspace) -> Workspace:
    """Create the database and the spool as version 0.1 wrote them."""
    with closing(sqlite3.connect(workspace.folder / "uploads.sqlite3")) as database, database:
        for table, rows in ROWS.items():
            for row in rows:
                columns, values = ", ".join(row), ", ".join(f":{name}" for name in row)
                database.execute(f"INSERT INTO {table} ({columns}) VALUES ({values})", row)  # noqa: S608 -- no input from outside
    workspace.spool.mkdir(mode=0o700)
    for name, content in RECORDED["spool"].items():
        data = bytes.fromhex(content) if name == "digest-key" else content.encode("utf-8", "surrogatepass")
        (workspace.spool / name).write_bytes(data)
    return workspace


def test_rows_keep_their_format() -> None:
    """Reading a row and writing it again doesn't change it, because workers of both versions may share a queue."""
    kinds = {row["workflow_uuid"]: row["name"] for row in ROWS["workflow_status"]}
    for row in ROWS["workflow_input"]:
        name, values = row["workflow_uuid"], json.loads(row["inputs"])["positionalArgs"]
        if kinds[name] == "gatepay_job":
            assert [JobManifest.from_row(values[0]).to_row()] == values
        else:
            task = BatchTask.from_row(name, values)
            assert (task.id, list(task.to_row())) == (name, values)
    for row in ROWS["workflow_output"]:
        result = json.loads(row["output"])
        written = BatchResult.from_row(result).to_row()
        for error in (written.get("stopped"), *(values[-1] for values in written.get("rest", ()))):
            (error or {}).pop("problem_data", None)  # version 0.1 doesn't write this
        assert written == result
    assert (len(ROWS["workflow_input"]), len(ROWS["workflow_output"])) == (11, 4)


@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)
async def test_jobs_survive_an_upgrade(recorded: Workspace, shop: Shop) -> None:
    """Jobs of version 0.1 are listed with their results so far, and a worker finishes them."""
    uploads = recorded.uploads(shop)
    async with uploads.submitter() as submit:
        jobs = {(await job.info()).name: job for job in await submit.jobs()}
        for name, columns in COLUMNS.items():
            so_far = (await jobs[name].info()).progress.columns()
            assert {column: count for column, count in so_far.items() if count} == columns, name
        stopped = await jobs["stopped.txt"].wait(every=POLL_S)
        assert isinstance(stopped.stopped, EndpointClosedError)
        parts = await jobs["parts.txt"].wait(every=POLL_S)
        assert [(part.first_line, part.keys) for part in parts.chunks if part.fate is Fate.REFUSED] == [
            (4, ("BAD-1",)), (6, ("x\0y",)),
        ]  # fmt: skip
        assert isinstance(parts.chunks[1].error, EmptyContentError)
        [outcome] = jobs["waiting.txt"]._job_progress.outcomes(0)
        assert (outcome.fate, type(outcome.error)) == (Fate.UNKNOWN, TransportError)
        await jobs["stopped.txt"].resume()
        async with uploads.worker():
            reports = {name: await job.wait(every=POLL_S) for name, job in jobs.items()}
        assert {name: (await job.info()).state for name, job in jobs.items()} == dict.fromkeys(COLUMNS, JobState.DONE)
    assert all(map(adds_up, reports.values()))
    assert {name: report.stored for name, report in reports.items() if report.ok} == {
        "done.txt": 1200, "stopped.txt": 2, "waiting.txt": 2, "queued.txt": 3,
    }  # fmt: skip
