"""The documentation is run: each Python block, in order, against the sandbox; and what it prints is compared."""

import ast
import asyncio
import contextlib
import contextvars
import importlib.metadata
import inspect
import io
import re
import runpy
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tables import rows

from gatepay_async import AsyncGatePay
from gatepay_async.sandbox import Sandbox

pytestmark = pytest.mark.sockets

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = runpy.run_path(str(DOCS / "languages.py"))["FENCE"]
PAGES = sorted(page for lang in ("en", "zh") for page in (DOCS / lang).rglob("*.md"))
# Installed, the pytest plugin is found by its entry point; from the folder, it is named.
INSTALLED = "gatepay-async" in importlib.metadata.entry_points(group="pytest11").names
NAMED = [] if INSTALLED else ["-p", "_gatepay_async_pytest"]
# What is shown in a block of shell, and not run: it installs, starts a server, or sets the reader's own values.
SHOWN = (
    *("pip install ", "export ", "GATEPAY_", "uvicorn ", "gatepay sandbox ", "python examples/", "pytest", "curl "),
    *("gatepay uploads work", "psql ", "sudo systemctl ", "python uploads_worker.py"),
)


def blocks(page: Path) -> Iterator[tuple[str, str, int]]:
    """Language, code and line of each block."""
    text = page.read_text("utf-8")
    for found in FENCE.finditer(text):
        yield found["info"].strip(), found["body"], text.count("\n", 0, found.start()) + 2


def title(page: Path) -> str:
    return str(page.relative_to(DOCS).with_suffix(""))


# test_docs_languages.py sees to it that the Chinese pages hold the same code and show the same output.
with_code = [page for page in PAGES if "en" in page.parts and any(info == "python" for info, _, _ in blocks(page))]


@pytest.fixture
def anyio_backend() -> str:
    """The pages speak of asyncio; what they show is run on both loops elsewhere."""
    return "asyncio"


@pytest.fixture
async def names(
    sandbox: Sandbox, base_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[dict[str, Any]]:
    """What the pages take for given: credentials in the environment, a file of card keys, an open client."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"APPKEY": sandbox.appkey, "APPSECRET": sandbox.appsecret, "BASE_URL": base_url}.items():
        monkeypatch.setenv(f"GATEPAY_{name}", value)
    Path("card_keys.txt").write_text("AAAA-1111\nBBBB-2222\nAAAA-1111\n", "utf-8")
    async with AsyncGatePay() as gatepay:
        yield {"__name__": "__main__", "gatepay": gatepay, "sandbox": sandbox, "AsyncGatePay": AsyncGatePay}


async def run(code: str, names: dict[str, Any], where: str) -> str:
    """Run a block, with awaits at its top or with a loop of its own; what it prints."""
    printed = io.StringIO()
    compiled = compile(code, where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if re.search(r"^(async )?def test_", code, re.MULTILINE):
        await asyncio.to_thread(run_tests, code)
        return ""
    with contextlib.redirect_stdout(printed):
        if re.search(r"^(asyncio|anyio|trio)\.run\(", code, re.MULTILINE):
            await asyncio.to_thread(run_alone, code, names, where)
        else:
            result = eval(compiled, names)  # noqa: S307 -- our own pages
            if inspect.isawaitable(result):
                await cast("Awaitable[object]", result)
    return printed.getvalue()


def run_alone(code: str, names: dict[str, Any], where: str) -> None:
    """Run a whole program, on a thread that knows of no loop."""
    failed: list[BaseException] = []

    def program() -> None:
        try:
            contextvars.Context().run(exec, compile(code, where, "exec"), names)
        except BaseException as error:  # noqa: BLE001 -- raised below, where pytest sees it
            failed.append(error)

    thread = threading.Thread(target=program)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def run_tests(code: str) -> None:
    """Run a block that holds tests as a reader would: a file, and pytest with the fixtures of the package."""
    Path("test_shop.py").write_text(code, "utf-8")
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:faker", "-W", "error", *NAMED]
    strict = ["-o", "asyncio_default_fixture_loop_scope=function"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *strict, "test_shop.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def same(printed: str, shown: str) -> bool:
    """Whether it is what the page shows; `…` stands for anything within a line."""
    return re.fullmatch(re.escape(shown).replace("…", "[^\n]*"), printed) is not None


# Page -> what tells whether its extra is installed. `nox -s docs` has all of them.
NEEDS = {"durable": "dbos"}


@pytest.mark.anyio
@pytest.mark.parametrize("page", with_code, ids=title)
async def test_python(page: Path, names: dict[str, Any]) -> None:
    """Each block runs, and prints what the page says it prints."""
    if page.stem in NEEDS:
        pytest.importorskip(NEEDS[page.stem], reason="the extra that the page is about is not installed")
    printed: str | None = None
    open_one = names["gatepay"]
    for info, code, line in blocks(page):
        where = f"{page.relative_to(ROOT)}:{line}"
        if info == "text" and printed is not None:
            assert same(printed, code), f"{where} shows\n{code}\nbut this was printed:\n{printed}"
            printed = None
            continue
        assert not printed, f"{where}: what the block before it prints is not shown:\n{printed}"
        names["gatepay"] = open_one  # a block may have closed its own
        printed = await run(code, names, where) if info == "python" else None
    assert not printed, f"{page}: what the last block prints is not shown:\n{printed}"


@rows("page", PAGES)
def test_blocks_are_of_a_known_kind(page: Path) -> None:
    """What is shown is run, or is of a kind that can't be: settings, and commands that install or serve."""
    for info, code, line in blocks(page):
        kinds = ("python", "text", "console", "sh", "ini", "{toctree}", "{eval-rst}", "{literalinclude}", "{catalogue}")
        assert info.split(" ")[0] in kinds, f"{page.name}:{line} is {info!r}"
        if info == "sh":
            assert all(each.startswith(SHOWN) for each in code.splitlines()), f"{page.name}:{line}"
