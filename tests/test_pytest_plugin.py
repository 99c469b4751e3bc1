"""The pytest plugin: its fixtures under each plugin for async tests, in sessions of their own."""

import importlib.metadata
import re
from pathlib import Path

import pytest
import pytest_asyncio

import gatepay_async

pytestmark = pytest.mark.sockets

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
# Installed, the plugin is found by its entry point; from the folder, it is named.
INSTALLED = "gatepay-async" in importlib.metadata.entry_points(group="pytest11").names
NAMED = [] if INSTALLED else ["-p", "_gatepay_async_pytest"]
# The plugins of Hypothesis and Faker would import all of theirs once more in every session: a second each.
PLAIN = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:faker", *NAMED]
STRICT = ["-o", "asyncio_default_fixture_loop_scope=function", "-o", "asyncio_mode=strict"]
AUTO = [*STRICT, "-o", "asyncio_mode=auto"]

BUYS = """
    assert gatepay_sandbox.orders() == []
    await gatepay.create_payment(
        product_id=8, product_num=1, pay_type="alipay", out_order_id="T-1-X", custom="terry@example.com"
    )
    assert [order.out_order_id for order in gatepay_sandbox.orders()] == ["T-1-X"]
    gatepay_sandbox.fault(Fault(FaultKind.BAD_GATEWAY, times=3))
    assert gatepay._policy.longest_wait == 0
    assert len((await gatepay.list_products()).products) == 3  # after three retries
"""
HEAD = "import pytest\nfrom gatepay_async.sandbox import Fault, FaultKind\n"


@pytest.fixture(autouse=True)
def alone(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that nothing of ours is set for."""
    for name in ("PYTEST_ADDOPTS", "GATEPAY_APPKEY", "GATEPAY_APPSECRET", "GATEPAY_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def run(pytester: pytest.Pytester, test: str, *options: str) -> pytest.RunResult:
    """A session in this process; whatever warns fails it."""
    pytester.makepyfile(HEAD + test)
    return pytester.runpytest_inprocess(*PLAIN, "-W", "error", *options)


@pytest.mark.parametrize(
    ("mark", "options", "passed"),
    [
        ("@pytest.mark.anyio", STRICT, 2),
        ("@pytest.mark.anyio", ["-p", "no:asyncio"], 2),
        ("", ["-p", "no:asyncio", "-o", "anyio_mode=auto"], 2),
        ("@pytest.mark.asyncio", STRICT, 1),
        ("@pytest.mark.asyncio", [*STRICT, "-p", "no:anyio"], 1),
        ("", AUTO, 1),
        *(
            (f"@pytest.mark.asyncio(loop_scope='{scope}')", STRICT, 1)
            for scope in ("function", "class", "module", "package", "session")
        ),
        ("@pytest.mark.asyncio", [*STRICT, "-o", "asyncio_default_test_loop_scope=session"], 1),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else None,
)
@pytest.mark.slow
def test_under_each_plugin(pytester: pytest.Pytester, mark: str, options: list[str], passed: int) -> None:
    """An async test gets an open client of a fresh sandbox: under anyio on both loops, under pytest-asyncio on its."""
    twice = "".join(
        f"class Test{n}:\n{mark and f'  {mark}'}\n  async def test(self, gatepay, gatepay_sandbox):{BUYS}" for n in "AB"
    )
    run(pytester, twice, *options).assert_outcomes(passed=2 * passed)


@pytest.mark.slow
@pytest.mark.parametrize("mark", ["anyio", "asyncio"])
def test_a_fixture_of_ones_own_builds_on_it(pytester: pytest.Pytester, mark: str) -> None:
    """An async fixture may ask for the client, and use it."""
    decorator = "pytest.fixture" if mark == "anyio" else "pytest_asyncio.fixture"
    test = f"""
import pytest_asyncio

@{decorator}
async def prices(gatepay):
    yield [each.price for each in (await gatepay.list_products()).products]
    await gatepay.list_products()  # still open

@pytest.mark.{mark}
async def test(prices, gatepay_sandbox):
    assert len(prices) == 3
"""
    run(pytester, test, *STRICT).assert_outcomes(passed=2 if mark == "anyio" else 1)


def test_options(pytester: pytest.Pytester) -> None:
    """Sandbox and client are made with what the two fixtures of options say."""
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
    run(pytester, test, *STRICT).assert_outcomes(passed=2)


def test_environment(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that reads the environment talks to the sandbox, as long as the test lasts."""
    test = """
import os
import anyio
from gatepay_async import AsyncGatePay

def test(gatepay_environment, gatepay_sandbox):
    async def program():
        async with AsyncGatePay() as client:
            return (await client.list_products()).products

    assert len(anyio.run(program)) == 3
    assert [each.endpoint for each in gatepay_sandbox.requests] == ["product/show"]
    assert gatepay_environment["GATEPAY_APPSECRET"] == gatepay_sandbox.appsecret

def test_after():
    assert not [name for name in os.environ if name.startswith("GATEPAY_APP")]
"""
    run(pytester, test, *STRICT).assert_outcomes(passed=2)


def test_override(pytester: pytest.Pytester) -> None:
    """A project's own fixture of the same name takes the plugin's place."""
    pytester.makeconftest("import pytest\n\n@pytest.fixture\ndef gatepay():\n    return 'my own'\n")
    run(pytester, "def test(gatepay):\n    assert gatepay == 'my own'\n", *STRICT).assert_outcomes(passed=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("test", "options", "words"),
    [
        ("def test(gatepay): ...", STRICT, "gatepay is an open client, for async tests"),
        ("async def test(gatepay): ...", STRICT, "pytest.mark.anyio"),
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
            AUTO,
            "both anyio's plugin and pytest-asyncio would run this test*asyncio_mode",
        ),
    ],
    ids=["sync", "unmarked", "no plugin", "not its plugin", "nor its", "two plugins"],
)
def test_what_can_not_work_says_so(pytester: pytest.Pytester, test: str, options: list[str], words: str) -> None:
    """A test that no plugin runs, or two do, is told what to do, without a traceback."""
    result = run(pytester, test, *options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    said = " ".join(result.stdout.str().split())
    assert re.search(words.replace("*", ".*"), said)
    assert "_gatepay_async_pytest.py" not in said


def test_an_old_pytest_asyncio(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that can't run fixtures that are asked for later is named, with what is needed."""
    monkeypatch.setattr(pytest_asyncio, "__version__", "1.0.0")
    result = run(pytester, "@pytest.mark.asyncio\nasync def test(gatepay): ...", *STRICT)
    result.stdout.fnmatch_lines(["gatepay needs pytest-asyncio 1.1 or later, not 1.0.0"])
    result.assert_outcomes(errors=1)


def test_without_the_extra(pytester: pytest.Pytester) -> None:
    """Where the extra `sandbox` is missing, the fixture fails with the command that installs it, and others pass."""
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
    result = pytester.runpytest_inprocess(*PLAIN, *STRICT)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["gatepay_sandbox needs segno, which is not installed: pip install 'gatepay-async?sandbox?'"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("marked", ["pytest.mark.anyio", "pytest.mark.asyncio"])
def test_the_example(pytester: pytest.Pytester, marked: str) -> None:
    """examples/test_my_shop.py passes as it stands, and with the other mark that it names."""
    example = (ROOT / "examples" / "test_my_shop.py").read_text("utf-8")
    assert "pytestmark = pytest.mark.anyio" in example
    pytester.makepyfile(test_my_shop=example.replace("pytest.mark.anyio", marked, 1))
    result = pytester.runpytest_inprocess(*PLAIN, *STRICT, "-W", "error")
    result.assert_outcomes(passed=10 if marked.endswith("anyio") else 5)


def test_it_costs_nothing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a session that doesn't ask for it, nothing of the SDK is imported, nor what it needs."""
    pytester.makepyfile("""
import sys

def test():
    assert "_gatepay_async_pytest" in sys.modules
    for name in ("gatepay_async", "anyio", "httpx", "httpcore", "attrs", "cattrs", "msgspec", "starlette", "uvicorn"):
        assert name not in sys.modules
""")
    # Without the plugins of others, which import what they like.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(gatepay_async.__file__).parents[1]))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "_gatepay_async_pytest")
    result.assert_outcomes(passed=1)
