"""The pytest plugin keeps a default client on this machine: a test makes no real orders unless somebody allows it."""

import importlib.metadata
import importlib.util

import pytest

pytestmark = pytest.mark.sockets

pytest_plugins = ["pytester"]

# Installed, the plugin is found by its entry point; from the folder, it is named.
INSTALLED = "gatepay-async" in importlib.metadata.entry_points(group="pytest11").names
NAMED = [] if INSTALLED else ["-p", "_gatepay_async_pytest"]
PLUGINS = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:asyncio", *NAMED]
PLAIN = [*PLUGINS, "--strict-markers", "-W", "error"]

PAYS = """
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
def alone(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that nothing of ours is set for."""
    for name in ("PYTEST_ADDOPTS", "GATEPAY_BASE_URL", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def passes(pytester: pytest.Pytester, test: str, *options: str) -> None:
    """A session in which that async test passes, on both loops."""
    pytester.makepyfile(f"{PAYS}\n@pytest.mark.anyio\n{test}")
    pytester.runpytest_inprocess(*PLAIN, *options).assert_outcomes(passed=2)


def test_a_real_call_is_refused(pytester: pytest.Pytester) -> None:
    """A default client is kept from another host before it connects, and the error names what allows it."""
    test = """
async def test():
    kind, said = await outcome()
    assert kind == "InvalidRequestError"
    for word in ("base_url", "gatepay.invalid", "`gatepay`", "http_client", "gatepay_live", "--gatepay-live"):
        assert word in said
"""
    passes(pytester, test)


@pytest.mark.slow
def test_through_a_proxy_too(pytester: pytest.Pytester) -> None:
    """Behind a proxy of the environment, likewise: not even the proxy is called."""
    test = """
async def test(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert (await outcome())[0] == "InvalidRequestError"
"""
    passes(pytester, test)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["marker", "option", "setting"])
def test_it_can_be_allowed(pytester: pytest.Pytester, how: str) -> None:
    """A marker allows it for a test, an option or a setting for all: then the network decides."""
    mark = "@pytest.mark.gatepay_live" if how == "marker" else ""
    options = {"marker": [], "option": ["--gatepay-live"], "setting": ["-o", "gatepay_live=true"]}[how]
    passes(pytester, f"{mark}\nasync def test():\n    assert (await outcome())[0] == 'TransportError'", *options)


@pytest.mark.slow
def test_what_is_intercepted_is_not_refused(pytester: pytest.Pytester) -> None:
    """respx, a mock transport and a client of your own are asked, not refused."""
    test = """
async def test():
    import respx
    reply = {"code": 110, "msg": "", "time": "1", "data": []}
    with respx.mock(base_url="https://gatepay.invalid/api") as router:
        router.post("/pay/create").respond(json=reply)
        assert (await outcome())[0] == "OutOfStockError"
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=reply))
    assert (await outcome(transport=transport))[0] == "OutOfStockError"
    async with httpx.AsyncClient(transport=transport) as own:
        assert (await outcome(http_client=own))[0] == "OutOfStockError"
"""
    passes(pytester, test)


@pytest.mark.slow
def test_your_own_transport_is_not_refused(pytester: pytest.Pytester) -> None:
    """A transport of httpx's own, which calls the network, is one that somebody has passed, too."""
    test = """
async def test():
    async with httpx.AsyncHTTPTransport() as transport:
        assert (await outcome(transport=transport))[0] == "TransportError"
"""
    passes(pytester, test)


@pytest.mark.slow
def test_nothing_is_looked_up(pytester: pytest.Pytester) -> None:
    """It is refused before a name is looked up or anybody connected to, behind a proxy as well."""
    test = """
@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:9"])
async def test(monkeypatch, proxy):
    import socket
    monkeypatch.setenv("https_proxy", proxy)
    done = []
    def look_up(host, *_, **__):
        done.append(host)
        raise socket.gaierror
    class Socket(socket.socket):
        def connect(self, address):
            done.append(address)
            raise OSError
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "socket", Socket)
    assert (await outcome())[0] == "InvalidRequestError"
    assert done == []
"""
    pytester.makepyfile(f"{PAYS}\n@pytest.mark.anyio{test}")
    pytester.runpytest_inprocess(*PLAIN).assert_outcomes(passed=4)


@pytest.mark.slow
def test_a_connection_that_was_allowed_before(pytester: pytest.Pytester) -> None:
    """A connection that an earlier test has opened is not used by one that may not call there."""
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
    passes(pytester, test)


def test_outside_of_a_session() -> None:
    """Where the plugin is imported and no session runs, it forbids nothing."""
    import _gatepay_async_pytest as plugin  # noqa: PLC0415 -- before pytest has it, coverage would miss it

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugin, "_allowed", [])
        assert plugin.may_call_live()
