"""Card keys with an unknown outcome, over several runs of a batch."""

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from durable_shop import Shop
from durable_workspace import POLL_S, PRODUCT, Workspace, adds_up, keys_of

from gatepay_async import (
    AlreadyStoredError,
    DuplicateKeysError,
    EmptyContentError,
    SignatureRejectedError,
    StorageFailedError,
    TransportError,
)
from gatepay_async.durable.records import results
from gatepay_async.durable.records.results import BatchResult
from gatepay_async.durable.records.rows import JobManifest
from gatepay_async.durable.work import runner
from gatepay_async.durable.work.sender import BATCH_PATIENCE, send_batch
from gatepay_async.protocol.bulk import Chunk, Fate
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.models import Stored
from gatepay_async.protocol.progress import Progress
from gatepay_async.protocol.retrying import Sent

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

CHUNK = Chunk(0, (1, 2, 3, 5), ("A", "B", "C", "D"))  # line 4 of the input is blank

# Results of two runs in the format of the previous version: all of CHUNK unknown; then A and B stored, C and D refused.
OLD_RUNS: list[dict[str, Any]] = [
    {
        "rest": [[0, 1, 5, 4, 4, "unknown", {
            "class": "TransportError", "says": ["cut"], "endpoint": "ka/create", "sent": True, "problem": "cut",
            "attempts": 4,
        }]],
        "follows": True,
    },
    {"done": [[0, 1, 2, 2, 2, 1, 1]], "rest": [[0, 3, 5, 2, 1, "refused", {
        "class": "StorageFailedError", "says": ["no"], "code": 113, "message": "", "endpoint": "ka/create",
        "attempts": 1, "in_doubt": False, "cause": "", "remedy": "",
    }]]},
]  # fmt: skip
OLD_MANIFEST: dict[str, Any] = {
    "product_id": 8, "name": "n", "read": 5, "blank": 1, "duplicates": 0, "count": 4, "batches": 1, "size": 9,
    "digest": "d", "refused": None, "problems": None,
}  # fmt: skip


@pytest.fixture
def anyio_backend() -> str:
    """DBOS supports asyncio only."""
    return "asyncio"


def transport_error(*, sent: bool) -> TransportError:
    return TransportError(endpoint="ka/create", sent=sent, problem="x", attempts=4)


async def run_once(
    chunks: list[Chunk], answer: Callable[[KaCreate], Sent[Stored]], *, calls: float = math.inf
) -> BatchResult:
    """Send *chunks* to *answer*, in at most *calls* calls. Return the result after a round trip through JSON."""

    async def send(call: KaCreate) -> Sent[Stored]:
        return answer(call)

    async def may_send() -> bool:
        nonlocal calls
        calls -= 1
        return calls >= 0

    result = await send_batch(send, 8, chunks, Progress(BATCH_PATIENCE), may_send=may_send)
    return BatchResult.from_row(json.loads(json.dumps(result.to_row())))


def raise_for_each(error: Exception) -> Callable[[KaCreate], Sent[Stored]]:
    """Return a function that raises *error* for each call."""

    def answer(_: KaCreate) -> Sent[Stored]:
        raise error

    return answer


def fates_by_lines(runs: list[BatchResult]) -> list[tuple[int, int, Fate]]:
    """Return the first line, the last line and the fate of each outcome after *runs*."""
    outcomes = results.merge_runs(runs)[0]
    return [(outcome.first_line, outcome.last_line, outcome.fate) for outcome in outcomes]


async def test_unknown_outcome_lasts_until_a_run_gets_a_reply() -> None:
    """A chunk with an unknown outcome stays unknown if later runs can't connect, until GatePay says it is stored."""
    runs = [await run_once([CHUNK], raise_for_each(transport_error(sent=True)))]
    for _ in range(2):
        runs.append(
            await run_once(results.unsettled_chunks([CHUNK], runs), raise_for_each(transport_error(sent=False)))
        )
        assert fates_by_lines(runs) == [(1, 5, Fate.UNKNOWN)]
        (outcome,) = results.merge_runs(runs)[0]
        assert isinstance(outcome.error, TransportError)
        assert outcome.error.sent, "the error must be that of the run that sent the chunk, not of a later run"
    already_stored = AlreadyStoredError(code=112, message="", endpoint="ka/create")
    runs.append(await run_once(results.unsettled_chunks([CHUNK], runs), raise_for_each(already_stored)))
    assert fates_by_lines(runs) == [(1, 5, Fate.STORED)]
    assert results.unsettled_chunks([CHUNK], runs) == []


async def test_next_run_sends_only_unsettled_parts() -> None:
    """A run sends only the parts that earlier runs left unsettled, each with its own ``in_doubt``."""
    refused = EmptyContentError(code=110, message="", endpoint="ka/create")

    def answer(call: KaCreate) -> Sent[Stored]:
        if "B" in call.keys:
            raise refused
        if "D" in call.keys:
            raise transport_error(sent=len(call.keys) == 1)
        return Sent(Stored(len(call.keys), ""), attempts=1)

    runs = [await run_once([CHUNK], answer)]
    assert fates_by_lines(runs) == [(1, 1, Fate.STORED), (2, 2, Fate.REFUSED), (3, 5, Fate.NOT_SENT)]
    (unsettled,) = results.unsettled_chunks([CHUNK], runs)
    assert (unsettled.lines, unsettled.keys, unsettled.in_doubt) == ((3, 5), ("C", "D"), False)
    # "Storage failed" for two card keys is not settled: GatePay may still store each of them alone.
    storage_failed = StorageFailedError(code=113, message="", endpoint="ka/create")
    assert not results.is_settled(evolve(results.merge_runs(runs)[0][1], count=2, error=storage_failed))


async def test_run_that_ends_while_halving_refuses_nothing() -> None:
    """If a run ends between two halves, both are sent again: GatePay may accept each half alone."""
    for cls, code in ((EmptyContentError, 110), (StorageFailedError, 113)):
        refused = cls(code=code, message="", endpoint="ka/create")
        run = await run_once([CHUNK], raise_for_each(refused), calls=1)
        assert run.has_next_run
        assert fates_by_lines([run]) == [(1, 2, Fate.NOT_SENT), (3, 5, Fate.NOT_SENT)]
        assert [part.keys for part in results.unsettled_chunks([CHUNK], [run])] == [("A", "B"), ("C", "D")]


async def test_card_key_that_fails_in_every_run_is_refused() -> None:
    """A single card key that GatePay can't store in five runs counts as refused."""
    single_key_chunk = Chunk(0, (1,), ("A",))
    refused = StorageFailedError(code=113, message="", endpoint="ka/create")
    runs: list[BatchResult] = []
    # The limit of 9 runs ends the loop if a bug leaves the card key unsettled for ever.
    while results.unsettled_chunks([single_key_chunk], runs) and len(runs) < 9:
        runs.append(await run_once(results.unsettled_chunks([single_key_chunk], runs), raise_for_each(refused)))
    assert fates_by_lines(runs) == [(1, 1, Fate.REFUSED)]
    assert len(runs) == 5


def test_rows_of_the_previous_version_can_be_read() -> None:
    """Unsettled parts and a manifest without ``invisible``, as stored by the previous version, are read correctly."""
    first, second = (BatchResult.from_row(row) for row in OLD_RUNS)
    assert [(part.in_doubt, part.keys) for part in results.unsettled_chunks([CHUNK], [first])] == [(True, CHUNK.keys)]
    (unsettled,) = results.unsettled_chunks([CHUNK], [first, second])
    assert unsettled.keys == ("C", "D")
    assert JobManifest.from_row(OLD_MANIFEST).invisible == ()


async def test_batch_begun_by_a_killed_worker_has_an_unknown_outcome(
    workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a worker is killed after it began a batch, the outcome is unknown, even if the next worker can't connect."""
    monkeypatch.setattr(runner, "MAX_BACKOFF_S", POLL_S)
    monkeypatch.setattr(runner, "MAX_UNANSWERED_RUNS", 0)
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        first_run_id = f"{job.id}.0.0"  # batch 0, run 0
        assert not job._store.mark_begun(first_run_id), "it was marked before"  # as a worker that is killed next
        async with uploads.worker():
            monkeypatch.setattr("gatepay_async.sending.KaCreate", raise_not_connected)
            report = await job.wait(every=POLL_S)
    assert (report.unknown, report.not_sent) == (600, 0)
    assert adds_up(report)


async def test_card_key_that_gatepay_refuses_needs_no_further_run() -> None:
    """No further run is queued for a card key that GatePay refuses, even if the card key is in doubt."""
    for key, in_doubt, cls, fate in (
        ("A", True, DuplicateKeysError, Fate.UNKNOWN),  # a killed worker may have sent it
        ("A&B", False, SignatureRejectedError, Fate.REFUSED),  # GatePay's input filter changes the "&"
        ("A&B", True, SignatureRejectedError, Fate.UNKNOWN),
    ):
        part = Chunk(0, (1,), (key,), in_doubt=in_doubt)
        run = await run_once([part], raise_for_each(cls(code=1, message="", endpoint="ka/create")))
        assert (fates_by_lines([run]), run.has_next_run) == ([(1, 1, fate)], False)


async def test_refused_card_key_of_a_killed_worker_does_not_delay_the_end(workspace: Workspace, shop: Shop) -> None:
    """If GatePay refuses a card key of a killed worker's batch, the job ends after the next run of the batch."""
    shop.refuse_with["KEY-000000007"] = 109  # a refusal of this card key only
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        first_run_id = f"{job.id}.0.0"  # batch 0, run 0
        assert not job._store.mark_begun(first_run_id), "it was marked before"  # as a worker that is killed next
        async with uploads.worker():
            report = await job.wait(every=POLL_S)
        assert job._store.run_ids(job.id) == [first_run_id]
    assert (report.stored, report.unknown) == (599, 1)
    assert adds_up(report)


async def test_cancelled_error_from_a_transport_stops_the_job() -> None:
    """A ``CancelledError`` that a transport raises by itself stops the job, as other unexpected errors do."""

    async def send(_: KaCreate) -> Sent[Stored]:
        raise asyncio.CancelledError("SECRET")

    async def always() -> bool:
        return True

    run = await send_batch(send, 8, [CHUNK, CHUNK], Progress(BATCH_PATIENCE), may_send=always)
    assert [outcome.fate for outcome in run.outcomes] == [Fate.UNKNOWN, Fate.NOT_SENT]
    assert str(run.stopped) == "CancelledError while sending; see the worker's log"


def raise_not_connected(*_: object) -> KaCreate:
    """Raise the error of a call that couldn't connect."""
    raise transport_error(sent=False)


async def test_report_lists_lines_with_invisible_characters(workspace: Workspace, shop: Shop) -> None:
    """The report of a job lists the lines whose card key contains an invisible character."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(["A", "\u200bB\u200b", "C\u200bD"]), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
    assert (report.stored, report.invisible) == (3, (3,))  # those at the start and the end of line 2 are removed
