"""``SQLiteStore``: records handled callbacks in a file that several processes share."""

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

from gatepay_async.callbacks.batch_worker import BatchWorker, Pending, wake_callers
from gatepay_async.callbacks.boot_clock import boot_id_and_seconds
from gatepay_async.callbacks.sqlite_file import CallbackFile, transaction
from gatepay_async.callbacks.store import Claim, Standing
from gatepay_async.protocol.durations import Seconds, to_seconds_or_none
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.arguments import check_callable, check_instance
from gatepay_async.words.problem import Problem

# Each commit deletes at most so many expired rows, so that a large number of them doesn't delay a delivery.
_ROWS_PER_DELETE = 100

# The columns are explained in sqlite_file.py.
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
    Records handled callbacks in an SQLite file, for any number of processes on one machine.

    Guarantee: at least once. A callback that was answered with ``success`` is not handled again, even after a power
    cut. If a process dies after the handler has returned and before the commit, its claim expires, and the handler runs
    again for that callback. ``CallbackApp`` says how to deliver exactly once.

    The file is opened at the first callback. A new file gets the mode 0600. It must be on a local disk, because
    SQLite's write-ahead log doesn't work on network file systems. All work is done in a thread, which puts all waiting
    operations into one transaction, so that concurrent callbacks wait for the disk only once. If the file is deleted or
    replaced while it is open, the store logs a warning, and continues with the new file.

    Args:
        path: The file. If it doesn't exist, it is created; its folder must exist.
        keep: How long a handled callback is remembered, in seconds or as a ``timedelta``. ``CallbackApp`` then requires
            a ``max_age`` that is at least 300 seconds smaller, so that older callbacks can't be replayed. None: for
            ever (some 150 bytes each).
        clock: Returns the time in epoch seconds; replace it in tests.

    Raises:
        InvalidRequestError: *path* is not a path of a file, its folder doesn't exist, *keep* is not a valid duration,
            or *clock* can't be called.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        keep: Seconds | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_instance("path", path, str, PathLike, error=InvalidRequestError)
        if os.fspath(path) in ("", ":memory:") or "\0" in str(path) or Path(path).is_dir():
            raise InvalidRequestError(field="path", problem=Problem("not_a_file"))
        self.keep = to_seconds_or_none("keep", keep)
        check_callable("clock", clock, error=InvalidRequestError)
        self._clock = clock
        self._path = Path(path).absolute()
        if not self._path.parent.is_dir():
            raise InvalidRequestError(field="path", problem=Problem("no_folder", folder=str(self._path.parent)))
        # By process ID, because a child process can't use the connection and the thread of its parent.
        self._writers: dict[int, _Writer] = {}
        weakref.finalize(self, _close_file_of_process, self._writers)

    async def claim(self, claim: Claim) -> Standing:
        """Implement ``Store.claim``."""
        standing: Standing = await self._writer().do(_Operation.CLAIM, claim)
        return standing

    async def commit(self, claim: Claim) -> bool:
        """Implement ``Store.commit``."""
        is_recorded: bool = await self._writer().do(_Operation.COMMIT, claim)
        return is_recorded

    async def release(self, claim: Claim) -> None:
        """Implement ``Store.release``."""
        await self._writer().do(_Operation.RELEASE, claim)

    async def aclose(self) -> None:
        """Close the file. The next callback opens it again."""
        await anyio.to_thread.run_sync(_close_file_of_process, self._writers)

    def _writer(self) -> _Writer:
        process_id = os.getpid()
        writer = self._writers.get(process_id)
        if writer is None:
            writer = self._writers.setdefault(process_id, _Writer(CallbackFile(self._path), self.keep, self._clock))
        return writer


class _Operation(Enum):
    """The methods of ``Store`` that read or change the file."""

    CLAIM = "claim"
    COMMIT = "commit"
    RELEASE = "release"


@frozen
class _StoreRequest:
    operation: _Operation
    claim: Claim


class _Writer:
    """Carries out the operations of a store in this process: all waiting operations in one transaction."""

    def __init__(self, file: CallbackFile, keep: float | None, clock: Callable[[], float]) -> None:
        self.file = file
        self._keep = keep
        self._clock = clock
        self._worker = BatchWorker(self.carry_out)

    async def do(self, operation: _Operation, claim: Claim) -> Any:
        """Carry out an operation, and return its result. A claim that waits when its caller is cancelled isn't made."""
        return await self._worker.do(_StoreRequest(operation, claim))

    def carry_out(self, batch: Sequence[Pending[_StoreRequest]]) -> None:
        """Carry out *batch* in order, in one transaction. Callers whose result needs no writing are woken at once."""
        with self.file.open() as database:
            for pending in batch:
                if pending.request.operation is _Operation.CLAIM:
                    self._run_isolated(pending, database, self._read_pending_claim)
            # Of these claims nothing is written: the callback was handled before or is taken, or reading it failed.
            wake_callers(pending for pending in batch if pending.error or pending.result not in (None, Standing.MINE))
            self._write(database, [pending for pending in batch if not pending.woken])
        commits = [pending for pending in batch if pending.request.operation is _Operation.COMMIT]
        # If the file was deleted meanwhile, the committed rows are lost with it: write them into the new file.
        if commits and not self.file.is_same_file():
            with self.file.open() as database:
                self._write(database, commits)
        if any(isinstance(pending.error, sqlite3.Error) for pending in batch):
            self.file.close()  # the next batch opens a new connection

    def _run_isolated(
        self,
        pending: Pending[_StoreRequest],
        database: sqlite3.Connection,
        function: Callable[[sqlite3.Connection, Pending[_StoreRequest]], object],
    ) -> None:
        """Set the result of one request to that of *function*. Only the caller of this request gets its errors."""
        pending.error = None
        try:
            pending.result = function(database, pending)
        except Exception as error:  # noqa: BLE001 -- the waiting caller raises it
            pending.error = error

    def _read_pending_claim(self, database: sqlite3.Connection, pending: Pending[_StoreRequest]) -> Standing:
        return self._read_standing(database, pending.request.claim)

    def _write(self, database: sqlite3.Connection, batch: Sequence[Pending[_StoreRequest]]) -> None:
        """Carry out *batch* in one transaction."""
        if not batch:
            return
        commits = sum(pending.request.operation is _Operation.COMMIT for pending in batch)
        with transaction(database, durable=commits > 0):
            for pending in batch:
                # Each request is one statement that writes. If it fails, SQLite rolls back only this statement, or,
                # after a severe error, the whole transaction.
                self._run_isolated(pending, database, self._write_one)
                if pending.error is not None and not database.in_transaction:
                    raise pending.error
            if commits and self._keep is not None:
                database.execute(_DELETE_EXPIRED, (self._clock() - self._keep, commits * _ROWS_PER_DELETE))

    def _write_one(self, database: sqlite3.Connection, pending: Pending[_StoreRequest]) -> Standing | bool:
        """Carry out one request, and return the result of its operation."""
        claim = pending.request.claim
        if pending.request.operation is _Operation.CLAIM:
            standing = self._read_standing(database, claim)
            if standing is Standing.MINE and not pending.abandoned:
                now = self._clock()
                ends_at, recorded_at = now + claim.lease, now
                boot_id, claimed_since_boot = boot_id_and_seconds()
                row = (claim.key, claim.token, claim.facts, ends_at, recorded_at, boot_id, claimed_since_boot)
                database.execute(_INSERT_CLAIM, row)
            return standing
        if pending.request.operation is _Operation.COMMIT:
            now = self._clock()
            return database.execute(_UPSERT_HANDLED, (claim.key, claim.token, claim.facts, now)).rowcount == 1
        return database.execute(_DELETE_CLAIM, (claim.key, claim.token)).rowcount == 1

    def _read_standing(self, database: sqlite3.Connection, claim: Claim) -> Standing:
        """Return the answer to *claim*: the state of its callback."""
        row: tuple[str, float | None, float, str, float | None] | None = database.execute(
            _SELECT_CLAIM, (claim.key,)
        ).fetchone()
        if row is None:
            return Standing.MINE
        facts, ends_at, recorded_at, boot_id, claimed_since_boot = row
        if ends_at is not None:
            is_held = (
                self._is_old_lease_running(claim, ends_at, recorded_at)
                if claimed_since_boot is None
                else _is_lease_running(ends_at - recorded_at, boot_id, claimed_since_boot)
            )
            return Standing.TAKEN if is_held else Standing.MINE
        if self._keep is not None and self._clock() > recorded_at + self._keep:
            return Standing.MINE
        # The facts are a digest of the fields that must be the same in every delivery of a payment.
        return Standing.HANDLED if facts == claim.facts else Standing.CONFLICT

    def _is_old_lease_running(self, claim: Claim, ends_at: float, recorded_at: float) -> bool:
        """Whether the lease of a claim from version 0.1, which has no boot time, is still running."""
        now = self._clock()
        # The second condition: a clock that was set back must not prolong a lease by years.
        return now < ends_at and recorded_at <= now + claim.lease


def _is_lease_running(lease: float, boot_id: str, claimed_since_boot: float) -> bool:
    """Whether a lease is still running that began in the boot *boot_id*. Both numbers are in seconds."""
    current_boot_id, now = boot_id_and_seconds()
    return boot_id == current_boot_id and claimed_since_boot <= now < claimed_since_boot + lease


def _close_file_of_process(writers: dict[int, _Writer]) -> None:
    """Close the connection that this process has opened, but not one that its parent has opened."""
    writer = writers.get(os.getpid())
    if writer is not None:
        writer.file.close()
