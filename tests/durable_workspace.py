"""Helpers for the tests of durable uploads."""

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import dbos._dbos
import dbos._workflow_commands
import pytest
from anyio.abc import Process
from attrs import define
from durable_shop import Shop
from durable_worker import APPKEY, APPSECRET, StampedGatePay

from gatepay_async import AsyncGatePay, RetryPolicy, UploadReport
from gatepay_async.durable import DurableUploads, worker
from gatepay_async.durable.work import runner

POLL_S = 0.04  # the time between two polls
PRODUCT = 8


@define
class Workspace:
    """
    The database, the spool and the folder of one test.

    Attributes:
        folder: The folder for the test's files.
        database: The URL of the database.
        files: The folder of the database's files, for ``database_contents``.
        stamped: Whether each call has a header with the time at which it was sent.
        timeout: The seconds that one attempt of a worker's call may take. The whole call may take twice as long.
    """

    folder: Path
    database: str
    files: Path = Path()
    stamped: bool = False
    timeout: float = 5

    def database_contents(self) -> Iterator[bytes]:
        """Yield the contents of the database's files. The running database may delete files meanwhile."""
        for folder, _, names in os.walk(self.files):
            for path in (Path(folder, name) for name in names if name != "keys.txt"):  # without the test's input
                if not path.is_relative_to(self.spool):
                    with suppress(FileNotFoundError):
                        yield path.read_bytes()

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    def uploads(self, shop: Shop, **options: Any) -> DurableUploads:
        """Return a ``DurableUploads`` as an application would make it."""
        policy = RetryPolicy(first_wait=0, longest_wait=0)

        def connect() -> AsyncGatePay:
            client_class = StampedGatePay if self.stamped else AsyncGatePay
            return client_class(
                APPKEY,
                APPSECRET,
                base_url=shop.base_url,
                retry=policy,
                timeout=self.timeout,
                deadline=2 * self.timeout,
            )

        return DurableUploads(connect, database=self.database, **{"spool": str(self.spool), **options})

    def file(self, keys: Iterable[str], name: str = "keys.txt") -> Path:
        """Write *keys* to a file, one a line. Return its path."""
        path = self.folder / name
        path.write_text("".join(f"{key}\n" for key in keys), "utf-8")
        return path

    @asynccontextmanager
    async def process(self, shop: Shop, **options: Any) -> AsyncGenerator[Process]:
        """Run an open worker in its own process. At the end, stop it and wait for it, if it was not killed."""
        settings = {
            "database": self.database,
            "spool": str(self.spool),
            "base_url": shop.base_url,
            "stamped": self.stamped,
            "timeout": self.timeout,
            "worker": options,
        }
        command = [sys.executable, str(Path(__file__).with_name("durable_worker.py")), json.dumps(settings)]
        async with await anyio.open_process(command, stdin=subprocess.PIPE, stderr=sys.stderr) as process:
            try:
                assert process.stdout is not None
                # Without a limit: the imports alone take two seconds, and on a busy machine many times as long. The
                # output ends if the worker fails to open, and hanging.py ends a test that hangs.
                await process.stdout.receive()
                yield process
            finally:
                with anyio.CancelScope(shield=True):
                    assert process.stdin is not None
                    await process.stdin.aclose()


def poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let DBOS and our worker poll more often than once a second, so that tests don't wait for it."""
    sleep = time.sleep
    monkeypatch.setattr(dbos._dbos, "time", SimpleNamespace(time=time.time, sleep=lambda _: sleep(POLL_S)))
    monkeypatch.setattr(dbos._workflow_commands, "_BACKGROUND_JOBS_INTERVAL_SEC", 5 * POLL_S)
    monkeypatch.setattr(worker, "HOUSEKEEPING_INTERVAL_S", 5 * POLL_S)
    monkeypatch.setattr(runner, "RETRY_INTERVAL_S", POLL_S)


def keys_of(count: int, mark: str = "KEY") -> list[str]:
    """Return *count* different card keys that begin with *mark*."""
    return [f"{mark}-{number:09d}" for number in range(count)]


def adds_up(report: UploadReport) -> bool:
    """Whether the columns add up to the lines read, and the chunks to the lines that aren't blank or duplicates."""
    columns = ("blank", "duplicates", "stored", "already_there", "refused", "unknown", "not_sent")
    in_chunks = sum(outcome.count for outcome in report.chunks)
    in_columns: int = sum(getattr(report, name) for name in columns)
    return (report.read, in_chunks) == (in_columns, report.read - report.blank - report.duplicates)
