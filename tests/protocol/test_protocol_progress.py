"""What an answer means for a part of an upload: doubt, halves, waiting, giving up. No clock but the one given."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from gatepay_async.protocol import errors
from gatepay_async.protocol.bulk import Attempted, Chunk, ChunkOutcome, Fate, left
from gatepay_async.protocol.errors import ProtocolError, RefusedError, TransportError
from gatepay_async.protocol.models import Stored
from gatepay_async.protocol.progress import Patience, Progress, Resend
from gatepay_async.protocol.retrying import Sent

pytestmark = pytest.mark.fast

PATIENCE = Patience()
IN_RUNS = Patience(seconds=0, seconds_at_first=0, attempts=5, attempts_at_first=5, holds=False)


def part(count: int = 4, *, in_doubt: bool = False, key: str = "KEY") -> Chunk:
    numbers = range(1, count + 1)
    return Chunk(0, tuple(numbers), tuple(f"{key}-{number}" for number in numbers), in_doubt=in_doubt)


def refusal(kind: type[RefusedError] = RefusedError, *, in_doubt: bool = False) -> RefusedError:
    return kind(code=1, message="", endpoint="ka/create", in_doubt=in_doubt)


def lost(*, sent: bool = True, attempts: int = 4) -> TransportError:
    return TransportError(endpoint="ka/create", sent=sent, problem="x", attempts=attempts)


def strange(status: int, *, wait: float | None = None) -> ProtocolError:
    return ProtocolError(endpoint="ka/create", http_status=status, problem="x", path="code", retry_after=wait)


STORAGE = refusal(errors.StorageFailedError)
SIGNATURE = refusal(errors.SignatureRejectedError)
STORED = Sent(Stored(1, ""), 1)


def upload(
    meets: Callable[[Chunk, float], Any],
    *chunks: Chunk,
    patience: Patience = PATIENCE,
    took: float = 0.01,
    progress: Progress | None = None,
) -> tuple[list[ChunkOutcome], Progress, int, float]:
    """Send *chunks*, each call taking so long; what became of them, how many calls that took, and when it ended."""
    progress = progress or Progress(patience)
    outcomes: list[ChunkOutcome] = []
    now, calls = 0.0, 0
    for chunk in chunks:
        parts = [chunk]
        while parts and progress.ended is None:
            one = parts.pop(0)
            began = now = max(now, one.not_before)
            calls, now = calls + 1, now + took
            error = meets(one, began)
            if error is None:
                outcomes.append(progress.answered(one, STORED, now=now))
                continue
            verdict = progress.failed(one, error, began=began, now=now)
            if isinstance(verdict, ChunkOutcome):
                outcomes.append(verdict)
            else:
                parts = [*parts, *verdict.parts] if verdict.later else [*verdict.parts, *parts]
        outcomes += (left(one, error=progress.ended) for one in parts)
    return outcomes, progress, calls, now


def by_fate(outcomes: list[ChunkOutcome]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.fate.value] = counts.get(outcome.fate.value, 0) + outcome.count
    return counts


def test_only_an_answer_ends_a_doubt() -> None:
    """What may have been stored is unknown after any later refusal or failure, in halves, too; "stored" settles it."""
    cases: list[tuple[Attempted, Fate]] = [
        (refusal(errors.DuplicateKeysError), Fate.UNKNOWN),
        (refusal(errors.EndpointClosedError), Fate.UNKNOWN),
        (SIGNATURE, Fate.UNKNOWN),
        (refusal(errors.AlreadyStoredError), Fate.STORED),
    ]
    for error, fate in cases:
        verdict = Progress(PATIENCE).failed(part(1, in_doubt=True), error, began=0, now=1)
        assert isinstance(verdict, ChunkOutcome)
        assert (type(error), verdict.fate) == (type(error), fate)
    for first in (lost(), strange(502), strange(403), refusal(errors.DuplicateKeysError, in_doubt=True)):
        again = Progress(PATIENCE).failed(part(2), first, began=0, now=1)
        assert isinstance(again, Resend)
        assert [each.in_doubt for each in again.parts] == [True] * len(again.parts)
        assert {left(each, error=lost(sent=False)).fate for each in again.parts} == {Fate.UNKNOWN}
    for first in (lost(sent=False), refusal(errors.DuplicateKeysError), STORAGE):
        again = Progress(PATIENCE).failed(part(2), first, began=0, now=1)
        assert isinstance(again, Resend)
        assert not any(each.in_doubt for each in again.parts)


def test_what_is_unknown_says_why() -> None:
    """The reason beside "unknown" is the failure that may have stored them, whatever came after it."""
    doubtful, unsent = lost(), lost(sent=False)
    again = Progress(PATIENCE).failed(part(1), doubtful, began=0, now=1)
    assert isinstance(again, Resend)
    (one,) = again.parts
    for later in (unsent, refusal(errors.DuplicateKeysError), SIGNATURE):
        verdict = Progress(IN_RUNS).failed(one, later, began=1, now=2)
        assert isinstance(verdict, ChunkOutcome)
        assert (verdict.fate, verdict.error, verdict.attempts) == (Fate.UNKNOWN, doubtful, 4 + later.attempts)
    once_more = Progress(PATIENCE).failed(one, unsent, began=1, now=2)
    assert isinstance(once_more, Resend)
    for reason in (None, unsent, refusal(errors.EndpointClosedError)):
        rest = left(once_more.parts[0], error=reason)
        assert (rest.fate, rest.error, rest.attempts) == (Fate.UNKNOWN, doubtful, 8)


def test_one_bad_key_stands_alone() -> None:
    """Whatever one card key of 500 brings upon its call, the other 499 are stored, and soon."""
    for error in (*map(refusal, (errors.DuplicateKeysError, RefusedError)), STORAGE, strange(403), strange(302)):
        for place in (1, 250, 500):
            bad = f"KEY-{place}"
            outcomes, progress, calls, now = upload(lambda one, _: error if bad in one.keys else None, part(500))  # noqa: B023 -- called at once
            said = (type(error), place)
            assert (said, progress.ended, len(outcomes) > 1) == (said, None, True)
            assert (said, sorted(each.count for each in outcomes if each.error)) == (said, [1])
            assert (said, calls <= 22, now < 5) == (said, True, True)


def test_a_server_error_for_one_key() -> None:
    """A key for which the server breaks, each time, is found, too, after some waiting."""
    for error in (strange(500), lost()):
        outcomes, progress, calls, now = upload(
            lambda one, _: error if "KEY-7" in one.keys else None,  # noqa: B023 -- called at once
            part(500),
        )
        assert (by_fate(outcomes), progress.ended) == ({"stored": 499, "unknown": 1}, None)
        assert calls < 60
        assert now < 60


def test_every_second_key_is_bad() -> None:
    """Half of the keys are refused, each for itself, and the other half stored."""
    outcomes, progress, calls, _ = upload(
        lambda one, _: refusal() if any(int(key[4:]) % 2 for key in one.keys) else None, part(500)
    )
    assert (by_fate(outcomes), progress.ended) == ({"stored": 250, "refused": 250}, None)
    assert calls < 1000


def test_a_server_that_refuses_everything_costs_few_calls() -> None:
    """Where nothing ever succeeds halving stops, and the upload ends."""
    for error in (refusal(errors.DuplicateKeysError), refusal(), STORAGE, strange(404), strange(403)):
        outcomes, progress, calls, _ = upload(lambda _one, _now: error, *[part(500) for _ in range(40)])  # noqa: B023 -- called at once
        said = type(error), calls
        assert (said, progress.ended) == (said, error)
        assert (said, calls <= 1000) == (said, True)
        assert not [each for each in outcomes if each.fate is Fate.STORED]


def test_what_meets_every_chunk_ends_at_once() -> None:
    """A wrong key or a closed endpoint takes one call."""
    for kind in (errors.InvalidAppKeyError, errors.EndpointClosedError):
        _, progress, calls, _ = upload(lambda _one, _now: refusal(kind), *[part(500)] * 4)  # noqa: B023 -- called at once
        assert (kind, calls, type(progress.stopped)) == (kind, 1, kind)


def test_a_wrong_secret_takes_few_calls() -> None:
    """A text and its halves, or as many as are under way at once: if all their signatures are rejected, it ends."""
    for count, calls_wanted in ((500, 3), (2, 3), (1, 1)):
        outcomes, progress, calls, _ = upload(lambda _one, _now: SIGNATURE, *[part(count)] * 4)
        assert (count, calls, progress.stopped) == (count, calls_wanted, SIGNATURE)
        assert by_fate(outcomes)["refused"] == count
    progress = Progress(PATIENCE)
    for others in (3, 2, 1):
        verdict = progress.failed(part(1), SIGNATURE, began=0, now=1, others=others)
        assert isinstance(verdict, ChunkOutcome)
        assert (verdict.fate, progress.ended, progress.asks_one_by_one) == (Fate.REFUSED, None, True)
    progress.failed(part(500), SIGNATURE, began=0, now=1)
    assert progress.stopped is SIGNATURE


def test_a_text_that_breaks_the_signature_of_the_first_call() -> None:
    """Before anything was stored, too, it is found by halving, wherever it stands, and refused alone."""
    for place in (1, 250, 251, 500):
        bad = f"KEY-{place}"
        outcomes, progress, calls, _ = upload(lambda one, _: SIGNATURE if bad in one.keys else None, part(500))  # noqa: B023 -- called at once
        assert (place, by_fate(outcomes), progress.ended) == (place, {"stored": 499, "refused": 1}, None)
        assert (place, calls <= 20, progress.asks_one_by_one) == (place, True, False)


def test_a_signature_that_the_content_spoils() -> None:
    """106 is about the content once the same secret has stored something, or where GatePay changes the text."""
    good, odd = part(500), part(500, key="A&B")
    outcomes, progress, _, _ = upload(
        lambda one, _: SIGNATURE if any(key in ("ODD-3", "A&B-3") for key in one.keys) else None,
        good, part(500, key="ODD"), odd,
    )  # fmt: skip
    assert (by_fate(outcomes), progress.stopped) == ({"stored": 1498, "refused": 2}, None)
    outcomes, progress, _, _ = upload(lambda one, _: SIGNATURE if "A&B-3" in one.keys else None, odd)
    assert (by_fate(outcomes), progress.stopped) == ({"stored": 499, "refused": 1}, None)
    outcomes, progress, calls, _ = upload(lambda _one, _now: SIGNATURE, *[odd] * 4)
    assert type(progress.stopped) is errors.SignatureRejectedError
    assert calls < 60


def test_a_short_outage_ends_nothing() -> None:
    """Fifteen seconds in which nobody answers, at any moment and in any way, cost no card key."""
    for error in (lost(sent=False), lost(sent=False, attempts=1), lost(), strange(503, wait=1), strange(500), STORAGE):
        for start in (1.0, 2.5):
            chunks = [part(3)] * 400
            outcomes, progress, _, now = upload(
                lambda _, now: error if start <= now < start + 15 else None,  # noqa: B023 -- called at once
                *chunks,
            )
            assert (type(error), progress.ended, now > start) == (type(error), None, True)
            assert by_fate(outcomes) == {"stored": 1200}


def test_a_success_ends_an_outage() -> None:
    """Outages with a success between them are no longer one: each begins anew."""
    progress = Progress(Patience(seconds=20))
    for start in range(0, 60, 15):
        progress.answered(part(1), STORED, now=start)
        for now in (start + 1, start + 8):
            progress.failed(part(1), lost(), began=now, now=now + 1)
        assert progress.ended is None, start


def test_a_dead_server_ends_the_upload() -> None:
    """Dead from the start, or from some moment on: the upload ends within 40 seconds of it."""
    for error in (lost(sent=False), lost(sent=False, attempts=1), lost(), strange(500), STORAGE):
        for start in (0.0, 1.0):
            for took in (0.01, 1.5):
                _, progress, _, now = upload(
                    lambda _, now: error if now >= start else None,  # noqa: B023 -- called at once
                    *[part(2)] * 400,
                    took=took,
                )
                assert (progress.away, now - start < 40) == (error, True)


def test_calls_that_overlap_are_one_round() -> None:
    """A hundred calls that fail in the same moment are no more than one."""
    progress = Progress(Patience(seconds=0, attempts=2))
    progress.answered(part(1), STORED, now=1)
    for _ in range(100):
        assert isinstance(progress.failed(part(1), lost(sent=False, attempts=1), began=1, now=2), Resend)
    assert progress.ended is None
    assert isinstance(progress.failed(part(1), lost(sent=False, attempts=1), began=3, now=4), ChunkOutcome)
    assert progress.away is not None


def test_waits() -> None:
    """The same keys wait longer each time, and are spread by jitter."""
    progress = Progress(PATIENCE)
    progress.answered(part(1), STORED, now=0)
    one, now = part(1), 0.0
    waits = []
    for _ in range(6):
        verdict = progress.failed(one, lost(sent=False), began=now, now=now)
        assert isinstance(verdict, Resend)
        (one,) = verdict.parts
        waits.append(one.not_before - now)
        now = one.not_before
    assert waits == [0.25, 0.5, 1, 2, 4, 4]
    verdict = Progress(PATIENCE).failed(part(1), lost(sent=False), began=0, now=0, jitter=1.0)
    assert isinstance(verdict, Resend)
    assert verdict.parts[0].not_before == 0.125


def test_held() -> None:
    """Where the server says when to come back, nothing is sent before, for a minute at most; jitter changes nothing."""
    progress = Progress(PATIENCE)
    assert progress.held_until == -math.inf
    for asked, until in ((7.0, 7.0), (3.0, 7.0), (3600.0, 60.0)):
        progress.failed(part(1), strange(429, wait=asked), began=0, now=0, jitter=1.0)
        assert progress.held_until == until


def test_runs_that_are_far_apart() -> None:
    """Where nothing waits, two calls in vain end a run; keys that its database may yet take are not refused yet."""
    outcomes, progress, calls, _ = upload(lambda _one, _now: lost(), *[part(2)] * 5, patience=IN_RUNS)
    assert (calls, progress.away is not None) == (2, True)
    assert by_fate(outcomes) == {"unknown": 4, "not_sent": 6}
    outcomes, progress, _, _ = upload(lambda _one, _now: STORAGE, part(1), patience=IN_RUNS)
    assert (by_fate(outcomes), progress.ended) == ({"not_sent": 1}, None)
    outcomes, _, _, _ = upload(lambda one, _: STORAGE if "KEY-3" in one.keys else None, part(500), patience=IN_RUNS)
    assert by_fate(outcomes) == {"stored": 499, "refused": 1}
    verdict = Progress(IN_RUNS).failed(Chunk(0, (1,), ("KEY",), calls=4), STORAGE, began=0, now=0)
    assert isinstance(verdict, ChunkOutcome)
    assert verdict.fate is Fate.REFUSED
