"""An attacker who has seen a genuine callback: whatever is cut, mixed or encoded anew, only its own fields count."""

import random
from decimal import Decimal
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from delivering import SHOP, Shop, call, fields
from seeds import fresh_seed

from gatepay_async.callbacks import MemoryStore
from gatepay_async.protocol.callback import SIGNED

pytestmark = [pytest.mark.slow, pytest.mark.uncounted, pytest.mark.hang_limit(180), pytest.mark.anyio]

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
APPKEYS = [[], ["gp-key"], ["gp-key"], ["other"], [""], ["gp-key"] * 2, ["gp-key", "other"], ["GP-KEY"], ["gp-ke"]]


def cut(chance: random.Random, values: list[str]) -> list[str]:
    """The same signed text, with some borders between its fields moved a little."""
    text, borders, at = "".join(values), [0], 0
    for value in values[:-1]:
        at += len(value)
        moved = at + (chance.choice([-3, -2, -1, 1, 2, 3]) if chance.random() < 0.4 else 0)
        borders.append(min(max(moved, borders[-1]), len(text)))
    return [text[start:end] for start, end in zip(borders, [*borders[1:], len(text)], strict=True)]


def encoded(chance: random.Random, value: str) -> str:
    """One of the ways to write a value, right ones and wrong ones."""
    plain = quote_plus(value)
    return chance.choice([plain, plain, quote(value, ""), "".join(f"%{byte:02x}" for byte in value.encode()), value])


def attack(chance: random.Random) -> tuple[dict[str, str], bytes]:
    """A query, and the fields that it says if each name counts once."""
    said = dict(zip(SIGNED, cut(chance, list(GENUINE.values())), strict=True))
    if chance.random() < 0.2:
        name = chance.choice(SIGNED)
        said[name] = chance.choice(["", "0", said[name] + " ", "+" + said[name], "0" + said[name], said[name] + "\x00"])
    pairs = [*said.items(), ("sign", fields(**GENUINE)["sign"])]
    pairs += [("appkey", value) for value in chance.choice(APPKEYS)]
    if chance.random() < 0.2:
        pairs.append(chance.choice([*pairs, ("price[]", "0.01"), ("Price", "0.01"), ("own", "1"), ("price ", "0.01")]))
    chance.shuffle(pairs)
    names = {name: chance.choice([name, name, name, f"%{ord(name[0]):02X}{name[1:]}"]) for name, _ in pairs}
    return said, "&".join(f"{names[name]}={encoded(chance, value)}" for name, value in pairs).encode()


async def deliver(chance: random.Random, app: Any, query: bytes) -> bytes:
    """By GET, by POST, or half by each."""
    half = chance.randrange(len(query))
    way = chance.choice(["GET", "POST", "receive", "mixed"])
    if way == "receive":
        return bytes((await app.receive(query)).body.encode())
    if way == "GET":
        return (await call(app, query)).body
    first, second = (query[:half], query[half:]) if way == "mixed" else (b"", query)
    parts = [{"type": "http.request", "body": second, "more_body": False}]
    return (await call(app, first, method="POST", parts=parts)).body


async def test_an_attacker() -> None:
    """Over thousands of attempts, the handler is called with nothing but the genuine fields."""
    seed = fresh_seed()
    print(f"seed {seed}")  # noqa: T201 -- shown when the test fails
    chance = random.Random(seed)  # noqa: S311 -- as above
    accepted = 0
    for _ in range(ROUNDS):
        said, query = attack(chance)
        shop = Shop(MemoryStore(), prices={GENUINE["out_order_id"]: Decimal(GENUINE["price"])})
        answer = await deliver(chance, shop.app(), query)
        assert answer in (b"success", b"fail")
        assert bool(shop.handled) == (answer == b"success"), query
        for callback in shop.handled:
            accepted += 1
            assert said == GENUINE, query
            assert (callback.order_id, callback.out_order_id) == (1201, "T-100-X"), query
            assert (callback.price, callback.realprice) == (Decimal("12.00"), Decimal("12.00")), query
            assert (callback.pay_type, callback.extend) == ("wechat", "0123@example.com"), query
    assert 0 < accepted < ROUNDS / 2
    assert SHOP.appsecret not in repr(shop.events)
