"""
How far data travels: the figures that say whether the house is simple.

    python tests/paths.py

For each way through the package: how many of its files and functions one more call enters, once everything is warm.
Also how often the command reads the file that it uploads, and which modules import each other in a circle.
"""

import ast
import asyncio
import io
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FrameType

import gatepay_async
from gatepay_async import AsyncGatePay
from gatepay_async.sandbox import Sandbox

PACKAGE = Path(gatepay_async.__file__).parent
OWN = f"{PACKAGE}/"
# The other end of a call is no part of the way through the client.
OTHER_END = f"{PACKAGE / 'sandbox'}/"


class Entered:
    """The code of the package that ran while `recording`."""

    def __init__(self) -> None:
        self.codes: set[CodeType] = set()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note each function of the package that is entered, in every thread."""

        def note(frame: FrameType, event: str, argument: object) -> None:
            code = frame.f_code
            if event == "call" and code.co_filename.startswith(OWN) and not code.co_filename.startswith(OTHER_END):
                self.codes.add(code)

        threading.setprofile_all_threads(note) if sys.version_info >= (3, 12) else threading.setprofile(note)
        sys.setprofile(note)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile_all_threads(None) if sys.version_info >= (3, 12) else threading.setprofile(None)

    @property
    def functions(self) -> list[str]:
        """Comprehensions are part of the function around them."""
        named = [code for code in self.codes if code.co_name == "<lambda>" or not code.co_name.startswith("<")]
        return sorted(f"{Path(code.co_filename).relative_to(PACKAGE)}:{code.co_qualname}" for code in named)

    @property
    def files(self) -> list[str]:
        return sorted({each.partition(":")[0] for each in self.functions})


async def payment(gatepay: AsyncGatePay, number: int) -> None:
    await gatepay.create_payment(
        product_id=8, product_num=1, pay_type="alipay", out_order_id=f"T-{number}-X", custom="terry@example.com"
    )


async def page(gatepay: AsyncGatePay, number: int) -> None:
    listing = gatepay.list_card_keys(8, page=number)
    async for _ in listing:
        break
    await listing.aclose()


async def measure(way: Callable[[AsyncGatePay, int], object]) -> Entered:
    """What the second call of *way* enters."""
    entered = Entered()
    with Sandbox() as sandbox:
        async with (
            sandbox.serve() as url,
            AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=url) as gatepay,
        ):
            await way(gatepay, 1)
            with entered.recording():
                await way(gatepay, 2)
    return entered

if __name__ == "__main__":
    for way in (payment, page):
        e = asyncio.run(measure(way))
        print(way.__name__, len(e.files), len(e.functions))
        for f in e.functions: print("   ", f)
