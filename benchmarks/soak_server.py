"""
The sandbox for `benchmarks.soak`, in a process of its own, so that its memory isn't counted as the client's.

The first line on standard output is a JSON object with the base URL, the appkey and the appsecret. After that, each
line on standard input is a question in JSON, and the reply is one line of JSON on standard output. The process ends
when standard input is closed.
"""

import json
import sys
from typing import Any

import anyio
import anyio.to_thread

from gatepay_async.sandbox import Fault, FaultKind, Sandbox

# Products of the sandbox's default catalogue: one to list, one to upload to, and one to order.
LISTED_PRODUCT, UPLOAD_PRODUCT, ORDERED_PRODUCT = 5, 8, 4
STOCK = 1_000  # card keys of the listed product

# Most faults affect one request in a hundred. A seed for each fault makes a run repeatable.
FAULTS = (
    Fault(FaultKind.CUT_BEFORE, times=None, probability=0.01, seed=1),
    Fault(FaultKind.CUT_AFTER, times=None, probability=0.01, seed=2),
    Fault(FaultKind.HALF_BODY, times=None, probability=0.01, seed=3),
    Fault(FaultKind.HALF_JSON, times=None, probability=0.01, seed=4),
    Fault(FaultKind.SLOW, times=None, probability=0.01, seed=5, seconds=0.3),
    Fault(FaultKind.DRIP, times=None, probability=0.002, seed=6, seconds=0.01),
    Fault(FaultKind.RATE_LIMITED, times=None, probability=0.01, seed=7, retry_after=0),
    Fault(FaultKind.BAD_GATEWAY, times=None, probability=0.01, seed=8),
    Fault(FaultKind.CODE, endpoint="ka/create", times=None, probability=0.02, seed=9, code=113),
)


def answer(sandbox: Sandbox, question: dict[str, Any]) -> object:
    """Return what only the server knows: its callbacks, orders or card keys. "calm" removes all faults."""
    match question["ask"]:
        case "callback":
            number = question["out_order_id"]
            return sandbox.callback_query(next(o for o in reversed(sandbox.orders()) if o.out_order_id == number))
        case "orders":
            return [order.out_order_id for order in sandbox.orders()]
        case "keys":
            return sandbox.keys(UPLOAD_PRODUCT)
        case "calm":
            sandbox.clear_faults()
            return None
    raise LookupError(question["ask"])


async def serve() -> None:
    """Run the sandbox and reply to questions until standard input is closed."""
    with Sandbox() as sandbox:
        sandbox.add_keys(
            LISTED_PRODUCT, [f"WALK-{number:06d}" for number in range(STOCK - len(sandbox.keys(LISTED_PRODUCT)))]
        )
        for fault in FAULTS:
            sandbox.fault(fault)
        async with sandbox.serve() as base_url:
            settings = {"base_url": base_url, "appkey": sandbox.appkey, "appsecret": sandbox.appsecret}
            print(json.dumps(settings), flush=True)
            while line := await anyio.to_thread.run_sync(sys.stdin.readline):
                print(json.dumps(answer(sandbox, json.loads(line))), flush=True)


if __name__ == "__main__":
    anyio.run(serve)
