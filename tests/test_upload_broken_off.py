"""An upload that something breaks off: a cancellation that nobody asked for, a Ctrl-C, an exception of the user's."""

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
    """Stores all it is sent, and can be told what to do before the call of that number."""

    def __init__(self, *, before: int = -1, do: Callable[[], Awaitable[None]] | None = None) -> None:
        self.stored: set[str] = set()
        self.calls = 0
        self.before, self.do = before, do

    async def send(self, call: KaCreate) -> Sent[Stored]:
        self.calls += 1
        if self.calls == self.before and self.do is not None:
            await self.do()
        await anyio.lowlevel.checkpoint()
        self.stored.update(call.keys)
        return Sent(Stored(len(call.keys), ""), 1)


async def await_a_cancelled_task() -> None:
    """What a program meets that awaits a task which somebody else has cancelled."""
    task = asyncio.ensure_future(asyncio.sleep(PATIENCE))
    await asyncio.sleep(0)
    task.cancel()
    await task


async def cancelled_itself() -> None:
    raise asyncio.CancelledError


async def slowly(
    count: int, *, before: int = -1, do: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[str]:
    for number in range(count):
        if number == before and do is not None:
            await do()
        if number % 500 == 0:
            await anyio.lowlevel.checkpoint()
        yield f"KEY-{number:06d}"


def told(report: Any, server: Server, read: list[str] | None = None) -> UploadReport:
    """The report of an upload that was broken off: it adds up, and says nothing that isn't so."""
    assert isinstance(report, UploadReport)
    settled = report.stored + report.already_there + report.refused + report.unknown + report.not_sent
    assert report.read == report.blank + report.duplicates + settled
    failed = {key for chunk in report.chunks for key in chunk.keys}
    everything = {f"KEY-{number:06d}" for number in range(report.read)}
    assert everything - failed <= server.stored
    not_there = {key for chunk in report.chunks if chunk.fate in ("not_sent", "refused") for key in chunk.keys}
    assert not not_there & server.stored
    return report


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("do", [await_a_cancelled_task, cancelled_itself])
@pytest.mark.parametrize("where", ["on_progress", "at the end", "the transport", "keys"])
async def test_a_cancellation_that_nobody_asked_for(do: Callable[[], Awaitable[None]], where: str) -> None:
    """A CancelledError of somebody else's ends no upload in silence: it is an error, with the report."""
    server = Server(before=3 if where == "the transport" else -1, do=do)
    told_so_far = 0

    async def on_progress(progress: Any) -> None:
        nonlocal told_so_far
        told_so_far += 1
        if (where == "on_progress" and told_so_far == 2) or (where == "at the end" and not progress.in_flight):
            await do()

    keys = slowly(5_000, before=2_600 if where == "keys" else -1, do=do)
    with anyio.fail_after(PATIENCE), pytest.raises(GatePayError, match="this call was not cancelled") as caught:
        await upload(server.send, 8, keys, on_progress=on_progress)
    report = told(caught.value.report, server)  # type: ignore[attr-defined]  # what is tested
    assert report.read == 5_000 if where == "at the end" else report.read < 5_000
    assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]  # there is one


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_one_task_of_an_upload_is_cancelled() -> None:
    """Who cancels a task of an upload, and not the upload, gets an error that says so, and the report."""

    async def cancel_one() -> None:
        asyncio.current_task().cancel()  # type: ignore[union-attr]  # there is one
        await asyncio.sleep(0)

    for before in (3, 10):  # amid the input, and when all of it has been read
        server = Server(before=before, do=cancel_one)
        with anyio.fail_after(PATIENCE), pytest.raises(GatePayError, match="a task of the upload") as caught:
            await upload(server.send, 8, slowly(5_000))
        told(caught.value.report, server)  # type: ignore[attr-defined]  # what is tested


class Stop(BaseException):
    """A user's own."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, Stop])
@pytest.mark.parametrize("where", ["on_progress", "at the end", "the transport", "keys", "async keys"])
async def test_a_base_exception_comes_as_itself(kind: type[BaseException], where: str) -> None:
    """Ctrl-C, an exit or an exception of the user's own comes out as itself, not in a group; it has the report."""

    async def do() -> None:
        raise kind("mine")

    server = Server(before=3 if where == "the transport" else -1, do=do)
    told_so_far = 0

    def on_progress(progress: Any) -> None:
        nonlocal told_so_far
        told_so_far += 1
        if (where == "on_progress" and told_so_far == 2) or (where == "at the end" and not progress.in_flight):
            raise kind("mine")

    def plain() -> Iterator[str]:
        for number in range(5_000):
            if where == "keys" and number == 2_600:
                raise kind("mine")
            yield f"KEY-{number:06d}"

    keys: Any = slowly(5_000, before=2_600, do=do) if where == "async keys" else plain()
    with anyio.fail_after(PATIENCE), pytest.raises(kind) as caught:
        await upload(server.send, 8, keys, on_progress=on_progress)
    assert type(caught.value) is kind
    told(caught.value.report, server)  # type: ignore[attr-defined]  # what is tested
