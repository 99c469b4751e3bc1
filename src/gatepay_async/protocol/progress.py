"""
What each answer means for a part of an upload, and for the whole of it. Pure: times come in.

Three questions, asked of every failure:

1. May the card keys be on the server all the same? Then they are in doubt until an answer says "stored".
2. Is it about the shop (a wrong key, a closed endpoint)? Then the upload ends.
3. Is it about these card keys, or is the server away? One key that GatePay can't take must not cost its neighbours, so
   the part is halved. A server that is away must not be asked all the time, so the part waits. Nothing tells the two
   apart for certain. What other parts meet does, mostly.
"""

from __future__ import annotations

import math
from typing import TypeAlias

from attrs import evolve, frozen

from gatepay_async.protocol import bulk
from gatepay_async.protocol.bulk import Attempted, Chunk, ChunkOutcome, Fate
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
from gatepay_async.protocol.retrying import Sent, is_transient

# FastAdmin's input filter changes these before GatePay checks the signature, so that they alone bring a 106.
_SPOILS_SIGNATURE = frozenset("&<>\"'")

# Halving is paid for, so that a server which refuses everything costs few calls. A success pays some back: halving one
# bad key out of 500 takes nine calls in vain, and has nine successes beside them.
_FULL_CREDIT = 400.0
_PER_SUCCESS = 16.0
_OBJECTION = 1.0  # GatePay has read the card keys, and refuses them
_AMBIGUOUS = 4.0  # its database, or a gateway: they may refuse everything
_NO_SUCCESS_YET = 20.0  # as _AMBIGUOUS, before anything has succeeded: a wrong address, a wrong secret

# Rejected signatures before anything was stored, none of them beside a success. Two halves of one text, say, and the
# whole: it is the secret.
_REJECTED_WITHOUT_SUCCESS = 3
_MAX_REFUSED_PARTS = 10  # parts in a row that are refused without having been halved

# Calls in vain for the same card keys, before they are halved, whatever others do. Where nothing has succeeded yet, and
# for a half, one is enough: nothing else may be left that could succeed.
_CALLS_BEFORE_HALVING = 3
# The same, each followed by a success of others, before it must be the keys.
_PROOFS = 3
_PROOFS_WITHOUT_CONNECTION = 6
_CALLS_IN_MANY_RUNS = 5  # for one key that is all that is left to send, where runs are far apart
_MAX_DOUBLINGS = 30  # a wait of years
_LATER = frozenset({408, 425, 429, 503})  # the server wants to be asked later; no content is at fault


@frozen(kw_only=True)
class Patience:
    """
    When a server counts as away.

    Attributes:
        seconds: Without a success, since the first call in vain. Whole calls, whatever they did in that time.
        seconds_at_first: The same before anything has succeeded.
        attempts: How many, one after the other, must also have failed by then.
        attempts_at_first: The same before anything has succeeded: a whole part, and both of its halves. One card key
            may be what the server doesn't answer.
        first_wait: Seconds before the same card keys are sent again; doubled for each round of calls in vain.
        longest_wait: Seconds that no such wait exceeds.
        longest_hold: Seconds that nothing is sent for at most, where the server asks for it with ``Retry-After``.
        holds: Whether parts wait for the server; if not, each is what its first failure makes of it.
    """

    seconds: float = 20.0
    seconds_at_first: float = 5.0
    attempts: int = 2
    attempts_at_first: int = 3
    first_wait: float = 0.25
    longest_wait: float = 4.0
    longest_hold: float = 60.0
    holds: bool = True


@frozen
class Resend:
    """
    Card keys that are to be sent again.

    Attributes:
        parts: Together what the failed part was.
        later: After the parts that the caller has at hand besides.
    """

    parts: tuple[Chunk, ...]
    later: bool = False


Verdict: TypeAlias = ChunkOutcome | Resend


class Progress:
    """
    How an upload goes, and what is to be done with each part of it.

    Args:
        patience: When the server counts as away.
        accepted: Something was stored with the same secret before.

    Attributes:
        stopped: The refusal that every part would meet, or None.
        away: What the last of too many calls in vain met, or None.
        accepted: Something was stored, so the secret is right.
        held_until: Before that nothing is to be sent: the server has asked for it.
    """

    def __init__(self, patience: Patience, *, accepted: bool = False) -> None:
        self.stopped: GatePayError | None = None
        self.away: GatePayError | None = None
        self.accepted = accepted
        self.held_until = -math.inf
        self._patience = patience
        self._credit = _FULL_CREDIT
        self._refused = 0  # in a row, without having been halved
        self._rejected = 0  # signatures, by what no text explains, before anything was stored
        # A run of calls in vain. Calls that overlap are one round of it, however many they are.
        self._last_answered = -math.inf  # when GatePay last answered
        self._vain_since = math.inf
        self._rounds = 0
        self._round_ended = -math.inf
        self._attempts = 0

    @property
    def ended(self) -> GatePayError | None:
        """Why nothing more is to be sent, or None."""
        return self.stopped or self.away

    @property
    def asks_one_by_one(self) -> bool:
        """Whether the secret may be wrong: nothing more is to be sent while an answer is still to come."""
        return self._rejected > 0 and not self.accepted

    def answered(self, part: Chunk, answer: Sent[Stored], *, now: float) -> ChunkOutcome:
        """*part* was stored, as the call that ended *now* says."""
        self._note_success(now)
        return bulk.stored(part, count=answer.value.stored, attempts=part.attempts + answer.attempts)

    def left(self, part: Chunk) -> ChunkOutcome:
        """*part* is not sent, or not sent again: nothing more is."""
        return self._not_refused_yet(bulk.left(part, error=self.ended))  # nor were halves asked for by themselves

    def failed(
        self, part: Chunk, error: Attempted, *, began: float, now: float, jitter: float = 0.0, others: int = 0
    ) -> Verdict:
        """
        The call for *part* has failed.

        Args:
            part: What was sent.
            error: What it met.
            began: When it was first tried.
            now: When it was given up.
            jitter: Random, 0 to 1: makes a wait shorter by up to a half, so that not all come back at once.
            others: Calls for other parts that have not been answered yet.

        Returns:
            What became of it, or what is to be sent again.
        """
        if isinstance(error, AlreadyStoredError):
            self._note_success(now)
            return bulk.outcome_of(part, error)
        if isinstance(error, RefusedError) and not isinstance(error, StorageFailedError):
            self._note_answer(now)
            if isinstance(error, SignatureRejectedError) and not self._is_about_content(part):
                return self._rejected_at_first(part, error, others)
            return self._objected(part, error)
        self._note_vain(error, began, now)
        return self._in_vain(part, error, now, jitter)

    def _rejected_at_first(self, part: Chunk, error: SignatureRejectedError, others: int) -> Verdict:
        """
        A 106 before anything was stored: the secret is wrong, or something in this text breaks the signature.

        Another answer tells: of the calls that are still under way, and then of the halves.
        """
        self._rejected += 1
        is_all = len(part.keys) == 1 and part.last is None
        if not others and (is_all or self._rejected >= _REJECTED_WITHOUT_SUCCESS):
            self.stopped = self.stopped or error
        if self.ended is None and len(part.keys) > 1:
            return Resend(_halves(part, error), later=True)
        return bulk.outcome_of(part, error)

    def _objected(self, part: Chunk, error: RefusedError) -> Verdict:
        """GatePay is there, and said no."""
        cost = _OBJECTION
        if isinstance(error, SignatureRejectedError):
            cost = _OBJECTION if self.accepted else _NO_SUCCESS_YET
        elif isinstance(error, bulk.MEETS_EVERY_CHUNK):
            self.stopped = self.stopped or error
        if self.ended is None and len(part.keys) > 1:
            if self._spend_credit(cost):
                return Resend(_halves(part, error))
            self._refused += 1
            if self._refused >= _MAX_REFUSED_PARTS or isinstance(error, SignatureRejectedError):
                self.stopped = error
        return bulk.outcome_of(part, error)

    def _is_about_content(self, part: Chunk) -> bool:
        """Whether a rejected signature is about the text of *part*."""
        return self.accepted or any(not _SPOILS_SIGNATURE.isdisjoint(key) for key in part.keys)

    def _in_vain(self, part: Chunk, error: Attempted, now: float, jitter: float) -> Verdict:
        """Nobody answered, or not as GatePay does, or its database did not store anything."""
        tried = self._after_vain_call(part, error, now, jitter)
        if self.ended is None and _is_final(error) and len(part.keys) > 1 and self._pay_for_halving(error):
            return Resend(tried.halves())
        if self.ended is None and self._may_be_its_keys(part, tried, error, now) and self._pay_for_halving(error):
            return Resend(_halves_after_a_wait(tried), later=True)
        if self.ended is None and self._is_its_own(tried, error, now):
            return bulk.outcome_of(part, error)
        if self.ended is None and self._is_away(now):
            self.away = error
        if self.ended is None and (self._patience.holds or (_is_final(error) and tried.calls == 1)):
            return Resend((tried,), later=True)
        return self._not_refused_yet(bulk.outcome_of(part, error))  # its database may be down

    def _not_refused_yet(self, outcome: ChunkOutcome) -> ChunkOutcome:
        """*outcome*, where another run will ask again."""
        if self._patience.holds or outcome.fate is not Fate.REFUSED:
            return outcome
        return evolve(outcome, fate=Fate.NOT_SENT)

    def _after_vain_call(self, part: Chunk, error: Attempted, now: float, jitter: float) -> Chunk:
        """*part* after one more call in vain."""
        is_first = part.failed_at == -math.inf
        asked = error.retry_after if isinstance(error, ProtocolError) else None
        if asked is not None:
            self.held_until = max(self.held_until, now + min(asked, self._patience.longest_hold))
        return evolve(
            _after(part, error),
            calls=part.calls + 1,
            proofs=part.proofs + (is_first or self._last_answered > part.failed_at),
            attempts=part.attempts + error.attempts,
            failed_at=now,
            not_before=now + self._wait_seconds(part) * (1 - jitter / 2),
        )

    def _may_be_its_keys(self, part: Chunk, tried: Chunk, error: Attempted, now: float) -> bool:
        """Whether one of several card keys may be what nobody answers, and others may succeed without it."""
        if len(part.keys) == 1 or _is_unreached(error):
            return False
        is_half = part.last is not None and part.calls == 0  # its other half tells what is at fault
        may_be_all = self._patience.holds and self._last_answered == -math.inf
        soon = (is_half or may_be_all) and not self._is_away(now)
        return soon or tried.calls >= _CALLS_BEFORE_HALVING

    def _is_its_own(self, tried: Chunk, error: Attempted, now: float) -> bool:
        """Whether *tried* alone meets this, while others succeed."""
        alone = len(tried.keys) == 1
        if alone and _is_final(error) and not self._patience.holds and tried.calls >= _CALLS_IN_MANY_RUNS:
            return True
        if self._last_answered == -math.inf:
            return False
        if alone and _is_final(error) and self._rounds <= tried.calls:
            return tried.calls > 1  # what was asked before it has succeeded
        if self._rounds <= 1:
            return tried.proofs >= _proofs_needed(error)
        # Where there is nothing else to send, nothing can succeed. The next part that fails is proof enough.
        return alone and self._patience.holds and self._is_away(now) and self._rounds <= tried.calls

    def _pay_for_halving(self, error: Attempted) -> bool:
        strange = isinstance(error, ProtocolError) and self._last_answered == -math.inf
        return self._spend_credit(_NO_SUCCESS_YET if strange else _AMBIGUOUS)

    def _spend_credit(self, cost: float) -> bool:
        if self._credit < cost:
            return False
        self._credit -= cost
        return True

    def _is_away(self, now: float) -> bool:
        patience = self._patience
        seconds, attempts = patience.seconds, patience.attempts
        if self._last_answered == -math.inf:
            seconds, attempts = patience.seconds_at_first, patience.attempts_at_first
        return self._attempts >= attempts and now - self._vain_since >= seconds

    def _wait_seconds(self, part: Chunk) -> float:
        doublings = max(self._rounds, part.calls + 1) - 1
        return min(self._patience.longest_wait, self._patience.first_wait * 2.0 ** min(doublings, _MAX_DOUBLINGS))

    def _note_vain(self, error: Attempted, began: float, now: float) -> None:
        self._vain_since = min(self._vain_since, max(began, self._last_answered))
        if began >= self._round_ended:
            self._rounds += 1
            self._attempts += error.attempts
            self._round_ended = now

    def _note_answer(self, now: float) -> None:
        """GatePay has answered."""
        self._last_answered = now
        self._vain_since = math.inf
        self._rounds = self._attempts = 0
        self._round_ended = -math.inf

    def _note_success(self, now: float) -> None:
        self._note_answer(now)
        self.accepted = True
        self._refused = 0
        self._credit = min(_FULL_CREDIT, self._credit + _PER_SUCCESS)


def _halves(part: Chunk, error: Attempted) -> tuple[Chunk, ...]:
    return _after(part, error).halves()


def _halves_after_a_wait(tried: Chunk) -> tuple[Chunk, ...]:
    return tuple(evolve(half, not_before=tried.not_before) for half in tried.halves())


def _after(part: Chunk, error: Attempted) -> Chunk:
    """*part*, to be sent again after *error*."""
    if bulk.may_have_stored(error):
        return evolve(part, in_doubt=True, doubt=error, last=error)
    return evolve(part, last=error)


def _proofs_needed(error: Attempted) -> int:
    """How often others must have succeeded meanwhile."""
    return _PROOFS_WITHOUT_CONNECTION if _is_unreached(error) else _PROOFS


def _is_final(error: Attempted) -> bool:
    """Whether whoever answered means what he says: a call for the same card keys will meet it again."""
    return isinstance(error, StorageFailedError) or not is_transient(error)


def _is_unreached(error: Attempted) -> bool:
    """Whether nobody has looked at the card keys."""
    if isinstance(error, TransportError):
        return not error.sent
    return isinstance(error, ProtocolError) and error.http_status in _LATER
