"""Signatures and form bodies, compared with vectors computed by another program."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from tables import rows

from gatepay_async.protocol.callback import SIGNED, parse_callback
from gatepay_async.protocol.calls import KaCreate, KaShow, PayCreate, ProductShow
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.messages import encode
from gatepay_async.protocol.payment_calls import CALLS
from gatepay_async.protocol.signing import Credentials, is_signed, sign

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "signatures.json").read_text(encoding="utf-8"))[
    "signatures"
]
# The signed fields of each kind of vector, in order.
SIGNED_FIELDS = {
    "pay/create": ["product_id", "product_num", "pay_type", "out_order_id", "custom"],
    "product/show": [],
    "ka/show": ["product_id"],
    "ka/create": ["product_id", "content"],
    "callback": ["order_id", "out_order_id", "price", "realprice", "type", "paytime", "extend"],
}
each_vector = rows("vector", VECTORS)
SHOP = Credentials("K", "S3CRET")


def vectors_of(kind: str) -> list[Any]:
    return [vector for vector in VECTORS if vector["kind"] == kind]


def call_of(vector: dict[str, Any]) -> Any:
    """Return the call with the parameters of *vector*."""
    match vector["kind"], vector["params"]:
        case "pay/create", fields:
            return PayCreate(
                int(fields["product_id"]),
                fields["out_order_id"],
                fields["pay_type"],
                int(fields["product_num"]),
                fields["custom"],
            )
        case "product/show", _:
            return ProductShow()
        case "ka/show", fields:
            return KaShow(int(fields["product_id"]), int(fields["page"]))
        case _, fields:
            return KaCreate(int(fields["product_id"]), fields["content"].split("\n"))


def test_vector_file_has_six_vectors_of_each_kind() -> None:
    """The other tests use all of these vectors."""
    assert {kind: len(vectors_of(kind)) for kind in SIGNED_FIELDS} == dict.fromkeys(SIGNED_FIELDS, 6)
    assert len(VECTORS) == 30


@each_vector
def test_sign_returns_the_signature_of_the_vector(vector: dict[str, Any]) -> None:
    """The fields are signed in the order of the vendor's page."""
    credentials = Credentials(vector["appkey"], vector["appsecret"])
    assert sign(credentials, [vector["params"][name] for name in SIGNED_FIELDS[vector["kind"]]]) == vector["sign"]


@each_vector
def test_is_signed_accepts_only_the_right_signature(vector: dict[str, Any]) -> None:
    """Other fields, secrets and signatures are rejected."""
    credentials = Credentials(vector["appkey"], vector["appsecret"])
    parts = [vector["params"][name] for name in SIGNED_FIELDS[vector["kind"]]]
    assert is_signed(credentials, parts, vector["sign"])
    assert not is_signed(credentials, [*parts, "x"], vector["sign"])
    assert not is_signed(Credentials(vector["appkey"], "another"), parts, vector["sign"])
    for wrong_signature in ("", vector["sign"][:-1], vector["sign"].upper(), "密" * 32):
        assert not is_signed(credentials, parts, wrong_signature)


# The vectors whose values the constructors accept. The others repeat a card key, contain blank lines or carriage
# returns, order 100 items with WeChat, or have a product number that starts with 0.
VALID_CALLS = [
    vector
    for vector in VECTORS
    if vector["kind"] != "callback"
    and vector["params"].get("content", "a") in ("a", "a&b0\n👨‍👩‍👧‍👦", '"q"0\n01\n/path/to?x#y')
    and (vector["params"].get("pay_type"), vector["params"].get("product_num")) != ("wechat", "100")
    and vector["params"].get("product_id") != "007"
]


@rows("vector", VALID_CALLS)
def test_call_is_encoded_to_the_fields_and_signature_of_its_vector(vector: dict[str, Any]) -> None:
    """The appkey is the first field, and the signature is the last one."""
    body = encode(call_of(vector), Credentials(vector["appkey"], vector["appsecret"]))
    pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
    assert dict(pairs) == {**vector["params"], "sign": vector["sign"]}
    assert pairs[0] == ("appkey", vector["appkey"])
    assert pairs[-1] == ("sign", vector["sign"])
    assert len(pairs) == len(dict(pairs))


def test_18_of_the_24_vectors_of_calls_are_valid() -> None:
    """The other vectors have values that the constructors reject."""
    assert len(VALID_CALLS) == 5 + 6 + 5 + 2  # pay/create, product/show, ka/show, ka/create


@rows("vector", vectors_of("callback"))
def test_callback_vectors_are_accepted_as_text_or_bytes(vector: dict[str, Any]) -> None:
    """The parsed callback has the values that were signed."""
    params = vector["params"]
    for query in (vector["encoded"], vector["encoded"].encode("ascii"), "?" + vector["encoded"]):
        callback = parse_callback(query, appkey=vector["appkey"], appsecret=vector["appsecret"])
        assert str(callback.order_id) == params["order_id"]
        assert callback.out_order_id == params["out_order_id"]
        assert (str(callback.price), str(callback.realprice)) == (params["price"], params["realprice"])
        assert callback.pay_type == params["type"]
        assert (callback.paid_at.timestamp(), str(callback.paid_at.tzinfo)) == (int(params["paytime"]), "UTC")
        assert callback.extend == params["extend"]


def test_signed_fields_are_those_of_the_vendors_page_in_order() -> None:
    """The page number of ``ka/show`` is not signed."""
    assert {call.path: list(call.signed) for call in CALLS[:4]} | {"callback": list(SIGNED)} == SIGNED_FIELDS


@rows(
    ("call", "body"),
    [
        (
            PayCreate(product_id=8, out_order_id="T-1&X", pay_type="alipay", product_num=2, custom="中 文+"),
            "appkey=K&product_id=8&out_order_id=T-1%26X&product_num=2&pay_type=alipay&custom=%E4%B8%AD+%E6%96%87%2B",
        ),
        (ProductShow(), "appkey=K"),
        (KaShow(8, 3), "appkey=K&product_id=8&page=3"),
        (KaShow(8), "appkey=K&product_id=8&page=1"),
        (KaCreate(8, ["A", " B ", "é"]), "appkey=K&product_id=8&content=A%0A+B+%0A%C3%A9"),
    ],
)
def test_form_starts_with_the_appkey_and_ends_with_the_signature(call: Any, body: str) -> None:
    """The form is ASCII. The fields are in the order of the vendor's table."""
    encoded = encode(call, SHOP)
    unsigned_form, _, signature = encoded.decode("ascii").rpartition("&sign=")
    assert unsigned_form == body
    assert len(signature) == 32


def test_repr_of_credentials_shows_only_the_appkey() -> None:
    """The appsecret is in no ``repr``."""
    assert repr(SHOP) == "Credentials(appkey='K')"


@rows("field", ["appkey", "appsecret"])
@rows("value", ["", " ", "\n", "\u200b", "K\nK", "K\u200bK", None, 7, True, b"K", [], "\ud800", "K\udc00"])
def test_invalid_credentials_are_rejected(field: str, value: Any) -> None:
    """The value is not a text, is empty, or contains an invisible character. The error names the field."""
    with pytest.raises(InvalidRequestError) as caught:
        Credentials(**{"appkey": "K", "appsecret": "S", field: value})
    assert caught.value.field == field
