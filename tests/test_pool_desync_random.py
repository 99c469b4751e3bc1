"""A reply belongs to its request: thousands of exchanges with a server that knows the truth and does what it likes."""

import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from attrs import define, field
from odd_server import Connection, OddServer, Request, chunked, http, loops, right_reply
from seeds import fresh_seed

from gatepay_async import AsyncGatePay, GatePayError, RetryPolicy
from gatepay_async.pool import OriginPool

pytestmark = [pytest.mark.slow, pytest.mark.uncounted, pytest.mark.hang_limit(180)]

SEED = fresh_seed()
EXCHANGES = int(os.environ.get("GATEPAY_TEST_EXCHANGES") or 350)  # on each loop, over each transport
CALLERS = 6


def extras(rng: random.Random) -> bytes:
    """What nobody has asked for: from a byte to the reply to another request."""
    forged = http(rng.choice([right_reply("ka/show", {"product_id": "666"}), right_reply("product/show", {})]))
    order = http(right_reply("pay/create", {"out_order_id": "FORGED"}))
    late = http(b"{}", start="HTTP/1.1 408 Request Timeout")
    return rng.choice([b"\n", b"\r\n", b"\0", forged, order, forged[: rng.randrange(1, len(forged))], late])


@define
class Shop:
    """What the server does with each request; each kind of it is counted."""

    rng: random.Random
    done: Counter[str] = field(factory=Counter[str])

    def answer(self, connection: Connection, request: Request) -> None:
        rng = self.rng
        body = right_reply(request.path, request.form)
        act = rng.choices(
            ("right", "split", "chunked", "extra", "record", "half", "cut", "close", "no content", "silent"),
            (30, 15, 5, 15, 10, 5, 5, 4, 6, 1),
        )[0]
        self.done[act] += 1
        reply = chunked(body) if act == "chunked" else http(body)
        if act == "split":  # into two segments, at any byte, in any record
            raw, place = connection.seal(reply), rng.randrange(1, len(reply))
            connection.raw.sendall(raw[:place])
            connection.raw.sendall(raw[place:])
        elif act == "extra":
            connection.raw.sendall(connection.seal(reply + extras(rng)))
        elif act == "record":
            connection.raw.sendall(connection.seal(reply) + connection.seal(extras(rng)))
        elif act == "half":
            more = connection.seal(extras(rng))
            connection.raw.sendall(connection.seal(reply) + more[: rng.randrange(1, len(more) + 1)])
        elif act == "cut":
            connection.raw.sendall(connection.seal(reply[: rng.randrange(len(reply))] or b"H"))
            raise ConnectionAbortedError
        elif act == "no content":
            connection.raw.sendall(connection.seal(http(body, start="HTTP/1.1 204 No Content")))
        elif act == "silent":
            raise ConnectionAbortedError
        else:
            connection.raw.sendall(connection.seal(reply))
            if act == "close":
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
                tally["disturbed"] += server.disturb(extras(rng), rng)

    with OddServer(shop.answer, tls=tls) as server:
        pool = OriginPool(server.base_url, ssl_context=server.client_tls, max_connections=3)
        async with (
            pool,
            AsyncGatePay("k", "s", base_url=server.base_url, transport=pool, retry=RetryPolicy(attempts=1)) as gatepay,
            anyio.create_task_group() as group,
        ):
            for _ in range(CALLERS):
                group.start_soon(caller, gatepay)
        tally["connections"] += len(server.connections)
    tally.update({f"server: {act}": count for act, count in shop.done.items()})


@pytest.mark.parametrize("tls", [False, True])
def test_whatever_a_server_sends(*, tls: bool) -> None:
    """No call is ever answered with another's reply, whatever a server sends, and when."""
    print(f"GATEPAY_TEST_SEED={SEED}")  # noqa: T201 -- to play it again
    for loop, options in loops():
        tally = Counter[str]()
        anyio.run(play, f"{SEED} {loop} {options}", tls, tally, backend=loop, backend_options=options)
        print(loop, options, dict(tally))  # noqa: T201 -- what was tried
        assert tally["answered"] > EXCHANGES / 4
        assert tally["disturbed"]
