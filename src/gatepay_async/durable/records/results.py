"""What became of a batch, run after run, and what is left of it to send. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import define, evolve, field

from gatepay_async.durable.records import stored_errors
from gatepay_async.durable.records.batches import CHUNKS_PER_BATCH, Batch
from gatepay_async.durable.records.bounds import whole
from gatepay_async.protocol.bulk import MEETS_EVERY_CHUNK, Chunk, ChunkOutcome, Fate
from gatepay_async.protocol.checks import MAX_KEYS_PER_CALL
from gatepay_async.protocol.errors import GatePayError, StorageFailedError

MAX_PARTS = CHUNKS_PER_BATCH * MAX_KEYS_PER_CALL  # of a batch: each card key by itself


@define
class BatchResult:
    """
    What a worker made of a batch: an outcome for each chunk that it took up, and what comes next.

    Attributes:
        outcomes: In the database without card keys: those are in the spool.
        stopped: Why the job must end with this, or None.
        follows: Whether another run takes up what this one has left.
        unanswered: Whether nobody answered at least once; not kept.
    """

    outcomes: list[ChunkOutcome] = field(factory=list[ChunkOutcome])
    stopped: GatePayError | None = None
    follows: bool = False
    unanswered: bool = False

    def as_json(self) -> dict[str, Any]:
        """For the database. Chunks in a row that went alike, and that is nearly all, are one entry."""
        done: list[list[Any]] = []
        for outcome in self.outcomes:
            if _is_stored(outcome):
                _append_or_count(done, outcome)
        rest = [
            [
                o.index,
                o.first_line,
                o.last_line,
                o.count,
                o.attempts,
                o.fate.value,
                o.error and stored_errors.as_json(o.error),
            ]
            for o in self.outcomes
            if not _is_stored(o)
        ]
        stopped = self.stopped and stored_errors.as_json(self.stopped)
        whole = {"done": done, "rest": rest, "stopped": stopped, "follows": self.follows}
        return {name: value for name, value in whole.items() if value}

    @classmethod
    def of_json(cls, stored: dict[str, Any]) -> BatchResult:
        """From the database."""
        outcomes: list[ChunkOutcome] = []
        for index, first, last, count, new, tries, alike in stored.get("done", ()):
            one = _outcome(index, first, last, count, tries)
            one = evolve(one, stored=None if new is None else whole(new))
            for turn in range(whole(alike, most=MAX_PARTS - len(outcomes))):
                ahead = turn * count
                outcomes.append(evolve(one, index=index + turn, first_line=first + ahead, last_line=last + ahead))
        for index, first, last, count, tries, fate, error in stored.get("rest", ()):
            one = _outcome(index, first, last, count, tries)
            outcomes.append(evolve(one, fate=Fate(fate), error=error and stored_errors.of_json(error)))
        whole(len(outcomes), most=MAX_PARTS)
        stopped = stored.get("stopped")
        return cls(outcomes, stopped and stored_errors.of_json(stopped), bool(stored.get("follows")))


def _outcome(index: object, first: object, last: object, count: object, tries: object) -> ChunkOutcome:
    return ChunkOutcome(
        index=whole(index),
        first_line=whole(first),
        last_line=whole(last),
        count=whole(count),
        fate=Fate.STORED,
        attempts=whole(tries),
    )


def check_result(result: BatchResult, batch: Batch) -> None:
    """
    Hold *result* to tell of *batch*, and of no other.

    Raises:
        ValueError: It tells of chunks or lines that *batch* doesn't have.
    """
    last_chunk = batch.first_chunk + (batch.count - 1) // MAX_KEYS_PER_CALL
    for outcome in result.outcomes:
        whole(outcome.index, least=batch.first_chunk, most=last_chunk)
        whole(outcome.first_line, least=batch.first_line, most=outcome.last_line)
        whole(outcome.last_line, most=batch.last_line)
    whole(sum(outcome.count for outcome in result.outcomes), most=batch.count)


def _is_stored(outcome: ChunkOutcome) -> bool:
    return outcome.fate is Fate.STORED


def _append_or_count(done: list[list[Any]], outcome: ChunkOutcome) -> None:
    """Append *outcome*; or, if it is what its neighbour was, and their lines are neighbours, too, count one more."""
    same = [outcome.count, outcome.stored, outcome.attempts]
    if done:
        index, first, last, *facts, alike = done[-1]
        ahead = alike * outcome.count
        moved = [index + alike, first + ahead, last + ahead, *facts]
        if moved == [outcome.index, outcome.first_line, outcome.last_line, *same]:
            done[-1][-1] += 1
            return
    done.append([outcome.index, outcome.first_line, outcome.last_line, *same, 1])


def merged(runs: Sequence[BatchResult]) -> dict[int, list[ChunkOutcome]]:
    """
    What is known of each chunk, by its number, after *runs* of a batch, the first one first.

    A run takes up what the runs before it have left: its outcomes replace those whose lines they cover, and no others.
    """
    known: dict[int, list[ChunkOutcome]] = {}
    for result in runs:
        fresh: dict[int, list[ChunkOutcome]] = {}
        for outcome in result.outcomes:
            fresh.setdefault(outcome.index, []).append(outcome)
        for index, outcomes in fresh.items():
            before = [old for old in known.get(index, ()) if not any(_overlap(old, new) for new in outcomes)]
            known[index] = sorted(before + outcomes, key=lambda outcome: outcome.first_line)
    return known


def settled(outcome: ChunkOutcome) -> bool:
    """Whether it would be no use to send it again: it is stored, or refused for what it is."""
    if outcome.fate is not Fate.REFUSED:
        return outcome.fate is Fate.STORED
    # A database that stores nothing may be down; of one card key alone it has been tried often enough.
    return not isinstance(outcome.error, MEETS_EVERY_CHUNK) and (
        outcome.count == 1 or not isinstance(outcome.error, StorageFailedError)
    )


def to_do(chunks: Sequence[Chunk], runs: Sequence[BatchResult]) -> list[Chunk]:
    """The parts of *chunks* that are not settled after *runs*, with the doubt that these have left."""
    known = merged(runs)
    tried = [outcome for result in runs for outcome in result.outcomes if outcome.attempts]
    return [part for chunk in chunks for part in _parts(chunk, known.get(chunk.index), tried)]


def _parts(chunk: Chunk, known: list[ChunkOutcome] | None, tried: list[ChunkOutcome]) -> Iterator[Chunk]:
    if known is None:
        yield chunk
        return
    for outcome in known:
        if not settled(outcome):
            pairs = [
                (line, key)
                for line, key in zip(chunk.lines, chunk.keys, strict=True)
                if outcome.first_line <= line <= outcome.last_line
            ]
            calls = sum(_same_lines(each, outcome) for each in tried)
            lines, keys = zip(*pairs, strict=True)
            in_doubt = outcome.fate is Fate.UNKNOWN
            doubt = outcome.error if in_doubt else None
            yield Chunk(chunk.index, lines, keys, in_doubt=in_doubt, doubt=doubt, calls=calls)


def _overlap(one: ChunkOutcome, other: ChunkOutcome) -> bool:
    return one.first_line <= other.last_line and other.first_line <= one.last_line


def _same_lines(one: ChunkOutcome, other: ChunkOutcome) -> bool:
    return (one.index, one.first_line, one.last_line) == (other.index, other.first_line, other.last_line)


def all_settled(batch: Batch, runs: Sequence[BatchResult]) -> bool:
    """Whether nothing of *batch* is to be done after *runs*."""
    outcomes = (outcome for known in merged(runs).values() for outcome in known)
    return sum(outcome.count for outcome in outcomes if settled(outcome)) == batch.count
