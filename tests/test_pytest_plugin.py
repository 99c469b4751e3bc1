"""The pytest plugin's fixtures, tested in nested pytest sessions with each plugin for async tests."""

import importlib.metadata
import re
from pathlib import Path

import pytest
import pytest_asyncio

import gatepay_async

pytestmark = pytest.mark.sockets

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
# If the package is installed, pytest finds the plugin by its entry point. Otherwise it must be named.
INSTALLED = "gatepay-async" in importlib.metadata.entry_points(group="pytest11").names
PLUGIN_OPTION = [] if INSTALLED else ["-p", "_gatepay_async_pytest"]
# In every nested session, the plugins of Hypothesis and Faker would take a second each to import their packages.
BASE_OPTIONS = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:faker", *PLUGIN_OPTION]
STRICT_MODE = ["-o", "asyncio_default_fixture_loop_scope=function", "-o", "asyncio_mode=strict"]
AUTO_MODE = [*STRICT_MODE, "-o", "asyncio_mode=auto"]

TEST_BODY = """
    assert gatepay_sandbox.orders() == []
    await gatepay.create_payment(
        product_id=8, product_num=1, pay_type="alipay", out_order_id="T-1-X", custom="terry@example.com"
    )
    assert [order.out_order_id for order in gatepay_sandbox.orders()] == ["T-1-X"]
    gatepay_sandbox.fault(Fault(FaultKind.BAD_GATEWAY, times=3))
    assert gatepay._policy.longest_wait == 0
    assert len((await gatepay.list_products()).products) == 3  # after three retries
"""
IMPORTS = "import pytest\nfrom gatepay_async.sandbox import Fault, FaultKind\n"


@pytest.fixture(autouse=True)
def clean_environment(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables that would configure the nested sessions."""
    for name in ("PYTEST_ADDOPTS", "GATEPAY_APPKEY", "GATEPAY_APPSECRET", "GATEPAY_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def run(pytester: pytest.Pytester, test: str, *options: str) -> pytest.RunResult:
    """Run *test* in a nested session in this process. Warnings are errors."""
    pytester.makepyfile(IMPORTS + test)
    return pytester.runpytest_inprocess(*BASE_OPTIONS, "-W", "error", *options)


@pytest.mark.parametrize(
    ("mark", "options", "passed"),
    [
        # 2: anyio's plugin runs a test twice, on asyncio and on trio.
        ("@pytest.mark.anyio", STRICT_MODE, 2),
        ("@pytest.mark.anyio", ["-p", "no:asyncio"], 2),
        ("", ["-p", "no:asyncio", "-o", "anyio_mode=auto"], 2),
        ("@pytest.mark.asyncio", STRICT_MODE, 1),
        ("@pytest.mark.asyncio", [*STRICT_MODE, "-p", "no:anyio"], 1),
        ("", AUTO_MODE, 1),
        *(
            (f"@pytest.mark.asyncio(loop_scope='{scope}')", STRICT_MODE, 1)
            for scope in ("function", "class", "module", "package", "session")
        ),
        ("@pytest.mark.asyncio", [*STRICT_MODE, "-o", "asyncio_default_test_loop_scope=session"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
@pytest.mark.slow
def test_client_works_with_each_async_plugin(
    pytester: pytest.Pytester, mark: str, options: list[str], passed: int
) -> None:
    """An async test gets an open client for a new sandbox, with anyio on both event loops and with pytest-asyncio."""
    two_tests = "".join(
        f"class Test{n}:\n{mark and f'  {mark}'}\n  async def test(self, gatepay, gatepay_sandbox):{TEST_BODY}"
        for n in "AB"
    )
    run(pytester, two_tests, *options).assert_outcomes(passed=2 * passed)


@pytest.mark.slow
@pytest.mark.parametrize("mark", ["anyio", "asyncio"])
def test_user_fixture_can_use_the_client(pytester: pytest.Pytester, mark: str) -> None:
    """A user's async fixture can request the client and use it."""
    decorator = "pytest.fixture" if mark == "anyio" else "pytest_asyncio.fixture"
    test = f"""
import pytest_asyncio

@{decorator}
async def prices(gatepay):
    yield [product.price for product in (await gatepay.list_products()).products]
    await gatepay.list_products()  # still open

@pytest.mark.{mark}
async def test(prices, gatepay_sandbox):
    assert len(prices) == 3
"""
    run(pytester, test, *STRICT_MODE).assert_outcomes(passed=2 if mark == "anyio" else 1)


def test_option_fixtures_configure_sandbox_and_client(pytester: pytest.Pytester) -> None:
    """gatepay_sandbox_options and gatepay_options set the arguments of the sandbox and the client."""
    test = """
from gatepay_async import RetryPolicy, TransportError

@pytest.fixture
def gatepay_sandbox_options(tmp_path):
    return {"database": tmp_path / "shop.sqlite3", "seed": False}

@pytest.fixture
def gatepay_options():
    return {"retry": RetryPolicy(attempts=1)}

@pytest.mark.anyio
async def test(gatepay, gatepay_sandbox, tmp_path):
    assert (tmp_path / "shop.sqlite3").exists()
    assert gatepay_sandbox.keys(8) == []
    gatepay_sandbox.fault(Fault(FaultKind.CUT_BEFORE, times=1))
    with pytest.raises(TransportError):
        await gatepay.list_products()
"""
    run(pytester, test, *STRICT_MODE).assert_outcomes(passed=2)


def test_environment_fixture_configures_default_clients(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With gatepay_environment, AsyncGatePay() calls the sandbox. The variables are removed after the test."""
    test = """
import os
import anyio
from gatepay_async import AsyncGatePay

def test(gatepay_environment, gatepay_sandbox):
    async def program():
        async with AsyncGatePay() as client:
            return (await client.list_products()).products

    assert len(anyio.run(program)) == 3
    assert [request.endpoint for request in gatepay_sandbox.requests] == ["product/show"]
    assert gatepay_environment["GATEPAY_APPSECRET"] == gatepay_sandbox.appsecret

def test_after():
    assert not [name for name in os.environ if name.startswith("GATEPAY_APP")]
"""
    run(pytester, test, *STRICT_MODE).assert_outcomes(passed=2)


def test_project_fixture_overrides_the_plugins(pytester: pytest.Pytester) -> None:
    """A project's fixture with the same name replaces the plugin's."""
    pytester.makeconftest("import pytest\n\n@pytest.fixture\ndef gatepay():\n    return 'my own'\n")
    run(pytester, "def test(gatepay):\n    assert gatepay == 'my own'\n", *STRICT_MODE).assert_outcomes(passed=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("test", "options", "message"),
    [
        ("def test(gatepay): ...", STRICT_MODE, "gatepay is an open client, for async tests"),
        ("async def test(gatepay): ...", STRICT_MODE, "pytest.mark.anyio"),
        ("async def test(gatepay): ...", ["-p", "no:asyncio", "-p", "no:anyio"], "pip install pytest-asyncio"),
        (
            "@pytest.mark.asyncio\nasync def test(gatepay): ...",
            ["-p", "no:asyncio", "-o", "markers=asyncio"],
            "pip install pytest-asyncio",
        ),
        (
            "@pytest.fixture\ndef anyio_backend(): ...\n\nasync def test(gatepay, anyio_backend): ...",
            ["-p", "no:asyncio", "-p", "no:anyio"],
            "pytest.mark.anyio",
        ),
        (
            "@pytest.mark.anyio\nasync def test(gatepay): ...",
            AUTO_MODE,
            "both anyio's plugin and pytest-asyncio would run this test*asyncio_mode",
        ),
    ],
    ids=["sync", "unmarked", "no plugin", "asyncio plugin missing", "anyio plugin missing", "two plugins"],
)
def test_unsupported_tests_fail_with_instructions(
    pytester: pytest.Pytester, test: str, options: list[str], message: str
) -> None:
    """A test that no async plugin runs, or that two would run, fails with instructions and without a traceback."""
    result = run(pytester, test, *options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    output = " ".join(result.stdout.str().split())
    assert re.search(message.replace("*", ".*"), output)
    assert "_gatepay_async_pytest.py" not in output


def test_old_pytest_asyncio_is_rejected(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a pytest-asyncio that is too old, the error names the required version."""
    monkeypatch.setattr(pytest_asyncio, "__version__", "1.0.0")
    result = run(pytester, "@pytest.mark.asyncio\nasync def test(gatepay): ...", *STRICT_MODE)
    result.stdout.fnmatch_lines(["gatepay needs pytest-asyncio 1.1 or later, not 1.0.0"])
    result.assert_outcomes(errors=1)


def test_missing_extra_fails_with_the_pip_command(pytester: pytest.Pytester) -> None:
    """Without the extra `sandbox`, the fixture fails with the pip command. Tests without the fixture pass."""
    pytester.makeconftest("""
import sys

for name in [name for name in sys.modules if name.startswith("gatepay_async.sandbox")]:
    del sys.modules[name]
sys.modules["segno"] = None
""")
    pytester.makepyfile("""
def test_sandbox(gatepay_sandbox): ...

def test_other():
    from gatepay_async.testing import signed_callback
    assert signed_callback(appkey="a", appsecret="b")
""")
    result = pytester.runpytest_inprocess(*BASE_OPTIONS, *STRICT_MODE)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["gatepay_sandbox needs segno, which is not installed: pip install 'gatepay-async?sandbox?'"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("mark", ["pytest.mark.anyio", "pytest.mark.asyncio"])
def test_example_passes_with_both_marks(pytester: pytest.Pytester, mark: str) -> None:
    """examples/test_my_shop.py passes with both marks that it mentions."""
    example = (ROOT / "examples" / "test_my_shop.py").read_text("utf-8")
    assert "pytestmark = pytest.mark.anyio" in example
    pytester.makepyfile(test_my_shop=example.replace("pytest.mark.anyio", mark, 1))
    result = pytester.runpytest_inprocess(*BASE_OPTIONS, *STRICT_MODE, "-W", "error")
    result.assert_outcomes(passed=10 if mark.endswith("anyio") else 5)  # anyio's plugin runs each test twice


def test_unused_plugin_imports_nothing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that doesn't use the fixtures imports neither the SDK nor its dependencies."""
    pytester.makepyfile("""
import sys

def test():
    assert "_gatepay_async_pytest" in sys.modules
    for name in ("gatepay_async", "anyio", "httpx", "httpcore", "attrs", "cattrs", "msgspec", "starlette", "uvicorn"):
        assert name not in sys.modules
""")
    # Other plugins could import these packages.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(gatepay_async.__file__).parents[1]))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "_gatepay_async_pytest")
    result.assert_outcomes(passed=1)
