"""
Batches, and their format in a spool file. No I/O; doesn't read the clock.

A spool file has one line for each card key, ``<input lines since the previous key> <key>``, batch after batch. After
the last batch come the lines that can't be card keys, in the same format, and their problems as JSON. The database
holds the offset and length of each batch, and no card key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from attrs import frozen

from gatepay_async.durable.errors import SourceChangedError
from gatepay_async.durable.records.bounds import number_field, text_field
from gatepay_async.protocol.bulk import Chunk
from gatepay_async.protocol.checks import MAX_KEYS_PER_CALL
from gatepay_async.words.problem import Problem

CHUNKS_PER_BATCH = 20  # after a crash, at most so many chunks of each running batch are sent again
MAX_BATCHES = 100_000  # per job: a thousand million card keys
MAX_NAME_CHARS = 4096  # the longest path of most systems
DIGEST_BYTES = 12  # enough against forgery, because the digest is keyed


def keyed_digest(secret: bytes, data: bytes = b"") -> blake2b:
    """Return the hash of *data*. Its key, *secret*, prevents readers of the database from guessing card keys."""
    return blake2b(data, key=secret, digest_size=DIGEST_BYTES)


def digest_of_batch(secret: bytes, data: bytes, batch: Batch, *, product_id: int) -> str:
    """
    Return the keyed digest of a batch's bytes, their product and their place.

    It prevents anyone who can write to the database from sending card keys for another product, or in place of
    other card keys.
    """
    place = (product_id, batch.number, batch.offset, batch.count, batch.first_line, batch.last_line)
    return keyed_digest(secret, f"{' '.join(map(str, place))} ".encode() + data).hexdigest()


def spool_name(job: str) -> str:
    """
    Return the file name of a job's card keys in the spool. It contains the queue's name: queues may share a spool.

    The separator can't be part of a queue's name. Otherwise, one queue could name the files of another.
    """
    return f"{job.replace(':', '~')}.keys"


def short_name(name: str) -> str:
    """Return *name* as the database stores it: shortened, and with undecodable bytes replaced."""
    return name.encode("utf-8", "replace").decode()[:MAX_NAME_CHARS]


@frozen
class Batch:
    """
    A part of a job's spool file, as the database describes it, without card keys.

    Attributes:
        number: From 0, in the order of the input; -1: not card keys to send, but refused lines or their problems.
        offset: The position of its first byte in the spool file.
        length: Its length in bytes.
        digest: Made by ``digest_of_batch()``.
        count: The number of card keys.
        first_line: The line of its first card key in the input, from 1.
        last_line: The line of its last card key.
    """

    number: int = number_field(minimum=-1, maximum=MAX_BATCHES)
    offset: int = number_field()
    length: int = number_field()
    digest: str = text_field(2 * DIGEST_BYTES)
    count: int = number_field()
    first_line: int = number_field()
    last_line: int = number_field()

    @property
    def first_chunk(self) -> int:
        """The number of the batch's first chunk in the job, from 0."""
        return self.number * CHUNKS_PER_BATCH


def lines_of(keys: Iterable[tuple[int, str]], previous_line: int) -> Iterator[bytes]:
    """
    Encode card keys for the spool.

    Args:
        keys: Pairs of input line and card key.
        previous_line: The input line to count from for the first card key.
    """
    for line, key in keys:
        yield f"{line - previous_line} {key}\n".encode("utf-8", "surrogatepass")
        previous_line = line


def chunks_of(data: bytes, batch: Batch) -> list[Chunk]:
    """Decode *data*, the bytes of *batch*, to chunks."""
    lines: list[int] = []
    keys: list[str] = []
    line: int | None = None
    for entry in data.decode("utf-8", "surrogatepass").split("\n")[:-1]:
        delta, _, key = entry.partition(" ")
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


def check_unchanged(data: bytes, batch: Batch, *, product_id: int, secret: bytes, source: str) -> None:
    """
    Check that *data* is the data that was stored as *batch* for *product_id*.

    Raises:
        SourceChangedError: *data* differs.
    """
    if len(data) != batch.length or digest_of_batch(secret, data, batch, product_id=product_id) != batch.digest:
        raise SourceChangedError(source=source, problem=Problem("source_changed"))
