"""``event_loop``: it finds the library that runs the current task, asyncio or trio."""

import asyncio
import typing

import anyio
import pytest
import trio

import gatepay_async
from gatepay_async import AsyncGatePay, InvalidRequestError
from gatepay_async.event_loop import current_clock, current_loop, loop_getter, new_signal

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
    """Libraries such as pydantic evaluate them, so no type may be imported for type checkers only."""
    public = [getattr(AsyncGatePay, name) for name in dir(AsyncGatePay) if not name.startswith("_")]
    methods = [each.fget if isinstance(each, property) else each for each in public]
    assert all(typing.get_type_hints(method) for method in methods)
    assert typing.get_type_hints(AsyncGatePay.upload_card_keys)["return"] is gatepay_async.UploadReport
