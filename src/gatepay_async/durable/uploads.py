"""``DurableUploads``: where the queue is, and who submits to it and works at it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import sniffio

from gatepay_async.client import AsyncGatePay
from gatepay_async.durable.errors import DurableError
from gatepay_async.durable.spool.folder import FolderSpool, Spool
from gatepay_async.durable.storage.database import VERSION, Database
from gatepay_async.durable.submitter import Submitter
from gatepay_async.durable.work.rate_limiter import Rate
from gatepay_async.durable.worker import Worker
from gatepay_async.protocol import checks
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem


class DurableUploads:
    """
    Uploads of card keys that survive a crash, and that any number of processes share. On asyncio.

    ::

        uploads = DurableUploads(connect, database="sqlite:///uploads.sqlite3")
        async with uploads.submitter() as submit:
            job = await submit.file("keys.txt", product_id=8)
            report = await job.wait()

        async with uploads.worker(concurrency=4):  # in this process, or another, or many
            ...

    Args:
        connect: Makes a client; each worker opens one, and closes it.
        database: ``sqlite:///a/file`` for one machine; ``postgresql://user:password@host/database`` for several.
        spool: Where card keys lie until they are sent: a folder that submitters and workers all reach, or a ``Spool``.
            By default, with SQLite: a folder beside the database.
        name: Of the queue. Each shop (appkey) needs its own.
        version: If your application runs DBOS itself: the ``application_version`` that you have pinned there. A worker
            opened in such a process works in that DBOS, which must be launched, listen to the queue *name*, and have an
            ``executor_id`` of its own in each process; it is neither made nor destroyed here.

    Raises:
        InvalidRequestError: An argument can't be right.
    """

    def __init__(
        self,
        connect: Callable[[], AsyncGatePay],
        *,
        database: str,
        spool: Spool | str | None = None,
        name: str = "gatepay",
        version: str = VERSION,
    ) -> None:
        if not callable(connect):
            raise InvalidRequestError(field="connect", problem=Problem("connect_not_callable"))
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name):
            raise InvalidRequestError(field="name", problem=Problem("queue_name"))
        self._connect = connect
        self._database = Database(database)
        self._queue = name
        self._version = version
        self._spool = self._spool_for(spool)

    def submitter(self) -> Submitter:
        """An asynchronous context manager: submits jobs and finds them again."""
        _check_loop()
        return Submitter(self._database, self._queue, self._spool, self._version)

    def worker(
        self,
        *,
        concurrency: int | Literal["auto"] = 4,
        global_concurrency: int | None = None,
        rate: Rate | None = None,
    ) -> Worker:
        """
        An asynchronous context manager: works as long as it is open.

        All workers of a queue must be given the same numbers; those of the one that opened last hold.

        Args:
            concurrency: Calls in flight in this worker. ``"auto"``: as for ``upload_card_keys``, up to 32. The worker
                then works at up to 32 batches at once.
            global_concurrency: Calls in flight in all workers together; None: no limit.
            rate: Calls of all workers together; None: no limit.
        """
        _check_loop()
        checks.check("concurrency", concurrency, checks.concurrency)
        if global_concurrency is not None:
            checks.check("global_concurrency", global_concurrency, checks.positive)
        return Worker(
            self._database,
            self._queue,
            self._spool,
            self._connect,
            version=self._version,
            concurrency=concurrency,
            global_concurrency=global_concurrency,
            rate=rate,
        )

    def _spool_for(self, spool: Spool | str | None) -> Spool:
        if isinstance(spool, str):
            return FolderSpool(spool)
        if spool is not None:
            return spool
        file = self._database.file
        if file is None:
            problem = Problem("spool_missing")
            raise InvalidRequestError(field="spool", problem=problem)
        return FolderSpool(file.with_name(f"{file.name}-spool"))


def _check_loop() -> None:
    if sniffio.current_async_library() != "asyncio":
        raise DurableError(problem=Problem("durable_needs_asyncio"))
