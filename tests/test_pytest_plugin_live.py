"""The pytest plugin prevents real orders: a default client can only call this machine unless allowed otherwise."""

import importlib.metadata
import importlib.util

import pytest

pytestmark = pytest.mark.sockets

pytest_plugins = ["pytester"]

# If the package is installed, pytest finds the plugin by its entry point. Otherwise it must be named.
INSTALLED = "gatepay-async" in importlib.metadata.entry_points(group="pytest11").names
PLUGIN_OPTION = [] if INSTALLED else ["-p", "_gatepay_async_pytest"]
PLUGINS = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:asyncio", *PLUGIN_OPTION]
BASE_OPTIONS = [*PLUGINS, "--strict-markers", "-W", "error"]

TEST_HEADER = """
import httpx
import pytest
from gatepay_async import AsyncGatePay, GatePayError, InvalidRequestError, RetryPolicy

ONCE = RetryPolicy(attempts=1)
ORDER = dict(product_id=8, product_num=1, pay_type="alipay", out_order_id="T-1-X", custom="c")

async def outcome(**options):
    async with AsyncGatePay("a", "b", base_url="https://gatepay.invalid/api/", retry=ONCE, **options) as gatepay:
        with pytest.raises(GatePayError) as caught:
            await gatepay.create_payment(**ORDER)
    return type(caught.value).__name__, str(caught.value)
"""


@pytest.fixture(autouse=True)
def clean_environment(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables that would configure the nested sessions."""
    for name in ("PYTEST_ADDOPTS", "GATEPAY_BASE_URL", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def assert_passes(pytester: pytest.Pytester, test: str, *options: str) -> None:
    """Assert that an async test passes in a nested session, on both event loops."""
    pytester.makepyfile(f"{TEST_HEADER}\n@pytest.mark.anyio\n{test}")
    pytester.runpytest_inprocess(*BASE_OPTIONS, *options).assert_outcomes(passed=2)


def test_call_to_another_host_is_refused(pytester: pytest.Pytester) -> None:
    """A default client can't connect to another host. The error lists the ways to allow it."""
    test = """
async def test():
    name, message = await outcome()
    assert name == "InvalidRequestError"
    for word in ("base_url", "gatepay.invalid", "`gatepay`", "http_client", "gatepay_live", "--gatepay-live"):
        assert word in message
"""
    assert_passes(pytester, test)


@pytest.mark.slow
def test_call_through_a_proxy_is_refused(pytester: pytest.Pytester) -> None:
    """With a proxy from the environment, the call is refused, too, and the proxy isn't contacted."""
    test = """
async def test(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert (await outcome())[0] == "InvalidRequestError"
"""
    assert_passes(pytester, test)


@pytest.mark.slow
@pytest.mark.parametrize("permission", ["marker", "option", "setting"])
def test_live_calls_can_be_allowed(pytester: pytest.Pytester, permission: str) -> None:
    """The marker allows live calls for one test; the option and the setting allow them for the session."""
    mark = "@pytest.mark.gatepay_live" if permission == "marker" else ""
    options = {"marker": [], "option": ["--gatepay-live"], "setting": ["-o", "gatepay_live=true"]}[permission]
    assert_passes(pytester, f"{mark}\nasync def test():\n    assert (await outcome())[0] == 'TransportError'", *options)


@pytest.mark.slow
def test_intercepted_calls_are_not_refused(pytester: pytest.Pytester) -> None:
    """Calls through respx, a mock transport or a user's httpx client aren't refused."""
    test = """
async def test():
    import respx
    reply = {"code": 110, "msg": "", "time": "1", "data": []}
    with respx.mock(base_url="https://gatepay.invalid/api") as router:
        router.post("/pay/create").respond(json=reply)
        assert (await outcome())[0] == "OutOfStockError"
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=reply))
    assert (await outcome(transport=transport))[0] == "OutOfStockError"
    async with httpx.AsyncClient(transport=transport) as http_client:
        assert (await outcome(http_client=http_client))[0] == "OutOfStockError"
"""
    assert_passes(pytester, test)


@pytest.mark.slow
def test_user_transport_is_not_refused(pytester: pytest.Pytester) -> None:
    """A user's transport isn't refused, even if it is httpx's own and uses the network."""
    test = """
async def test():
    async with httpx.AsyncHTTPTransport() as transport:
        assert (await outcome(transport=transport))[0] == "TransportError"
"""
    assert_passes(pytester, test)


@pytest.mark.slow
def test_refused_call_does_no_network_io(pytester: pytest.Pytester) -> None:
    """A call is refused before any name is looked up and any connection opened, also with a proxy."""
    test = """
@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:9"])
async def test(monkeypatch, proxy):
    import socket
    monkeypatch.setenv("https_proxy", proxy)
    network_calls = []
    def look_up(host, *_, **__):
        network_calls.append(host)
        raise socket.gaierror
    class Socket(socket.socket):
        def connect(self, address):
            network_calls.append(address)
            raise OSError
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "socket", Socket)
    assert (await outcome())[0] == "InvalidRequestError"
    assert network_calls == []
"""
    pytester.makepyfile(f"{TEST_HEADER}\n@pytest.mark.anyio{test}")
    pytester.runpytest_inprocess(*BASE_OPTIONS).assert_outcomes(passed=4)


@pytest.mark.slow
def test_open_connection_is_not_used_without_permission(pytester: pytest.Pytester) -> None:
    """A connection that was opened with permission isn't used by a later call without permission."""
    test = """
async def test(monkeypatch):
    import sys
    from gatepay_async.sandbox import Sandbox
    from gatepay_async.exchange import permission
    plugin = sys.modules["_gatepay_async_pytest"]
    with Sandbox() as sandbox:
        async with sandbox.serve() as url, AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=url) as gatepay:
            await gatepay.list_products()
            monkeypatch.setattr(permission, "is_loopback", lambda _: False)
            monkeypatch.setattr(plugin, "may_call_live", lambda: True)
            await gatepay.list_products()
            monkeypatch.undo()
            monkeypatch.setattr(permission, "is_loopback", lambda _: False)
            with pytest.raises(InvalidRequestError):
                await gatepay.create_payment(**ORDER)
        assert sandbox.orders() == []
"""
    assert_passes(pytester, test)


def test_plugin_allows_live_calls_outside_of_pytest() -> None:
    """If the plugin is imported outside of a pytest session, live calls are allowed."""
    import _gatepay_async_pytest as plugin  # noqa: PLC0415 -- an earlier import would escape coverage

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugin, "_live_calls_allowed", [])
        assert plugin.may_call_live()
