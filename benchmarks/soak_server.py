"""
The sandbox in a process of its own, so that its memory is not the client's; `benchmarks.soak` starts it.

Its first line says where it is and whose it is. Then each line of standard input is a question, in JSON, and
each line of standard output an answer. It ends when its standard input does.
"""

import json
import sys
from typing import Any

import anyio
import anyio.to_thread

from gatepay_async.sandbox import Fault, FaultKind, Sandbox

WALKED, UPLOADED, SOLD, STOCK = 5, 8, 4, 1_000

# Each met by one request in a hundred, or so.
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
    """What only the shop's side knows."""
    match question["ask"]:
        case "callback":
            wanted = question["out_order_id"]
            return sandbox.callback_query(next(o for o in reversed(sandbox.orders()) if o.out_order_id == wanted))
        case "orders":
            return [order.out_order_id for order in sandbox.orders()]
        case "keys":
            return sandbox.keys(UPLOADED)
        case "calm":
            sandbox.clear_faults()
            return None
    raise LookupError(question["ask"])


async def serve() -> None:
    """Serve, and answer questions, until there are no more."""
    with Sandbox() as sandbox:
        sandbox.add_keys(WALKED, [f"WALK-{number:06d}" for number in range(STOCK - len(sandbox.keys(WALKED)))])
        for fault in FAULTS:
            sandbox.fault(fault)
        async with sandbox.serve() as base_url:
            said = {"base_url": base_url, "appkey": sandbox.appkey, "appsecret": sandbox.appsecret}
            print(json.dumps(said), flush=True)
            while line := await anyio.to_thread.run_sync(sys.stdin.readline):
                print(json.dumps(answer(sandbox, json.loads(line))), flush=True)


if __name__ == "__main__":
    anyio.run(serve)
