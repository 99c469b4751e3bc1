"""
Decides what each reply means for a part of an upload, and for the whole upload. No I/O; the caller passes the time.

Every failure raises three questions:

1. May the card keys be on the server despite the failure? Then they are in doubt until a reply says "stored".
2. Is the shop at fault (a wrong appsecret, a closed endpoint)? Then the upload ends.
3. Are these card keys at fault, or is the server unavailable? If GatePay can't store one card key, the others must not
   suffer, so the part is halved. If the server is unavailable, it must not be flooded, so the part waits. A single
   failure doesn't show which of the two it is. Usually, the results of other parts show it.

A *clear reply* says that GatePay has stored the card keys, or why it refuses them. All other failures are *unclear*: no
reply, the error page of a gateway, or "storage failed", which may be the fault of a card key or of GatePay's database.
"""

from __future__ import annotations

import math
from typing import TypeAlias

from attrs import evolve, frozen

from gatepay_async.protocol import bulk
from gatepay_async.protocol.bulk import AttemptError, Chunk, ChunkOutcome, Fate
from gatepay_async.protocol.errors import (
    AlreadyStoredError,
    GatePayError,
    ProtocolError,
    RefusedError,
    SignatureRejectedError,
    StorageFailedError,
    TransportError,
)
from gatepay_async.protocol.models import Stored
from gatepay_async.protocol.patience import Patience
from gatepay_async.protocol.retrying import Sent, is_transient

# The input filter of GatePay's framework, FastAdmin, changes these characters before GatePay checks the signature. So
# GatePay rejects the signature even if the secret is right.
_CHANGED_BY_FILTER = frozenset("&<>\"'")

# Each halving costs some credit, so that a server which refuses everything gets few calls. A success gives some back:
# to find one bad card key among 500 takes nine failed calls, and nine successful ones for the other halves.
_FULL_CREDIT = 400.0
_CREDIT_PER_SUCCESS = 16.0
_REFUSED_COST = 1.0  # after a refusal by GatePay, which has read the card keys
_UNCLEAR_COST = 4.0  # after an unclear failure, which all card keys may meet
_EARLY_COST = 20.0  # at the start, when the URL or the secret may be wrong

# After so many rejected signatures without a success, the secret counts as wrong. Three are one for a part and one for
# each of its halves.
_MAX_REJECTIONS = 3
_MAX_REFUSED_PARTS = 10  # after so many parts in a row that were refused and not halved, the upload ends

# After so many unclear failures of the same card keys, they are halved, whatever happens to other parts.
_CALLS_BEFORE_HALVING = 3
# After so many unclear failures, with a clear reply to another part between each two, the card keys are at fault.
_PROOFS = 3
_PROOFS_WITHOUT_CONNECTION = 6  # the same if the calls never reached GatePay
# After so many unclear failures in several runs of its batch, a single card key of a durable upload is at fault. No
# other part need get a clear reply between them, because the runs are far apart.
_CALLS_IN_MANY_RUNS = 5
_MAX_PAUSE_DOUBLINGS = 30  # enough for a wait of years; more could overflow a float
_RETRY_LATER_STATUSES = frozenset({408, 425, 429, 503})  # the server asks to retry later; the content is not at fault


@frozen
class Resend:
    """
    Card keys to send again.

    Attributes:
        parts: The failed part, or its two halves.
        later: Whether to send them after all other waiting parts. False: before them.
    """

    parts: tuple[Chunk, ...]
    later: bool = False


NextStep: TypeAlias = ChunkOutcome | Resend


class Progress:
    """
    The state of an upload. It decides what to do with each part.

    Args:
        patience: When the server counts as unavailable.
        accepted: Whether GatePay has accepted a call with the same appsecret before.

    Attributes:
        stopped: The refusal that every part would get, or None.
        outage: The error of the last failed call if the server counts as unavailable, else None.
        accepted: Whether GatePay has accepted a call, so the appsecret is right.
    """

    def __init__(self, patience: Patience, *, accepted: bool = False) -> None:
        self.stopped: GatePayError | None = None
        self.outage: GatePayError | None = None
        self.accepted = accepted
        self._patience = patience
        self._held_until = -math.inf  # send nothing before that time: the server has asked for it
        self._credit = _FULL_CREDIT
        self._refused_parts = 0  # in a row that were refused, and not halved because the credit was spent
        self._rejections = 0  # signatures rejected before the first success, except of parts that the filter changes
        self._last_clear_reply = -math.inf  # when it arrived
        # The unclear failures since then. Calls that overlap count as one round.
        self._failing_since = math.inf  # when the first of these calls began
        self._failed_rounds = 0
        self._round_ended = -math.inf  # when the first call of the last round ended
        self._failed_attempts = 0  # of the first call of each round, retries included

    @property
    def ended(self) -> GatePayError | None:
        """Why the upload has ended, or None."""
        return self.stopped or self.outage

    def seconds_to_wait(self, part: Chunk, *, now: float, in_flight: int) -> float:
        """
        Return how long *part*, the next one, must wait. 0: send it now. Infinity: wait for a call in flight.

        Args:
            part: The part.
            now: The time on the caller's clock.
            in_flight: The number of calls in flight.
        """
        if in_flight and self._rejections and not self.accepted:
            return math.inf  # the appsecret may be wrong: make one call after the other
        return max(0.0, max(part.not_before, self._held_until) - now)

    def succeeded(self, part: Chunk, sent: Sent[Stored], *, now: float) -> ChunkOutcome:
        """Return the outcome of *part*, which was stored by a call that has ended *now*."""
        self._record_success(now)
        return bulk.stored(part, count=sent.value.stored, attempts=part.attempts + sent.attempts)

    def abandoned(self, part: Chunk) -> ChunkOutcome:
        """Return the outcome of *part*, which is not sent, or not sent again, because the upload has ended."""
        # Not as refused: if *part* is half of a refused part, perhaps only the other half is at fault.
        return self._as_not_sent(bulk.abandoned(part, error=self.ended))

    def failed(
        self, part: Chunk, error: AttemptError, *, began: float, now: float, jitter: float = 0.0, others: int = 0
    ) -> NextStep:
        """
        Decide what to do after the call for *part* has failed.

        Args:
            part: The part.
            error: The error of the call.
            began: When the call began.
            now: When the call ended.
            jitter: Random, from 0 to 1. It shortens a wait by up to a half, so that parts don't retry at the same
                moment.
            others: The number of calls for other parts that are in flight.

        Returns:
            The outcome of the part, or the parts to send again.
        """
        if isinstance(error, AlreadyStoredError):
            self._record_success(now)
            return bulk.outcome_of(part, error)
        if isinstance(error, RefusedError) and not isinstance(error, StorageFailedError):
            self._record_clear_reply(now)
            if isinstance(error, SignatureRejectedError) and not self._may_break_signature(part):
                return self._handle_first_rejection(part, error, others)
            return self._handle_refusal(part, error)
        self._record_unclear_failure(error, began, now)
        return self._handle_unclear_failure(part, error, now, jitter)

    def _handle_first_rejection(self, part: Chunk, error: SignatureRejectedError, others: int) -> NextStep:
        """
        Handle a signature rejected before the first success: the secret is wrong, or a character in *part* breaks it.

        Other replies show which it is: first those to the calls in flight, then those to the two halves.
        """
        self._rejections += 1
        has_no_halves = len(part.keys) == 1 and part.last_error is None  # and is no half itself
        if not others and (has_no_halves or self._rejections >= _MAX_REJECTIONS):
            self.stopped = self.stopped or error
        if self.ended is None and len(part.keys) > 1:
            return Resend(_to_resend(part, error).halves(), later=True)
        return bulk.outcome_of(part, error)

    def _handle_refusal(self, part: Chunk, error: RefusedError) -> NextStep:
        """Handle a refusal other than a failure of GatePay's database."""
        cost = _REFUSED_COST
        if isinstance(error, SignatureRejectedError):
            cost = _REFUSED_COST if self.accepted else _EARLY_COST
        elif isinstance(error, bulk.REFUSALS_OF_EVERY_CHUNK):
            self.stopped = self.stopped or error
        if self.ended is None and len(part.keys) > 1:
            if self._spend_credit(cost):
                return Resend(_to_resend(part, error).halves())
            self._refused_parts += 1
            if self._refused_parts >= _MAX_REFUSED_PARTS or isinstance(error, SignatureRejectedError):
                self.stopped = error
        return bulk.outcome_of(part, error)

    def _may_break_signature(self, part: Chunk) -> bool:
        """Whether a character in *part* may be why its signature was rejected. If the secret is right, one must be."""
        return self.accepted or any(not _CHANGED_BY_FILTER.isdisjoint(key) for key in part.keys)

    def _handle_unclear_failure(self, part: Chunk, error: AttemptError, now: float, jitter: float) -> NextStep:
        """Handle an unclear failure: halve the part, give it up, or send it again later."""
        counted = self._count_failure(part, error, now, jitter)
        if self.ended is None:
            if _would_fail_again(error) and len(part.keys) > 1 and self._pay_for_halving(error):
                return Resend(counted.halves())
            if self._may_be_keys_fault(part, error, now) and self._pay_for_halving(error):
                return Resend(counted.halves(not_before=counted.not_before), later=True)
            if self._is_keys_fault(counted, error, now):
                return bulk.outcome_of(part, error)
            if self._is_unavailable(now):
                self.outage = error
            elif self._patience.waits or (_would_fail_again(error) and counted.calls == 1):
                # Even if parts don't wait, send this one twice: if other parts get clear replies in between, its card
                # keys are at fault.
                return Resend((counted,), later=True)
        # "Storage failed" isn't final, even though it is a refusal: perhaps GatePay's database is down.
        return self._as_not_sent(bulk.outcome_of(part, error))

    def _as_not_sent(self, outcome: ChunkOutcome) -> ChunkOutcome:
        """Return *outcome*, but as "not sent" instead of "refused" if another run will send the card keys again."""
        if self._patience.waits or outcome.fate is not Fate.REFUSED:
            return outcome
        return evolve(outcome, fate=Fate.NOT_SENT)

    def _count_failure(self, part: Chunk, error: AttemptError, now: float, jitter: float) -> Chunk:
        """Return *part* with one more failed call, and with the time before which it isn't sent again."""
        is_proof = part.failed_at == -math.inf or self._last_clear_reply > part.failed_at
        return evolve(
            _to_resend(part, error),
            calls=part.calls + 1,
            proofs=part.proofs + is_proof,
            attempts=part.attempts + error.attempts,
            failed_at=now,
            not_before=now + self._wait_seconds(part) * (1 - jitter / 2),
        )

    def _may_be_keys_fault(self, part: Chunk, error: AttemptError, now: float) -> bool:
        """Whether one card key in *part* may have caused the failure, so that halving can find it."""
        if len(part.keys) == 1 or _never_reached_gatepay(error):
            return False
        is_half = part.last_error is not None and part.calls == 0  # the other half will show what is at fault
        # Before the first clear reply, this may be the only part: no other part could show what is at fault.
        may_be_only_part = self._patience.waits and not self._has_clear_reply
        halve_at_once = (is_half or may_be_only_part) and not self._is_unavailable(now)
        return halve_at_once or part.calls + 1 >= _CALLS_BEFORE_HALVING

    def _is_keys_fault(self, part: Chunk, error: AttemptError, now: float) -> bool:
        """Whether the card keys in *part* are at fault. This failure is counted in *part* already."""
        is_single = len(part.keys) == 1
        # As far as the counts show, only this card key has failed since the last clear reply.
        fails_alone = is_single and self._failed_rounds <= part.calls
        if is_single and _would_fail_again(error) and not self._patience.waits and part.calls >= _CALLS_IN_MANY_RUNS:
            return True
        if not self._has_clear_reply:
            return False  # the server may be unavailable
        if fails_alone and _would_fail_again(error):
            return part.calls > 1
        if self._failed_rounds <= 1:  # there was a clear reply just before: the server is available
            return part.proofs >= (_PROOFS_WITHOUT_CONNECTION if _never_reached_gatepay(error) else _PROOFS)
        # If this is the last card key, no other part can get a clear reply. So it is enough that no other part failed.
        return fails_alone and self._patience.waits and self._is_unavailable(now)

    @property
    def _has_clear_reply(self) -> bool:
        return self._last_clear_reply > -math.inf

    def _pay_for_halving(self, error: AttemptError) -> bool:
        """Spend credit for halving a part after an unclear failure. False: too little credit is left."""
        is_early = isinstance(error, ProtocolError) and not self._has_clear_reply
        return self._spend_credit(_EARLY_COST if is_early else _UNCLEAR_COST)

    def _spend_credit(self, cost: float) -> bool:
        """Spend *cost*. Return False, and spend nothing, if too little credit is left."""
        if self._credit < cost:
            return False
        self._credit -= cost
        return True

    def _is_unavailable(self, now: float) -> bool:
        """Whether the server counts as unavailable. ``Patience`` says when."""
        patience = self._patience
        seconds, attempts = patience.seconds, patience.attempts
        if not self._has_clear_reply:
            seconds, attempts = patience.seconds_before_first_reply, patience.attempts_before_first_reply
        return self._failed_attempts >= attempts and now - self._failing_since >= seconds

    def _wait_seconds(self, part: Chunk) -> float:
        """Return how long *part* waits after one more failed call. Each failed round doubles the wait."""
        doublings = min(max(self._failed_rounds - 1, part.calls), _MAX_PAUSE_DOUBLINGS)
        return min(self._patience.longest_wait, self._patience.first_wait * 2.0**doublings)

    def _record_unclear_failure(self, error: AttemptError, began: float, now: float) -> None:
        """Record an unclear failure of any part. Hold all parts if the server has asked for it."""
        self._failing_since = min(self._failing_since, max(began, self._last_clear_reply))
        if began >= self._round_ended:  # else the call overlaps with one that counts already
            self._failed_rounds += 1
            self._failed_attempts += error.attempts
            self._round_ended = now
        if isinstance(error, ProtocolError) and error.retry_after is not None:
            self._held_until = max(self._held_until, now + min(error.retry_after, self._patience.retry_after_limit))

    def _record_clear_reply(self, now: float) -> None:
        self._last_clear_reply = now
        self._failing_since = math.inf
        self._failed_rounds = self._failed_attempts = 0
        self._round_ended = -math.inf

    def _record_success(self, now: float) -> None:
        self._record_clear_reply(now)
        self.accepted = True
        self._refused_parts = 0
        self._credit = min(_FULL_CREDIT, self._credit + _CREDIT_PER_SUCCESS)


def _to_resend(part: Chunk, error: AttemptError) -> Chunk:
    """Return *part* for sending it again after *error*. If it may be stored, it is in doubt."""
    if bulk.may_have_stored(error):
        return evolve(part, in_doubt=True, doubt=error, last_error=error)
    return evolve(part, last_error=error)


def _would_fail_again(error: AttemptError) -> bool:
    """Whether the reply would be the same if the same card keys were sent again."""
    return isinstance(error, StorageFailedError) or not is_transient(error)


def _never_reached_gatepay(error: AttemptError) -> bool:
    """Whether GatePay can't have read the card keys."""
    if isinstance(error, TransportError):
        return not error.sent
    return isinstance(error, ProtocolError) and error.http_status in _RETRY_LATER_STATUSES
