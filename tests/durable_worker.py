"""
Runs a durable worker in its own process.

    python durable_worker.py '{"database": "sqlite:///…", "spool": "…", "base_url": "…", "worker": {"concurrency": 4}}'

It prints "open" once the worker is open, and ends when its standard input ends. With the setting "stamped", each call
has a header with the time at which it was sent.
"""

import json
import sys
import time
from types import TracebackType
from typing import Any

import anyio
import anyio.to_thread
import httpx

from gatepay_async import AsyncGatePay, RetryPolicy
from gatepay_async.durable import DurableUploads, Rate

APPKEY, APPSECRET = "key-of-the-shop", "secret-of-the-shop"


class StampingTransport(httpx.AsyncHTTPTransport):
    """Adds a header with the time of sending, by the clock that all processes of a machine share."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.headers["x-sent"] = repr(time.monotonic())
        return await super().handle_async_request(request)


class StampedGatePay(AsyncGatePay):
    """A client whose calls have a header with the time of sending."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._stamping_transport = StampingTransport()
        super().__init__(*args, transport=self._stamping_transport, **options)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, traceback)
        await self._stamping_transport.aclose()


def uploads(settings: dict[str, Any]) -> DurableUploads:
    """Return a ``DurableUploads`` with the settings that the test passed."""

    def connect() -> AsyncGatePay:
        retry_policy = RetryPolicy(first_wait=0.01, longest_wait=0.05)
        client_class = StampedGatePay if settings.get("stamped") else AsyncGatePay
        return client_class(
            APPKEY,
            APPSECRET,
            base_url=settings["base_url"],
            retry=retry_policy,
            timeout=settings["timeout"],
            deadline=2 * settings["timeout"],
        )

    return DurableUploads(connect, database=settings["database"], spool=settings["spool"])


async def main(settings: dict[str, Any]) -> None:
    """Run the worker until standard input ends."""
    options = dict(settings.get("worker", {}))
    if "rate" in options:
        limit, per = options["rate"]
        options["rate"] = Rate(limit, per=per)
    async with uploads(settings).worker(**options):
        sys.stdout.write("open\n")
        sys.stdout.flush()
        await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


if __name__ == "__main__":
    anyio.run(main, json.loads(sys.argv[1]))
