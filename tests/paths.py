"""
Counts the files and functions of the package that a call runs through.

    python tests/paths.py            the counts
    python tests/paths.py --names    the counts, and the name of each function

A first call, which isn't counted, imports and caches everything. The sandbox isn't counted: it runs in a thread of its
own. For a call of the client, the functions of other packages are counted, too, except Python's standard library. The
program also counts import cycles, and how often the command opens the file that it uploads.
"""

import ast
import asyncio
import os
import sqlite3
import sys
import sysconfig
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import closing, contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FrameType
from typing import cast

import anyio
from anyio.abc import ByteSendStream
from anyio.from_thread import start_blocking_portal
from attrs import frozen
from typer.testing import CliRunner

import gatepay_async
from gatepay_async import AsyncGatePay
from gatepay_async.cli.app import app
from gatepay_async.durable import DurableUploads, worker
from gatepay_async.sandbox import Sandbox

PACKAGE = Path(gatepay_async.__file__).parent
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
PRODUCT = 8
# A program that submits each file that its standard input names. Its arguments are the database and the product.
SUBMIT_FILES = """
import asyncio, sys
from gatepay_async.durable import DurableUploads

async def main():
    async with DurableUploads(lambda: None, database=sys.argv[1]).submitter() as submit:
        for line in sys.stdin:
            await submit.file(line.rstrip(), product_id=int(sys.argv[2]))

asyncio.run(main())
"""
ClientCall = Callable[[AsyncGatePay, int], Awaitable[None]]


@frozen
class Entered:
    """
    The functions that ran.

    Attributes:
        functions: Those of the package, each as ``client.py: AsyncGatePay.send``, for example.
        foreign: Those of other packages, each as ``attr/_make.py: asdict``, for example.
    """

    functions: tuple[str, ...]
    foreign: tuple[str, ...]

    @property
    def files(self) -> set[str]:
        """The package's files that contain functions that ran."""
        return files_of(self.functions)

    def __str__(self) -> str:
        all_functions = (*self.functions, *self.foreign)
        text = f"{len(self.files)} files, {len(self.functions)} functions"
        return (
            f"{text}; with other packages {len(files_of(all_functions))} and {len(all_functions)}"
            if self.foreign
            else text
        )


def files_of(functions: tuple[str, ...]) -> set[str]:
    """Return the files of *functions*."""
    return {function.partition(":")[0] for function in functions}


@contextmanager
def record_code() -> Generator[set[CodeType]]:
    """Record the code of each function that is entered, in this thread and in threads that start meanwhile."""
    codes: set[CodeType] = set()

    def record(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            codes.add(frame.f_code)

    threading.setprofile(record)
    sys.setprofile(record)
    try:
        yield codes
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def entered_in(codes: set[CodeType], *, count_foreign: bool) -> Entered:
    """Return the functions in *codes*. Comprehensions aren't counted: they belong to the function around them."""
    own: set[str] = set()
    foreign: set[str] = set()
    for code in codes.copy():  # threads may still add to it
        path, name = Path(code.co_filename), code.co_qualname
        if name.endswith(("comp>", "expr>", "<module>")) or path.is_relative_to(PACKAGE / "sandbox"):
            continue
        if path.is_relative_to(PACKAGE):
            own.add(f"{path.relative_to(PACKAGE).as_posix()}: {name}")
        elif count_foreign and path.is_relative_to(SITE_PACKAGES):
            foreign.add(f"{path.relative_to(SITE_PACKAGES).as_posix()}: {name}")
    return Entered(tuple(sorted(own)), tuple(sorted(foreign)))


@contextmanager
def sandbox_in_a_thread() -> Generator[tuple[Sandbox, str]]:
    """Serve a sandbox in a thread, which the profiler doesn't see. Yield the sandbox and its URL."""
    with (
        Sandbox() as sandbox,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(sandbox.serve()) as url,
    ):
        yield sandbox, url


async def pay(gatepay: AsyncGatePay, number: int) -> None:
    """Make one payment over the client's own pool."""
    order = f"T-{number}-X"
    await gatepay.create_payment(
        product_id=PRODUCT, product_num=1, pay_type="alipay", out_order_id=order, custom="terry@example.com"
    )


async def await_page(gatepay: AsyncGatePay, number: int) -> None:
    """Await one page of a listing."""
    await gatepay.list_card_keys(PRODUCT, page=number)


async def iterate_over_page(gatepay: AsyncGatePay, number: int) -> None:
    """Iterate over one page of a listing. This also proves that no card key is missing before it."""
    async for _ in gatepay.list_card_keys(PRODUCT, page=number).pages():
        break


async def entered_by(call: ClientCall) -> Entered:
    """Return the functions that the second run of *call* enters."""
    with sandbox_in_a_thread() as (sandbox, url):
        async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=url) as gatepay:
            await call(gatepay, 1)
            with record_code() as codes:
                await call(gatepay, 2)
    return entered_in(codes, count_foreign=True)


async def entered_by_a_batch(folder: Path) -> Entered:
    """
    Return the functions that an open worker enters to send the only batch of a second job.

    Another process submits the jobs. The worker's regular tasks, which belong to no batch, are put off.
    """
    worker.HOUSEKEEPING_INTERVAL_S = 3600
    file, database = folder / "keys.txt", folder / "uploads.sqlite3"
    with sandbox_in_a_thread() as (sandbox, url), record_code() as codes:  # before a thread of the worker starts
        connect = partial(AsyncGatePay, sandbox.appkey, sandbox.appsecret, base_url=url)
        uploads = DurableUploads(connect, database=f"sqlite:///{database}")
        program = [sys.executable, "-c", SUBMIT_FILES, f"sqlite:///{database}", str(PRODUCT)]
        submitter = await anyio.open_process(program, stdout=None, stderr=None)
        async with submitter, uploads.worker(concurrency=1):
            for number in (1, 2):
                file.write_text("\n".join(f"KEY-{number}-{index}" for index in range(500)), "utf-8")
                codes.clear()
                await cast("ByteSendStream", submitter.stdin).send(f"{file}\n".encode())
                while count_sent_batches(database) < number:
                    await anyio.sleep(0.01)
            return entered_in(codes, count_foreign=False)


def count_sent_batches(database: Path) -> int:
    """Return the number of batches that the worker has completed."""
    query = "SELECT count(*) FROM workflow_status WHERE name = 'gatepay_batch' AND status = 'SUCCESS'"
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute(query).fetchone()[0])


@cache
def opened_files() -> list[str]:
    """Start to record the names of opened files, and return the growing list. Only the first call starts anything."""
    names: list[str] = []

    def record(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str):
            names.append(arguments[0])

    sys.addaudithook(record)
    return names


def count_opens(folder: Path) -> int:
    """Return how often ``gatepay keys upload`` opens its file."""
    file = folder / "keys.txt"
    file.write_text("AAA\nBBB\n", "utf-8")
    with sandbox_in_a_thread() as (sandbox, url):
        variables = {"APPKEY": sandbox.appkey, "APPSECRET": sandbox.appsecret, "BASE_URL": url}
        environment = {f"GATEPAY_{name}": value for name, value in variables.items()}
        names = opened_files()
        names.clear()
        result = CliRunner().invoke(app, ["keys", "upload", "--product", str(PRODUCT), str(file)], env=environment)
        count = names.count(str(file))
    if result.exit_code:
        raise RuntimeError(result.output)
    return count


def import_cycles() -> list[set[str]]:
    """Return the sets of modules that import each other in a cycle, including imports for type checkers."""
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    imports = {name: imported_by(path, set(modules)) - {name} for name, path in modules.items()}
    reached: dict[str, set[str]] = {}
    for start in imports:
        seen: set[str] = set()
        remaining = [start]
        while remaining:
            for module in imports[remaining.pop()] - seen:
                seen.add(module)
                remaining.append(module)
        reached[start] = seen
    cycles = {frozenset(module for module in reached[name] if name in reached[module]) for name in reached}
    return [set(cycle) for cycle in cycles if cycle]


def imported_by(path: Path, package_modules: set[str]) -> set[str]:
    """Return the modules of the package that a file imports, at its top or inside functions."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            imported |= (inner & package_modules) or {node.module}
    return imported & package_modules


def main() -> None:
    """Print the counts."""
    lines: list[str] = []
    with TemporaryDirectory() as folder:
        entered = {
            "a payment": asyncio.run(entered_by(pay)),
            "one page of a listing, awaited": asyncio.run(entered_by(await_page)),
            "one page of a listing, iterated over": asyncio.run(entered_by(iterate_over_page)),
            "one durable batch": asyncio.run(entered_by_a_batch(Path(folder))),
        }
        for name, functions in entered.items():
            lines.append(f"{name}: {functions}")
            if "--names" in sys.argv:
                lines += [f"    {function}" for function in (*functions.functions, *functions.foreign)]
        lines.append(f"`gatepay keys upload` opens its file: {count_opens(Path(folder))} ×")
    lines.append(f"import cycles: {len(import_cycles())}")
    lines += ["    " + ", ".join(sorted(cycle)) for cycle in import_cycles()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("LANG", "en_GB.UTF-8")
    main()
