"""The results of a batch's runs, and which card keys are left to send after them. No I/O; doesn't read the clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from attrs import define, evolve, field

from gatepay_async.durable.records import stored_errors
from gatepay_async.durable.records.batches import CHUNKS_PER_BATCH, Batch
from gatepay_async.durable.records.bounds import check_number
from gatepay_async.protocol.bulk import REFUSALS_OF_EVERY_CHUNK, Chunk, ChunkOutcome, Fate, Ledger
from gatepay_async.protocol.checks import MAX_KEYS_PER_CALL
from gatepay_async.protocol.errors import GatePayError, StorageFailedError

# A row stores outcomes in two lists: "done" has those whose card keys are stored, "rest" has the others. Each outcome
# is a list of these values, without their names, so their order must not change.
_NUMBERS = ("index", "first_line", "last_line", "count", "attempts")
_DONE_NUMBERS = ("index", "first_line", "last_line", "count", "stored", "attempts")
_DONE_VALUES = (*_DONE_NUMBERS, "repeats")  # "repeats": the number of consecutive chunks in the entry
_REST_VALUES = (*_NUMBERS, "fate", "error")
_REPORT_COLUMNS = ("stored", "already_there", "refused", "unknown", "not_sent")
MAX_PARTS = CHUNKS_PER_BATCH * MAX_KEYS_PER_CALL  # outcomes of a batch, if halving leaves each card key on its own


@define
class BatchResult:
    """
    The result of one run of a batch.

    Attributes:
        outcomes: One for each part that was sent or given up. The database stores them without card keys.
        stopped: The error that ends the whole job, or None.
        has_next_run: Whether another run sends the card keys that this run has left unsettled.
        unanswered: Whether a call got no valid reply. This isn't stored.
    """

    outcomes: list[ChunkOutcome] = field(factory=list[ChunkOutcome])
    stopped: GatePayError | None = None
    has_next_run: bool = False
    unanswered: bool = False

    def columns(self) -> dict[str, int]:
        """Count the card keys by column of a report."""
        ledger = Ledger()
        for outcome in self.outcomes:
            ledger.add(outcome)
        counts = ledger.counts()
        return {name: getattr(counts, name) for name in _REPORT_COLUMNS}

    def to_row(self) -> dict[str, Any]:
        """Convert to the row that the database stores. Consecutive chunks with the same result share one entry."""
        done: list[list[Any]] = []
        rest: list[list[Any]] = []
        for outcome, repeats in _with_repeats(each for each in self.outcomes if each.fate is Fate.STORED):
            done.append([*(getattr(outcome, name) for name in _DONE_NUMBERS), repeats])
        for outcome in self.outcomes:
            if outcome.fate is not Fate.STORED:
                error = outcome.error and stored_errors.as_json(outcome.error)
                rest.append([*(getattr(outcome, name) for name in _NUMBERS), outcome.fate.value, error])
        stopped = self.stopped and stored_errors.as_json(self.stopped)
        row: dict[str, Any] = {"done": done, "rest": rest, "stopped": stopped, "follows": self.has_next_run}
        return {name: value for name, value in row.items() if value}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> BatchResult:
        """
        Convert from the row that the database stores.

        Raises:
            ValueError, TypeError, LookupError: No version of this package wrote such a row.
        """
        outcomes: list[ChunkOutcome] = []
        for entry in row.get("done", ()):
            values: dict[str, Any] = dict(zip(_DONE_VALUES, entry, strict=True))
            stored, repeats = values["stored"], check_number(values["repeats"], maximum=MAX_PARTS - len(outcomes))
            first = _outcome(values, Fate.STORED, stored=None if stored is None else check_number(stored))
            outcomes += (_moved_by(first, chunks) for chunks in range(repeats))
        for entry in row.get("rest", ()):
            values = dict[str, Any](zip(_REST_VALUES, entry, strict=True))
            error = values["error"] and stored_errors.of_json(values["error"])
            outcomes.append(_outcome(values, Fate(values["fate"]), error=error))
        check_number(len(outcomes), maximum=MAX_PARTS)
        stopped = row.get("stopped")
        return cls(outcomes, stopped and stored_errors.of_json(stopped), bool(row.get("follows")))


def _outcome(values: dict[str, Any], fate: Fate, **more: Any) -> ChunkOutcome:
    """Create an outcome from the *values* of an entry in a row."""
    numbers: dict[str, Any] = {name: check_number(values[name]) for name in _NUMBERS}
    return ChunkOutcome(**numbers, fate=fate, **more)


def _moved_by(outcome: ChunkOutcome, chunks: int) -> ChunkOutcome:
    """Return *outcome* moved to the chunk that is *chunks* later, as if every line in between were a card key."""
    lines = chunks * outcome.count
    first, last = outcome.first_line + lines, outcome.last_line + lines
    return evolve(outcome, index=outcome.index + chunks, first_line=first, last_line=last)


def check_result(result: BatchResult, batch: Batch) -> None:
    """
    Check that *result* fits *batch*.

    Raises:
        ValueError: It has outcomes for chunks or lines that *batch* doesn't have.
    """
    last_chunk = batch.first_chunk + (batch.count - 1) // MAX_KEYS_PER_CALL
    for outcome in result.outcomes:
        check_number(outcome.index, minimum=batch.first_chunk, maximum=last_chunk)
        check_number(outcome.first_line, minimum=batch.first_line, maximum=outcome.last_line)
        check_number(outcome.last_line, maximum=batch.last_line)
    check_number(sum(outcome.count for outcome in result.outcomes), maximum=batch.count)


def _with_repeats(outcomes: Iterable[ChunkOutcome]) -> Iterator[tuple[ChunkOutcome, int]]:
    """Yield the first of each group of consecutive outcomes that differ only in their place, and the group's size."""
    first, repeats = None, 0
    for outcome in outcomes:
        if first is not None and _moved_by(first, repeats) == outcome:
            repeats += 1
            continue
        if first is not None:
            yield first, repeats
        first, repeats = outcome, 1
    if first is not None:
        yield first, repeats


def merge_runs(runs: Sequence[BatchResult]) -> dict[int, list[ChunkOutcome]]:
    """
    Merge the results of a batch's runs, in their order. Return the outcomes by chunk number.

    An outcome of a later run replaces the earlier ones that share lines with it.
    """
    merged: dict[int, list[ChunkOutcome]] = {}
    for result in runs:
        by_chunk: dict[int, list[ChunkOutcome]] = {}
        for outcome in result.outcomes:
            by_chunk.setdefault(outcome.index, []).append(outcome)
        for index, outcomes in by_chunk.items():
            still_valid = [old for old in merged.get(index, ()) if not any(_overlap(old, new) for new in outcomes)]
            merged[index] = sorted(still_valid + outcomes, key=lambda outcome: outcome.first_line)
    return merged


def is_settled(outcome: ChunkOutcome) -> bool:
    """Whether another call would change nothing: the card keys are stored, or refused for a reason of their own."""
    if outcome.fate is not Fate.REFUSED:
        return outcome.fate is Fate.STORED
    # "Storage failed" may mean that GatePay's database is down. For a single card key, retries have ruled that out.
    return not isinstance(outcome.error, REFUSALS_OF_EVERY_CHUNK) and (
        outcome.count == 1 or not isinstance(outcome.error, StorageFailedError)
    )


def unsettled_chunks(chunks: Sequence[Chunk], runs: Sequence[BatchResult]) -> list[Chunk]:
    """Return the parts of *chunks* not settled after *runs*. Parts with unknown outcome are marked ``in_doubt``."""
    merged = merge_runs(runs)
    sent_outcomes = [outcome for result in runs for outcome in result.outcomes if outcome.attempts]
    return [part for chunk in chunks for part in _unsettled_parts(chunk, merged.get(chunk.index), sent_outcomes)]


def _unsettled_parts(
    chunk: Chunk, outcomes: list[ChunkOutcome] | None, sent_outcomes: list[ChunkOutcome]
) -> Iterator[Chunk]:
    """
    Yield the parts of *chunk* that are not settled.

    Args:
        chunk: The chunk.
        outcomes: The outcomes of its parts; None: no run has an outcome for it.
        sent_outcomes: The outcomes, in all runs, of parts of the batch that were sent at least once.
    """
    if outcomes is None:
        yield chunk
        return
    for outcome in outcomes:
        if not is_settled(outcome):
            pairs = [
                (line, key)
                for line, key in zip(chunk.lines, chunk.keys, strict=True)
                if outcome.first_line <= line <= outcome.last_line
            ]
            calls_so_far = sum(_same_lines(earlier, outcome) for earlier in sent_outcomes)
            lines, keys = zip(*pairs, strict=True)
            in_doubt = outcome.fate is Fate.UNKNOWN
            doubt = outcome.error if in_doubt else None
            yield Chunk(chunk.index, lines, keys, in_doubt=in_doubt, doubt=doubt, calls=calls_so_far)


def _overlap(one: ChunkOutcome, other: ChunkOutcome) -> bool:
    """Whether the two outcomes share lines."""
    return one.first_line <= other.last_line and other.first_line <= one.last_line


def _same_lines(one: ChunkOutcome, other: ChunkOutcome) -> bool:
    return (one.index, one.first_line, one.last_line) == (other.index, other.first_line, other.last_line)


def all_settled(batch: Batch, runs: Sequence[BatchResult]) -> bool:
    """Whether all card keys of *batch* are settled after *runs*."""
    outcomes = (outcome for of_chunk in merge_runs(runs).values() for outcome in of_chunk)
    return sum(outcome.count for outcome in outcomes if is_settled(outcome)) == batch.count
