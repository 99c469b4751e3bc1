"""Signatures and form bodies, against vectors that this code did not make."""

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

pytestmark = [pytest.mark.fast, pytest.mark.uncounted]

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "signatures.json").read_text(encoding="utf-8"))[
    "signatures"
]
ORDERS = {
    "pay/create": ["product_id", "product_num", "pay_type", "out_order_id", "custom"],
    "product/show": [],
    "ka/show": ["product_id"],
    "ka/create": ["product_id", "content"],
    "callback": ["order_id", "out_order_id", "price", "realprice", "type", "paytime", "extend"],
}
vectors = rows("vector", VECTORS)
shop = Credentials("K", "S3CRET")


def of(kind: str) -> list[Any]:
    return [vector for vector in VECTORS if vector["kind"] == kind]


def built(vector: dict[str, Any]) -> Any:
    """The call that *vector* is of."""
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


def test_there_are_vectors_of_every_kind() -> None:
    """Six vectors of each kind are tried below."""
    assert {kind: len(of(kind)) for kind in ORDERS} == dict.fromkeys(ORDERS, 6)
    assert len(VECTORS) == 30


@vectors
def test_signing(vector: dict[str, Any]) -> None:
    """Each vector's fields, in the order of the vendor's page, give the vector's signature."""
    credentials = Credentials(vector["appkey"], vector["appsecret"])
    assert sign(credentials, [vector["params"][name] for name in ORDERS[vector["kind"]]]) == vector["sign"]


@vectors
def test_is_signed(vector: dict[str, Any]) -> None:
    """The vector's own signature is believed, and no other."""
    credentials = Credentials(vector["appkey"], vector["appsecret"])
    parts = [vector["params"][name] for name in ORDERS[vector["kind"]]]
    assert is_signed(credentials, parts, vector["sign"])
    assert not is_signed(credentials, [*parts, "x"], vector["sign"])
    assert not is_signed(Credentials(vector["appkey"], "another"), parts, vector["sign"])
    for wrong in ("", vector["sign"][:-1], vector["sign"].upper(), "密" * 32):
        assert not is_signed(credentials, parts, wrong)


# The others can't be built: contents that repeat a card key or hold blank lines or carriage returns, 100 items with
# WeChat, and a product number that begins with 0.
BUILDABLE = [
    vector
    for vector in VECTORS
    if vector["kind"] != "callback"
    and vector["params"].get("content", "a") in ("a", "a&b0\n👨‍👩‍👧‍👦", '"q"0\n01\n/path/to?x#y')
    and (vector["params"].get("pay_type"), vector["params"].get("product_num")) != ("wechat", "100")
    and vector["params"].get("product_id") != "007"
]


@rows("vector", BUILDABLE)
def test_encoding(vector: dict[str, Any]) -> None:
    """A call built from a vector's values is encoded to its fields and its signature."""
    body = encode(built(vector), Credentials(vector["appkey"], vector["appsecret"]))
    pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
    assert dict(pairs) == {**vector["params"], "sign": vector["sign"]}
    assert pairs[0] == ("appkey", vector["appkey"])
    assert pairs[-1] == ("sign", vector["sign"])
    assert len(pairs) == len(dict(pairs))


def test_what_can_be_built() -> None:
    """All but one payment, one page and four contents of the vectors are calls that can be right."""
    assert len(BUILDABLE) == 5 + 6 + 5 + 2


@rows("vector", of("callback"))
def test_callbacks(vector: dict[str, Any]) -> None:
    """Each callback of the vectors is believed, from text and from bytes, and holds what was signed."""
    params = vector["params"]
    for query in (vector["encoded"], vector["encoded"].encode("ascii"), "?" + vector["encoded"]):
        callback = parse_callback(query, appkey=vector["appkey"], appsecret=vector["appsecret"])
        assert str(callback.order_id) == params["order_id"]
        assert callback.out_order_id == params["out_order_id"]
        assert (str(callback.price), str(callback.realprice)) == (params["price"], params["realprice"])
        assert callback.pay_type == params["type"]
        assert (callback.paid_at.timestamp(), str(callback.paid_at.tzinfo)) == (int(params["paytime"]), "UTC")
        assert callback.extend == params["extend"]


def test_signed_orders() -> None:
    """Each call signs what the vendor's page names, in its order; a page's number is not signed."""
    assert {call.path: list(call.signed) for call in CALLS[:4]} | {"callback": list(SIGNED)} == ORDERS


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
def test_exact_bytes(call: Any, body: str) -> None:
    """A body is ASCII: appkey first, the fields in the order of the vendor's table, sign last."""
    encoded = encode(call, shop)
    sent, _, signature = encoded.decode("ascii").rpartition("&sign=")
    assert sent == body
    assert len(signature) == 32


def test_no_repr_shows_the_appsecret() -> None:
    """What a shop signs with is shown by its appkey alone."""
    assert repr(shop) == "Credentials(appkey='K')"


@rows("field", ["appkey", "appsecret"])
@rows("value", ["", " ", "\n", "\u200b", "K\nK", "K\u200bK", None, 7, True, b"K", [], "\ud800", "K\udc00"])
def test_credentials_that_can_not_be_right(field: str, value: Any) -> None:
    """An appkey or appsecret that is no text, empty, or has an invisible character in it is refused by its name."""
    with pytest.raises(InvalidRequestError) as caught:
        Credentials(**{"appkey": "K", "appsecret": "S", field: value})
    assert caught.value.field == field
