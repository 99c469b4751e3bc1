"""What durable uploads know of card keys that may be on the server, from run to run."""

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from durable_shop import Shop
from durable_workspace import POLL_S, PRODUCT, Workspace, adds_up, keys_of

from gatepay_async import AlreadyStoredError, EmptyContentError, StorageFailedError, TransportError
from gatepay_async.durable.records import results
from gatepay_async.durable.records.manifest import JobManifest
from gatepay_async.durable.records.results import BatchResult
from gatepay_async.durable.work import runner
from gatepay_async.durable.work.sender import BatchSender
from gatepay_async.protocol.bulk import Chunk, Fate
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.models import Stored
from gatepay_async.protocol.retrying import Sent

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

CHUNK = Chunk(0, (1, 2, 3, 5), ("A", "B", "C", "D"))

# As the version before this one wrote them.
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
OLD_FACTS: dict[str, Any] = {
    "product_id": 8, "name": "n", "read": 5, "blank": 1, "duplicates": 0, "count": 4, "batches": 1, "size": 9,
    "digest": "d", "refused": None, "problems": None,
}  # fmt: skip


@pytest.fixture
def anyio_backend() -> str:
    """DBOS knows no other loop."""
    return "asyncio"


def failing(sent: bool) -> TransportError:  # noqa: FBT001 -- what it is about
    return TransportError(endpoint="ka/create", sent=sent, problem="x", attempts=4)


async def run_of(
    chunks: list[Chunk], answer: Callable[[KaCreate], Sent[Stored]], *, calls: float = math.inf
) -> BatchResult:
    """A run of so many *calls*, as the database gives it back."""

    async def send(call: KaCreate) -> Sent[Stored]:
        return answer(call)

    async def may_send() -> bool:
        nonlocal calls
        calls -= 1
        return calls >= 0

    run = await BatchSender(send, 8, may_send).send_chunks(chunks)
    return BatchResult.from_row(json.loads(json.dumps(run.to_row())))


def raising(error: Exception) -> Callable[[KaCreate], Sent[Stored]]:
    def answer(_: KaCreate) -> Sent[Stored]:
        raise error

    return answer


def fates(runs: list[BatchResult]) -> list[tuple[int, int, Fate]]:
    outcomes = results.merge_runs(runs)[0]
    return [(outcome.first_line, outcome.last_line, outcome.fate) for outcome in outcomes]


async def test_a_doubt_outlives_runs() -> None:
    """Unknown after one run, and not connected in the next: still unknown, until GatePay says that it is stored."""
    runs = [await run_of([CHUNK], raising(failing(sent=True)))]
    for _ in range(2):
        runs.append(await run_of(results.unsettled_chunks([CHUNK], runs), raising(failing(sent=False))))
        assert fates(runs) == [(1, 5, Fate.UNKNOWN)]
        (outcome,) = results.merge_runs(runs)[0]
        assert isinstance(outcome.error, TransportError)
        assert outcome.error.sent, "the reason is that of the later run, which has sent nothing"
    there = AlreadyStoredError(code=112, message="", endpoint="ka/create")
    runs.append(await run_of(results.unsettled_chunks([CHUNK], runs), raising(there)))
    assert fates(runs) == [(1, 5, Fate.STORED)]
    assert results.unsettled_chunks([CHUNK], runs) == []


async def test_only_what_is_left_is_sent_again() -> None:
    """A run takes up the parts that the runs before it have left, each with its own doubt, and no others."""
    refused = EmptyContentError(code=110, message="", endpoint="ka/create")

    def answer(call: KaCreate) -> Sent[Stored]:
        if "B" in call.keys:
            raise refused
        if "D" in call.keys:
            raise failing(sent=len(call.keys) == 1)
        return Sent(Stored(len(call.keys), ""), 1)

    runs = [await run_of([CHUNK], answer)]
    assert fates(runs) == [(1, 1, Fate.STORED), (2, 2, Fate.REFUSED), (3, 5, Fate.NOT_SENT)]
    (left,) = results.unsettled_chunks([CHUNK], runs)
    assert (left.lines, left.keys, left.in_doubt) == ((3, 5), ("C", "D"), False)
    database = StorageFailedError(code=113, message="", endpoint="ka/create")
    assert not results.is_settled(evolve(results.merge_runs(runs)[0][1], count=2, error=database))


async def test_halves_that_a_run_has_left() -> None:
    """A run that ends amid halving has refused nothing: each half alone may be what GatePay takes."""
    for cls, code in ((EmptyContentError, 110), (StorageFailedError, 113)):
        refused = cls(code=code, message="", endpoint="ka/create")
        run = await run_of([CHUNK], raising(refused), calls=1)
        assert run.follows
        assert fates([run]) == [(1, 2, Fate.NOT_SENT), (3, 5, Fate.NOT_SENT)]
        assert [part.keys for part in results.unsettled_chunks([CHUNK], [run])] == [("A", "B"), ("C", "D")]


async def test_a_key_that_is_refused_in_every_run() -> None:
    """A card key that is all that is left, and that GatePay can't store run after run, is refused in the end."""
    only = Chunk(0, (1,), ("A",))
    refused = StorageFailedError(code=113, message="", endpoint="ka/create")
    runs: list[BatchResult] = []
    while results.unsettled_chunks([only], runs) and len(runs) < 9:
        runs.append(await run_of(results.unsettled_chunks([only], runs), raising(refused)))
    assert fates(runs) == [(1, 1, Fate.REFUSED)]
    assert len(runs) == 5


def test_rows_of_the_version_before() -> None:
    """What an older version has written is read as it was meant: doubts, parts, and a job without the new field."""
    first, second = (BatchResult.from_row(row) for row in OLD_RUNS)
    assert [(part.in_doubt, part.keys) for part in results.unsettled_chunks([CHUNK], [first])] == [(True, CHUNK.keys)]
    (left,) = results.unsettled_chunks([CHUNK], [first, second])
    assert left.keys == ("C", "D")
    assert JobManifest.from_row(OLD_FACTS).invisible == ()


async def test_a_run_that_was_taken_away(workspace: Workspace, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker has begun to send and never told of may be on the server: unknown, though nobody can be reached."""
    monkeypatch.setattr(runner, "MAX_BACKOFF_S", POLL_S)
    monkeypatch.setattr(runner, "MAX_UNANSWERED_RUNS", 0)
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit:
        job = await submit.file(workspace.file(keys_of(600)), product_id=PRODUCT)
        assert not job._store.mark_begun(f"{job.id}.0.0")  # what a worker does that is killed then
        async with uploads.worker():
            monkeypatch.setattr("gatepay_async.sending.KaCreate", nobody)
            report = await job.wait(every=POLL_S)
    assert (report.unknown, report.not_sent) == (600, 0)
    assert adds_up(report)


async def test_a_cancellation_of_somebody_elses() -> None:
    """A CancelledError out of something that a transport awaits stops the job, as any error of its own does."""

    async def send(_: KaCreate) -> Sent[Stored]:
        raise asyncio.CancelledError("SECRET")

    async def always() -> bool:
        return True

    run = await BatchSender(send, 8, always).send_chunks([CHUNK, CHUNK])
    assert [outcome.fate for outcome in run.outcomes] == [Fate.UNKNOWN, Fate.NOT_SENT]
    assert str(run.stopped) == "CancelledError while sending; see the worker's log"


def nobody(*_: object) -> KaCreate:
    raise failing(sent=False)


async def test_invisible_characters_are_in_the_report(workspace: Workspace, shop: Shop) -> None:
    """The report of a job lists the lines whose card key contains an invisible character, as any report does."""
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(workspace.file(["A", "\u200bB\u200b", "C\u200bD"]), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
    assert (report.stored, report.invisible) == (3, (3,))
