"""What every test module may ask for."""

import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from gatepay_async import AsyncGatePay, RetryPolicy
from gatepay_async.exchange import opening
from gatepay_async.sandbox import Sandbox

# Waits that a test need not sit out; the number of attempts is the default's.
QUICK = RetryPolicy(first_wait=0, longest_wait=0)


# A shell without job control starts what is to run in the background deaf to Ctrl-C, and all that it starts with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# `nox -s aiohttp` runs what talks to servers over that transport, instead of the pool.
OVER_AIOHTTP = os.environ.get("GATEPAY_TEST_TRANSPORT") == "aiohttp"


@pytest.fixture(autouse=OVER_AIOHTTP)
def over_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is opened by default is aiohttp's."""
    monkeypatch.setattr(opening, "_open_own", opening._open_aiohttp)


@pytest.fixture(params=["asyncio"] if OVER_AIOHTTP else ["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Both event loops."""
    return str(request.param)


@pytest.fixture
def quick() -> RetryPolicy:
    """Retries without waits."""
    return QUICK


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """GatePay's other end, with the example shops, in memory."""
    with Sandbox() as it:
        yield it


@pytest.fixture
async def base_url(sandbox: Sandbox) -> AsyncIterator[str]:
    """The sandbox over real HTTP."""
    async with sandbox.serve() as url:
        yield url


@pytest.fixture
async def gatepay(sandbox: Sandbox, base_url: str) -> AsyncIterator[AsyncGatePay]:
    """A client of shop one, over a real socket."""
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url, retry=QUICK) as it:
        yield it
