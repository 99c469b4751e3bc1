"""
Finds repeated card keys in an upload: with a set in memory, and beyond a threshold with digests in a private file.

A set takes 130 bytes for each card key, and a set of digests hardly less. An SQLite file takes 23 bytes for each card
key, and its page cache limits the memory even for ten million card keys.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from secrets import token_bytes

from gatepay_async.protocol.chunking import MemoryDeduplicator

MAX_KEYS_IN_MEMORY = 1_000_000  # about 130 MB
_CACHE_KIB = 192 * 1024  # the page cache of SQLite; if the data is larger, a look-up may read the file
_SMALL_CACHE_KIB = 64 * 1024  # the page cache for `gatepay keys upload --dry-run`, where a slow look-up delays no call
_ROWS_PER_STATEMENT = 2000  # the most card keys that one statement looks up or inserts
_DIGEST_BYTES = 16  # the probability that two of ten million card keys have the same digest is 1 in 7 * 10**24

# An empty name makes SQLite use a private temporary file. It creates the file when its cache is full, in the folder of
# SQLITE_TMPDIR or TMPDIR or in /var/tmp, and deletes the name at once (on Windows the system deletes the file when the
# process ends).
_PRIVATE_FILE = ""
# The data is needed only while the process runs: no journal, no flushing to disk.
_PRAGMAS = ("journal_mode=off", "synchronous=off", "locking_mode=exclusive", "temp_store=file")
# The definitions of the tables.
_DIGESTS_TABLE = "seen (digest BLOB PRIMARY KEY) WITHOUT ROWID"
_DIGESTS_WITH_LINES_TABLE = "seen (digest BLOB PRIMARY KEY, line INTEGER) WITHOUT ROWID"
_NUMBERS_TABLE = "numbers (n INTEGER PRIMARY KEY)"  # 0, 1, 2 and so on: the positions of digests in a blob
# A statement gets all digests as one blob. _SELECT_PRESENT returns one row: with one row for each digest, Python would
# release and take the GIL for each row, which is slow beside a busy event loop. The digests are sorted, so that
# neighbours are in the same page of the database.
_NTH_DIGEST = f"substr(:digests, {_DIGEST_BYTES} * n + 1, {_DIGEST_BYTES})"
_SELECT_PRESENT = f"SELECT group_concat(n) FROM numbers WHERE n < :count AND {_NTH_DIGEST} IN seen"  # noqa: S608 -- constants
_SELECT_LINES = f"SELECT n, line FROM numbers JOIN seen ON digest = {_NTH_DIGEST} WHERE n < :count"  # noqa: S608 -- constants
_INSERT_DIGESTS = f"INSERT OR IGNORE INTO seen SELECT {_NTH_DIGEST} FROM numbers WHERE n < :count"  # noqa: S608 -- constants


class SpillingDeduplicator:
    """
    Finds repeated card keys: compares them in memory, and beyond a threshold their 128-bit digests in a file.

    Several threads may use it: a lock protects it.

    Args:
        max_keys_in_memory: The most card keys in memory. With one more, all of them move to the file.
    """

    def __init__(self, *, max_keys_in_memory: int | None = None) -> None:
        self._max_in_memory = MAX_KEYS_IN_MEMORY if max_keys_in_memory is None else max_keys_in_memory
        self._in_memory = MemoryDeduplicator()
        self._in_file: _DigestTable | None = None
        self._closed = False
        self._lock = threading.Lock()

    def fits_in_memory(self, count: int) -> bool:
        """Whether *count* more card keys fit in memory. If so, ``find_repeated`` doesn't use the file or block."""
        return self._in_file is None and len(self._in_memory) + count <= self._max_in_memory

    def find_repeated(self, keys: Sequence[str]) -> list[int]:
        """
        Add *keys*.

        Returns:
            The indexes of the keys that were added before, or that come earlier in *keys*.

        Raises:
            sqlite3.Error: The file can't be written (a full disk). Some of *keys* may have been added.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("closed, and what it has seen is gone")
            if self.fits_in_memory(len(keys)):
                return self._in_memory.find_repeated(keys)
            if self._in_file is None:
                self._in_file = _spill(self._in_memory)
                self._in_memory.clear()
            return self._in_file.find_repeated(keys)

    def close(self) -> None:
        """Delete everything, the file included. This waits for a running look-up. Closing twice is harmless."""
        with self._lock:
            self._closed = True
            self._in_memory.clear()
            if self._in_file is not None:
                self._in_file.close()


class _PrivateTable:
    """
    A table of digests in a private database.

    The digests are keyed with a random key. Without it, nobody can test whether a card key is in the table.
    """

    def __init__(self, table: str, *, cache_kib: int) -> None:
        # An empty hash, copied for each card key, because a new blake2b(key=…) takes twice as long.
        self._keyed_hash = blake2b(key=token_bytes(32), digest_size=_DIGEST_BYTES)
        from gatepay_async.sqlite_files import connect  # noqa: PLC0415 -- few uploads need SQLite

        # Several threads use the connection, under the lock of SpillingDeduplicator.
        self._database = connect(_PRIVATE_FILE, timeout=0)
        try:
            for pragma in (*_PRAGMAS, f"cache_size=-{cache_kib}"):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.execute("BEGIN")  # never committed: nobody else uses the database
            for definition in (table, _NUMBERS_TABLE):
                self._database.execute(f"CREATE TABLE {definition}")
            self._database.executemany(
                "INSERT INTO numbers VALUES (?)", ((number,) for number in range(_ROWS_PER_STATEMENT))
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the database, which deletes its file."""
        self._database.close()

    def _digests(self, keys: Sequence[str]) -> Iterator[bytes]:
        for key in keys:
            key_hash = self._keyed_hash.copy()
            key_hash.update(key.encode())
            yield key_hash.digest()


class FirstLines(_PrivateTable):
    """Stores the digest of each card key and the number of its first line. Only one thread may use it."""

    def __init__(self) -> None:
        super().__init__(_DIGESTS_WITH_LINES_TABLE, cache_kib=_SMALL_CACHE_KIB)

    def find_repeated(self, lines: Sequence[int], keys: Sequence[str]) -> dict[int, int]:
        """
        Add *keys*, at most 2,000, whose line numbers are *lines*.

        Returns:
            For each key that was added before, or that comes earlier in *keys*: its index in *keys*, and the number of
            its first line.

        Raises:
            sqlite3.Error: The file can't be written (a full disk).
        """
        all_digests = list(self._digests(keys))
        first_lines: dict[bytes, int] = {}  # by digest
        for digest, line in zip(all_digests, lines, strict=True):
            first_lines.setdefault(digest, line)
        digests = sorted(first_lines)
        parameters = {"digests": b"".join(digests), "count": len(digests)}
        stored_lines: dict[bytes, int] = {
            digests[n]: line for n, line in self._database.execute(_SELECT_LINES, parameters)
        }
        new_rows = ((digest, first_lines[digest]) for digest in digests if digest not in stored_lines)
        self._database.executemany("INSERT INTO seen VALUES (?, ?)", new_rows)
        first_lines |= stored_lines
        return {i: first_lines[digest] for i, digest in enumerate(all_digests) if first_lines[digest] != lines[i]}


class _DigestTable(_PrivateTable):
    """The digests of all card keys of an upload that has more card keys than memory may hold."""

    def __init__(self) -> None:
        super().__init__(_DIGESTS_TABLE, cache_kib=_CACHE_KIB)

    def find_repeated(self, keys: Sequence[str]) -> list[int]:
        """Implement ``SpillingDeduplicator.find_repeated``."""
        indexes: list[int] = []
        for start in range(0, len(keys), _ROWS_PER_STATEMENT):
            indexes += (
                start + index for index in self._find_repeated_in_batch(keys[start : start + _ROWS_PER_STATEMENT])
            )
        return indexes

    def _find_repeated_in_batch(self, keys: Sequence[str]) -> list[int]:
        """Do what ``find_repeated`` does, for at most ``_ROWS_PER_STATEMENT`` keys."""
        indexes: list[int] = []
        first_indexes: dict[bytes, int] = {}  # by digest
        for index, digest in enumerate(self._digests(keys)):
            if first_indexes.setdefault(digest, index) != index:
                indexes.append(index)
        digests = sorted(first_indexes)
        parameters = {"digests": b"".join(digests), "count": len(digests)}
        present: str | None  # the positions of the digests that are in the table, separated by commas
        ((present,),) = self._database.execute(_SELECT_PRESENT, parameters)
        if present is not None:
            indexes += (first_indexes[digests[int(n)]] for n in present.split(","))
            indexes.sort()
        self._database.execute(_INSERT_DIGESTS, parameters)
        return indexes


def _spill(remembered: MemoryDeduplicator) -> _DigestTable:
    """Return a table with the digests of all card keys in *remembered*, which is not changed."""
    digests = _DigestTable()
    try:
        keys = iter(remembered)
        while batch := list(islice(keys, _ROWS_PER_STATEMENT)):
            digests.find_repeated(batch)
    except BaseException:
        digests.close()
        raise
    return digests
