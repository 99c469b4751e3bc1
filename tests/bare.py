"""
Checks an install without extras: the package imports and makes a call, and only the packages in EXPECTED are installed.

`nox -s bare` runs this without pytest. It prints what it found; the status is 1 if something is unexpected.
"""

import importlib.util
import sys
from importlib.metadata import distributions

import anyio
import httpx

from gatepay_async import AsyncGatePay, callbacks

# This package, its seven requirements, their requirements, and what installs them.
EXPECTED = {
    "anyio", "attrs", "cattrs", "certifi", "gatepay-async", "h11", "httpcore", "httptools", "httpx", "idna", "msgspec",
    "pip", "setuptools", "sniffio", "typing_extensions", "wheel",
}  # fmt: skip


def answer(request: httpx.Request) -> httpx.Response:
    """Return the reply of a shop without products."""
    return httpx.Response(200, json={"code": 100, "msg": "", "time": "1", "data": {"category": []}}, request=request)


async def call() -> None:
    """Make one call over httpx's MockTransport."""
    async with AsyncGatePay("a", "b", transport=httpx.MockTransport(answer)) as gatepay:
        assert (await gatepay.list_products()).products == ()


def main() -> int:
    """Make a call and check the installed packages. Return the exit status."""
    anyio.run(call)
    try:
        print(callbacks.CallbackApp, callbacks.RedisStore)  # without its extra, RedisStore raises ImportError
    except ImportError as error:
        print(error)
    installed = {distribution.metadata["Name"] for distribution in distributions()}
    unexpected = sorted(installed - EXPECTED)
    extra_packages = ("starlette", "uvicorn", "segno", "trio", "typer", "redis", "opentelemetry")
    found_extras = [name for name in extra_packages if importlib.util.find_spec(name)]
    print(f"{len(installed)} distributions: {', '.join(sorted(installed))}")
    print("1 passed, 0 failed" if not unexpected and not found_extras else f"not expected: {unexpected + found_extras}")
    return bool(unexpected or found_extras)


if __name__ == "__main__":
    sys.exit(main())
