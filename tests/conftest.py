"""The fixtures and settings of all test modules."""

import gc
import os
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import ending
import hanging
import leftovers
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal import charmap
from hypothesis.internal.intervalsets import IntervalSet
from surroundings import normalise_environment, normalise_signals, socket_folder

from gatepay_async import AsyncGatePay, RetryPolicy
from gatepay_async.protocol.patience import Patience
from gatepay_async.sandbox import Sandbox, orders

if TYPE_CHECKING:
    from telemetry_exported import Exported

pytest_plugins = ["lanes"]

# The default number of attempts, without waits.
QUICK = RetryPolicy(first_wait=0, longest_wait=0)

normalise_environment()

# No deadline: a busy machine must not fail a test. `quick` tries the same examples each time. `thorough` tries new
# ones, and stores failed examples unless the folder is read-only. `few` is for `nox -s anywhere`.
NO_DEADLINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
DATABASE: dict[str, Any] = {} if os.access(os.curdir, os.W_OK) else {"database": None}
settings.register_profile("quick", NO_DEADLINE, max_examples=25, derandomize=True)
settings.register_profile("thorough", NO_DEADLINE, max_examples=1000, **DATABASE)
settings.register_profile("few", NO_DEADLINE, max_examples=10, derandomize=True)
settings.load_profile("quick")

# The characters of UTF-8. In a fresh clone, Hypothesis would try 1,114,112 characters in each worker, which takes
# seconds with coverage.
UTF8 = IntervalSet([(0, 0xD7FF), (0xE000, sys.maxunicode)]), IntervalSet([])
original_intervals = charmap.intervals_from_codec
charmap.intervals_from_codec = lambda codec: UTF8 if codec == "utf-8" else original_intervals(codec)  # type: ignore[assignment]  # the original is a cached function


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Register the plugins that end hanging tests and cancelled runs, and that clean up after failed tests."""
    for plugin in (hanging, ending, leftovers):
        pluginmanager.register(plugin)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Exclude the imported modules from garbage collection: they live as long as the process."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Stop coverage in tests marked `without_coverage`: they cover no further lines, and it doubles their time."""
    coverage = sys.modules.get("coverage")
    running_coverage = coverage.Coverage.current() if coverage and item.get_closest_marker("without_coverage") else None
    if running_coverage is None:
        return (yield)
    running_coverage.stop()
    try:
        return (yield)
    finally:
        running_coverage.start()


@pytest.fixture(scope="session", autouse=True)
def signals() -> None:
    """Ignore no signal while tests run. xdist's workers inherit ignored signals from their parent."""
    normalise_signals()


@pytest.fixture(scope="session", autouse=True)
def counting() -> dict[str, str]:
    """Remove coverage's variable: programs that tests start aren't measured, unless they get the returned variable."""
    name = "COVERAGE_PROCESS_START"
    return {name: os.environ.pop(name)} if name in os.environ else {}


@pytest.fixture(scope="session", autouse=True)
def one_qr_code() -> Iterator[None]:
    """Draw one QR code for all orders: drawing takes longer than everything else in a call."""
    png = orders.qrcode_png("http://127.0.0.1/")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orders, "qrcode_png", lambda _: png)
        yield


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each test on both event loops."""
    return str(request.param)


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """Return a path for a Unix socket that is short enough, whatever TMPDIR is."""
    with TemporaryDirectory(dir=socket_folder()) as folder:
        yield Path(folder, "socket")


@pytest.fixture
def quick() -> RetryPolicy:
    """Return a retry policy without waits."""
    return QUICK


@pytest.fixture(scope="module")
def impatient_uploads() -> Iterator[None]:
    """Let uploads end after eight failed calls in a row, without waits."""
    impatient = Patience(
        seconds=0,
        seconds_before_first_reply=0,
        attempts=8,
        attempts_before_first_reply=8,
        first_wait=0.001,
        longest_wait=0.01,
        retry_after_limit=0,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gatepay_async.upload.PATIENCE", impatient)
        yield


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Return a sandbox in memory, with the example shops."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
async def base_url(sandbox: Sandbox) -> AsyncIterator[str]:
    """Serve the sandbox over real HTTP. Return its base URL."""
    async with sandbox.serve() as url:
        yield url


@pytest.fixture
async def gatepay(sandbox: Sandbox, base_url: str) -> AsyncIterator[AsyncGatePay]:
    """Return a client of the sandbox's first shop, over a real socket."""
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url, retry=QUICK) as gatepay:
        yield gatepay


@pytest.fixture
def exported() -> "Iterator[Exported]":
    """Create telemetry providers for one test, and record what they export."""
    from telemetry_exported import Exported  # noqa: PLC0415 -- slow to import, and few tests need it

    exported = Exported()
    yield exported
    exported.tracer_provider.shutdown()
    exported.meter_provider.shutdown()
