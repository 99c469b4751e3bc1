"""
Counts the files and functions of the package that a call runs through.

    python tests/paths.py            the counts
    python tests/paths.py --names    the counts, and the name of each function

A first call, which isn't counted, imports and caches everything. The sandbox isn't counted. The program also counts
import cycles, and how often the command opens the file that it uploads.
"""

import ast
import asyncio
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FrameType

from anyio.from_thread import start_blocking_portal
from attrs import frozen
from typer.testing import CliRunner

import gatepay_async
from gatepay_async import AsyncGatePay
from gatepay_async.cli.app import app
from gatepay_async.durable import DurableUploads
from gatepay_async.sandbox import Sandbox

PACKAGE = Path(gatepay_async.__file__).parent
PRODUCT = 8
ClientCall = Callable[[AsyncGatePay, int], Awaitable[None]]


@frozen
class Entered:
    """
    The functions of the package that ran.

    Attributes:
        functions: Each as ``client.py: AsyncGatePay.send``, for example.
    """

    functions: tuple[str, ...]

    @property
    def files(self) -> set[str]:
        """The files that contain these functions."""
        return {function.partition(":")[0] for function in self.functions}

    def __str__(self) -> str:
        return f"{len(self.files)} files, {len(self.functions)} functions"


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


def in_package(codes: set[CodeType]) -> Entered:
    """Return the functions in *codes* that are in the package. Comprehensions belong to the function around them."""
    named: set[str] = set()
    for code in codes.copy():  # threads may still add to it
        path = Path(code.co_filename)
        if path.is_relative_to(PACKAGE) and not path.is_relative_to(PACKAGE / "sandbox"):
            name = code.co_qualname
            if not name.endswith(("comp>", "expr>", "<module>")):
                named.add(f"{path.relative_to(PACKAGE).as_posix()}: {name}")
    return Entered(tuple(sorted(named)))


async def pay(gatepay: AsyncGatePay, number: int) -> None:
    """Make one payment over the client's own pool."""
    order = f"T-{number}-X"
    await gatepay.create_payment(
        product_id=PRODUCT, product_num=1, pay_type="alipay", out_order_id=order, custom="terry@example.com"
    )


async def read_page(gatepay: AsyncGatePay, number: int) -> None:
    """Read one page of a listing."""
    async for _ in gatepay.list_card_keys(PRODUCT, page=number).pages():
        break


async def entered_by(call: ClientCall) -> Entered:
    """Return the functions that the second run of *call* enters."""
    with Sandbox() as sandbox:
        async with (
            sandbox.serve() as url,
            AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=url) as gatepay,
        ):
            await call(gatepay, 1)
            with record_code() as codes:
                await call(gatepay, 2)
    return in_package(codes)


async def entered_by_a_batch(folder: Path) -> Entered:
    """Return the functions that an open worker enters to send one batch of a second job."""
    with Sandbox() as sandbox:
        async with sandbox.serve() as url:
            connect = partial(AsyncGatePay, sandbox.appkey, sandbox.appsecret, base_url=url)
            uploads = DurableUploads(connect, database=f"sqlite:///{folder / 'uploads.sqlite3'}")
            async with uploads.submitter() as submit, uploads.worker(concurrency=1):
                with record_code() as codes:  # before any thread of the worker begins its work
                    for number in (1, 2):
                        file = folder / f"{number}.txt"
                        file.write_text("\n".join(f"KEY-{number}-{index}" for index in range(500)), "utf-8")
                        job = await submit.file(file, product_id=PRODUCT)
                        if number == 2:
                            codes.clear()
                        await job.wait(every=0.01)
    return in_package(codes)


@cache
def opened_files() -> list[str]:
    """Return a list to which the name of each file is added that is opened from now on."""
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
    with (
        Sandbox() as sandbox,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(sandbox.serve()) as url,
    ):
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
    cycles = {frozenset(other for other in reached[name] if name in reached[other]) for name in reached}
    return [set(cycle) for cycle in cycles if cycle]


def imported_by(path: Path, known: set[str]) -> set[str]:
    """Return the modules of the package that a file imports, at its top or inside functions."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            imported |= (inner & known) or {node.module}
    return imported & known


def main() -> None:
    """Print the counts."""
    lines: list[str] = []
    with TemporaryDirectory() as folder:
        entered = {
            "a payment": asyncio.run(entered_by(pay)),
            "one page of a listing": asyncio.run(entered_by(read_page)),
            "one durable batch": asyncio.run(entered_by_a_batch(Path(folder))),
        }
        for name, functions in entered.items():
            lines.append(f"{name}: {functions}")
            if "--names" in sys.argv:
                lines += [f"    {function}" for function in functions.functions]
        lines.append(f"`gatepay keys upload` opens its file: {count_opens(Path(folder))} ×")
    lines.append(f"import cycles: {len(import_cycles())}")
    lines += ["    " + ", ".join(sorted(cycle)) for cycle in import_cycles()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("LANG", "en_GB.UTF-8")
    main()
