"""
How far data travels through the package.

    python tests/paths.py            the figures
    python tests/paths.py --names    … and each function that they count

Counted are the files and functions of the package that one more call enters once everything is warm, the modules that
import each other in a circle, and how often the command opens the file that it uploads. The sandbox, which is the other
end, is left out.
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
Way = Callable[[AsyncGatePay, int], Awaitable[None]]


@frozen
class Entered:
    """
    What ran of the package.

    Attributes:
        functions: ``client.py: AsyncGatePay.send``, for example.
    """

    functions: tuple[str, ...]

    @property
    def files(self) -> set[str]:
        """Their files."""
        return {each.partition(":")[0] for each in self.functions}

    def __str__(self) -> str:
        return f"{len(self.files)} files, {len(self.functions)} functions"


@contextmanager
def recorded() -> Generator[set[CodeType]]:
    """Note the code of each function that is entered, in every thread that begins meanwhile, and in this one."""
    codes: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            codes.add(frame.f_code)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield codes
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def of_the_package(codes: set[CodeType]) -> Entered:
    """Those of *codes* that are ours; a comprehension is part of the function around it."""
    named: set[str] = set()
    for code in codes.copy():  # threads may still add to it
        path = Path(code.co_filename)
        if path.is_relative_to(PACKAGE) and not path.is_relative_to(PACKAGE / "sandbox"):
            name = code.co_qualname
            if not name.endswith(("comp>", "expr>", "<module>")):
                named.add(f"{path.relative_to(PACKAGE).as_posix()}: {name}")
    return Entered(tuple(sorted(named)))


async def pay(gatepay: AsyncGatePay, number: int) -> None:
    """One payment, over the client's own pool."""
    order = f"T-{number}-X"
    await gatepay.create_payment(
        product_id=PRODUCT, product_num=1, pay_type="alipay", out_order_id=order, custom="terry@example.com"
    )


async def read_page(gatepay: AsyncGatePay, number: int) -> None:
    """One page of a listing that is walked."""
    async for _ in gatepay.list_card_keys(PRODUCT, page=number).pages():
        break


async def entered_by(way: Way) -> Entered:
    """What the second time enters."""
    with Sandbox() as sandbox:
        async with (
            sandbox.serve() as url,
            AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=url) as gatepay,
        ):
            await way(gatepay, 1)
            with recorded() as codes:
                await way(gatepay, 2)
    return of_the_package(codes)


async def entered_by_a_batch(folder: Path) -> Entered:
    """What an open worker enters to send one batch, from a second job on."""
    with Sandbox() as sandbox:
        async with sandbox.serve() as url:
            connect = partial(AsyncGatePay, sandbox.appkey, sandbox.appsecret, base_url=url)
            uploads = DurableUploads(connect, database=f"sqlite:///{folder / 'uploads.sqlite3'}")
            async with uploads.submitter() as submit, uploads.worker(concurrency=1):
                with recorded() as codes:  # before any thread of the worker begins its work
                    for number in (1, 2):
                        file = folder / f"{number}.txt"
                        file.write_text("\n".join(f"KEY-{number}-{each}" for each in range(500)), "utf-8")
                        job = await submit.file(file, product_id=PRODUCT)
                        if number == 2:
                            codes.clear()
                        await job.wait(every=0.01)
    return of_the_package(codes)


@cache
def opened() -> list[str]:
    """The names of the files that are opened from now on."""
    names: list[str] = []

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str):
            names.append(arguments[0])

    sys.addaudithook(note)
    return names


def opens_of_an_upload(folder: Path) -> int:
    """How often ``gatepay keys upload`` opens its file."""
    file = folder / "keys.txt"
    file.write_text("AAA\nBBB\n", "utf-8")
    with (
        Sandbox() as sandbox,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(sandbox.serve()) as url,
    ):
        variables = {"APPKEY": sandbox.appkey, "APPSECRET": sandbox.appsecret, "BASE_URL": url}
        environment = {f"GATEPAY_{name}": value for name, value in variables.items()}
        names = opened()
        names.clear()
        result = CliRunner().invoke(app, ["keys", "upload", "--product", str(PRODUCT), str(file)], env=environment)
        count = names.count(str(file))
    if result.exit_code:
        raise RuntimeError(result.output)
    return count


def cycles() -> list[set[str]]:
    """The sets of modules that import each other in a circle, imports for type checkers included."""
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    imports = {name: imported_by(path, set(modules)) - {name} for name, path in modules.items()}
    reached: dict[str, set[str]] = {}
    for start in imports:
        seen: set[str] = set()
        left = [start]
        while left:
            for each in imports[left.pop()] - seen:
                seen.add(each)
                left.append(each)
        reached[start] = seen
    circles = {frozenset(other for other in reached[name] if name in reached[other]) for name in reached}
    return [set(each) for each in circles if each]


def imported_by(path: Path, known: set[str]) -> set[str]:
    """The modules of the package that a file imports, wherever in it; a package's own face counts where it is named."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & known) or {node.module}
    return found & known


def main() -> None:
    """Print the figures."""
    lines: list[str] = []
    with TemporaryDirectory() as folder:
        entered = {
            "a payment": asyncio.run(entered_by(pay)),
            "one page of a listing": asyncio.run(entered_by(read_page)),
            "one durable batch": asyncio.run(entered_by_a_batch(Path(folder))),
        }
        for what, each in entered.items():
            lines.append(f"{what}: {each}")
            if "--names" in sys.argv:
                lines += [f"    {function}" for function in each.functions]
        lines.append(f"`gatepay keys upload` opens its file: {opens_of_an_upload(Path(folder))} ×")
    lines.append(f"import cycles: {len(cycles())}")
    lines += ["    " + ", ".join(sorted(circle)) for circle in cycles()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("LANG", "en_GB.UTF-8")
    main()
