"""Interrupted uploads: by an unexpected cancellation, by Ctrl-C, or by an exception in the user's own code."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from waiting import PATIENCE

from gatepay_async import GatePayError, UploadReport
from gatepay_async.protocol.calls import KaCreate
from gatepay_async.protocol.models import Stored
from gatepay_async.protocol.retrying import Sent
from gatepay_async.upload import upload

pytestmark = [pytest.mark.fast, pytest.mark.anyio]


class Server:
    """Stores all card keys that it receives, and awaits *interrupt* before call number *before*."""

    def __init__(self, *, before: int = -1, interrupt: Callable[[], Awaitable[None]] | None = None) -> None:
        self.stored: set[str] = set()
        self.calls = 0
        self.before, self.interrupt = before, interrupt

    async def send(self, call: KaCreate) -> Sent[Stored]:
        self.calls += 1
        if self.calls == self.before and self.interrupt is not None:
            await self.interrupt()
        await anyio.lowlevel.checkpoint()
        self.stored.update(call.keys)
        return Sent(Stored(len(call.keys), ""), attempts=1)


async def await_a_cancelled_task() -> None:
    """Await a task that other code has cancelled."""
    task = asyncio.ensure_future(asyncio.sleep(PATIENCE))
    await asyncio.sleep(0)
    task.cancel()
    await task


async def raise_cancelled_error() -> None:
    raise asyncio.CancelledError


async def card_keys(
    count: int, *, before: int = -1, interrupt: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[str]:
    """Yield *count* card keys, and await *interrupt* before number *before*."""
    for number in range(count):
        if number == before and interrupt is not None:
            await interrupt()
        if number % 500 == 0:
            await anyio.lowlevel.checkpoint()
        yield f"KEY-{number:06d}"


def checked_report(report: Any, server: Server) -> UploadReport:
    """Return the report of an interrupted upload, after checking that it adds up and agrees with the server."""
    assert isinstance(report, UploadReport)
    total_of_results = report.stored + report.already_there + report.refused + report.unknown + report.not_sent
    assert report.read == report.blank + report.duplicates + total_of_results
    failed = {key for chunk in report.chunks for key in chunk.keys}
    keys_read = {f"KEY-{number:06d}" for number in range(report.read)}
    assert keys_read - failed <= server.stored
    missing = {key for chunk in report.chunks if chunk.fate in ("not_sent", "refused") for key in chunk.keys}
    assert not missing & server.stored
    return report


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("interrupt", [await_a_cancelled_task, raise_cancelled_error])
@pytest.mark.parametrize("where", ["on_progress", "at the end", "the transport", "keys"])
async def test_an_unexpected_cancellation_raises_an_error_with_the_report(
    interrupt: Callable[[], Awaitable[None]], where: str
) -> None:
    """A CancelledError that isn't meant for the upload raises an error with the report."""
    server = Server(before=3 if where == "the transport" else -1, interrupt=interrupt)
    notifications = 0

    async def on_progress(progress: Any) -> None:
        nonlocal notifications
        notifications += 1
        if (where == "on_progress" and notifications == 2) or (where == "at the end" and not progress.in_flight):
            await interrupt()

    keys = card_keys(5_000, before=2_600 if where == "keys" else -1, interrupt=interrupt)
    with anyio.fail_after(PATIENCE), pytest.raises(GatePayError, match="this call was not cancelled") as caught:
        await upload(server.send, 8, keys, on_progress=on_progress)
    report = checked_report(caught.value.report, server)  # type: ignore[attr-defined]  # the upload adds it
    assert report.read == 5_000 if where == "at the end" else report.read < 5_000
    assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]  # a task is running


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancelled_task_of_an_upload_raises_an_error_with_the_report() -> None:
    """Cancelling a single task of an upload raises an error that says so and has the report."""

    async def cancel_one() -> None:
        asyncio.current_task().cancel()  # type: ignore[union-attr]  # a task is running
        await asyncio.sleep(0)

    for before in (3, 10):  # in the middle of the input, and after all of it has been read
        server = Server(before=before, interrupt=cancel_one)
        with anyio.fail_after(PATIENCE), pytest.raises(GatePayError, match="a task of the upload") as caught:
            await upload(server.send, 8, card_keys(5_000))
        checked_report(caught.value.report, server)  # type: ignore[attr-defined]  # the upload adds it


class Stop(BaseException):
    """An exception class of the user's own code."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, Stop])
@pytest.mark.parametrize("where", ["on_progress", "at the end", "the transport", "keys", "async keys"])
async def test_a_base_exception_is_not_wrapped(kind: type[BaseException], where: str) -> None:
    """KeyboardInterrupt, SystemExit and the user's own BaseException aren't wrapped in a group, and have the report."""

    async def interrupt() -> None:
        raise kind("mine")

    server = Server(before=3 if where == "the transport" else -1, interrupt=interrupt)
    notifications = 0

    def on_progress(progress: Any) -> None:
        nonlocal notifications
        notifications += 1
        if (where == "on_progress" and notifications == 2) or (where == "at the end" and not progress.in_flight):
            raise kind("mine")

    def plain() -> Iterator[str]:
        for number in range(5_000):
            if where == "keys" and number == 2_600:
                raise kind("mine")
            yield f"KEY-{number:06d}"

    keys: Any = card_keys(5_000, before=2_600, interrupt=interrupt) if where == "async keys" else plain()
    with anyio.fail_after(PATIENCE), pytest.raises(kind) as caught:
        await upload(server.send, 8, keys, on_progress=on_progress)
    assert type(caught.value) is kind
    checked_report(caught.value.report, server)  # type: ignore[attr-defined]  # the upload adds it
