"""
What stands in the database and in the spool: batches, what became of them, and both as JSON. Pure.

A spool file is one line for each card key, ``<lines since the key before> <key>``, batch after batch; after the last
one, in the same form, the lines that can't be card keys, and what is wrong with them. The database says which bytes
are whose, and holds no key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

from attrs import asdict, define, evolve, field, frozen

from gatepay_async.durable import faults
from gatepay_async.durable.bounds import text_field, whole, whole_field
from gatepay_async.durable.errors import SourceChangedError
from gatepay_async.protocol.bulk import MEETS_EVERY_CHUNK, MOST_INVISIBLE, Chunk, ChunkOutcome, Fate
from gatepay_async.protocol.checks import MAX_KEYS_PER_CALL
from gatepay_async.protocol.errors import GatePayError, StorageFailedError

CHUNKS = 20  # in a batch: what a killed worker may have sent in vain
MOST_BATCHES = 100_000  # in a job: a thousand million card keys
_MOST_PARTS = CHUNKS * MAX_KEYS_PER_CALL  # of a batch: each card key by itself
_LONGEST_NAME = 4096  # characters, as of a file's
_DIGEST = 12  # bytes: nobody makes another text with the same one, not having the key


class Digest:
    """24 hex digits for any bytes; keyed, so that whoever reads the database can't try card keys on it."""

    def __init__(self, secret: bytes) -> None:
        self._keyed = blake2b(key=secret, digest_size=_DIGEST)

    def update(self, data: bytes) -> None:
        """Add *data*."""
        self._keyed.update(data)

    def text(self) -> str:
        """Of all that was added."""
        return self._keyed.hexdigest()


def digest(secret: bytes, data: bytes) -> str:
    """The ``Digest`` of *data*."""
    whole = Digest(secret)
    whole.update(data)
    return whole.text()


def digest_of_batch(secret: bytes, data: bytes, batch: Batch, *, product_id: int) -> str:
    """
    Return the keyed digest of a batch's bytes, their product and their place.

    Someone who can write to the database can therefore neither sell them as another product nor send them twice in the
    place of others.
    """
    bound = (product_id, batch.number, batch.offset, batch.count, batch.first_line, batch.last_line)
    return digest(secret, f"{' '.join(map(str, bound))} ".encode() + data)


def spool_name(job: str) -> str:
    """
    Return the file name of a job's card keys in the spool. Queues may share a spool, so it names the queue, too.

    The separator is in no queue's name, or one queue could name the files of another.
    """
    return f"{job.replace(':', '~')}.keys"


def short_name(name: str) -> str:
    """*name*, which may hold bytes that are no text, as the database holds it."""
    return name.encode("utf-8", "replace").decode()[:_LONGEST_NAME]


@frozen
class Batch:
    """
    The next few chunks of a job: which bytes of the spool they are, and never a key of them.

    Attributes:
        number: From 0, in the order of the input.
        offset: Of its first byte.
        length: Bytes.
        digest: By ``digest_of_batch()``.
        count: Card keys.
        first_line: The line of the input where its first card key stands, from 1.
        last_line: The same of its last one.
    """

    number: int = whole_field(least=-1, most=MOST_BATCHES)
    offset: int = whole_field()
    length: int = whole_field()
    digest: str = text_field(2 * _DIGEST)
    count: int = whole_field()
    first_line: int = whole_field()
    last_line: int = whole_field()

    @property
    def first_chunk(self) -> int:
        """Its first chunk's number in the job."""
        return self.number * CHUNKS


def _few_lines(_: object, __: object, lines: tuple[int, ...]) -> None:
    whole(len(lines), most=MOST_INVISIBLE)
    for line in lines:
        whole(line)


@frozen
class Facts:
    """
    What a submission has found: the part of the ledger that no sending changes.

    Attributes:
        product_id: What the card keys are for.
        name: What the input was called, for people.
        read: Lines of the input.
        blank: Nothing in them but blanks.
        duplicates: The same card key stood further up.
        count: Card keys to send.
        batches: How many.
        size: Bytes in the spool.
        digest: Of all of them, by ``Digest``.
        refused: The batch, as it were, of the lines that can't be card keys; None if there are none.
        problems: Where the spool says what is wrong with them; likewise.
        invisible: Lines whose card key holds an invisible character, as in ``UploadReport``.
    """

    product_id: int = whole_field()
    name: str = text_field(_LONGEST_NAME)
    read: int = whole_field()
    blank: int = whole_field()
    duplicates: int = whole_field()
    count: int = whole_field()
    batches: int = whole_field(most=MOST_BATCHES)
    size: int = whole_field()
    digest: str = text_field(2 * _DIGEST)
    refused: Batch | None = None
    problems: Batch | None = None
    invisible: tuple[int, ...] = field(default=(), converter=tuple[int, ...], validator=_few_lines)

    def __attrs_post_init__(self) -> None:
        """Check that it adds up, or a report would not."""
        refused = 0 if self.refused is None else self.refused.count
        batches = -(-self.count // (CHUNKS * MAX_KEYS_PER_CALL))
        if (self.read, self.batches) != (self.blank + self.duplicates + refused + self.count, batches):
            raise ValueError("does not add up")

    def as_json(self) -> dict[str, Any]:
        """For the database."""
        return {**asdict(self), "invisible": list(self.invisible)}

    @classmethod
    def of_json(cls, stored: dict[str, Any]) -> Facts:
        """From the database."""
        refused, problems = stored["refused"], stored["problems"]
        facts: dict[str, Any] = {**stored, "refused": refused and Batch(**refused)}
        facts["problems"] = problems and Batch(**problems)
        return cls(**facts)


@define
class Run:
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
            if _plain(outcome):
                _enter(done, outcome)
        rest = [
            [o.index, o.first_line, o.last_line, o.count, o.attempts, o.fate.value, o.error and faults.as_json(o.error)]
            for o in self.outcomes
            if not _plain(o)
        ]
        stopped = self.stopped and faults.as_json(self.stopped)
        whole = {"done": done, "rest": rest, "stopped": stopped, "follows": self.follows}
        return {name: value for name, value in whole.items() if value}

    @classmethod
    def of_json(cls, stored: dict[str, Any]) -> Run:
        """From the database."""
        outcomes: list[ChunkOutcome] = []
        for index, first, last, count, new, tries, alike in stored.get("done", ()):
            one = _outcome(index, first, last, count, tries)
            one = evolve(one, stored=None if new is None else whole(new))
            for turn in range(whole(alike, most=_MOST_PARTS - len(outcomes))):
                ahead = turn * count
                outcomes.append(evolve(one, index=index + turn, first_line=first + ahead, last_line=last + ahead))
        for index, first, last, count, tries, fate, error in stored.get("rest", ()):
            one = _outcome(index, first, last, count, tries)
            outcomes.append(evolve(one, fate=Fate(fate), error=error and faults.of_json(error)))
        whole(len(outcomes), most=_MOST_PARTS)
        stopped = stored.get("stopped")
        return cls(outcomes, stopped and faults.of_json(stopped), bool(stored.get("follows")))


def _outcome(index: object, first: object, last: object, count: object, tries: object) -> ChunkOutcome:
    return ChunkOutcome(
        index=whole(index),
        first_line=whole(first),
        last_line=whole(last),
        count=whole(count),
        fate=Fate.STORED,
        attempts=whole(tries),
    )


def check_run(run: Run, batch: Batch) -> None:
    """
    Hold *run* to tell of *batch*, and of no other.

    Raises:
        ValueError: It tells of chunks or lines that *batch* doesn't have.
    """
    last_chunk = batch.first_chunk + (batch.count - 1) // MAX_KEYS_PER_CALL
    for outcome in run.outcomes:
        whole(outcome.index, least=batch.first_chunk, most=last_chunk)
        whole(outcome.first_line, least=batch.first_line, most=outcome.last_line)
        whole(outcome.last_line, most=batch.last_line)
    whole(sum(outcome.count for outcome in run.outcomes), most=batch.count)


def _plain(outcome: ChunkOutcome) -> bool:
    return outcome.fate is Fate.STORED


def _enter(done: list[list[Any]], outcome: ChunkOutcome) -> None:
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


def lines_of(keys: Iterable[tuple[int, str]], before: int) -> Iterator[bytes]:
    """*keys*, with the lines of the input that they stand in, as the spool holds them; *before*: the line before."""
    for line, key in keys:
        yield f"{line - before} {key}\n".encode("utf-8", "surrogatepass")
        before = line


def chunks_of(data: bytes, batch: Batch) -> list[Chunk]:
    """The chunks that *data*, the bytes of *batch*, holds."""
    lines: list[int] = []
    keys: list[str] = []
    line: int | None = None
    for each in data.decode("utf-8", "surrogatepass").split("\n")[:-1]:
        delta, _, key = each.partition(" ")
        line = batch.first_line if line is None else line + int(delta)
        lines.append(line)
        keys.append(key)
    return [
        Chunk(
            batch.first_chunk + number,
            tuple(lines[start : start + MAX_KEYS_PER_CALL]),
            tuple(keys[start : start + MAX_KEYS_PER_CALL]),
        )
        for number, start in enumerate(range(0, len(keys), MAX_KEYS_PER_CALL))
    ]


def check(data: bytes, batch: Batch, *, product_id: int, secret: bytes, source: str) -> None:
    """
    Hold *data* to be the bytes of *batch*, put aside for *product_id*.

    Raises:
        SourceChangedError: They are not those that were put aside.
    """
    if len(data) != batch.length or digest_of_batch(secret, data, batch, product_id=product_id) != batch.digest:
        raise SourceChangedError(source=source, problem="has changed since it was submitted")


def merged(runs: Sequence[Run]) -> dict[int, list[ChunkOutcome]]:
    """
    What is known of each chunk, by its number, after *runs* of a batch, the first one first.

    A run takes up what the runs before it have left: its outcomes replace those whose lines they cover, and no others.
    """
    known: dict[int, list[ChunkOutcome]] = {}
    for run in runs:
        fresh: dict[int, list[ChunkOutcome]] = {}
        for outcome in run.outcomes:
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


def to_do(chunks: Sequence[Chunk], runs: Sequence[Run]) -> list[Chunk]:
    """The parts of *chunks* that are not settled after *runs*, with the doubt that these have left."""
    known = merged(runs)
    tried = [outcome for run in runs for outcome in run.outcomes if outcome.attempts]
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


def all_settled(batch: Batch, runs: Sequence[Run]) -> bool:
    """Whether nothing of *batch* is to be done after *runs*."""
    outcomes = (outcome for known in merged(runs).values() for outcome in known)
    return sum(outcome.count for outcome in outcomes if settled(outcome)) == batch.count
