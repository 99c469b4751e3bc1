"""signed_callback(): what a shop's own tests are given to deliver."""

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepay_async import (
    CallbackSignatureError,
    InvalidRequestError,
    MalformedCallbackError,
    PayType,
    parse_callback,
)
from gatepay_async.testing import signed_callback

pytestmark = pytest.mark.fast

VECTORS = json.loads((Path(__file__).parent / "vectors" / "signatures.json").read_text("utf-8"))["signatures"]
CALLBACKS = [vector for vector in VECTORS if vector["kind"] == "callback"]
SHOP: dict[str, Any] = {"appkey": "gp6appkey", "appsecret": "gp6secret"}


@pytest.mark.uncounted
@pytest.mark.parametrize("vector", CALLBACKS, ids=lambda vector: vector["params"]["order_id"])
def test_vectors(vector: dict[str, Any]) -> None:
    """It writes the very text of each vector, which this code did not make."""
    params = vector["params"]
    query = signed_callback(
        appkey=vector["appkey"],
        appsecret=vector["appsecret"],
        order_id=int(params["order_id"]),
        out_order_id=params["out_order_id"],
        price=params["price"],
        realprice=Decimal(params["realprice"]),
        pay_type=params["type"],
        paid_at=int(params["paytime"]),
        extend=params["extend"],
    )
    assert query == vector["encoded"]


def test_defaults_are_believed() -> None:
    """With key and secret alone it is a callback of just now that parse_callback() believes."""
    before = int(time.time())
    callback = parse_callback(signed_callback(**SHOP), **SHOP)
    assert (callback.out_order_id, callback.price, callback.realprice) == ("T-1001-X", Decimal(1), Decimal(1))
    assert (callback.pay_type, callback.extend) == (PayType.ALIPAY, "")
    assert before <= callback.paid_at.timestamp() <= time.time()


def test_every_field_is_set() -> None:
    """What is given is what is signed: two decimals, whole seconds in UTC, the realprice that differs."""
    paid_at = datetime(2026, 11, 23, 18, 30, 5, 999_999, timezone(timedelta(hours=8)))
    query = signed_callback(
        **SHOP,
        out_order_id="订单 &=+A",
        price=12,
        realprice="11.5",
        pay_type="onecode",
        order_id=77,
        paid_at=paid_at,
        extend="a+b %",
    )
    assert "&price=12.00&realprice=11.50&type=onecode&" in query
    callback = parse_callback(query, **SHOP)
    assert (callback.order_id, callback.out_order_id, callback.extend) == (77, "订单 &=+A", "a+b %")
    assert callback.paid_at == datetime(2026, 11, 23, 10, 30, 5, tzinfo=UTC)


@given(
    out_order_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(str.strip),
    fen=st.integers(0, 10**14 - 1),
    pay_type=st.sampled_from(PayType),
    extend=st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    order_id=st.none() | st.integers(1, 2**63 - 1),
)
def test_all_that_it_writes_is_believed(
    out_order_id: str, fen: int, pay_type: PayType, extend: str, order_id: int | None
) -> None:
    """Whatever the order is, its callback is believed and says what was given."""
    price = Decimal(fen).scaleb(-2)
    query = signed_callback(
        **SHOP, out_order_id=out_order_id, price=price, pay_type=pay_type, extend=extend, order_id=order_id
    )
    callback = parse_callback(query, **SHOP)
    assert (callback.out_order_id, callback.price, callback.extend) == (out_order_id, price, extend)
    assert callback.order_id == order_id or order_id is None


def test_another_order_has_another_number() -> None:
    """The order_id is the order's: the same for the same out_order_id, another one for another."""
    numbers = [
        parse_callback(signed_callback(**SHOP, out_order_id=one), **SHOP).order_id
        for one in ("T-1-X", "T-2-X", "T-1-X")
    ]
    assert numbers[0] == numbers[2] != numbers[1]


def test_own_parameters_are_not_signed() -> None:
    """The parameters of the merchant's own URL come first, and take no part in the signature."""
    plain = signed_callback(**SHOP, paid_at=1_700_000_000)
    query = signed_callback(**SHOP, paid_at=1_700_000_000, extra={"shop": "一 号", "lang": ""})
    assert query == f"shop=%E4%B8%80+%E5%8F%B7&lang=&{plain}"
    assert parse_callback(query, **SHOP) == parse_callback(plain, **SHOP)


@pytest.mark.uncounted
@pytest.mark.parametrize("name", ["order_id", "out_order_id", "price", "realprice", "paytime", "extend"])
def test_a_changed_field_is_forged(name: str) -> None:
    """A field that is changed after signing, in its exact form, is found by the signature."""
    value = {"price": "9.99", "realprice": "9.99", "paytime": "1700000000"}.get(name, "9")
    with pytest.raises(CallbackSignatureError) as raised:
        parse_callback(signed_callback(**SHOP, tampered={name: value}), **SHOP)
    assert raised.value.field == "sign"


def test_a_changed_signature_is_forged() -> None:
    """Another signature, another secret: not believed."""
    with pytest.raises(CallbackSignatureError):
        parse_callback(signed_callback(**SHOP, tampered={"sign": "0" * 32}), **SHOP)
    with pytest.raises(CallbackSignatureError):
        parse_callback(signed_callback(appkey=SHOP["appkey"], appsecret="another"), **SHOP)


@pytest.mark.uncounted
@pytest.mark.parametrize(
    "name", ["order_id", "out_order_id", "price", "realprice", "type", "paytime", "extend", "sign"]
)
def test_a_field_can_be_left_out(name: str) -> None:
    """None takes the field out of the text, and nothing else."""
    whole = signed_callback(**SHOP, paid_at=1_700_000_000)
    query = signed_callback(**SHOP, paid_at=1_700_000_000, tampered={name: None})
    assert query.split("&") == [pair for pair in whole.split("&") if not pair.startswith(f"{name}=")]
    with pytest.raises(MalformedCallbackError) as raised:
        parse_callback(query, **SHOP)
    assert raised.value.field == name


@pytest.mark.parametrize(
    ("given", "field", "problem"),
    [
        ({"appkey": ""}, "appkey", "must not be empty"),
        ({"appsecret": "sec\nret"}, "appsecret", "invisible character"),
        ({"out_order_id": 7}, "out_order_id", "must be text, not int"),
        ({"out_order_id": " "}, "out_order_id", "must not be empty"),
        ({"out_order_id": "\ud800"}, "out_order_id", "half a character"),
        ({"price": 0.1}, "price", "not float"),
        ({"price": True}, "price", "not bool"),
        ({"price": "1.005"}, "price", "more than two decimals"),
        ({"price": "1e-9"}, "price", "more than two decimals"),
        ({"price": "-1"}, "price", "0 or more"),
        ({"price": "ten"}, "price", "0 or more"),
        ({"price": Decimal("NaN")}, "price", "0 or more"),
        ({"price": Decimal("sNaN")}, "price", "0 or more"),
        ({"price": "Infinity"}, "price", "0 or more"),
        ({"price": 10**12}, "price", "below 10 to the 12th"),
        ({"realprice": "1.234"}, "realprice", "more than two decimals"),
        ({"pay_type": "paypal"}, "pay_type", "must be one of wechat, alipay, onecode"),
        ({"pay_type": []}, "pay_type", "must be one of"),
        ({"order_id": 0}, "order_id", "must be from 1 to "),
        ({"order_id": "7"}, "order_id", "whole number, not str"),
        ({"paid_at": datetime(2026, 1, 1)}, "paid_at", "must have a time zone"),  # noqa: DTZ001 -- what is refused
        ({"paid_at": 10**9 - 1}, "paid_at", "ten digits"),
        ({"paid_at": True}, "paid_at", "a Unix timestamp"),
        ({"paid_at": 1.5}, "paid_at", "a Unix timestamp"),
        ({"paid_at": 10**10}, "paid_at", "ten digits"),
        ({"extend": None}, "extend", "must be text, not NoneType"),
        ({"extend": "\udfff"}, "extend", "half a character"),
        ({"extra": {"price": "1.00"}}, "extra", "price is a field of GatePay's"),
        ({"extra": {"shop": 1}}, "extra", "'shop' must be text"),
        ({"extra": {"shop": None}}, "extra", "'shop' must be text"),
        ({"extra": [("a", "b")]}, "extra", "must be a dict, not list"),
        ({"tampered": {"pirce": "1.00"}}, "tampered", "no field 'pirce'; there are appkey, order_id"),
        ({"tampered": {"price": 1}}, "tampered", "'price' must be text"),
        ({"tampered": {7: "1"}}, "tampered", "7 must be text"),
        ({"tampered": "price"}, "tampered", "must be a dict, not str"),
    ],
    ids=lambda each: ascii(each)[:40] if isinstance(each, dict) else "",
)
def test_what_can_not_be_right_is_refused(given: dict[str, Any], field: str, problem: str) -> None:
    """An argument that can't be right is refused by its name, and no secret is repeated."""
    with pytest.raises(InvalidRequestError) as raised:
        signed_callback(**{**SHOP, **given})
    assert raised.value.field == field
    assert problem in raised.value.problem
    assert "secret" not in str(raised.value).removeprefix("appsecret")
