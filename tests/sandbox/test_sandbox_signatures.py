"""The sandbox's signatures, compared with independently computed test vectors."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from tables import rows

from gatepay_async.sandbox import Order, ShopAccount
from gatepay_async.sandbox.endpoints import ENDPOINTS
from gatepay_async.sandbox.signatures import is_signed, signature
from gatepay_async.sandbox.signed_queries import callback_query

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "signatures.json").read_bytes())["signatures"]
CALLS = [vector for vector in VECTORS if vector["kind"] in ENDPOINTS]
CALLBACKS = [vector for vector in VECTORS if vector["kind"] == "callback"]


def test_vectors_cover_endpoints_and_callback() -> None:
    """The vectors contain signatures of the four first endpoints and of callbacks."""
    assert {vector["kind"] for vector in CALLS} >= {"pay/create", "product/show", "ka/show", "ka/create"}
    assert CALLBACKS


@rows("vector", CALLS)
def test_recorded_signature_is_accepted(vector: Any) -> None:
    """The recorded signature of a call is accepted, and any change to it is rejected."""
    parts = [vector["params"][name] for name in ENDPOINTS[vector["kind"]].signed]
    keys = (vector["appkey"], vector["appsecret"])
    assert is_signed(vector["sign"], *keys, parts)
    for invalid in (vector["sign"].upper(), vector["sign"][:-1], vector["sign"] + "0", "", "签" * 32):
        assert not is_signed(invalid, *keys, parts)


@rows("vector", CALLBACKS)
def test_recorded_callback_is_reproduced(vector: Any) -> None:
    """An order with the recorded values has the recorded callback."""
    params = vector["params"]
    order = Order(
        order_id=int(params["order_id"]),
        page_id="0",
        admin_id=6,
        product_id=8,
        product_num=1,
        out_order_id=params["out_order_id"],
        price=Decimal(params["price"]),
        pay_type=params["type"],
        custom=params["extend"],
        state="paid",
        created_at=0,
    )
    account = ShopAccount(vector["appkey"], vector["appsecret"])
    query = callback_query(order, account, realprice=Decimal(params["realprice"]), paytime=int(params["paytime"]))
    fields = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True))
    assert fields == {**params, "sign": vector["sign"]}


def test_secret_is_only_in_the_outer_hash() -> None:
    """The signature is md5(md5(appkey + parts) + appsecret)."""
    assert signature("a", "b", ["c", "d"]) == signature("ac", "b", ["d"])
    assert signature("a", "b", ["c"]) != signature("ab", "", ["c"])
    assert len(signature("a", "b", [])) == 32
