"""
A process that has imported the whole `gatepay` command, and forks for each command line.

A new Python process needs most of a second to import the command; a fork starts at once. Each command line still has
its own process, environment, folder, streams and exit status, so it can't affect the next one.

The process reads a JSON object for each command line, and writes its exit status. docs/transcripts.py uses it.
"""

import gc
import importlib
import json
import os
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gatepay_async
from gatepay_async.cli.entry import main

# All packages that the command uses, and the modules that they or Typer import on first use.
PACKAGES = ("cli", "durable", "pool", "sandbox")
IMPORTED_ON_USE = (
    *("anyio._backends._asyncio", "certifi", "dbos._sys_db_sqlite", "sqlalchemy.dialects.sqlite.pysqlite"),
    *("rich.progress", "rich.table", "typer._adapters", "typer._click.decorators"),
    *("uvicorn.lifespan.on", "uvicorn.loops.auto", "uvicorn.protocols.http.auto"),
)


def warm() -> None:
    """Import everything that a command line may need, except modules of extras that aren't installed."""
    for name in (*modules(), *IMPORTED_ON_USE):
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that the forks don't collect the imported objects, which would copy their memory


def modules() -> Iterator[str]:
    """Yield the modules of PACKAGES, except ``__main__``, which would run the command."""
    for package in PACKAGES:
        folder = Path(gatepay_async.__file__).parent / package
        names = [module.name for module in pkgutil.iter_modules([str(folder)])]
        yield from (f"gatepay_async.{package}.{name}" for name in names if name != "__main__")


def become(command: dict[str, Any]) -> None:
    """Set up this forked process for *command*: environment, folder, arguments, and one file for all output."""
    os.environ.clear()
    os.environ.update(command["environment"])
    os.chdir(command["folder"])
    output = os.open(command["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    no_input = os.open(os.devnull, os.O_RDONLY)
    for source, stream in ((no_input, 0), (output, 1), (output, 2)):
        os.dup2(source, stream)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.argv = ["gatepay", *command["arguments"]]


def serve() -> bool:
    """Fork for each line of input. Return True in the fork, which must run its command; False at the end of input."""
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            become(json.loads(line))
            return True
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    return False


if __name__ == "__main__":
    warm()
    if serve():
        main()
