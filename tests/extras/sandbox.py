"""Checks the extra `sandbox`: the sandbox serves a call."""

import anyio

from gatepay_async import AsyncGatePay
from gatepay_async.sandbox import Sandbox


async def main() -> None:
    """Make one call over a socket."""
    with Sandbox() as sandbox:
        async with (
            sandbox.serve() as base_url,
            AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url) as gatepay,
        ):
            print(len((await gatepay.list_products()).products), "products")


anyio.run(main)
