"""
The `gatepay` command, kept warm: a process that has imported it all, and forks for each command line.

A new Python that imports the command needs most of a second; a fork is there at once. Each command line still is a
process of its own, with its own environment, folder, streams and exit status, so none can change what the next one
finds. It begins where `gatepay` itself does, and ends as Python ends.

It reads a JSON object for each command line, and answers with its exit status. docs/transcripts.py talks to it.
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

# The rooms that the command uses, all of them; and what they, or Typer, import when it is needed.
ROOMS = ("cli", "durable", "pool", "sandbox")
LATE = (
    *("anyio._backends._asyncio", "certifi", "dbos._sys_db_sqlite", "sqlalchemy.dialects.sqlite.pysqlite"),
    *("rich.progress", "rich.table", "typer._adapters", "typer._click.decorators"),
    *("uvicorn.lifespan.on", "uvicorn.loops.auto", "uvicorn.protocols.http.auto"),
)


def warm() -> None:
    """Import all that a command line may need. What stands on an extra that isn't installed stays out."""
    for name in (*modules(), *LATE):
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a fork neither looks at what it inherited nor takes it apart when it ends


def modules() -> Iterator[str]:
    """The modules of those rooms; not the one that runs the command as soon as it is imported."""
    for room in ROOMS:
        folder = Path(gatepay_async.__file__).parent / room
        names = [module.name for module in pkgutil.iter_modules([str(folder)])]
        yield from (f"gatepay_async.{room}.{name}" for name in names if name != "__main__")


def become(command: dict[str, Any]) -> None:
    """Make this process, which was forked for it, that of *command*: all that it prints goes into one file."""
    os.environ.clear()
    os.environ.update(command["environment"])
    os.chdir(command["folder"])
    printed = os.open(command["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, stream in ((nothing, 0), (printed, 1), (printed, 2)):
        os.dup2(source, stream)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.argv = ["gatepay", *command["arguments"]]


def serve() -> bool:
    """Fork for each line that comes in; whether this is a fork, which must run its command."""
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
