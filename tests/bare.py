"""
The bare install, without any extra: it imports, works, and brings little. Run by `nox -s bare`, outside of pytest.

Prints what it found; ends with 1 if it is not what it should be.
"""

import importlib.util
import sys
from importlib.metadata import distributions

import anyio
import httpx

from gatepay_async import AsyncGatePay, callbacks

# Ours, its seven requirements, and what those bring.
EXPECTED = {
    "anyio", "attrs", "cattrs", "certifi", "gatepay-async", "h11", "httpcore", "httptools", "httpx", "idna", "msgspec",
    "pip", "setuptools", "sniffio", "typing_extensions", "wheel",
}  # fmt: skip


def answer(request: httpx.Request) -> httpx.Response:
    """An empty shop."""
    return httpx.Response(200, json={"code": 100, "msg": "", "time": "1", "data": {"category": []}}, request=request)


async def call() -> None:
    """One call, over a transport of httpx's."""
    async with AsyncGatePay("a", "b", transport=httpx.MockTransport(answer)) as gatepay:
        assert (await gatepay.list_products()).products == ()


def main() -> int:
    """Look around, and make a call."""
    anyio.run(call)
    try:
        print(callbacks.CallbackApp, callbacks.RedisStore)
    except ImportError as error:
        print(error)
    installed = {each.metadata["Name"] for each in distributions()}
    strange = sorted(installed - EXPECTED)
    extras = [
        name for name in ("starlette", "uvicorn", "segno", "trio", "typer", "redis", "opentelemetry") if importlib.util.find_spec(name)
    ]
    print(f"{len(installed)} distributions: {', '.join(sorted(installed))}")
    print("1 passed, 0 failed" if not strange and not extras else f"not expected: {strange + extras}")
    return bool(strange or extras)


if __name__ == "__main__":
    sys.exit(main())
