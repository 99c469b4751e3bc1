"""Random test: no call gets the reply to another call, whatever the server sends. Most replies repeat a call's tag."""

import os
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from attrs import define, field
from odd_replies import REPLIES
from odd_server import Connection, OddServer, Request, chunked, event_loops, http, success_reply
from seeds import fresh_seed

from gatepay_async import AsyncGatePay, GatePayError, RetryPolicy
from gatepay_async.pool import OriginPool

pytestmark = [pytest.mark.slow, pytest.mark.without_coverage, pytest.mark.hang_limit(180)]

SEED = fresh_seed()
EXCHANGES = int(os.environ.get("GATEPAY_TEST_EXCHANGES") or 350)  # on each event loop, with and without TLS
CALLERS = 6
# No row of this table is a valid reply of GatePay, so none can be taken for the reply to a call.
USABLE = [row for row in REPLIES if row.method == "POST" and 0 < len(row.sent) < 10_000]
ODD, ENDING = [row for row in USABLE if not row.ends], [row for row in USABLE if row.ends]
# How the server replies, with relative frequencies. "split": in two TCP segments. "extra": with other bytes after the
# reply. "record": with other bytes after it, in a TLS record of their own. "half": with a part of such a record after
# it. "odd": with a row of REPLIES. Those in CLOSING close the connection.
BEHAVIOURS = {
    "normal": 30, "split": 15, "chunked": 5, "extra": 15, "record": 10, "half": 5, "no content": 6, "odd": 6,
    "cut": 5, "close": 4, "silent": 1, "odd end": 2, "reset": 1,
}  # fmt: skip
CLOSING = ("cut", "close", "silent", "odd end", "reset")


def unasked_bytes(rng: random.Random) -> bytes:
    """Return bytes that no request asked for: from one byte to a reply to another request."""
    forged = http(rng.choice([success_reply("ka/show", {"product_id": "666"}), success_reply("product/show", {})]))
    order = http(success_reply("pay/create", {"out_order_id": "FORGED"}))
    late = http(b"{}", start="HTTP/1.1 408 Request Timeout")
    return rng.choice([b"\n", b"\r\n", b"\0", forged, order, forged[: rng.randrange(1, len(forged))], late])


@define
class RandomShop:
    """Replies to each request in a random way, and counts each of these ways."""

    rng: random.Random
    counts: Counter[str] = field(factory=Counter[str])

    def answer(self, connection: Connection, request: Request) -> None:
        rng = self.rng
        body = success_reply(request.path, request.form)
        behaviour = rng.choices(list(BEHAVIOURS), list(BEHAVIOURS.values()))[0]
        self.counts[behaviour] += 1
        if behaviour in CLOSING:
            self.reply_and_close(connection, behaviour, http(body))
        reply = chunked(body) if behaviour == "chunked" else http(body)
        if behaviour == "split":  # into two TCP segments, cut at any byte
            raw, cut = connection.encrypt(reply), rng.randrange(1, len(reply))
            connection.raw.sendall(raw[:cut])
            connection.raw.sendall(raw[cut:])
        elif behaviour == "half":
            extra = connection.encrypt(unasked_bytes(rng))
            connection.raw.sendall(connection.encrypt(reply) + extra[: rng.randrange(1, len(extra) + 1)])
        else:
            records = {
                "extra": [reply + unasked_bytes(rng)],
                "record": [reply, unasked_bytes(rng)],
                "no content": [http(body, start="HTTP/1.1 204 No Content")],
                "odd": [rng.choice(ODD).sent],
            }
            connection.raw.sendall(b"".join(map(connection.encrypt, records.get(behaviour, [reply]))))

    def reply_and_close(self, connection: Connection, behaviour: str, reply: bytes) -> None:
        """Send a part of the reply, all of it or nothing, and close the connection."""
        if behaviour == "reset":
            connection.raw.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )  # close() sends a reset
        sent = {
            "cut": reply[: self.rng.randrange(len(reply))] or b"H",
            "close": reply,
            "odd end": self.rng.choice(ENDING).sent,
        }
        if sent.get(behaviour):
            connection.raw.sendall(connection.encrypt(sent[behaviour]))
        raise ConnectionAbortedError


def make_call(kind: int, tag: int) -> tuple[Callable[[AsyncGatePay], Awaitable[Any]], Callable[[Any], object], object]:
    """Return a call of *kind* (0 to 3), a function that gets a value from its result, and the expected value."""
    if kind == 0:
        return lambda gatepay: gatepay.list_card_keys(tag), lambda page: page.keys[0].content, f"KEY-{tag}"
    if kind == 1:
        keys = [f"{tag}-{number}" for number in range(tag % 500 + 1)]
        return lambda gatepay: gatepay.create_card_keys(8, keys), lambda result: result.stored, len(keys)
    if kind == 2:
        return lambda gatepay: gatepay.list_products(), lambda catalog: catalog.categories, ()

    def pay(gatepay: AsyncGatePay) -> Awaitable[Any]:
        return gatepay.create_payment(
            product_id=8, product_num=1, pay_type="alipay", out_order_id=f"T-{tag}-X", custom="x"
        )

    return pay, lambda payment: payment.order_url, f"http://x/T-{tag}-X"


async def run_exchanges(seed: str, tls: bool, tally: Counter[str]) -> None:  # noqa: FBT001 -- anyio.run() passes no keywords
    rng = random.Random(seed)  # noqa: S311 -- no secret
    shop = RandomShop(random.Random(rng.random()))  # noqa: S311 -- no secret
    tags = iter(range(1, EXCHANGES + 1))

    async def caller(gatepay: AsyncGatePay) -> None:
        for tag in tags:
            call, get_value, expected = make_call(rng.randrange(4), tag)
            # One call in five is cancelled after up to 5 ms.
            time_limit = rng.choice([None, None, None, None, rng.random() / 200])
            result = "cancelled"
            with anyio.move_on_after(time_limit):
                try:
                    value = get_value(await call(gatepay))
                except GatePayError:
                    result = "failed"
                else:
                    result = "answered"
                    assert value == expected, f"call {tag} got the reply {value!r}"
            tally[result] += 1
            if rng.random() < 0.3 and server.connections:
                tally["disturbed"] += server.send_unasked(unasked_bytes(rng), rng)

    with OddServer(shop.answer, tls=tls) as server:
        pool = OriginPool(server.base_url, ssl_context=server.client_tls, max_connections=3)
        async with (
            pool,
            AsyncGatePay("k", "s", base_url=server.base_url, transport=pool, retry=RetryPolicy(attempts=1)) as gatepay,
            anyio.create_task_group() as group,
        ):
            for _ in range(CALLERS):
                group.start_soon(caller, gatepay)
        assert repr(pool).endswith(": 0 busy, 0 idle, limit 3; 0 waiting; closed>")
        tally["connections"] += len(server.connections)
    tally.update({f"server: {behaviour}": count for behaviour, count in shop.counts.items()})


@pytest.mark.parametrize("tls", [False, True])
def test_no_call_gets_another_calls_reply(*, tls: bool) -> None:
    print(f"GATEPAY_TEST_SEED={SEED}")  # noqa: T201 -- to reproduce a failure
    for loop, options in event_loops():
        tally = Counter[str]()
        anyio.run(run_exchanges, f"{SEED} {loop} {options}", tls, tally, backend=loop, backend_options=options)
        print(loop, options, dict(tally))  # noqa: T201 -- shows what was tested
        assert tally["answered"] > EXCHANGES / 4
        assert tally["disturbed"]
