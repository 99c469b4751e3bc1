"""
Batches: which bytes of the spool each one is, and what those bytes say. Pure.

A spool file is one line for each card key, ``<lines since the key before> <key>``, batch after batch; after the last
one, in the same form, the lines that can't be card keys, and what is wrong with them. The database says which bytes
are whose, and holds no key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from attrs import frozen

from gatepay_async.durable.errors import SourceChangedError
from gatepay_async.durable.records.bounds import text_field, whole_field
from gatepay_async.protocol.bulk import Chunk
from gatepay_async.protocol.checks import MAX_KEYS_PER_CALL
from gatepay_async.words.problem import Problem

CHUNKS_PER_BATCH = 20  # in a batch: what a killed worker may have sent in vain
MAX_BATCHES = 100_000  # in a job: a thousand million card keys
MAX_NAME_CHARS = 4096  # characters, as of a file's
DIGEST_BYTES = 12  # bytes: nobody makes another text with the same one, not having the key


class Digest:
    """24 hex digits for any bytes; keyed, so that whoever reads the database can't try card keys on it."""

    def __init__(self, secret: bytes) -> None:
        self._keyed = blake2b(key=secret, digest_size=DIGEST_BYTES)

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
    return name.encode("utf-8", "replace").decode()[:MAX_NAME_CHARS]


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

    number: int = whole_field(least=-1, most=MAX_BATCHES)
    offset: int = whole_field()
    length: int = whole_field()
    digest: str = text_field(2 * DIGEST_BYTES)
    count: int = whole_field()
    first_line: int = whole_field()
    last_line: int = whole_field()

    @property
    def first_chunk(self) -> int:
        """Its first chunk's number in the job."""
        return self.number * CHUNKS_PER_BATCH


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
        raise SourceChangedError(source=source, problem=Problem("source_changed"))
