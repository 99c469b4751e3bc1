"""``DurableUploads``: the settings of a queue, from which submitters and workers are opened."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import sniffio

from gatepay_async.client import AsyncGatePay
from gatepay_async.durable.errors import DurableError
from gatepay_async.durable.spool.folder import FolderSpool, Spool
from gatepay_async.durable.storage.database import VERSION, QueueDatabase
from gatepay_async.durable.submitter import Submitter
from gatepay_async.durable.work.rate_limiter import Rate
from gatepay_async.durable.worker import Worker
from gatepay_async.protocol import checks
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.observing import Telemetry
from gatepay_async.words.problem import Problem


class DurableUploads:
    """
    Uploads of card keys that survive a crash and that any number of processes can share. On asyncio only.

    ::

        uploads = DurableUploads(connect, database="sqlite:///uploads.sqlite3")
        async with uploads.submitter() as submit:
            job = await submit.file("keys.txt", product_id=8)
            report = await job.wait()

        async with uploads.worker(concurrency=4):  # in this process or in others
            ...

    Args:
        connect: A function that creates a client. Each worker opens and closes its own.
        database: ``sqlite:///a/file`` for one machine; ``postgresql://user:password@host/database`` for several.
        spool: Where card keys wait until they are sent: a folder that all submitters and workers can access, or a
            ``Spool``. By default, with SQLite, a folder next to the database.
        name: The name of the queue. Each shop (appkey) needs its own.
        version: Only if your application runs DBOS itself: the ``application_version`` that you have pinned there. A
            worker in such a process joins that DBOS, which must be launched, listen to the queue *name*, and have its
            own ``executor_id`` in each process. The worker neither creates nor destroys it.

    Raises:
        InvalidRequestError: An argument is invalid.
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
        self._database = QueueDatabase(database)
        self._queue = name
        self._version = version
        self._spool = self._spool_for(spool)
        self._telemetry: Telemetry | None = None

    def _instrument(self, telemetry: Telemetry) -> None:
        """Pass *telemetry* to all submitters and workers that are opened from now on."""
        self._telemetry = telemetry

    def submitter(self) -> Submitter:
        """An asynchronous context manager: submits jobs and finds them again."""
        _check_loop()
        return Submitter(self._database, self._queue, self._spool, self._version, telemetry=self._telemetry)

    def worker(
        self,
        *,
        concurrency: int | Literal["auto"] = 4,
        global_concurrency: int | None = None,
        rate: Rate | None = None,
    ) -> Worker:
        """
        An asynchronous context manager: sends batches as long as it is open.

        Give all workers of a queue the same limits. If they differ, those of the worker that opened last apply to all.

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
        checks.check_instance("rate", rate, Rate)
        return Worker(
            self._database,
            self._queue,
            self._spool,
            self._connect,
            version=self._version,
            concurrency=concurrency,
            global_concurrency=global_concurrency,
            rate=rate,
            telemetry=self._telemetry,
        )

    def _spool_for(self, spool: Spool | str | None) -> Spool:
        """Convert the argument *spool*. None: use a folder next to the SQLite file."""
        if isinstance(spool, str):
            return FolderSpool(spool)
        if spool is not None:
            checks.check_members("spool", spool, "Spool", ("secret", "put", "read", "delete"))
            return spool
        file = self._database.file
        if file is None:
            problem = Problem("spool_missing")
            raise InvalidRequestError(field="spool", problem=problem)
        return FolderSpool(file.with_name(f"{file.name}-spool"))


def _check_loop() -> None:
    if sniffio.current_async_library() != "asyncio":
        raise DurableError(problem=Problem("durable_needs_asyncio"))
