"""The README is run: its Python blocks, in order, against the sandbox; its two commands are checked for their form."""

import ast
import contextlib
import inspect
import io
import re
import ssl
from collections.abc import Awaitable
from decimal import Decimal
from pathlib import Path
from typing import cast

import certifi
import httpx
import pytest
from delivering import word

import gatepay_async
from gatepay_async import AsyncGatePay
from gatepay_async.callbacks import CallbackApp, SQLiteStore
from gatepay_async.client import AsyncGatePay as Client
from gatepay_async.protocol.retrying import RetryPolicy
from gatepay_async.sandbox import Fault, FaultKind, Sandbox

pytestmark = pytest.mark.sockets

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


async def run(block: str, names: dict[str, object]) -> str:
    """Run a block with top-level awaits; what it prints."""
    code = compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        result = eval(code, names)  # noqa: S307 -- our own README
        if inspect.isawaitable(result):
            await cast("Awaitable[object]", result)
    return printed.getvalue()


@pytest.mark.anyio
async def test_tour(sandbox: Sandbox, base_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tour does what it says, from the first block to the last."""
    tour, callback, paid, connections, _fixtures, testing = blocks("python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEPAY_BASE_URL", base_url)
    Path("card_keys.txt").write_text("AAAA\nBBBB\nAAAA\n")
    names: dict[str, object] = {name: getattr(gatepay_async, name) for name in gatepay_async.__all__}
    names |= {"appkey": sandbox.appkey, "appsecret": sandbox.appsecret}
    names |= {"Sandbox": Sandbox, "Fault": Fault, "FaultKind": FaultKind}
    printed = await run(tour, names)
    assert "腾讯视频SVIP账号 0.99 89\n2 0 1\n" in printed
    assert printed.count("soldin") == 91
    assert Path("payment.png").read_bytes().startswith(b"\x89PNG")
    gatepay = cast("AsyncGatePay", names["gatepay"])
    query = sandbox.callback_query(sandbox.orders()[-1])
    assert "T-1001-X 0.99" in await run(callback, names | {"gatepay": gatepay, "query": query})
    assert "sign: does not match" in await run(callback, names | {"query": query.replace("=0.99", "=0.98")})
    names |= {"Decimal": Decimal}
    assert await run(paid, names) == ""
    heard = io.StringIO()
    with contextlib.redirect_stdout(heard):
        assert [await word(names["app"], query.encode()) for _ in range(2)] == ["success", "success"]
    assert heard.getvalue() == "give the goods of T-1001-X\n"
    await cast("SQLiteStore", cast("CallbackApp", names["app"])._store).aclose()
    await run(connections, names | {"httpx": httpx, "ssl": ssl, "certifi": certifi})
    await run(testing, names)


def test_two_commands() -> None:
    """The first two `sh` blocks are the two commands, one line each: the quickstart, and the tests."""
    first, second = blocks("sh")[:2]
    assert (first.count("\n"), second.count("\n")) == (1, 1)
    assert first.endswith("examples/quickstart.py\n")
    assert second.endswith("nox -s tests\n")
    for command in (first, second):
        assert command.startswith("python3 -m venv ")


def test_links() -> None:
    """Every file that the README points at is there."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_numbers() -> None:
    """The numbers that the README gives are the code's."""
    policy = RetryPolicy()
    assert (policy.attempts, policy.first_wait, policy.longest_retry_after, policy.budget) == (4, 0.25, 30, 20)
    assert "Four attempts, with waits of 0.25 s" in README
    assert "`Retry-After` of up to 30 s" in README
    assert "twenty attempts beyond" in README
    defaults = {name: each.default for name, each in inspect.signature(Client).parameters.items()}
    assert (defaults["timeout"], defaults["deadline"]) == (10, 60)
    assert "`timeout` (10 s)" in README
    assert "`deadline` (60 s)" in README


def test_names() -> None:
    """Every error that the README names is a public one."""
    for name in re.findall(r"`(\w+(?:Error|Incomplete))`", README):
        assert hasattr(gatepay_async, name) or name == "ValueError", name
