"""``SQLiteStore``: what was handled, in a file that several processes share and that survives them."""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Sequence
from enum import Enum
from os import PathLike
from pathlib import Path
from typing import Any

import anyio.to_thread
from attrs import frozen

from gatepay_async.callbacks.boot_clock import since_boot
from gatepay_async.callbacks.sqlite_file import CallbackFile, transaction
from gatepay_async.callbacks.store import Claim, Standing
from gatepay_async.callbacks.together import Job, Together, tell
from gatepay_async.protocol.durations import Seconds, to_seconds_or_none
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

_ROWS_PER_DELETE = 100
_SELECT_CLAIM = "SELECT facts, ends, at, boot, since FROM callback WHERE key = ?"
_INSERT_CLAIM = (
    "INSERT OR REPLACE INTO callback (key, token, facts, ends, at, boot, since) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_UPSERT_HANDLED = """
INSERT INTO callback (key, token, facts, ends, at) VALUES (?, ?, ?, NULL, ?)
ON CONFLICT (key) DO UPDATE SET ends = NULL, at = excluded.at WHERE token = excluded.token"""
_DELETE_CLAIM = "DELETE FROM callback WHERE key = ? AND token = ? AND ends IS NOT NULL"
_DELETE_EXPIRED = "DELETE FROM callback WHERE key IN (SELECT key FROM callback WHERE at < ? LIMIT ?)"


class SQLiteStore:
    """
    Remembers in an SQLite file, for any number of processes on one machine.

    Guarantee: at least once. What was answered with ``success`` is on the disk, also after a power cut, and is not
    handled
    again; a process that dies between the handler's end and the commit leaves a claim that ends by itself, and the
    handler sees that callback again. ``CallbackApp`` says how to make that exactly once.

    The file is opened at the first callback, with mode 0600 when it is made. It must be on a disk of this machine:
    SQLite's write-ahead log can't be shared over a network. Nothing of it runs on the event loop: a thread carries out
    all that waits in one transaction, so that callbacks that come at once wait for the disk together. If the file is
    deleted or replaced while it is open, the store logs a warning and goes on with the file that is there then.

    Args:
        path: Where the file is; it is made if it isn't there, its folder is not.
        keep: How long a handled callback is remembered, in seconds or as a ``timedelta``. ``CallbackApp`` then wants a
            ``max_age`` below it, or what is forgotten could be replayed. None: for ever, some 150 bytes each.
        clock: Epoch seconds; another one for tests.

    Raises:
        InvalidRequestError: *path* names no file, or its folder is not there, or *keep* is no time.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        keep: Seconds | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if str(path) in ("", ":memory:"):
            raise InvalidRequestError(field="path", problem=Problem("not_a_file"))
        self.keep = to_seconds_or_none("keep", keep)
        self._clock = clock
        self._path = Path(path).absolute()
        if not self._path.parent.is_dir():
            raise InvalidRequestError(field="path", problem=Problem("no_folder", folder=str(self._path.parent)))
        # By process: neither a connection nor a thread is there on the other side of a fork.
        self._writers: dict[int, _Writer] = {}
        weakref.finalize(self, _close_file_of_process, self._writers)

    async def claim(self, claim: Claim) -> Standing:
        """As ``Store.claim``."""
        standing: Standing = await self._writer().do(_Act.CLAIM, claim)
        return standing

    async def commit(self, claim: Claim) -> bool:
        """As ``Store.commit``."""
        held: bool = await self._writer().do(_Act.COMMIT, claim)
        return held

    async def release(self, claim: Claim) -> None:
        """As ``Store.release``."""
        await self._writer().do(_Act.RELEASE, claim)

    async def aclose(self) -> None:
        """Close the file; the next callback opens it again."""
        await anyio.to_thread.run_sync(_close_file_of_process, self._writers)

    def _writer(self) -> _Writer:
        process = os.getpid()
        writer = self._writers.get(process)
        if writer is None:
            writer = self._writers.setdefault(process, _Writer(CallbackFile(self._path), self.keep, self._clock))
        return writer


class _Act(Enum):
    CLAIM = "claim"
    COMMIT = "commit"
    RELEASE = "release"


@frozen
class _Request:
    act: _Act
    claim: Claim


class _Writer:
    """Carries out what a store is asked for in this process, all that waits in one transaction."""

    def __init__(self, file: CallbackFile, keep: float | None, clock: Callable[[], float]) -> None:
        self.file = file
        self._keep = keep
        self._clock = clock
        self._together = Together(self.carry_out)

    async def do(self, act: _Act, claim: Claim) -> Any:
        """Have it done, and wait for it. Cancelled, a claim that is not begun is left."""
        return await self._together.do(_Request(act, claim))

    def carry_out(self, jobs: Sequence[Job[_Request]]) -> None:
        """In order, in one transaction; what needs none is told at once."""
        with self.file.open() as database:
            for job in jobs:
                if job.wish.act is _Act.CLAIM:
                    self._do_alone(job, database, self._look)
            # Repetitions, and those who wait for another delivery.
            tell(job for job in jobs if job.error or job.result not in (None, Standing.MINE))
            self._write(database, [job for job in jobs if not job.told])
        committed = [job for job in jobs if job.wish.act is _Act.COMMIT]
        # A file that was deleted meanwhile has taken the rows with it: once more, into the one that is there now.
        if committed and not self.file.is_there():
            with self.file.open() as database:
                self._write(database, committed)
        if any(isinstance(job.error, sqlite3.Error) for job in jobs):
            self.file.close()  # the next one begins anew

    def _do_alone(
        self,
        job: Job[_Request],
        database: sqlite3.Connection,
        work: Callable[[sqlite3.Connection, Job[_Request]], object],
    ) -> None:
        """Do one of several: its error is its own."""
        job.error = None
        try:
            job.result = work(database, job)
        except Exception as error:  # noqa: BLE001 -- it is told to who asked
            job.error = error

    def _look(self, database: sqlite3.Connection, job: Job[_Request]) -> Standing:
        return self._standing(database, job.wish.claim)

    def _write(self, database: sqlite3.Connection, jobs: Sequence[Job[_Request]]) -> None:
        if not jobs:
            return
        committed = sum(job.wish.act is _Act.COMMIT for job in jobs)
        with transaction(database, durable=committed > 0):
            for job in jobs:
                # One statement that writes: if it fails SQLite undoes it alone, unless it has to undo all of them.
                self._do_alone(job, database, self._write_one)
                if job.error is not None and not database.in_transaction:
                    raise job.error
            if committed and self._keep is not None:
                database.execute(_DELETE_EXPIRED, (self._clock() - self._keep, committed * _ROWS_PER_DELETE))

    def _write_one(self, database: sqlite3.Connection, job: Job[_Request]) -> Standing | bool:
        claim = job.wish.claim
        if job.wish.act is _Act.CLAIM:
            standing = self._standing(database, claim)
            if standing is Standing.MINE and not job.given_up:
                now = self._clock()
                times = (now + claim.lease, now, *since_boot())
                database.execute(_INSERT_CLAIM, (claim.key, claim.token, claim.facts, *times))
            return standing
        if job.wish.act is _Act.COMMIT:
            now = self._clock()
            return database.execute(_UPSERT_HANDLED, (claim.key, claim.token, claim.facts, now)).rowcount == 1
        return database.execute(_DELETE_CLAIM, (claim.key, claim.token)).rowcount == 1

    def _standing(self, database: sqlite3.Connection, claim: Claim) -> Standing:
        row: tuple[str, float | None, float, str, float | None] | None = database.execute(
            _SELECT_CLAIM, (claim.key,)
        ).fetchone()
        if row is None:
            return Standing.MINE
        facts, ends, at, boot, since = row
        if ends is not None:
            held = (
                self._is_old_lease_running(claim, ends, at)
                if since is None
                else _is_lease_running(ends - at, boot, since)
            )
            return Standing.TAKEN if held else Standing.MINE
        if self._keep is not None and self._clock() > at + self._keep:
            return Standing.MINE
        return Standing.HANDLED if facts == claim.facts else Standing.CONFLICT

    def _is_old_lease_running(self, claim: Claim, ends: float, at: float) -> bool:
        """Whether a claim that a process of version 0.1 has made still holds."""
        now = self._clock()
        # The second: a clock that was set back must not make a lease of years.
        return now < ends and at <= now + claim.lease


def _is_lease_running(lease: float, boot: str, since: float) -> bool:
    """Whether a claim made *since* that time of that *boot* still holds: its process may still be there."""
    this_boot, now = since_boot()
    return boot == this_boot and since <= now < since + lease


def _close_file_of_process(writers: dict[int, _Writer]) -> None:
    writer = writers.get(os.getpid())
    if writer is not None:
        writer.file.close()
