"""
A worker in a process of its own.

    python durable_worker.py '{"database": "sqlite:///…", "spool": "…", "base_url": "…", "worker": {"concurrency": 4}}'

Says "open" once it works; ends when its standard input does.
"""

import json
import sys
from typing import Any

import anyio
import anyio.to_thread

from gatepay_async import AsyncGatePay, RetryPolicy
from gatepay_async.durable import DurableUploads, Rate

APPKEY, APPSECRET = "key-of-the-shop", "secret-of-the-shop"


def uploads(given: dict[str, Any]) -> DurableUploads:
    """As the test that started this has it."""

    def connect() -> AsyncGatePay:
        policy = RetryPolicy(first_wait=0.01, longest_wait=0.05)
        return AsyncGatePay(
            APPKEY,
            APPSECRET,
            base_url=given["base_url"],
            retry=policy,
            timeout=given.get("timeout", 5.0),
            deadline=10.0,
        )

    return DurableUploads(connect, database=given["database"], spool=given["spool"])


async def main(given: dict[str, Any]) -> None:
    """Work until told to end."""
    options = dict(given.get("worker", {}))
    if "rate" in options:
        limit, per = options["rate"]
        options["rate"] = Rate(limit, per=per)
    async with uploads(given).worker(**options):
        sys.stdout.write("open\n")
        sys.stdout.flush()
        await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


if __name__ == "__main__":
    anyio.run(main, json.loads(sys.argv[1]))
