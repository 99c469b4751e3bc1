"""
The programs on the pages are run as a reader runs them: each is copied out alone and run against a sandbox.

A block of ``python`` with a title is a program. It is saved under that name in an empty folder, next to the files that
the page shows (blocks of ``text`` with a title), and must print what the block of ``text`` below it shows. A block of
``python`` without a title is a fragment: a few lines that are no program.
"""

import ast
import contextlib
import importlib
import importlib.metadata
import io
import logging
import re
import runpy
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from attrs import frozen
from tables import rows

from gatepay_async.sandbox import Sandbox
from gatepay_async.testing import signed_callback

pytestmark = pytest.mark.sockets

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = runpy.run_path(str(DOCS / "languages.py"))["FENCE"]
PAGES = sorted(page for lang in ("en", "zh") for page in (DOCS / lang).rglob("*.md"))
# Installed, the pytest plugin is found by its entry point; from the folder, it is named.
INSTALLED = "gatepay-async" in importlib.metadata.entry_points(group="pytest11").names
NAMED = [] if INSTALLED else ["-p", "_gatepay_async_pytest"]
OUR_LOGS = ("gatepay_async", "gatepay_async.callbacks", "gatepay_async.durable", "gatepay_async.sandbox")
# What is shown in a block of shell, and not run: it installs, starts a server, or needs the reader's own values.
SHOWN = (
    *("pip install ", "export ", "GATEPAY_", "uvicorn ", "gatepay sandbox ", "python examples/", "pytest", "curl "),
    *(
        "gatepay login",
        "gatepay logout",
        "gatepay profiles",
        "gatepay products --profile",
        "gatepay products --env-file",
    ),
    *("gatepay uploads work", "psql ", "sudo systemctl ", "python export_keys.py", "gatepay keys export "),
)
KINDS = (
    *("python", "text", "console", "sh", "powershell", "bat", "ini", "yaml", "dockerfile"),
    *("{toctree}", "{eval-rst}", "{literalinclude}", "{catalogue}", "{speed}"),
)
LONGEST_FRAGMENT = 8  # lines; whatever is longer is a program


@frozen
class Block:
    """A block of code on a page; *title* is the name of its file, or nothing."""

    page: Path
    line: int
    kind: str
    title: str
    code: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_program(self) -> bool:
        return self.kind == "python" and bool(self.title)


@frozen
class Program:
    """A program with the files of its page, and what the page says it prints."""

    block: Block
    files: list[Block]
    prints: str


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    return list(_blocks(page))


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in FENCE.finditer(text):
        kind, _, rest = found["info"].strip().partition(" ")
        title = re.fullmatch(r'title="([^"]+)"', rest)
        line = text.count("\n", 0, found.start()) + 2
        yield Block(page, line, kind, title[1] if title else "", found["body"])


def programs(page: Path) -> list[Program]:
    """The programs of a page, each with what it prints."""
    files = [each for each in blocks(page) if each.kind != "python" and each.title]
    return [Program(block, files, printed) for block, printed in with_output(page) if block.is_program]


def with_output(page: Path) -> Iterator[tuple[Block, str]]:
    """Each block of a page, with what is shown below it as printed."""
    found = blocks(page)
    for block, below in zip_longest(found, found[1:]):
        yield block, below.code if below and below.kind == "text" and not below.title else ""


def title(program: Program) -> str:
    return f"{program.block.page.relative_to(DOCS / 'en').with_suffix('')}/{program.block.title}"


# test_docs_languages.py sees to it that the Chinese pages hold the same code and show the same output.
in_english = [program for page in PAGES if "en" in page.parts for program in programs(page)]
# Page -> what tells whether its extra is installed. `nox -s docs` has all of them.
NEEDS = {"durable": "dbos"}


@contextlib.contextmanager
def logging_as_before() -> Iterator[None]:
    """A program may set logging up; the tests that come after it in this process have theirs."""
    root = logging.getLogger()
    handlers, levels = [*root.handlers], {name: logging.getLogger(name).level for name in ("root", *OUR_LOGS)}
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def surroundings(folder: Path, files: list[Block]) -> Iterator[Sandbox]:
    """A folder with nothing but the page's files, and a sandbox that the environment names."""
    folder.mkdir()
    for each in files:
        (folder / each.title).write_text(each.code, "utf-8")
    with (
        logging_as_before(),
        Sandbox() as sandbox,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(sandbox.serve()) as base_url,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.chdir(folder)
        for name, value in {"APPKEY": sandbox.appkey, "APPSECRET": sandbox.appsecret, "BASE_URL": base_url}.items():
            patch.setenv(f"GATEPAY_{name}", value)
        # The variables of a durable upload's queue; on the page they name PostgreSQL and a shared folder.
        patch.setenv("GATEPAY_UPLOADS", "sqlite:///uploads.sqlite3")
        patch.setenv("GATEPAY_UPLOADS_SPOOL", str(folder / "spool"))
        yield sandbox


def run(program: Program, folder: Path) -> str:
    """Copy a program out alone and run it; return what it prints."""
    name, printed = program.block.title, io.StringIO()
    with surroundings(folder, program.files) as sandbox:
        (folder / name).write_text(program.block.code, "utf-8")
        if name.startswith("test_"):
            run_tests(name)
            return ""
        if "opentelemetry" in program.block.code:
            return in_a_process_of_its_own(name)
        with contextlib.redirect_stdout(printed):
            names = runpy.run_path(name, run_name="__main__")
        if "app" in names:
            anyio.run(serve, names, sandbox)
            return ""
    return printed.getvalue()


def in_a_process_of_its_own(name: str) -> str:
    """Run a program that uses what a process has once: OpenTelemetry's provider, and its exporter's output."""
    done = subprocess.run([sys.executable, name], capture_output=True, text=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


async def serve(names: dict[str, Any], sandbox: Sandbox) -> None:
    """Call an application object as its server would: it refuses what is forged and accepts a payment."""
    replies: list[str] = []
    transport = httpx.ASGITransport(names["app"])
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as browser:
        for secret in ("guessed", sandbox.appsecret):
            query = signed_callback(appkey=sandbox.appkey, appsecret=secret, out_order_id="T-1001-X", price="0.99")
            replies.append((await browser.get(f"/gatepay/callback?{query}")).text)
    assert replies == ["fail", "success"]
    await names["store"].aclose()


def run_tests(name: str) -> None:
    """Run a file of tests as a reader would: with pytest, and the fixtures of the package."""
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:faker", "-W", "error", *NAMED]
    strict = ["-o", "asyncio_default_fixture_loop_scope=function"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *strict, name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def same(printed: str, shown: str) -> bool:
    """Whether it is what the page shows; `…` stands for anything within a line."""
    return re.fullmatch(re.escape(shown).replace("…", "[^\n]*"), printed) is not None


def lane(program: Program) -> list[pytest.MarkDecorator]:
    """Programs with a queue, with tests in them or in a process of their own take seconds."""
    is_slow = (
        program.block.page.stem in NEEDS
        or program.block.title.startswith("test_")
        or "opentelemetry" in program.block.code
    )
    return [pytest.mark.slow] if is_slow else []


@pytest.mark.parametrize("program", [pytest.param(each, marks=lane(each), id=title(each)) for each in in_english])
def test_program(program: Program, tmp_path: Path) -> None:
    """Each program runs when it is copied out alone, and prints what the page shows."""
    if program.block.page.stem in NEEDS:
        pytest.importorskip(NEEDS[program.block.page.stem], reason="the page's extra is not installed")
    if "DBOS(config=" in program.block.code and sys.version_info >= (3, 12) and sqlite3.sqlite_version_info < (3, 42):
        pytest.skip("on Python 3.12 or later, a DBOS of the application's needs SQLite 3.42, as the page says")
    printed = run(program, tmp_path / "alone")
    assert same(printed, program.prints), (
        f"{program.block.where} shows\n{program.prints}\nbut this was printed:\n{printed}"
    )


@rows("page", PAGES)
def test_blocks_are_of_a_known_kind(page: Path) -> None:
    """What is shown is run, or is of a kind that can't be: settings, and commands that install or serve."""
    for block in blocks(page):
        assert block.kind in KINDS, block.where
        if block.kind == "sh":
            assert all(each.startswith(SHOWN) for each in block.code.splitlines()), block.where


@rows("page", PAGES)
def test_fragments_are_short_and_right(page: Path) -> None:
    """Python without a title is a few lines that compile; what they import exists, and nothing is shown as printed."""
    for block, printed in with_output(page):
        if block.kind == "python" and not block.title:
            assert block.code.count("\n") <= LONGEST_FRAGMENT, f"{block.where} is long: a program needs a title"
            assert not printed, f"{block.where}: only a program prints"
            tree = compile(block.code, block.where, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            check_imports(tree, block.where)


def check_imports(tree: ast.AST, where: str) -> None:
    """Each name that is imported from this package is there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("gatepay_async"):
            module = importlib.import_module(str(node.module))
            assert [each.name for each in node.names if not hasattr(module, each.name)] == [], where
