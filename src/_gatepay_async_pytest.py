"""
A pytest plugin with the fixtures ``gatepay``, ``gatepay_sandbox`` and others, for the tests of your own shop.

It also keeps tests from creating real orders: in a test, a default client, which is one without its own ``http_client``
or ``transport``, can only call this machine.

Once the package is installed, pytest imports this file in every session. So it is a small module outside of the
package. It imports the SDK only when a test uses a fixture.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args

import pytest

if TYPE_CHECKING:
    from gatepay_async import AsyncGatePay
    from gatepay_async.sandbox import Sandbox

# The scopes of pytest-asyncio's event loops. A test's marker or the configuration selects one.
_LoopScope = Literal["function", "class", "module", "package", "session"]
_LOOP_SCOPES: tuple[_LoopScope, ...] = get_args(_LoopScope)
_ASYNCIO_FIXTURES = "gatepay-async-asyncio"  # the name of the plugin that _asyncio_fixtures() creates

_NOT_CLAIMED_BY_A_PLUGIN = """\
gatepay is an open client, for async tests that anyio's plugin or pytest-asyncio runs:
mark the test with pytest.mark.anyio (its plugin comes with gatepay-async) or with
pytest.mark.asyncio (pip install pytest-asyncio). A test that is not async can ask for
gatepay_sandbox, gatepay_base_url and gatepay_environment."""
_CLAIMED_BY_TWO_PLUGINS = """\
gatepay: both anyio's plugin and pytest-asyncio would run this test, each in its own event
loop. Remove one of the two marks, or set asyncio_mode = "strict"."""


# Whether default clients may call other machines. The last item applies: each session and each test adds an item, and
# sessions can be nested (pytester). Outside of pytest, the list is empty, and all calls are allowed.
_live_calls_allowed: list[bool] = []


def may_call_live() -> bool:
    """Whether a default client may call other machines. The client calls this before it connects."""
    return _live_calls_allowed[-1] if _live_calls_allowed else True


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option and a setting that allow live calls for a whole session."""
    help_text = "let AsyncGatePay clients without http_client or transport call hosts other than this machine"
    parser.getgroup("gatepay-async").addoption("--gatepay-live", action="store_true", help=help_text)
    parser.addini("gatepay_live", help_text, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and read the option and the setting."""
    config.addinivalue_line("markers", "gatepay_live: a default AsyncGatePay may call hosts other than this machine")
    _live_calls_allowed.append(bool(config.getoption("--gatepay-live") or config.getini("gatepay_live")))


def pytest_unconfigure() -> None:
    """Undo pytest_configure()."""
    _live_calls_allowed.pop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Apply the marker to one test and its fixtures."""
    _live_calls_allowed.append(may_call_live() or item.get_closest_marker("gatepay_live") is not None)
    try:
        return (yield)
    finally:
        _live_calls_allowed.pop()


@pytest.fixture
def gatepay_sandbox_options() -> dict[str, Any]:
    """The arguments for the Sandbox of gatepay_sandbox. Override this fixture to set some."""
    return {}


@pytest.fixture
def gatepay_options() -> dict[str, Any]:
    """More arguments for the AsyncGatePay of the fixture gatepay. Override this fixture to set some."""
    return {}


@pytest.fixture
def gatepay_sandbox(gatepay_sandbox_options: dict[str, Any]) -> Iterator[Sandbox]:
    """A new Sandbox in memory, with the vendor's example shops (needs the extra `sandbox`)."""
    try:
        from gatepay_async.sandbox import Sandbox  # noqa: PLC0415 -- see the module's docstring
    except ModuleNotFoundError as error:
        missing = error.name
    else:
        with Sandbox(**gatepay_sandbox_options) as sandbox:
            yield sandbox
        return
    _fail_test(f"gatepay_sandbox needs {missing}, which is not installed: pip install 'gatepay-async[sandbox]'")


@pytest.fixture
def gatepay_base_url(gatepay_sandbox: Sandbox) -> Iterator[str]:
    """The base URL of gatepay_sandbox, which is served over HTTP on loopback, in its own thread."""
    from anyio.from_thread import start_blocking_portal  # noqa: PLC0415 -- see the module's docstring

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(gatepay_sandbox.serve()) as base_url:
        yield base_url


@pytest.fixture
def gatepay_environment(
    gatepay_sandbox: Sandbox, gatepay_base_url: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Set GATEPAY_APPKEY, GATEPAY_APPSECRET and both base URLs to those of gatepay_sandbox, for AsyncGatePay()."""
    variables = {
        "GATEPAY_APPKEY": gatepay_sandbox.appkey,
        "GATEPAY_APPSECRET": gatepay_sandbox.appsecret,
        "GATEPAY_BASE_URL": gatepay_base_url,
        "GATEPAY_CLOUD_BASE_URL": gatepay_base_url,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def gatepay(request: pytest.FixtureRequest) -> AsyncGatePay:
    """An open AsyncGatePay for gatepay_sandbox's first shop, for async tests with anyio or pytest-asyncio."""
    # anyio's plugin and pytest-asyncio need different kinds of async fixtures. So there is an async fixture for each,
    # and this fixture, which is not async, uses that of the plugin that runs the test.
    client: AsyncGatePay = request.getfixturevalue(_fixture_for(request))
    return client


def _fixture_for(request: pytest.FixtureRequest) -> str:
    """Return the name of the async fixture for the plugin that runs the test."""
    has_plugin = request.config.pluginmanager.has_plugin
    asyncio_marker = request.node.get_closest_marker("asyncio")  # pytest-asyncio's auto mode sets it too
    runs_on_pytest_asyncio = asyncio_marker is not None and has_plugin("asyncio")
    runs_on_anyio = "anyio_backend" in request.fixturenames and has_plugin("anyio")
    if runs_on_pytest_asyncio == runs_on_anyio:
        _fail_test(_CLAIMED_BY_TWO_PLUGINS if runs_on_anyio else _NOT_CLAIMED_BY_A_PLUGIN)
    if runs_on_anyio:
        return "_gatepay_on_anyio"
    if not has_plugin(_ASYNCIO_FIXTURES):
        request.config.pluginmanager.register(_asyncio_fixtures(), _ASYNCIO_FIXTURES)
    scope = asyncio_marker and asyncio_marker.kwargs.get("loop_scope")
    return f"_gatepay_on_{scope or request.config.getini('asyncio_default_test_loop_scope')}_loop"


@pytest.fixture
async def _gatepay_on_anyio(
    gatepay_sandbox: Sandbox, gatepay_base_url: str, gatepay_options: dict[str, Any]
) -> AsyncIterator[AsyncGatePay]:
    async with _open_client(gatepay_sandbox, gatepay_base_url, gatepay_options) as client:
        yield client


def _asyncio_fixtures() -> ModuleType:
    """
    Return a plugin with one fixture for each scope of pytest-asyncio's event loops.

    The fixture and the test must run on the same event loop, because a client works only where it was opened.
    """
    import pytest_asyncio  # noqa: PLC0415 -- see the module's docstring
    from packaging.version import Version  # noqa: PLC0415 -- comes with pytest

    if Version(pytest_asyncio.__version__) < Version("1.1"):  # older versions find async fixtures only at collection
        _fail_test(f"gatepay needs pytest-asyncio 1.1 or later, not {pytest_asyncio.__version__}")
    plugin = ModuleType(_ASYNCIO_FIXTURES)
    for scope in _LOOP_SCOPES:
        name = f"_gatepay_on_{scope}_loop"
        setattr(plugin, name, _asyncio_fixture(name, scope))
    return plugin


def _asyncio_fixture(name: str, scope: _LoopScope) -> object:
    """Return the fixture for tests whose event loop has this scope."""
    import pytest_asyncio  # noqa: PLC0415 -- see the module's docstring

    @pytest_asyncio.fixture(name=name, loop_scope=scope)
    async def on_loop(
        gatepay_sandbox: Sandbox, gatepay_base_url: str, gatepay_options: dict[str, Any]
    ) -> AsyncIterator[AsyncGatePay]:
        async with _open_client(gatepay_sandbox, gatepay_base_url, gatepay_options) as client:
            yield client

    return on_loop


@asynccontextmanager
async def _open_client(sandbox: Sandbox, base_url: str, options: dict[str, Any]) -> AsyncGenerator[AsyncGatePay]:
    from gatepay_async import AsyncGatePay, RetryPolicy  # noqa: PLC0415 -- see the module's docstring

    # The default number of retries, but without waiting, so that tests are fast.
    retry = RetryPolicy(first_wait=0, longest_wait=0)
    arguments: dict[str, Any] = {"base_url": base_url, "cloud_base_url": base_url, "retry": retry, **options}
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, **arguments) as client:
        yield client


def _fail_test(reason: str) -> NoReturn:
    pytest.fail(reason, pytrace=False)
