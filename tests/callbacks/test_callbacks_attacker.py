"""An attacker who knows a genuine callback can't make the handler run with other fields."""

import random
from decimal import Decimal
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from delivering import CREDENTIALS, Shop, call, signed_fields
from seeds import fresh_seed

from gatepay_async.callbacks import MemoryStore
from gatepay_async.protocol.callback import SIGNED

pytestmark = [pytest.mark.slow, pytest.mark.without_coverage, pytest.mark.hang_limit(180), pytest.mark.anyio]

ROUNDS = 2_500
GENUINE: dict[str, Any] = {
    "order_id": "1201",
    "out_order_id": "T-100-X",
    "price": "12.00",
    "realprice": "12.00",
    "type": "wechat",
    "paytime": "1555750250",
    "extend": "0123@example.com",
}
# The values of the fields called appkey in a query. A query with the right appkey occurs more often.
APPKEYS = [[], ["gp-key"], ["gp-key"], ["other"], [""], ["gp-key"] * 2, ["gp-key", "other"], ["GP-KEY"], ["gp-ke"]]


def move_borders(rng: random.Random, values: list[str]) -> list[str]:
    """Return values with the same concatenation, hence the same signature, but with some borders moved."""
    text, borders, position = "".join(values), [0], 0
    for value in values[:-1]:
        position += len(value)
        moved = position + (rng.choice([-3, -2, -1, 1, 2, 3]) if rng.random() < 0.4 else 0)
        borders.append(min(max(moved, borders[-1]), len(text)))
    return [text[start:end] for start, end in zip(borders, [*borders[1:], len(text)], strict=True)]


def encode(rng: random.Random, value: str) -> str:
    """Return *value* in one of several encodings; the last is wrong for some characters."""
    plain = quote_plus(value)
    return rng.choice([plain, plain, quote(value, ""), "".join(f"%{byte:02x}" for byte in value.encode()), value])


def make_attack(rng: random.Random) -> tuple[dict[str, str], bytes]:
    """Return the signed fields of an attack, and its query string, which may contain more fields."""
    signed = dict(zip(SIGNED, move_borders(rng, list(GENUINE.values())), strict=True))
    if rng.random() < 0.2:
        name = rng.choice(SIGNED)
        signed[name] = rng.choice(
            ["", "0", signed[name] + " ", "+" + signed[name], "0" + signed[name], signed[name] + "\x00"]
        )
    pairs = [*signed.items(), ("sign", signed_fields(**GENUINE)["sign"])]
    pairs += [("appkey", value) for value in rng.choice(APPKEYS)]
    if rng.random() < 0.2:
        pairs.append(rng.choice([*pairs, ("price[]", "0.01"), ("Price", "0.01"), ("own", "1"), ("price ", "0.01")]))
    rng.shuffle(pairs)
    encoded_names = {name: rng.choice([name, name, name, f"%{ord(name[0]):02X}{name[1:]}"]) for name, _ in pairs}
    return signed, "&".join(f"{encoded_names[name]}={encode(rng, value)}" for name, value in pairs).encode()


async def deliver(rng: random.Random, app: Any, query: bytes) -> bytes:
    """Deliver *query* by GET, by POST, by ``receive``, or split between URL and body. Return the response's body."""
    split = rng.randrange(len(query))
    method = rng.choice(["GET", "POST", "receive", "mixed"])
    if method == "receive":
        return bytes((await app.receive(query)).body.encode())
    if method == "GET":
        return (await call(app, query)).body
    first, second = (query[:split], query[split:]) if method == "mixed" else (b"", query)
    parts = [{"type": "http.request", "body": second, "more_body": False}]
    return (await call(app, first, method="POST", parts=parts)).body


async def test_handler_never_runs_with_forged_fields() -> None:
    """In thousands of random attacks, the handler runs only with the genuine fields."""
    seed = fresh_seed()
    print(f"seed {seed}")  # noqa: T201 -- shown when the test fails
    rng = random.Random(seed)  # noqa: S311 -- a seeded test
    accepted = 0
    for _ in range(ROUNDS):
        signed, query = make_attack(rng)
        shop = Shop(MemoryStore(), prices={GENUINE["out_order_id"]: Decimal(GENUINE["price"])})
        answer = await deliver(rng, shop.app(), query)
        assert answer in (b"success", b"fail")
        assert bool(shop.handled) == (answer == b"success"), query
        for callback in shop.handled:
            accepted += 1
            assert signed == GENUINE, query
            assert (callback.order_id, callback.out_order_id) == (1201, "T-100-X"), query
            assert (callback.price, callback.realprice) == (Decimal("12.00"), Decimal("12.00")), query
            assert (callback.pay_type, callback.extend) == ("wechat", "0123@example.com"), query
    assert 0 < accepted < ROUNDS / 2
    assert CREDENTIALS.appsecret not in repr(shop.events)
