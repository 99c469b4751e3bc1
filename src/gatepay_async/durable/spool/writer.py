"""Converts an input to a spool file and a manifest for the database. Blocking: call it in threads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import BinaryIO

from attrs import evolve, frozen

from gatepay_async.dedup import SpillingDeduplicator
from gatepay_async.durable.errors import SourceChangedError
from gatepay_async.durable.records import batches
from gatepay_async.durable.records.batches import Batch, keyed_digest
from gatepay_async.durable.records.rows import JobManifest
from gatepay_async.protocol.bulk import Chunk, Ledger
from gatepay_async.protocol.checks import MAX_KEYS_PER_CALL
from gatepay_async.protocol.chunking import Chunker
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

LINES_PER_READ = 2000


@frozen
class Spooled:
    """
    The result of spooling an input.

    Attributes:
        digest: The digest of product and input. It identifies the job.
        manifest: The part of the report that is known before anything is sent.
        batches: The batches, in the order of the input.
    """

    digest: str
    manifest: JobManifest
    batches: list[Batch]


def spool_file(source: BinaryIO, target: BinaryIO, *, name: str, product_id: int, secret: bytes) -> Spooled:
    """
    Read the file *source*, clean and deduplicate its card keys, and write them to *target* in batches.

    Raises:
        OSError: *source* can't be read, or *target* can't be written.
        SourceChangedError: *source* changed while it was read.
        sqlite3.Error: The temporary file of the deduplication can't be written.
    """
    source.seek(0)
    state_before = _file_state(source)
    spooled = spool(source, target, name=name, product_id=product_id, secret=secret)
    if _file_state(source) != state_before:
        raise SourceChangedError(source=name, problem=Problem("changed_while_read"))
    return spooled


def spool(lines: Iterable[bytes], target: BinaryIO, *, name: str, product_id: int, secret: bytes) -> Spooled:
    """Spool *lines*, which include their line ends, like the lines of a binary file. See ``spool_file``."""
    writer = _SpoolWriter(target, secret, product_id)
    writer.read(lines)
    return Spooled(writer.digest(), writer.manifest(name), writer.batches)


class _SpoolWriter:
    """Writes the batches of one input to *target*, the spool file."""

    def __init__(self, target: BinaryIO, secret: bytes, product_id: int) -> None:
        self.batches: list[Batch] = []
        self._target = target
        self._secret = secret
        self._product_id = product_id
        self._input_digest = keyed_digest(secret)
        self._spool_digest = keyed_digest(secret)
        self._ledger = Ledger()
        self._deduplicator = SpillingDeduplicator()
        self._chunker = Chunker(self._ledger, self._deduplicator)
        self._waiting: list[Chunk] = []  # the chunks of the next batch
        self._offset = 0

    def read(self, lines: Iterable[bytes]) -> None:
        """Clean and deduplicate the card keys in *lines*, and write all batches."""
        source = iter(lines)
        try:
            while lines_read := list(islice(source, LINES_PER_READ)):
                for line in lines_read:
                    self._input_digest.update(line)
                self._collect(self._chunker.chunks(lines_read))
        finally:
            self._deduplicator.close()
        last = self._chunker.last_chunk()
        if last is not None:
            self._waiting.append(last)
        if self._waiting:
            self._write_batch()

    def digest(self) -> str:
        """Return the digest of product and input."""
        return keyed_digest(self._secret, f"{self._product_id} {self._input_digest.hexdigest()}".encode()).hexdigest()

    def manifest(self, name: str) -> JobManifest:
        """Write the lines that can't be card keys, and return the manifest. Call this last."""
        refused = self._ledger.report(stopped=None).chunks
        pairs = [pair for outcome in refused for pair in _pairs(outcome.first_line, outcome.keys)]
        counted_problems = [
            (outcome.count, Problem.of(getattr(outcome.error, "problem", "")).as_json()) for outcome in refused
        ]
        refused_keys = self._write_keys(pairs, number=-1) if pairs else None
        problems = (
            self._write_data(
                json.dumps(counted_problems).encode(),
                Batch(number=-1, offset=0, length=0, digest="", count=0, first_line=0, last_line=0),
            )
            if counted_problems
            else None
        )
        return JobManifest(
            product_id=self._product_id,
            name=name,
            read=self._ledger.read,
            blank=self._ledger.blank,
            duplicates=self._ledger.duplicates,
            count=sum(batch.count for batch in self.batches),
            batches=len(self.batches),
            size=self._offset,
            digest=self._spool_digest.hexdigest(),
            refused=refused_keys,
            problems=problems,
            invisible=self._ledger.invisible,
        )

    def _collect(self, chunks: Iterator[Chunk]) -> None:
        """Collect *chunks* for the next batch, and write each batch that is full."""
        for chunk in chunks:
            self._waiting.append(chunk)
            if len(self._waiting) == batches.CHUNKS_PER_BATCH:
                self._write_batch()

    def _write_batch(self) -> None:
        """Write the waiting chunks as a batch."""
        if len(self.batches) == batches.MAX_BATCHES:
            maximum = batches.MAX_BATCHES * batches.CHUNKS_PER_BATCH * MAX_KEYS_PER_CALL
            raise InvalidRequestError(field="path", problem=Problem("too_many_keys_in_input", most=maximum))
        pairs = [pair for chunk in self._waiting for pair in zip(chunk.lines, chunk.keys, strict=True)]
        self.batches.append(self._write_keys(pairs, number=len(self.batches)))
        self._waiting = []

    def _write_keys(self, pairs: list[tuple[int, str]], *, number: int) -> Batch:
        """Append pairs of input line and card key, and return their batch."""
        first_line, last_line = pairs[0][0], pairs[-1][0]
        data = b"".join(batches.lines_of(pairs, first_line))
        return self._write_data(
            data,
            Batch(
                number=number,
                offset=0,
                length=0,
                digest="",
                count=len(pairs),
                first_line=first_line,
                last_line=last_line,
            ),
        )

    def _write_data(self, data: bytes, batch: Batch) -> Batch:
        """Append *data*, and return *batch* with its offset, length and digest, for which it has placeholders."""
        self._target.write(data)
        self._spool_digest.update(data)
        offset, self._offset = self._offset, self._offset + len(data)
        placed = evolve(batch, offset=offset, length=len(data))
        return evolve(placed, digest=batches.digest_of_batch(self._secret, data, placed, product_id=self._product_id))


def _pairs(first_line: int, keys: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Pair the refused keys of one outcome with their lines, which are consecutive."""
    return zip(range(first_line, first_line + len(keys)), keys, strict=True)


def _file_state(file: BinaryIO) -> tuple[int, int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ino
