"""A reply belongs to its request: thousands of exchanges with a server that knows the truth and does what it likes."""

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

pytestmark = [pytest.mark.slow, pytest.mark.uncounted, pytest.mark.hang_limit(180)]

SEED = fresh_seed()
EXCHANGES = int(os.environ.get("GATEPAY_TEST_EXCHANGES") or 350)  # on each loop, over each transport
CALLERS = 6
# Those that say hello, or nothing that could be understood: none of them is a reply to any call.
SAID = [row for row in REPLIES if row.method == "POST" and 0 < len(row.sent) < 10_000]
ODD, ENDING = [row for row in SAID if not row.ends], [row for row in SAID if row.ends]
# What a server does with a request, and how often; the last ones end the connection.
ACTS = {
    "right": 30, "split": 15, "chunked": 5, "extra": 15, "record": 10, "half": 5, "no content": 6, "odd": 6,
    "cut": 5, "close": 4, "silent": 1, "odd end": 2, "reset": 1,
}  # fmt: skip
ENDS = ("cut", "close", "silent", "odd end", "reset")


def extras(rng: random.Random) -> bytes:
    """What nobody has asked for: from a byte to the reply to another request."""
    forged = http(rng.choice([success_reply("ka/show", {"product_id": "666"}), success_reply("product/show", {})]))
    order = http(success_reply("pay/create", {"out_order_id": "FORGED"}))
    late = http(b"{}", start="HTTP/1.1 408 Request Timeout")
    return rng.choice([b"\n", b"\r\n", b"\0", forged, order, forged[: rng.randrange(1, len(forged))], late])


@define
class Shop:
    """What the server does with each request; each kind of it is counted."""

    rng: random.Random
    done: Counter[str] = field(factory=Counter[str])

    def answer(self, connection: Connection, request: Request) -> None:
        rng = self.rng
        body = success_reply(request.path, request.form)
        act = rng.choices(list(ACTS), list(ACTS.values()))[0]
        self.done[act] += 1
        if act in ENDS:
            self.end(connection, act, http(body))
        reply = chunked(body) if act == "chunked" else http(body)
        if act == "split":  # into two segments, at any byte, in any record
            raw, place = connection.encrypt(reply), rng.randrange(1, len(reply))
            connection.raw.sendall(raw[:place])
            connection.raw.sendall(raw[place:])
        elif act == "half":
            more = connection.encrypt(extras(rng))
            connection.raw.sendall(connection.encrypt(reply) + more[: rng.randrange(1, len(more) + 1)])
        else:
            records = {
                "extra": [reply + extras(rng)],
                "record": [reply, extras(rng)],
                "no content": [http(body, start="HTTP/1.1 204 No Content")],
                "odd": [rng.choice(ODD).sent],
            }
            connection.raw.sendall(b"".join(map(connection.encrypt, records.get(act, [reply]))))

    def end(self, connection: Connection, act: str, reply: bytes) -> None:
        """Answer in part or not at all, and hang up."""
        if act == "reset":
            connection.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sent = {
            "cut": reply[: self.rng.randrange(len(reply))] or b"H",
            "close": reply,
            "odd end": self.rng.choice(ENDING).sent,
        }
        if sent.get(act):
            connection.raw.sendall(connection.encrypt(sent[act]))
        raise ConnectionAbortedError


def tagged(kind: int, tag: int) -> tuple[Callable[[AsyncGatePay], Awaitable[Any]], Callable[[Any], object], object]:
    """A call, what its result says it answers, and what that must be."""
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


async def play(seed: str, tls: bool, tally: Counter[str]) -> None:  # noqa: FBT001 -- anyio.run() passes no keywords
    rng = random.Random(seed)  # noqa: S311 -- no secret
    shop = Shop(random.Random(rng.random()))  # noqa: S311 -- as above
    tags = iter(range(1, EXCHANGES + 1))

    async def caller(gatepay: AsyncGatePay) -> None:
        for tag in tags:
            call, answers, truth = tagged(rng.randrange(4), tag)
            patience = rng.choice([None, None, None, None, rng.random() / 200])
            ended = "cancelled"
            with anyio.move_on_after(patience):
                try:
                    came = answers(await call(gatepay))
                except GatePayError:
                    ended = "failed"
                else:
                    ended = "answered"
                    assert came == truth, f"call {tag} was answered with {came!r}"
            tally[ended] += 1
            if rng.random() < 0.3 and server.connections:
                tally["disturbed"] += server.send_unasked(extras(rng), rng)

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
    tally.update({f"server: {act}": count for act, count in shop.done.items()})


@pytest.mark.parametrize("tls", [False, True])
def test_whatever_a_server_sends(*, tls: bool) -> None:
    """No call is ever answered with another's reply, whatever a server sends, and when."""
    print(f"GATEPAY_TEST_SEED={SEED}")  # noqa: T201 -- to play it again
    for loop, options in event_loops():
        tally = Counter[str]()
        anyio.run(play, f"{SEED} {loop} {options}", tls, tally, backend=loop, backend_options=options)
        print(loop, options, dict(tally))  # noqa: T201 -- what was tried
        assert tally["answered"] > EXCHANGES / 4
        assert tally["disturbed"]
