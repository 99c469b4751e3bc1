"""What became of a batch, run after run, and what is left of it to send. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from attrs import define, evolve, field

from gatepay_async.durable.records import stored_errors
from gatepay_async.durable.records.batches import CHUNKS_PER_BATCH, Batch
from gatepay_async.durable.records.bounds import whole
from gatepay_async.protocol.bulk import MEETS_EVERY_CHUNK, Chunk, ChunkOutcome, Fate, Ledger
from gatepay_async.protocol.checks import MAX_KEYS_PER_CALL
from gatepay_async.protocol.errors import GatePayError, StorageFailedError

# What a row says of an outcome, in this order: rows hold values without names.
_FACTS = ("index", "first_line", "last_line", "count", "attempts")
_DONE = ("index", "first_line", "last_line", "count", "stored", "attempts", "alike")
_REST = (*_FACTS, "fate", "error")
_COLUMNS = ("stored", "already_there", "refused", "unknown", "not_sent")
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

    def columns(self) -> dict[str, int]:
        """Card keys by column of a report."""
        ledger = Ledger()
        for outcome in self.outcomes:
            ledger.add(outcome)
        counts = ledger.counts()
        return {name: getattr(counts, name) for name in _COLUMNS}

    def to_row(self) -> dict[str, Any]:
        """For the database. Chunks in a row that went alike, and that is nearly all, are one entry."""
        done = (
            _facts(outcome) | {"stored": outcome.stored, "alike": alike}
            for outcome, alike in _counted(each for each in self.outcomes if each.fate is Fate.STORED)
        )
        rest = (
            _facts(each) | {"fate": each.fate.value, "error": each.error and stored_errors.as_json(each.error)}
            for each in self.outcomes
            if each.fate is not Fate.STORED
        )
        row = {
            "done": [[facts[column] for column in _DONE] for facts in done],
            "rest": [[facts[column] for column in _REST] for facts in rest],
            "stopped": self.stopped and stored_errors.as_json(self.stopped),
            "follows": self.follows,
        }
        return {name: value for name, value in row.items() if value}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> BatchResult:
        """
        From the database.

        Raises:
            ValueError, TypeError, LookupError: No version wrote that.
        """
        outcomes: list[ChunkOutcome] = []
        for values in row.get("done", ()):
            facts: dict[str, Any] = dict(zip(_DONE, values, strict=True))
            new, alike = facts["stored"], whole(facts["alike"], most=MAX_PARTS - len(outcomes))
            one = _outcome(facts, Fate.STORED, stored=None if new is None else whole(new))
            outcomes += (_moved(one, turn) for turn in range(alike))
        for values in row.get("rest", ()):
            facts = dict[str, Any](zip(_REST, values, strict=True))
            error = facts["error"] and stored_errors.of_json(facts["error"])
            outcomes.append(_outcome(facts, Fate(facts["fate"]), error=error))
        whole(len(outcomes), most=MAX_PARTS)
        stopped = row.get("stopped")
        return cls(outcomes, stopped and stored_errors.of_json(stopped), bool(row.get("follows")))


def _facts(outcome: ChunkOutcome) -> dict[str, Any]:
    return {name: getattr(outcome, name) for name in _FACTS}


def _outcome(facts: dict[str, Any], fate: Fate, **more: Any) -> ChunkOutcome:
    numbers: dict[str, Any] = {name: whole(facts[name]) for name in _FACTS}
    return ChunkOutcome(**numbers, fate=fate, **more)


def _moved(outcome: ChunkOutcome, chunks: int) -> ChunkOutcome:
    """What became of a chunk further down that went alike; their lines are neighbours."""
    ahead = chunks * outcome.count
    first, last = outcome.first_line + ahead, outcome.last_line + ahead
    return evolve(outcome, index=outcome.index + chunks, first_line=first, last_line=last)


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


def _counted(outcomes: Iterable[ChunkOutcome]) -> Iterator[tuple[ChunkOutcome, int]]:
    """Those that differ from the one before by more than their place; how many in a row are like each."""
    first, alike = None, 0
    for outcome in outcomes:
        if first is not None and _moved(first, alike) == outcome:
            alike += 1
            continue
        if first is not None:
            yield first, alike
        first, alike = outcome, 1
    if first is not None:
        yield first, alike


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
