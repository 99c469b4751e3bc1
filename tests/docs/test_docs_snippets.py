"""
Runs the programs on the pages as a reader does: each in an empty folder, with a sandbox.

A block of ``python`` with a title is a program. It is saved under that name in an empty folder, next to the files that
the page shows (blocks of ``text`` with a title), and must print what the block of ``text`` below it shows. No page has
a block of ``python`` without a title.
"""

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
# pytest finds the installed plugin by its entry point. If the package isn't installed, an option must name the plugin.
IS_PLUGIN_INSTALLED = "gatepay-async" in importlib.metadata.entry_points(group="pytest11").names
PLUGIN_OPTIONS = [] if IS_PLUGIN_INSTALLED else ["-p", "_gatepay_async_pytest"]
OUR_LOGS = ("gatepay_async", "gatepay_async.callbacks", "gatepay_async.durable", "gatepay_async.sandbox")
# Commands in shell blocks that are not run: they install, start a server, or need the reader's own values.
COMMANDS_NOT_RUN = (
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


@frozen
class Block:
    """A code block on a page. *title* is its file name, or empty."""

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
    """A program with the other files of its page, and the output that the page shows."""

    block: Block
    files: list[Block]
    prints: str


def blocks(page: Path) -> list[Block]:
    """Return all code blocks of a page, in order."""
    return list(_blocks(page))


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for match in FENCE.finditer(text):
        kind, _, options = match["info"].strip().partition(" ")
        title = re.fullmatch(r'title="([^"]+)"', options)
        line = text.count("\n", 0, match.start()) + 2
        yield Block(page, line, kind, title[1] if title else "", match["body"])


def programs(page: Path) -> list[Program]:
    """Return the programs of a page, each with the output that the page shows."""
    files = [block for block in blocks(page) if block.kind != "python" and block.title]
    return [Program(block, files, printed) for block, printed in with_output(page) if block.is_program]


def with_output(page: Path) -> Iterator[tuple[Block, str]]:
    """Yield each block of a page with the output that the page shows below it."""
    page_blocks = blocks(page)
    for block, next_block in zip_longest(page_blocks, page_blocks[1:]):
        yield block, next_block.code if next_block and next_block.kind == "text" and not next_block.title else ""


def id_of_test(program: Program) -> str:
    """Return the page and the file name of *program*, as the ID of its test."""
    return f"{program.block.page.relative_to(DOCS / 'en').with_suffix('')}/{program.block.title}"


# Only the English ones: test_docs_languages.py checks that the Chinese pages have the same code and output.
ENGLISH_PROGRAMS = [program for page in PAGES if "en" in page.parts for program in programs(page)]
# Page -> a package of the extra that it needs. `nox -s docs` installs all extras.
NEEDED_PACKAGES = {"durable": "dbos"}


@contextlib.contextmanager
def restored_logging() -> Iterator[None]:
    """Restore the logging configuration afterwards, because a program may change it."""
    root = logging.getLogger()
    handlers, levels = [*root.handlers], {name: logging.getLogger(name).level for name in ("root", *OUR_LOGS)}
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def folder_with_sandbox(folder: Path, files: list[Block]) -> Iterator[Sandbox]:
    """Enter a folder that has only the page's files. Yield a sandbox, whose settings are in the environment."""
    folder.mkdir()
    for file in files:
        (folder / file.title).write_text(file.code, "utf-8")
    with (
        restored_logging(),
        Sandbox() as sandbox,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(sandbox.serve()) as base_url,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.chdir(folder)
        for name, value in {
            "APPKEY": sandbox.appkey,
            "APPSECRET": sandbox.appsecret,
            "BASE_URL": base_url,
            "CLOUD_BASE_URL": base_url,
        }.items():
            patch.setenv(f"GATEPAY_{name}", value)
        # For durable uploads: SQLite and a local folder, where the page has PostgreSQL and a shared folder.
        patch.setenv("GATEPAY_UPLOADS", "sqlite:///uploads.sqlite3")
        patch.setenv("GATEPAY_UPLOADS_SPOOL", str(folder / "spool"))
        patch.setenv("BUCKET_URL", "memory:///")
        yield sandbox


def run(program: Program, folder: Path) -> str:
    """Run a program in a new folder. Return its output."""
    name, printed = program.block.title, io.StringIO()
    with folder_with_sandbox(folder, program.files) as sandbox:
        (folder / name).write_text(program.block.code, "utf-8")
        if name.startswith("test_"):
            run_tests(name)
            return ""
        if "opentelemetry" in program.block.code:
            return run_in_new_process(name)
        with contextlib.redirect_stdout(printed):
            program_globals = runpy.run_path(name, run_name="__main__")
        if "app" in program_globals:
            anyio.run(deliver_callbacks, program_globals, sandbox)
            return ""
    return printed.getvalue()


def run_in_new_process(name: str) -> str:
    """Run a program that sets OpenTelemetry's global provider, which a process can set only once."""
    done = subprocess.run([sys.executable, name], capture_output=True, text=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


async def deliver_callbacks(program_globals: dict[str, Any], sandbox: Sandbox) -> None:
    """Call an application as its server would: it must reject a forged callback and accept a valid one."""
    replies: list[str] = []
    transport = httpx.ASGITransport(program_globals["app"])
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as browser:
        for secret in ("guessed", sandbox.appsecret):
            query = signed_callback(appkey=sandbox.appkey, appsecret=secret, out_order_id="T-1001-X", price="0.99")
            replies.append((await browser.get(f"/gatepay/callback?{query}")).text)
    assert replies == ["fail", "success"]
    await program_globals["store"].aclose()


def run_tests(name: str) -> None:
    """Run a file of tests as a reader would: with pytest and the package's fixtures."""
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        "-p",
        "no:faker",
        "-W",
        "error",
        *PLUGIN_OPTIONS,
    ]
    fixture_scope = ["-o", "asyncio_default_fixture_loop_scope=function"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *fixture_scope, name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def matches(printed: str, shown: str) -> bool:
    """Return whether the output is what the page shows; `…` stands for any text within a line."""
    return re.fullmatch(re.escape(shown).replace("…", "[^\n]*"), printed) is not None


def lane_marks(program: Program) -> list[pytest.MarkDecorator]:
    """Mark a program as slow if it takes seconds: with durable uploads, with tests, or in its own process."""
    is_slow = (
        program.block.page.stem in NEEDED_PACKAGES
        or program.block.title.startswith("test_")
        or "opentelemetry" in program.block.code
    )
    return [pytest.mark.slow] if is_slow else []


@pytest.mark.parametrize("program", [pytest.param(p, marks=lane_marks(p), id=id_of_test(p)) for p in ENGLISH_PROGRAMS])
def test_a_program_prints_the_shown_output(program: Program, tmp_path: Path) -> None:
    """Each program runs without other files, and prints the output that the page shows."""
    if program.block.page.stem in NEEDED_PACKAGES:
        pytest.importorskip(NEEDED_PACKAGES[program.block.page.stem], reason="the page's extra is not installed")
    if "DBOS(config=" in program.block.code and sys.version_info >= (3, 12) and sqlite3.sqlite_version_info < (3, 42):
        pytest.skip("on Python 3.12 or later, the application's own DBOS needs SQLite 3.42, as the page says")
    printed = run(program, tmp_path / "alone")
    assert matches(printed, program.prints), (
        f"{program.block.where} shows\n{program.prints}\nbut this was printed:\n{printed}"
    )


@rows("page", PAGES)
def test_blocks_are_of_a_known_kind(page: Path) -> None:
    """Each block is of a known kind. Shell blocks have only commands that are not run here."""
    for block in blocks(page):
        assert block.kind in KINDS, block.where
        if block.kind == "sh":
            assert all(line.startswith(COMMANDS_NOT_RUN) for line in block.code.splitlines()), block.where


README_PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]


@rows("page", [*PAGES, *README_PAGES])
def test_every_python_block_is_a_program(page: Path) -> None:
    """Each block of Python has a file name, and each included file is included whole, under its own name."""
    for block in blocks(page):
        assert block.kind not in ("py", "python3", "pycon", "{code-block}"), block.where
        assert block.kind != "python" or block.title.endswith(".py"), f"{block.where} has no title"
        if block.kind == "{literalinclude}":
            name = Path(included_at(block)).name
            assert block.code.splitlines() == [":language: python", f":caption: {name}"], block.where


def included_at(block: Block) -> str:
    """Return the path that a block of ``{literalinclude}`` includes."""
    opening = block.page.read_text("utf-8").splitlines()[block.line - 2]
    return opening.partition(" ")[2]
