"""What a reply means for a part of an upload: it is settled, in doubt, halved, sent again later, or given up."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from gatepay_async.protocol import errors
from gatepay_async.protocol.bulk import Attempted, Chunk, ChunkOutcome, Fate, abandoned
from gatepay_async.protocol.errors import ProtocolError, RefusedError, TransportError
from gatepay_async.protocol.models import Stored
from gatepay_async.protocol.progress import Patience, Progress, Resend
from gatepay_async.protocol.retrying import Sent

pytestmark = pytest.mark.fast

PATIENCE = Patience()
# Like a durable worker's: instead of waiting, a later run of the batch sends the card keys again.
WITHOUT_WAITING = Patience(seconds=0, seconds_at_first=0, attempts=5, attempts_at_first=5, holds=False)


def part(count: int = 4, *, in_doubt: bool = False, key: str = "KEY") -> Chunk:
    numbers = range(1, count + 1)
    return Chunk(0, tuple(numbers), tuple(f"{key}-{number}" for number in numbers), in_doubt=in_doubt)


def refusal(kind: type[RefusedError] = RefusedError, *, in_doubt: bool = False) -> RefusedError:
    return kind(code=1, message="", endpoint="ka/create", in_doubt=in_doubt)


def lost(*, sent: bool = True, attempts: int = 4) -> TransportError:
    return TransportError(endpoint="ka/create", sent=sent, problem="x", attempts=attempts)


def unexpected_reply(status: int, *, wait: float | None = None) -> ProtocolError:
    return ProtocolError(endpoint="ka/create", http_status=status, problem="x", path="code", retry_after=wait)


STORAGE = refusal(errors.StorageFailedError)
SIGNATURE = refusal(errors.SignatureRejectedError)
STORED = Sent(Stored(1, ""), 1)


def upload(
    error_of: Callable[[Chunk, float], Any],
    *chunks: Chunk,
    patience: Patience = PATIENCE,
    took: float = 0.01,
    progress: Progress | None = None,
) -> tuple[list[ChunkOutcome], Progress, int, float]:
    """
    Send *chunks* in calls of *took* seconds. *error_of* returns the error of a call that starts at a time, or None.

    Returns:
        The outcomes, the progress, the number of calls and the time at the end.
    """
    progress = progress or Progress(patience)
    outcomes: list[ChunkOutcome] = []
    now, calls = 0.0, 0
    for chunk in chunks:
        parts = [chunk]
        while parts and progress.ended is None:
            one = parts.pop(0)
            began = now = max(now, one.not_before)
            calls, now = calls + 1, now + took
            error = error_of(one, began)
            if error is None:
                outcomes.append(progress.answered(one, STORED, now=now))
                continue
            verdict = progress.failed(one, error, began=began, now=now)
            if isinstance(verdict, ChunkOutcome):
                outcomes.append(verdict)
            else:
                parts = [*parts, *verdict.parts] if verdict.later else [*verdict.parts, *parts]
        outcomes += (abandoned(one, error=progress.ended) for one in parts)
    return outcomes, progress, calls, now


def by_fate(outcomes: list[ChunkOutcome]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.fate.value] = counts.get(outcome.fate.value, 0) + outcome.count
    return counts


def test_only_stored_settles_a_doubt() -> None:
    """Card keys in doubt stay unknown after any later failure, also when halved, until a reply says "stored"."""
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
    for first in (
        lost(),
        unexpected_reply(502),
        unexpected_reply(403),
        refusal(errors.DuplicateKeysError, in_doubt=True),
    ):
        again = Progress(PATIENCE).failed(part(2), first, began=0, now=1)
        assert isinstance(again, Resend)
        assert [each.in_doubt for each in again.parts] == [True] * len(again.parts)
        assert {abandoned(each, error=lost(sent=False)).fate for each in again.parts} == {Fate.UNKNOWN}
    for first in (lost(sent=False), refusal(errors.DuplicateKeysError), STORAGE):
        again = Progress(PATIENCE).failed(part(2), first, began=0, now=1)
        assert isinstance(again, Resend)
        assert not any(each.in_doubt for each in again.parts)


def test_unknown_outcomes_keep_the_first_error() -> None:
    """The error of an unknown outcome is the failure that may have stored the card keys, not a later one."""
    doubtful, unsent = lost(), lost(sent=False)
    again = Progress(PATIENCE).failed(part(1), doubtful, began=0, now=1)
    assert isinstance(again, Resend)
    (one,) = again.parts
    for later in (unsent, refusal(errors.DuplicateKeysError), SIGNATURE):
        verdict = Progress(WITHOUT_WAITING).failed(one, later, began=1, now=2)
        assert isinstance(verdict, ChunkOutcome)
        assert (verdict.fate, verdict.error, verdict.attempts) == (Fate.UNKNOWN, doubtful, 4 + later.attempts)
    once_more = Progress(PATIENCE).failed(one, unsent, began=1, now=2)
    assert isinstance(once_more, Resend)
    for reason in (None, unsent, refusal(errors.EndpointClosedError)):
        rest = abandoned(once_more.parts[0], error=reason)
        assert (rest.fate, rest.error, rest.attempts) == (Fate.UNKNOWN, doubtful, 8)


def test_one_bad_key_is_isolated() -> None:
    """If calls with one of 500 card keys fail, the other 499 are stored soon."""
    for error in (
        *map(refusal, (errors.DuplicateKeysError, RefusedError)),
        STORAGE,
        unexpected_reply(403),
        unexpected_reply(302),
    ):
        for place in (1, 250, 500):
            bad = f"KEY-{place}"
            outcomes, progress, calls, now = upload(lambda one, _: error if bad in one.keys else None, part(500))  # noqa: B023 -- called at once
            case = (type(error), place)
            assert (case, progress.ended, len(outcomes) > 1) == (case, None, True)
            assert (case, sorted(each.count for each in outcomes if each.error)) == (case, [1])
            assert (case, calls <= 22, now < 5) == (case, True, True)


def test_a_server_error_for_one_key() -> None:
    """A card key that always causes a server error or a lost connection is found too, after some waiting."""
    for error in (unexpected_reply(500), lost()):
        outcomes, progress, calls, now = upload(
            lambda one, _: error if "KEY-7" in one.keys else None,  # noqa: B023 -- called at once
            part(500),
        )
        assert (by_fate(outcomes), progress.ended) == ({"stored": 499, "unknown": 1}, None)
        assert calls < 60
        assert now < 60


def test_every_second_key_is_bad() -> None:
    """If every second key is bad, half of the keys are refused one by one, and the other half are stored."""
    outcomes, progress, calls, _ = upload(
        lambda one, _: refusal() if any(int(key[4:]) % 2 for key in one.keys) else None, part(500)
    )
    assert (by_fate(outcomes), progress.ended) == ({"stored": 250, "refused": 250}, None)
    assert calls < 1000


def test_a_server_that_refuses_everything_gets_few_calls() -> None:
    """If no call ever succeeds, halving stops and the upload ends."""
    for error in (refusal(errors.DuplicateKeysError), refusal(), STORAGE, unexpected_reply(404), unexpected_reply(403)):
        outcomes, progress, calls, _ = upload(lambda _one, _now: error, *[part(500) for _ in range(40)])  # noqa: B023 -- called at once
        case = type(error), calls
        assert (case, progress.ended) == (case, error)
        assert (case, calls <= 1000) == (case, True)
        assert not [each for each in outcomes if each.fate is Fate.STORED]


def test_an_error_of_the_shop_ends_the_upload() -> None:
    """A wrong appkey or a closed endpoint ends the upload after one call."""
    for kind in (errors.InvalidAppKeyError, errors.EndpointClosedError):
        _, progress, calls, _ = upload(lambda _one, _now: refusal(kind), *[part(500)] * 4)  # noqa: B023 -- called at once
        assert (kind, calls, type(progress.stopped)) == (kind, 1, kind)


def test_a_wrong_secret_takes_few_calls() -> None:
    """The upload ends if GatePay rejects the signatures of a part and of its halves, or of all calls in flight."""
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


def test_a_key_that_breaks_the_signature_of_the_first_call() -> None:
    """Halving finds a card key that breaks the signature even before anything was stored. Only that key is refused."""
    for place in (1, 250, 251, 500):
        bad = f"KEY-{place}"
        outcomes, progress, calls, _ = upload(lambda one, _: SIGNATURE if bad in one.keys else None, part(500))  # noqa: B023 -- called at once
        assert (place, by_fate(outcomes), progress.ended) == (place, {"stored": 499, "refused": 1}, None)
        assert (place, calls <= 20, progress.asks_one_by_one) == (place, True, False)


def test_a_rejected_signature_because_of_the_content() -> None:
    """106 is blamed on the card keys if the secret has worked before, or if GatePay's filter changes the content."""
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


def test_a_short_outage_loses_nothing() -> None:
    """An outage of 15 seconds loses no card key, whenever it starts and whatever the error is."""
    for error in (
        lost(sent=False),
        lost(sent=False, attempts=1),
        lost(),
        unexpected_reply(503, wait=1),
        unexpected_reply(500),
        STORAGE,
    ):
        for start in (1.0, 2.5):
            chunks = [part(3)] * 400
            outcomes, progress, _, now = upload(
                lambda _, now: error if start <= now < start + 15 else None,  # noqa: B023 -- called at once
                *chunks,
            )
            assert (type(error), progress.ended, now > start) == (type(error), None, True)
            assert by_fate(outcomes) == {"stored": 1200}


def test_a_success_ends_an_outage() -> None:
    """A success between two outages resets the time and the count of failures."""
    progress = Progress(Patience(seconds=20))
    for start in range(0, 60, 15):
        progress.answered(part(1), STORED, now=start)
        for now in (start + 1, start + 8):
            progress.failed(part(1), lost(), began=now, now=now + 1)
        assert progress.ended is None, start


def test_a_dead_server_ends_the_upload() -> None:
    """The upload ends at most 40 seconds after the server died, even if the server was dead from the start."""
    for error in (lost(sent=False), lost(sent=False, attempts=1), lost(), unexpected_reply(500), STORAGE):
        for start in (0.0, 1.0):
            for took in (0.01, 1.5):
                _, progress, _, now = upload(
                    lambda _, now: error if now >= start else None,  # noqa: B023 -- called at once
                    *[part(2)] * 400,
                    took=took,
                )
                assert (progress.away, now - start < 40) == (error, True)


def test_overlapping_failures_count_once() -> None:
    """A hundred calls that fail at the same moment count as one failed attempt."""
    progress = Progress(Patience(seconds=0, attempts=2))
    progress.answered(part(1), STORED, now=1)
    for _ in range(100):
        assert isinstance(progress.failed(part(1), lost(sent=False, attempts=1), began=1, now=2), Resend)
    assert progress.ended is None
    assert isinstance(progress.failed(part(1), lost(sent=False, attempts=1), began=3, now=4), ChunkOutcome)
    assert progress.away is not None


def test_waits_grow() -> None:
    """A part waits longer after each failure, and jitter shortens the wait."""
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


def test_retry_after() -> None:
    """Nothing is sent until the time in Retry-After, or for a minute at most. Jitter doesn't change that."""
    progress = Progress(PATIENCE)
    assert progress.held_until == -math.inf
    for asked, until in ((7.0, 7.0), (3.0, 7.0), (3600.0, 60.0)):
        progress.failed(part(1), unexpected_reply(429, wait=asked), began=0, now=0, jitter=1.0)
        assert progress.held_until == until


def test_without_waiting() -> None:
    """Without waiting, two failed calls end a run. Keys that GatePay couldn't store are left for later runs."""
    outcomes, progress, calls, _ = upload(lambda _one, _now: lost(), *[part(2)] * 5, patience=WITHOUT_WAITING)
    assert (calls, progress.away is not None) == (2, True)
    assert by_fate(outcomes) == {"unknown": 4, "not_sent": 6}
    outcomes, progress, _, _ = upload(lambda _one, _now: STORAGE, part(1), patience=WITHOUT_WAITING)
    assert (by_fate(outcomes), progress.ended) == ({"not_sent": 1}, None)
    outcomes, _, _, _ = upload(
        lambda one, _: STORAGE if "KEY-3" in one.keys else None, part(500), patience=WITHOUT_WAITING
    )
    assert by_fate(outcomes) == {"stored": 499, "refused": 1}
    verdict = Progress(WITHOUT_WAITING).failed(Chunk(0, (1,), ("KEY",), calls=4), STORAGE, began=0, now=0)
    assert isinstance(verdict, ChunkOutcome)
    assert verdict.fate is Fate.REFUSED
