"""signed_callback(), which creates callbacks for the tests of a shop."""

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


@pytest.mark.without_coverage
@pytest.mark.parametrize("vector", CALLBACKS, ids=lambda vector: vector["params"]["order_id"])
def test_callbacks_equal_the_test_vectors(vector: dict[str, Any]) -> None:
    """The query is exactly that of each test vector. The vectors were computed by other code."""
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


def test_default_callback_is_accepted() -> None:
    """With only appkey and appsecret, the result is a callback of the current time that parse_callback() accepts."""
    before = int(time.time())
    callback = parse_callback(signed_callback(**SHOP), **SHOP)
    assert (callback.out_order_id, callback.price, callback.realprice) == ("T-1001-X", Decimal(1), Decimal(1))
    assert (callback.pay_type, callback.extend) == (PayType.ALIPAY, "")
    assert before <= callback.paid_at.timestamp() <= time.time()


def test_all_arguments_are_signed() -> None:
    """All arguments are signed: prices with two decimals, and the time in whole seconds."""
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
def test_callback_of_any_order_is_accepted(
    out_order_id: str, fen: int, pay_type: PayType, extend: str, order_id: int | None
) -> None:
    """parse_callback() accepts the callback of any order and returns its values."""
    price = Decimal(fen).scaleb(-2)
    query = signed_callback(
        **SHOP, out_order_id=out_order_id, price=price, pay_type=pay_type, extend=extend, order_id=order_id
    )
    callback = parse_callback(query, **SHOP)
    assert (callback.out_order_id, callback.price, callback.extend) == (out_order_id, price, extend)
    assert callback.order_id == order_id or order_id is None


def test_order_id_depends_on_out_order_id() -> None:
    """By default, equal order numbers have equal order_ids, and different ones have different order_ids."""
    order_ids = [
        parse_callback(signed_callback(**SHOP, out_order_id=out_order_id), **SHOP).order_id
        for out_order_id in ("T-1-X", "T-2-X", "T-1-X")
    ]
    assert order_ids[0] == order_ids[2] != order_ids[1]


def test_own_parameters_are_not_signed() -> None:
    """The parameters of the merchant's own URL come first and aren't signed."""
    plain = signed_callback(**SHOP, paid_at=1_700_000_000)
    query = signed_callback(**SHOP, paid_at=1_700_000_000, extra={"shop": "一 号", "lang": ""})
    assert query == f"shop=%E4%B8%80+%E5%8F%B7&lang=&{plain}"
    assert parse_callback(query, **SHOP) == parse_callback(plain, **SHOP)


@pytest.mark.without_coverage
@pytest.mark.parametrize("name", ["order_id", "out_order_id", "price", "realprice", "paytime", "extend"])
def test_tampered_field_is_detected(name: str) -> None:
    """A field that was changed after signing, to another valid value, fails the signature check."""
    value = {"price": "9.99", "realprice": "9.99", "paytime": "1700000000"}.get(name, "9")
    with pytest.raises(CallbackSignatureError) as raised:
        parse_callback(signed_callback(**SHOP, tampered={name: value}), **SHOP)
    assert raised.value.field == "sign"


def test_wrong_signature_is_rejected() -> None:
    """A changed signature and the signature of another appsecret are rejected."""
    with pytest.raises(CallbackSignatureError):
        parse_callback(signed_callback(**SHOP, tampered={"sign": "0" * 32}), **SHOP)
    with pytest.raises(CallbackSignatureError):
        parse_callback(signed_callback(appkey=SHOP["appkey"], appsecret="another"), **SHOP)


@pytest.mark.without_coverage
@pytest.mark.parametrize(
    "name", ["order_id", "out_order_id", "price", "realprice", "type", "paytime", "extend", "sign"]
)
def test_tampered_none_removes_the_field(name: str) -> None:
    """With None in `tampered`, only that field is removed, and parse_callback() names it."""
    complete = signed_callback(**SHOP, paid_at=1_700_000_000)
    query = signed_callback(**SHOP, paid_at=1_700_000_000, tampered={name: None})
    assert query.split("&") == [pair for pair in complete.split("&") if not pair.startswith(f"{name}=")]
    with pytest.raises(MalformedCallbackError) as raised:
        parse_callback(query, **SHOP)
    assert raised.value.field == name


@pytest.mark.parametrize(
    ("arguments", "field", "problem"),
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
        ({"paid_at": datetime(2026, 1, 1)}, "paid_at", "must have a time zone"),  # noqa: DTZ001 -- naive on purpose
        ({"paid_at": 10**9 - 1}, "paid_at", "ten digits"),
        ({"paid_at": True}, "paid_at", "a Unix timestamp"),
        ({"paid_at": 1.5}, "paid_at", "a Unix timestamp"),
        ({"paid_at": 10**10}, "paid_at", "ten digits"),
        ({"extend": None}, "extend", "must be text, not NoneType"),
        ({"extend": "\udfff"}, "extend", "half a character"),
        ({"extra": {"price": "1.00"}}, "extra", "price is one of GatePay's own fields"),
        ({"extra": {"shop": 1}}, "extra", "'shop' must be text"),
        ({"extra": {"shop": None}}, "extra", "'shop' must be text"),
        ({"extra": [("a", "b")]}, "extra", "must be a dict, not list"),
        ({"tampered": {"pirce": "1.00"}}, "tampered", "no field 'pirce'; there are appkey, order_id"),
        ({"tampered": {"price": 1}}, "tampered", "'price' must be text"),
        ({"tampered": {7: "1"}}, "tampered", "7 must be text"),
        ({"tampered": "price"}, "tampered", "must be a dict, not str"),
    ],
    ids=lambda value: ascii(value)[:40] if isinstance(value, dict) else "",
)
def test_invalid_arguments_are_rejected(arguments: dict[str, Any], field: str, problem: str) -> None:
    """An invalid argument raises an error that names it and doesn't contain the appsecret."""
    with pytest.raises(InvalidRequestError) as raised:
        signed_callback(**{**SHOP, **arguments})
    assert raised.value.field == field
    assert problem in raised.value.problem
    assert "secret" not in str(raised.value).removeprefix("appsecret")
