"""
Runs every command that the documentation shows, with a sandbox.

    python docs/transcripts.py            list the pages whose output is wrong; the exit status is 1 if there are any
    python docs/transcripts.py --write    write the real output into the pages

A block of `console` has lines that start with `$ `, each followed by its output. `…` stands for parts that differ from
run to run. Installation commands are not run.

A `gatepay` command line that needs no shell runs in a fork of a process that has imported the command, which is faster
(docs/warm_command.py). All other command lines run in a real shell.
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
KEYS = "AAAA-1111\nBBBB-2222\n\nAAAA-1111\nCCCC-3333\n"  # the content of keys.txt
QUEUE_FILE = "uploads.sqlite3"  # the database of durable uploads
TIME_LIMIT = 120  # seconds that a command may take
INSTALLS = "pip install "
# Characters that have a meaning for a shell, outside of single quotes.
SHELL_SYNTAX = re.compile(r"""[^\w\s./:=,@%+'-]""")
# For all commands: UTF-8 and no colours.
SCREEN = {"PYTHONUTF8": "1", "NO_COLOR": "1"}
HELP_COLUMNS = {"COLUMNS": "88"}
# Ports, random numbers, times and versions, each with its replacement.
VARIABLE_PARTS = (
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
class ShownCommand:
    """A command on a page, and the output that the page shows."""

    command: str
    printed: str


def pages() -> list[Path]:
    """Return the pages that show a command."""
    all_pages = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("README*.md")]
    return sorted(page for page in all_pages if BLOCK.search(page.read_text("utf-8")))


def parse_block(block: str) -> list[ShownCommand]:
    """Return the commands of a block."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return [ShownCommand(command, printed) for command, printed in zip(parts[::2], parts[1::2], strict=True)]


def mask_variable_parts(printed: str) -> str:
    """Return the output without the parts that differ from run to run, and without spaces at line ends."""
    for pattern, shown_as in VARIABLE_PARTS:
        printed = pattern.sub(shown_as, printed)
    text = "\n".join(line.rstrip() for line in printed.splitlines()).strip("\n")
    return f"{text}\n" if text else ""


def blocks_of(page: Path) -> list[list[ShownCommand]]:
    """Return the commands of each block on a page."""
    return [parse_block(match[1]) for match in BLOCK.finditer(page.read_text("utf-8"))]


@frozen
class WarmCommand:
    """A process that has imported the command, and forks for each command line."""

    process: subprocess.Popen[str]
    output: Path

    def run(self, arguments: list[str], folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
        """Run ``gatepay`` with *arguments*. Return its exit status and its output."""
        command = {"arguments": arguments, "folder": str(folder), "environment": dict(environment)}
        print(json.dumps(command | {"output": str(self.output)}), file=_pipe(self.process.stdin), flush=True)
        status = _pipe(self.process.stdout).readline()
        return int(status), self.output.read_text("utf-8")


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None  # noqa: S101 -- Popen has a pipe here
    return stream


@contextmanager
def warm() -> Generator[WarmCommand]:
    """Start such a process. It ends when its input is closed."""
    program = [sys.executable, str(ROOT / "docs" / "warm_command.py")]
    environment = bare_environment() | SCREEN
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(  # noqa: S603 -- our own program
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, encoding="utf-8"
        ) as process,
    ):
        yield WarmCommand(process, Path(folder) / "printed")


async def run(page: Path, folder: Path, command: WarmCommand | None = None) -> list[list[ShownCommand]]:
    """
    Run the commands of a page, in order, in *folder*. Return its blocks with the real output.

    *command* runs ``gatepay`` command lines that need no shell; without it, each command line is a new process.
    """
    (folder / "keys.txt").write_text(KEYS, "utf-8")
    (folder / "gatepay").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gatepay_async.cli "$@"\n', "utf-8")
    (folder / "gatepay").chmod(0o755)
    spool = folder / f"{QUEUE_FILE}-spool"
    spool.mkdir(mode=0o700)
    (spool / "digest-key").write_bytes(bytes(32))  # a fixed key makes the IDs of durable uploads the same in each run
    blocks = blocks_of(page)
    with Sandbox() as sandbox:
        async with sandbox.serve() as base_url:
            surroundings = environment(sandbox, base_url, folder, chinese="zh" in str(page.relative_to(ROOT)))
            status = 0
            for block in blocks:
                for index, line in enumerate(block):
                    columns = HELP_COLUMNS if "--help" in line.command else {}
                    status, printed = await execute(line.command, status, folder, surroundings | columns, command)
                    block[index] = evolve(line, printed=mask_variable_parts(printed))
    return blocks


def bare_environment() -> dict[str, str]:
    """Return our environment without variables that change the command's output."""
    removed = ("GATEPAY_", "LC_", "LANG", "HTTP", "ALL_PROXY", "NO_PROXY", "COLUMNS")
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(removed)}


def environment(sandbox: Sandbox, base_url: str, folder: Path, *, chinese: bool) -> dict[str, str]:
    """Return the environment that a reader would have."""
    return {
        **bare_environment(),
        **SCREEN,
        "GATEPAY_APPKEY": sandbox.appkey,
        "GATEPAY_APPSECRET": sandbox.appsecret,
        "GATEPAY_BASE_URL": base_url,
        "GATEPAY_UPLOADS": f"sqlite:///{folder / QUEUE_FILE}",
        "LANG": "zh_CN.UTF-8" if chinese else "en_US.UTF-8",
        "HOME": str(folder),
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
    }


def arguments_without_shell(command: str) -> list[str] | None:
    """Return the arguments of a ``gatepay`` command line that needs no shell; None for every other line."""
    name, *arguments = shlex.split(command)
    if name != "gatepay" or SHELL_SYNTAX.search(re.sub(r"'[^']*'", "", command)):
        return None
    return arguments


async def execute(
    command: str, status: int, folder: Path, surroundings: Mapping[str, str], warm: WarmCommand | None
) -> tuple[int, str]:
    """Run a command line. *status* is the previous one's, for ``$?``. Return the exit status and the output."""
    if command.startswith(INSTALLS):
        return 0, ""
    arguments = arguments_without_shell(command)
    with anyio.fail_after(TIME_LIMIT):
        if warm is not None and arguments is not None:
            return await anyio.to_thread.run_sync(warm.run, arguments, folder, surroundings, abandon_on_cancel=True)
        line = ["bash", "-c", f"(exit {status}); {{ {command}\n}} 2>&1"]
        done = await anyio.run_process(line, cwd=folder, env=surroundings, check=False)
    return done.returncode, done.stdout.decode()


def page_with_output(page: Path, blocks: list[list[ShownCommand]]) -> str:
    """Return the text of the page with the output in *blocks*."""
    new_blocks: Iterator[list[ShownCommand]] = iter(blocks)

    def block(_: re.Match[str]) -> str:
        return "```console\n" + "".join(f"$ {line.command}\n{line.printed}" for line in next(new_blocks)) + "```"

    return BLOCK.sub(block, page.read_text("utf-8"))


def main(arguments: list[str]) -> int:
    """Compare all pages with the real output, or update them."""
    differ = 0
    with warm() as command:
        for page in pages():
            with tempfile.TemporaryDirectory() as folder:
                text = page_with_output(page, anyio.run(partial(run, page, Path(folder), command)))
            if text != page.read_text("utf-8"):
                print(f"{page.relative_to(ROOT)} shows another output than the real one")
                differ = 1
                if arguments == ["--write"]:
                    page.write_text(text, "utf-8")
    return differ


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
