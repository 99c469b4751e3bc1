"""
Try a payment in your browser, on this machine only: order, QR code, payment and callback.

    python examples/see_the_loop.py [port]  # the sandbox's port; 8642 by default

Runs a sandbox and a shop that receives its callbacks. Prints the addresses to open, and each callback that the
shop receives. Press Ctrl-C to stop. All data is in memory.
"""

import asyncio
import contextlib
import socket
import sys

import uvicorn

from gatepay_async import AsyncGatePay, Callback, OutcomeUnknownError, PayType, new_out_order_id
from gatepay_async.callbacks import CallbackApp, MemoryStore
from gatepay_async.sandbox import PortTakenError, Sandbox


async def handle(callback: Callback) -> None:
    """Print the callback. A real shop would deliver here; CallbackApp calls this once for each paid order."""
    print(f"The shop receives: {callback.out_order_id} is paid, ¥{callback.realprice} of ¥{callback.price}", flush=True)


async def make_orders(sandbox: Sandbox, base_url: str) -> None:
    """Create one payment for each payment method, and print its address."""
    async with AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url) as gatepay:
        for pay_type in PayType:
            try:
                payment = await gatepay.create_payment(
                    product_id=8,
                    product_num=1,
                    pay_type=pay_type,
                    out_order_id=new_out_order_id(),
                    custom="terry@example.com",
                )
            except OutcomeUnknownError as error:
                # The response was lost: ask GatePay for the order. Don't create another one.
                print(error.out_order_id, await gatepay.settle(error))
                continue
            print(f"{'Order, ' + pay_type:<20} {payment.order_url}", flush=True)


async def main(port: int) -> None:
    """Run the sandbox on *port*, and the shop on a free port, until Ctrl-C."""
    with Sandbox() as sandbox, socket.create_server(("127.0.0.1", 0)) as listener:
        app = CallbackApp(handle, appkey=sandbox.appkey, appsecret=sandbox.appsecret, store=MemoryStore())
        sandbox.change_shop(callback_url=f"http://127.0.0.1:{listener.getsockname()[1]}/")
        async with sandbox.serve(port=port) as base_url:
            print(f"{'Console':<20} {base_url.removesuffix('api/')}")
            await make_orders(sandbox, base_url)
            await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listener])


if __name__ == "__main__":
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8642))
    except PortTakenError as error:
        sys.exit(f"{error}: python examples/see_the_loop.py 0")
