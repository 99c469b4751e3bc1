"""What a reply means for a part of an upload: stored, refused, in doubt, halved, sent again later, or given up."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from gatepay_async.protocol import errors
from gatepay_async.protocol.bulk import AttemptError, Chunk, ChunkOutcome, Fate, abandoned
from gatepay_async.protocol.errors import ProtocolError, RefusedError, TransportError
from gatepay_async.protocol.models import Stored
from gatepay_async.protocol.patience import Patience
from gatepay_async.protocol.progress import Progress, Resend
from gatepay_async.protocol.retrying import Sent

pytestmark = pytest.mark.fast

PATIENCE = Patience()
# Like a durable worker's: instead of waiting, a later run of the batch sends the card keys again.
WITHOUT_WAITING = Patience(
    seconds=0, seconds_before_first_reply=0, attempts=5, attempts_before_first_reply=5, waits=False
)


def make_part(count: int = 4, *, in_doubt: bool = False, key: str = "KEY") -> Chunk:
    numbers = range(1, count + 1)
    keys = tuple(f"{key}-{number}" for number in numbers)
    return Chunk(index=0, lines=tuple(numbers), keys=keys, in_doubt=in_doubt)


def make_refusal(kind: type[RefusedError] = RefusedError, *, in_doubt: bool = False) -> RefusedError:
    return kind(code=1, message="", endpoint="ka/create", in_doubt=in_doubt)


def lost_reply(*, sent: bool = True, attempts: int = 4) -> TransportError:
    return TransportError(endpoint="ka/create", sent=sent, problem="x", attempts=attempts)


def unexpected_reply(status: int, *, wait: float | None = None) -> ProtocolError:
    return ProtocolError(endpoint="ka/create", http_status=status, problem="x", path="code", retry_after=wait)


STORAGE = make_refusal(errors.StorageFailedError)
SIGNATURE = make_refusal(errors.SignatureRejectedError)
STORED = Sent(Stored(1, ""), attempts=1)


def upload(
    error_of: Callable[[Chunk, float], Any],
    *chunks: Chunk,
    patience: Patience = PATIENCE,
    seconds_per_call: float = 0.01,
    progress: Progress | None = None,
) -> tuple[list[ChunkOutcome], Progress, int, float]:
    """
    Send *chunks* in calls of *seconds_per_call* each, in simulated time.

    ``error_of(part, start)`` returns the error of the call that sends *part* at the time *start*, or None.

    Returns:
        The outcomes, the progress, the number of calls and the time at the end.
    """
    progress = progress or Progress(patience)
    outcomes: list[ChunkOutcome] = []
    now, calls = 0.0, 0
    for chunk in chunks:
        parts = [chunk]
        while parts and progress.ended is None:
            current = parts.pop(0)
            began = now = max(now, current.not_before)
            calls, now = calls + 1, now + seconds_per_call
            error = error_of(current, began)
            if error is None:
                outcomes.append(progress.succeeded(current, STORED, now=now))
                continue
            verdict = progress.failed(current, error, began=began, now=now)
            if isinstance(verdict, ChunkOutcome):
                outcomes.append(verdict)
            else:
                parts = [*parts, *verdict.parts] if verdict.later else [*verdict.parts, *parts]
        outcomes += (abandoned(waiting, error=progress.ended) for waiting in parts)
    return outcomes, progress, calls, now


def by_fate(outcomes: list[ChunkOutcome]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.fate.value] = counts.get(outcome.fate.value, 0) + outcome.count
    return counts


def test_card_keys_stay_in_doubt_until_a_reply_says_stored() -> None:
    """Later failures don't end the doubt, not even for the halves of a part."""
    cases: list[tuple[AttemptError, Fate]] = [
        (make_refusal(errors.DuplicateKeysError), Fate.UNKNOWN),
        (make_refusal(errors.EndpointClosedError), Fate.UNKNOWN),
        (SIGNATURE, Fate.UNKNOWN),
        (make_refusal(errors.AlreadyStoredError), Fate.STORED),
    ]
    for error, fate in cases:
        verdict = Progress(PATIENCE).failed(make_part(1, in_doubt=True), error, began=0, now=1)
        assert isinstance(verdict, ChunkOutcome)
        assert (type(error), verdict.fate) == (type(error), fate)  # the type tells which case failed
    for first in (
        lost_reply(),
        unexpected_reply(502),
        unexpected_reply(403),
        make_refusal(errors.DuplicateKeysError, in_doubt=True),
    ):
        resend = Progress(PATIENCE).failed(make_part(2), first, began=0, now=1)
        assert isinstance(resend, Resend)
        assert all(resent.in_doubt for resent in resend.parts)
        assert {abandoned(resent, error=lost_reply(sent=False)).fate for resent in resend.parts} == {Fate.UNKNOWN}
    for first in (lost_reply(sent=False), make_refusal(errors.DuplicateKeysError), STORAGE):
        resend = Progress(PATIENCE).failed(make_part(2), first, began=0, now=1)
        assert isinstance(resend, Resend)
        assert not any(resent.in_doubt for resent in resend.parts)


def test_unknown_outcomes_keep_the_first_error() -> None:
    """The error of an unknown outcome is the failure that may have stored the card keys, not a later one."""
    lost_error, unsent = lost_reply(), lost_reply(sent=False)
    first = Progress(PATIENCE).failed(make_part(1), lost_error, began=0, now=1)
    assert isinstance(first, Resend)
    (in_doubt,) = first.parts
    for later in (unsent, make_refusal(errors.DuplicateKeysError), SIGNATURE):
        verdict = Progress(WITHOUT_WAITING).failed(in_doubt, later, began=1, now=2)
        assert isinstance(verdict, ChunkOutcome)
        assert (verdict.fate, verdict.error, verdict.attempts) == (Fate.UNKNOWN, lost_error, 4 + later.attempts)
    second = Progress(PATIENCE).failed(in_doubt, unsent, began=1, now=2)
    assert isinstance(second, Resend)
    for reason in (None, unsent, make_refusal(errors.EndpointClosedError)):
        outcome = abandoned(second.parts[0], error=reason)
        assert (outcome.fate, outcome.error, outcome.attempts) == (Fate.UNKNOWN, lost_error, 8)


def test_one_bad_key_is_isolated() -> None:
    """If every call with a certain card key fails, the other 499 card keys are stored soon."""
    for error in (
        *map(make_refusal, (errors.DuplicateKeysError, RefusedError)),
        STORAGE,
        unexpected_reply(403),
        unexpected_reply(302),
    ):
        for position in (1, 250, 500):
            bad = f"KEY-{position}"
            outcomes, progress, calls, now = upload(
                lambda part, _: error if bad in part.keys else None,  # noqa: B023 -- called within this iteration
                make_part(500),
            )
            case = (type(error), position)
            assert (case, progress.ended, len(outcomes) > 1) == (case, None, True)
            assert (case, sorted(outcome.count for outcome in outcomes if outcome.error)) == (case, [1])
            # Halving 500 card keys down to one takes nine steps of two calls each.
            assert (case, calls <= 22, now < 5) == (case, True, True)


def test_card_key_that_causes_server_errors_is_isolated() -> None:
    """Halving finds a card key that always causes a server error or a lost connection, after some waiting."""
    for error in (unexpected_reply(500), lost_reply()):
        outcomes, progress, calls, now = upload(
            lambda part, _: error if "KEY-7" in part.keys else None,  # noqa: B023 -- called within this iteration
            make_part(500),
        )
        assert (by_fate(outcomes), progress.ended) == ({"stored": 499, "unknown": 1}, None)
        assert calls < 60
        assert now < 60


def test_half_of_the_keys_are_stored_if_every_second_key_is_bad() -> None:
    """The bad keys are refused one by one."""
    outcomes, progress, calls, _ = upload(
        lambda part, _: make_refusal() if any(int(key[4:]) % 2 for key in part.keys) else None, make_part(500)
    )
    assert (by_fate(outcomes), progress.ended) == ({"stored": 250, "refused": 250}, None)
    assert calls < 1000


def test_a_server_that_refuses_everything_gets_few_calls() -> None:
    """If no call ever succeeds, halving stops and the upload ends."""
    for error in (
        make_refusal(errors.DuplicateKeysError),
        make_refusal(),
        STORAGE,
        unexpected_reply(404),
        unexpected_reply(403),
    ):
        outcomes, progress, calls, _ = upload(lambda _chunk, _now: error, *[make_part(500) for _ in range(40)])  # noqa: B023 -- called within this iteration
        case = type(error), calls
        assert (case, progress.ended) == (case, error)
        assert (case, calls <= 1000) == (case, True)
        assert not [outcome for outcome in outcomes if outcome.fate is Fate.STORED]


def test_an_error_of_the_shop_ends_the_upload() -> None:
    """A wrong appkey or a closed endpoint ends the upload after one call."""
    for kind in (errors.InvalidAppKeyError, errors.EndpointClosedError):
        _, progress, calls, _ = upload(lambda _chunk, _now: make_refusal(kind), *[make_part(500)] * 4)  # noqa: B023 -- called within this iteration
        assert (kind, calls, type(progress.stopped)) == (kind, 1, kind)


def test_wrong_secret_ends_the_upload_after_few_calls() -> None:
    """The upload ends if GatePay rejects the signatures of a part and of its halves, or of all calls in flight."""
    for count, expected_calls in ((500, 3), (2, 3), (1, 1)):
        outcomes, progress, calls, _ = upload(lambda _chunk, _now: SIGNATURE, *[make_part(count)] * 4)
        assert (count, calls, progress.stopped) == (count, expected_calls, SIGNATURE)
        assert by_fate(outcomes)["refused"] == count
    progress = Progress(PATIENCE)
    for others in (3, 2, 1):
        verdict = progress.failed(make_part(1), SIGNATURE, began=0, now=1, others=others)
        assert isinstance(verdict, ChunkOutcome)
        assert (verdict.fate, progress.ended) == (Fate.REFUSED, None)
        assert progress.seconds_to_wait(make_part(), now=1, in_flight=others) == math.inf
    progress.failed(make_part(500), SIGNATURE, began=0, now=1)
    assert progress.stopped is SIGNATURE


def test_key_that_breaks_the_signature_of_the_first_call_is_isolated() -> None:
    """Halving finds a card key that breaks the signature even before anything was stored. Only that key is refused."""
    for place in (1, 250, 251, 500):
        bad = f"KEY-{place}"
        outcomes, progress, calls, _ = upload(
            lambda part, _: SIGNATURE if bad in part.keys else None,  # noqa: B023 -- called within this iteration
            make_part(500),
        )
        assert (place, by_fate(outcomes), progress.ended) == (place, {"stored": 499, "refused": 1}, None)
        assert (place, calls <= 20, progress.seconds_to_wait(make_part(), now=1, in_flight=3)) == (place, True, 0)


def test_rejected_signature_is_blamed_on_card_keys_if_the_secret_is_right() -> None:
    """Card keys are suspected if the secret has worked before. Keys that GatePay's filter changes always are."""
    good, filtered = make_part(500), make_part(500, key="A&B")  # GatePay's input filter changes "&"
    outcomes, progress, _, _ = upload(
        lambda part, _: SIGNATURE if any(key in ("BAD-3", "A&B-3") for key in part.keys) else None,
        good, make_part(500, key="BAD"), filtered,
    )  # fmt: skip
    assert (by_fate(outcomes), progress.stopped) == ({"stored": 1498, "refused": 2}, None)
    outcomes, progress, _, _ = upload(lambda part, _: SIGNATURE if "A&B-3" in part.keys else None, filtered)
    assert (by_fate(outcomes), progress.stopped) == ({"stored": 499, "refused": 1}, None)
    outcomes, progress, calls, _ = upload(lambda _chunk, _now: SIGNATURE, *[filtered] * 4)
    assert type(progress.stopped) is errors.SignatureRejectedError
    assert calls < 60


def test_a_short_outage_loses_nothing() -> None:
    """An outage of 15 seconds loses no card key, whenever it starts and whatever the error is."""
    for error in (
        lost_reply(sent=False),
        lost_reply(sent=False, attempts=1),
        lost_reply(),
        unexpected_reply(503, wait=1),
        unexpected_reply(500),
        STORAGE,
    ):
        for start in (1.0, 2.5):
            chunks = [make_part(3)] * 400
            outcomes, progress, _, now = upload(
                lambda _, now: error if start <= now < start + 15 else None,  # noqa: B023 -- called within this iteration
                *chunks,
            )
            assert (type(error), progress.ended, now > start) == (type(error), None, True)
            assert by_fate(outcomes) == {"stored": 1200}


def test_success_resets_the_failure_count() -> None:
    """A success between two outages resets the time and the count of failures."""
    progress = Progress(Patience(seconds=20))
    for start in range(0, 60, 15):
        progress.succeeded(make_part(1), STORED, now=start)
        for now in (start + 1, start + 8):
            progress.failed(make_part(1), lost_reply(), began=now, now=now + 1)
        assert progress.ended is None, start


def test_a_dead_server_ends_the_upload() -> None:
    """The upload ends at most 40 seconds after the server died, even if the server was dead from the start."""
    for error in (
        lost_reply(sent=False),
        lost_reply(sent=False, attempts=1),
        lost_reply(),
        unexpected_reply(500),
        STORAGE,
    ):
        for start in (0.0, 1.0):
            for seconds_per_call in (0.01, 1.5):
                _, progress, _, now = upload(
                    lambda _, now: error if now >= start else None,  # noqa: B023 -- called within this iteration
                    *[make_part(2)] * 400,
                    seconds_per_call=seconds_per_call,
                )
                assert (progress.outage, now - start < 40) == (error, True)


def test_overlapping_failures_count_once() -> None:
    """A hundred calls that fail at the same moment count as one failed attempt."""
    progress = Progress(Patience(seconds=0, attempts=2))
    progress.succeeded(make_part(1), STORED, now=1)
    for _ in range(100):
        assert isinstance(progress.failed(make_part(1), lost_reply(sent=False, attempts=1), began=1, now=2), Resend)
    assert progress.ended is None
    assert isinstance(progress.failed(make_part(1), lost_reply(sent=False, attempts=1), began=3, now=4), ChunkOutcome)
    assert progress.outage is not None


def test_wait_doubles_after_each_failure() -> None:
    """The wait doubles up to a limit. Jitter shortens it."""
    progress = Progress(PATIENCE)
    progress.succeeded(make_part(1), STORED, now=0)
    waiting, now = make_part(1), 0.0
    waits = []
    for _ in range(6):
        verdict = progress.failed(waiting, lost_reply(sent=False), began=now, now=now)
        assert isinstance(verdict, Resend)
        (waiting,) = verdict.parts
        waits.append(waiting.not_before - now)
        now = waiting.not_before
    assert waits == [0.25, 0.5, 1, 2, 4, 4]
    verdict = Progress(PATIENCE).failed(make_part(1), lost_reply(sent=False), began=0, now=0, jitter=1.0)
    assert isinstance(verdict, Resend)
    assert verdict.parts[0].not_before == 0.125


def test_nothing_is_sent_before_the_time_in_retry_after() -> None:
    """The wait is limited to a minute. Jitter doesn't change it."""
    progress = Progress(PATIENCE)
    assert progress.seconds_to_wait(make_part(), now=0, in_flight=3) == 0
    for asked, until in ((7.0, 7.0), (3.0, 7.0), (3600.0, 60.0)):
        progress.failed(make_part(1), unexpected_reply(429, wait=asked), began=0, now=0, jitter=1.0)
        assert progress.seconds_to_wait(make_part(), now=0, in_flight=3) == until


def test_run_without_waiting_ends_after_two_failed_calls() -> None:
    """Card keys that GatePay couldn't store are left for later runs."""
    outcomes, progress, calls, _ = upload(
        lambda _chunk, _now: lost_reply(), *[make_part(2)] * 5, patience=WITHOUT_WAITING
    )
    assert (calls, progress.outage is not None) == (2, True)
    assert by_fate(outcomes) == {"unknown": 4, "not_sent": 6}
    outcomes, progress, _, _ = upload(lambda _chunk, _now: STORAGE, make_part(1), patience=WITHOUT_WAITING)
    assert (by_fate(outcomes), progress.ended) == ({"not_sent": 1}, None)
    outcomes, _, _, _ = upload(
        lambda part, _: STORAGE if "KEY-3" in part.keys else None, make_part(500), patience=WITHOUT_WAITING
    )
    assert by_fate(outcomes) == {"stored": 499, "refused": 1}
    # After four failed calls in earlier runs, the fifth shows that the card key is at fault.
    verdict = Progress(WITHOUT_WAITING).failed(
        Chunk(index=0, lines=(1,), keys=("KEY",), calls=4), STORAGE, began=0, now=0
    )
    assert isinstance(verdict, ChunkOutcome)
    assert verdict.fate is Fate.REFUSED
