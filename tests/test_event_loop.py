"""``event_loop``: it finds the library that runs the current task, asyncio or trio."""

import asyncio
import subprocess
import sys
import threading
import typing

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx
import pytest
import trio

import gatepay_async
from gatepay_async import AsyncGatePay, InvalidRequestError
from gatepay_async.client import gatepay as client_module
from gatepay_async.event_loop import current_asyncio_task, current_clock, current_loop, loop_getter, new_signal

pytestmark = pytest.mark.fast


async def check_event_loop() -> None:
    """Check that the clock, the event loop and the signal are those of the running library."""
    assert abs(current_clock()() - anyio.current_time()) < 1
    assert current_loop() == loop_getter()()
    signal = new_signal()
    async with anyio.create_task_group() as group:
        group.start_soon(signal.wait)
        await anyio.lowlevel.checkpoint()
        signal.set()
        signal.set()  # twice is harmless


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_event_loop_is_that_of_the_running_library(backend: str) -> None:
    anyio.run(check_event_loop, backend=backend)


def test_trio_as_a_guest_of_asyncio_is_trio() -> None:
    """In trio's guest mode an asyncio event loop runs too, but the current task is trio's."""

    async def host() -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        trio.lowlevel.start_guest_run(
            check_event_loop, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=ended.set_result
        )
        (await ended).unwrap()

    asyncio.run(host())


def test_trio_within_an_asyncio_task_is_trio() -> None:
    async def outer() -> None:
        trio.run(check_event_loop)

    asyncio.run(outer())


def test_outside_of_an_event_loop_there_is_no_task() -> None:
    assert current_asyncio_task() is None


async def open_and_close(gatepay: AsyncGatePay) -> None:
    """Open and close a client."""
    async with gatepay:
        pass


@pytest.mark.parametrize("opened_on", ["asyncio", "trio"])
@pytest.mark.parametrize("used_on", ["asyncio", "trio"])
def test_closed_client_is_refused_on_every_event_loop(opened_on: str, used_on: str) -> None:
    gatepay = AsyncGatePay("key", "secret", base_url="http://127.0.0.1:1/", allow_http=True)
    anyio.run(open_and_close, gatepay, backend=opened_on)
    with pytest.raises(InvalidRequestError, match="has been closed"):
        anyio.run(gatepay.list_products, backend=used_on)
    with pytest.raises(InvalidRequestError, match="has been closed"):
        gatepay.http.build_request("GET", "/")  # outside of any event loop


def test_type_hints_of_public_methods_can_be_evaluated() -> None:
    """Libraries such as pydantic evaluate type hints, so none of their types may be imported for type checkers only."""
    public_members = [getattr(AsyncGatePay, name) for name in dir(AsyncGatePay) if not name.startswith("_")]
    methods = [member.fget if isinstance(member, property) else member for member in public_members]
    assert all(typing.get_type_hints(method) for method in methods)
    assert typing.get_type_hints(AsyncGatePay.upload_card_keys)["return"] is gatepay_async.UploadReport


OPEN_AND_CALL = """
import sys, anyio, httpx
from gatepay_async import AsyncGatePay, RefusedError

def answer(request):
    code, data = (100, {"pay_url": "http://x/", "qrcode_url": "", "qrcode_body": ""})
    if "check" in request.url.path:
        code, data = 201, None
    return httpx.Response(200, json={"code": code, "msg": "m", "time": "1556251812", "data": data})

async def main():
    async with AsyncGatePay("key", "secret", transport=httpx.MockTransport(answer)) as gatepay:
        before = {name for name in sys.modules if name.startswith("gatepay_async")}
        await gatepay.create_anypay(price="1.00", pay_type="alipay", out_order_id="T-1-X", custom="c")
        await gatepay.upload_card_keys(8, ["A"])
        gatepay.list_card_keys(8).pages()
        try:
            await gatepay.check_order("T-1-X")
        except RefusedError as error:
            error.time
        print(sorted({name for name in sys.modules if name.startswith("gatepay_async")} - before))

anyio.run(main)
"""


def test_no_module_is_imported_after_a_client_was_opened() -> None:
    """An import that fails between a request and its reply would hide that the order exists."""
    finished = subprocess.run([sys.executable, "-c", OPEN_AND_CALL], capture_output=True, check=False)
    assert (finished.returncode, finished.stdout.strip()) == (0, b"[]"), finished.stderr.decode()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_client_opens_while_all_threads_of_the_limiter_are_used(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's own calls may hold all threads of anyio's default limiter until the client is open."""
    has_imported = threading.Event()  # not set, so the client imports its modules when it is opened
    monkeypatch.setattr(client_module, "_HAS_IMPORTED", has_imported)

    async def main() -> None:
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = 1
        async with limiter:
            await open_and_close(AsyncGatePay("key", "secret", base_url="http://127.0.0.1:1/", allow_http=True))

    anyio.run(main, backend=backend)
    assert has_imported.is_set()


@pytest.mark.anyio
async def test_client_over_a_transport_opens_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a virtual clock, waiting for a thread would look like a long time."""
    has_imported = threading.Event()  # not set, so the client imports its modules when it is opened
    monkeypatch.setattr(client_module, "_HAS_IMPORTED", has_imported)
    monkeypatch.setattr(anyio.to_thread, "run_sync", None)
    await open_and_close(AsyncGatePay("key", "secret", transport=httpx.MockTransport(lambda _: httpx.Response(200))))
    assert has_imported.is_set()
