"""Telemetry of durable uploads. A batch's row holds the trace context that links the batch to its submission."""

from typing import TYPE_CHECKING

import pytest
from durable_shop import Shop
from durable_workspace import PRODUCT, Workspace, keys_of

from gatepay_async.durable.records.results import BatchResult
from gatepay_async.otel import instrument
from gatepay_async.otel.spans import links_to

if TYPE_CHECKING:
    from telemetry_exported import Exported

pytestmark = [pytest.mark.sockets, pytest.mark.anyio, pytest.mark.usefixtures("small_batches")]

on_sqlite = pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)


@on_sqlite
async def test_batches_have_own_traces_linked_to_their_submission(
    workspace: Workspace, shop: Shop, exported: "Exported"
) -> None:
    """Each batch has its own trace, with its calls and a link to the submission. No card key is exported."""
    shop.refuse_with = {"CANARY-000001200": 107}  # a refusal of every chunk, which stops the job
    uploads = workspace.uploads(shop)
    async with instrument(uploads, **exported.providers).submitter() as submit:
        job = await submit.file(workspace.file(keys_of(1201, "CANARY"), "CANARY.txt"), product_id=PRODUCT)
    async with uploads.submitter() as submit, uploads.worker(concurrency=1):
        await (await submit.job(job.id)).wait()
    (sent,) = exported.spans("send gatepay")
    batches = exported.spans("process gatepay")
    assert [[link.context.span_id for link in span.links] for span in batches] == [[sent.context.span_id]] * 2
    assert [span.parent for span in batches] == [None, None]
    assert exported.parents()["gatepay ka/create"] == {"process gatepay"}
    stored, stopped = sorted(batches, key=lambda span: str((span.attributes or {})["messaging.message.id"]))
    assert (stored.attributes or {})["gatepay.upload.stored"] == 1000
    assert (stopped.attributes or {})["error.type"] == "EndpointClosedError"
    common = {"messaging.system": "dbos", "messaging.destination.name": "gatepay"}
    process = {**common, "messaging.operation.name": "process", "messaging.operation.type": "process"}
    assert sorted(exported.points("messaging.process.duration"), key=str) == [
        ({**process, "error.type": "EndpointClosedError"}, 1),
        (process, 1),
    ]
    assert exported.points("gatepay.upload.active_chunks") == [({}, 0)]
    assert "CANARY" not in exported.everything()


@on_sqlite
async def test_batch_of_a_job_submitted_without_telemetry_has_no_link(
    workspace: Workspace, shop: Shop, exported: "Exported"
) -> None:
    """The batches of a job that was submitted without telemetry have no links."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(3)), product_id=PRODUCT)
        async with instrument(uploads, **exported.providers).worker():
            assert (await job.wait()).ok
    (batch,) = exported.spans("process")
    assert list(batch.links) == []


def test_invalid_traceparent_makes_no_link() -> None:
    """A text from the database that isn't a valid ``traceparent`` gives no link and no error."""
    for text in ("", "CANARY", "00-" + "g" * 32 + "-" + "1" * 16 + "-01", "00-" + "0" * 32 + "-" + "1" * 16 + "-01"):
        assert links_to(text) == []
    assert len(links_to("00-" + "1" * 32 + "-" + "2" * 16 + "-01")) == 1


def test_batch_result_without_outcomes_has_zeros_in_all_columns() -> None:
    """The telemetry gets a 0 for each column of the report if a batch has sent nothing."""
    assert BatchResult().columns() == dict.fromkeys(("stored", "already_there", "refused", "unknown", "not_sent"), 0)


@on_sqlite
async def test_span_of_a_failed_submission_has_the_error_type(
    workspace: Workspace, shop: Shop, exported: "Exported"
) -> None:
    """The span of a failed submission has the class of the error, and not the file's name."""
    async with instrument(workspace.uploads(shop), **exported.providers).submitter() as submit:
        with pytest.raises(FileNotFoundError):
            await submit.file(workspace.folder / "CANARY", product_id=PRODUCT)
    (sent,) = exported.spans("send")
    assert (sent.attributes or {})["error.type"] == "builtins.FileNotFoundError"
    assert "CANARY" not in exported.everything()
