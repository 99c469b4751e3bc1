"""
Runs every command that the documentation shows, against the sandbox.

    python docs/transcripts.py            which pages show something else than what comes out; ends with 1 if any does
    python docs/transcripts.py --write    write what comes out into the pages

A block of `console` holds lines that begin with `$ `, and below each what it prints. What differs from run to run is
shown as `…`. An installation is shown, and not run.

A plain `gatepay` command line runs in a fork of a process that has imported the command (docs/warm_command.py); a line
of anything else, or with anything that a shell reads in its own way, runs in a real shell.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread
from attrs import evolve, frozen

from gatepay_async.sandbox import Sandbox

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KEYS = "AAAA-1111\nBBBB-2222\n\nAAAA-1111\nCCCC-3333\n"  # keys.txt of the pages
QUEUE = "uploads.sqlite3"  # of durable uploads
LONGEST = 120  # seconds that a command may take
INSTALLS = "pip install "
# Outside of single quotes: what a shell does not take as it is written.
OF_A_SHELL = re.compile(r"""[^\w\s./:=,@%+'-]""")
# The same for all that is shown: no colours, and tables as wide as they are in a pipe.
SCREEN = {"PYTHONUTF8": "1", "NO_COLOR": "1"}
HELP_COLUMNS = {"COLUMNS": "88"}
# Ports, numbers made by chance, times, and what is installed.
VARIES = (
    (re.compile(r"(?<=127\.0\.0\.1:)\d+"), "…"),
    (re.compile(r"(?<=[?&]id=)\w+"), "…"),
    (re.compile(r"\bT01[0-9A-Z]{24,}X\b"), "T01…X"),
    (
        re.compile(r"(?<=appkey[ =])[0-9a-f]{16}|(?<=appkey 为 )[0-9a-f]{16}|(?<=sign=)[0-9a-f]{32}|(?<=paytime=)\d+"),
        "…",
    ),
    (re.compile(r"(?<=[ （(])\d+(?= ms| 毫秒)"), "…"),
    (re.compile(r"[+-]?\d+ (?=s from|秒)"), "… "),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d [+-]\d{4})?"), "…"),
    (re.compile(r"gatepay-async \d.*|\d+ authorities.*|信任 \d+ 个.*"), "…"),
)


@frozen
class Shown:
    """A command of a page, and what the page says that it prints."""

    command: str
    printed: str


def pages() -> list[Path]:
    """Those that show a command."""
    found = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("README*.md")]
    return sorted(page for page in found if BLOCK.search(page.read_text("utf-8")))


def shown(block: str) -> list[Shown]:
    """The commands of a block."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return [Shown(command, printed) for command, printed in zip(parts[::2], parts[1::2], strict=True)]


def steady(printed: str) -> str:
    """What a command prints, without what differs from run to run, and without blanks at the ends."""
    for pattern, shown_as in VARIES:
        printed = pattern.sub(shown_as, printed)
    text = "\n".join(line.rstrip() for line in printed.splitlines()).strip("\n")
    return f"{text}\n" if text else ""


def blocks_of(page: Path) -> list[list[Shown]]:
    """What the page shows."""
    return [shown(found[1]) for found in BLOCK.finditer(page.read_text("utf-8"))]


@frozen
class Warm:
    """A process that has imported the command, and forks for each command line."""

    process: subprocess.Popen[str]
    output: Path

    def run(self, arguments: list[str], folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
        """Run ``gatepay`` with *arguments*; its status, and all that it prints."""
        command = {"arguments": arguments, "folder": str(folder), "environment": dict(environment)}
        print(json.dumps(command | {"output": str(self.output)}), file=_pipe(self.process.stdin), flush=True)
        status = _pipe(self.process.stdout).readline()
        return int(status), self.output.read_text("utf-8")


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None  # noqa: S101 -- Popen was asked for it
    return stream


@contextmanager
def warm() -> Generator[Warm]:
    """Start such a process; it ends when its input does."""
    program = [sys.executable, str(ROOT / "docs" / "warm_command.py")]
    environment = bare_environment() | SCREEN
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(  # noqa: S603 -- our own
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, encoding="utf-8"
        ) as process,
    ):
        yield Warm(process, Path(folder) / "printed")


async def run(page: Path, folder: Path, command: Warm | None = None) -> list[list[Shown]]:
    """
    Each block of *page* with what its commands really print, one after the other, in a *folder* of their own.

    *command* runs the plain ``gatepay`` command lines; without it, each is a new process.
    """
    (folder / "keys.txt").write_text(KEYS, "utf-8")
    (folder / "gatepay").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gatepay_async.cli "$@"\n', "utf-8")
    (folder / "gatepay").chmod(0o755)
    spool = folder / f"{QUEUE}-spool"
    spool.mkdir(mode=0o700)
    (spool / "digest-key").write_bytes(bytes(32))  # else the numbers of durable uploads would differ from run to run
    blocks = blocks_of(page)
    with Sandbox() as sandbox:
        async with sandbox.serve() as base_url:
            surroundings = environment(sandbox, base_url, folder, chinese="zh" in str(page.relative_to(ROOT)))
            status = 0
            for block in blocks:
                for number, each in enumerate(block):
                    columns = HELP_COLUMNS if "--help" in each.command else {}
                    status, printed = await execute(each.command, status, folder, surroundings | columns, command)
                    block[number] = evolve(each, printed=steady(printed))
    return blocks


def bare_environment() -> dict[str, str]:
    """Ours, without what changes what the command says or does."""
    theirs = ("GATEPAY_", "LC_", "LANG", "HTTP", "ALL_PROXY", "NO_PROXY", "COLUMNS")
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(theirs)}


def environment(sandbox: Sandbox, base_url: str, folder: Path, *, chinese: bool) -> dict[str, str]:
    """What a reader has set."""
    return {
        **bare_environment(),
        **SCREEN,
        "GATEPAY_APPKEY": sandbox.appkey,
        "GATEPAY_APPSECRET": sandbox.appsecret,
        "GATEPAY_BASE_URL": base_url,
        "GATEPAY_UPLOADS": f"sqlite:///{folder / QUEUE}",
        "LANG": "zh_CN.UTF-8" if chinese else "en_US.UTF-8",
        "HOME": str(folder),
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
    }


def plain(command: str) -> list[str] | None:
    """The arguments of a ``gatepay`` command line that needs no shell; None for every other line."""
    name, *arguments = shlex.split(command)
    if name != "gatepay" or OF_A_SHELL.search(re.sub(r"'[^']*'", "", command)):
        return None
    return arguments


async def execute(
    command: str, status: int, folder: Path, surroundings: Mapping[str, str], warm: Warm | None
) -> tuple[int, str]:
    """Run a command as a shell would after one that ended with *status*; its own status, and all that it prints."""
    if command.startswith(INSTALLS):
        return 0, ""
    arguments = plain(command)
    with anyio.fail_after(LONGEST):
        if warm is not None and arguments is not None:
            return await anyio.to_thread.run_sync(warm.run, arguments, folder, surroundings, abandon_on_cancel=True)
        line = ["bash", "-c", f"(exit {status}); {{ {command}\n}} 2>&1"]
        done = await anyio.run_process(line, cwd=folder, env=surroundings, check=False)
    return done.returncode, done.stdout.decode()


def written(page: Path, blocks: list[list[Shown]]) -> str:
    """The page, with *blocks* in the place of its own."""
    rest: Iterator[list[Shown]] = iter(blocks)

    def block(_: re.Match[str]) -> str:
        return "```console\n" + "".join(f"$ {each.command}\n{each.printed}" for each in next(rest)) + "```"

    return BLOCK.sub(block, page.read_text("utf-8"))


def main(arguments: list[str]) -> int:
    """Compare, or write."""
    differ = 0
    with warm() as command:
        for page in pages():
            with tempfile.TemporaryDirectory() as folder:
                text = written(page, anyio.run(partial(run, page, Path(folder), command)))
            if text != page.read_text("utf-8"):
                print(f"{page.relative_to(ROOT)} shows something else than what comes out")
                differ = 1
                if arguments == ["--write"]:
                    page.write_text(text, "utf-8")
    return differ


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
