"""Verification of the return URL's query, and the quick-pay link."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from tables import rows

from gatepay_async import AsyncGatePay
from gatepay_async.protocol.callback_errors import CallbackSignatureError, MalformedCallbackError
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.models import PaymentReturn
from gatepay_async.protocol.signing import Credentials, sign

pytestmark = pytest.mark.fast

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "later_signatures.json").read_text(encoding="utf-8"))
RETURNS = [vector for vector in VECTORS["signatures"] if vector["kind"] == "return"]
SHOP = Credentials("K7", "S")
GATEPAY = AsyncGatePay("K7", "S")
FIELDS = {"price": "0.99", "type": "alipay", "product_id": "8", "order_id": "522", "out_order_id": "T-1-X"}


def query_of(**changes: str | None) -> str:
    """Return a signed query. None removes a field before signing."""
    fields = {name: value for name, value in {**FIELDS, **changes}.items() if value is not None}
    signature = sign(SHOP, [fields[name] for name in FIELDS if name in fields])
    return urlencode({**fields, "sign": signature})


@rows("vector", RETURNS)
def test_signed_return_is_accepted_as_text_or_bytes(vector: dict[str, Any]) -> None:
    """The signatures were computed with PHP."""
    gatepay, params = AsyncGatePay(vector["appkey"], vector["appsecret"]), vector["params"]
    for query in (vector["encoded"], vector["encoded"].encode("ascii"), f"?own=1&{vector['encoded']}"):
        assert gatepay.parse_return(query) == PaymentReturn(
            Decimal(params["price"]),
            params["type"],
            int(params["product_id"]),
            int(params["order_id"]),
            params["out_order_id"],
        )
    assert len(RETURNS) == 6


@rows("product_id", [None, ""])
def test_product_id_may_be_missing_or_empty(product_id: str | None) -> None:
    """An order that was created with a price, not for a product, has no product ID in its return."""
    assert GATEPAY.parse_return(query_of(product_id=product_id)).product_id is None


@rows(
    ("change", "field"),
    [
        ({"price": "0.9"}, "price"), ({"price": "00.99"}, "price"), ({"price": "-0.99"}, "price"),
        ({"type": "paypal"}, "type"), ({"type": ""}, "type"),
        ({"product_id": "08"}, "product_id"), ({"product_id": "x"}, "product_id"),
        ({"order_id": "0522"}, "order_id"), ({"order_id": ""}, "order_id"), ({"order_id": None}, "order_id"),
        ({"out_order_id": ""}, "out_order_id"), ({"out_order_id": None}, "out_order_id"), ({"price": None}, "price"),
    ],
)  # fmt: skip
def test_missing_or_malformed_field_is_rejected_despite_a_valid_signature(
    change: dict[str, str | None], field: str
) -> None:
    """The error names the field, and says that it is about a return."""
    with pytest.raises(MalformedCallbackError, match=f"^return: {field}: ") as caught:
        GATEPAY.parse_return(query_of(**change))
    assert (caught.value.field, caught.value.source) == (field, "return")


def test_return_with_a_wrong_signature_is_rejected() -> None:
    """Changed fields, the return of another shop, a repeated name and a truncated signature are rejected."""
    query = query_of()
    for forged_query in (
        query.replace("0.99", "0.98"),
        query.replace("522", "523"),
        query_of(product_id="7")[:-32] + query[-32:],
    ):
        with pytest.raises(CallbackSignatureError, match=r"^return: sign: "):
            GATEPAY.parse_return(forged_query)
    with pytest.raises(CallbackSignatureError):
        AsyncGatePay("K8", "S").parse_return(query)
    with pytest.raises(MalformedCallbackError, match="twice"):
        GATEPAY.parse_return(f"{query}&price=0.99")
    with pytest.raises(MalformedCallbackError, match="sign"):
        GATEPAY.parse_return(query[:-1])


def test_moved_digits_are_detected_only_by_a_leading_zero() -> None:
    """A digit moved between product_id and order_id doesn't break the signature, so a return proves no payment."""
    forged = GATEPAY.parse_return(query_of().replace("product_id=8&order_id=522", "product_id=85&order_id=22"))
    assert (forged.product_id, forged.order_id) == (85, 22)
    with pytest.raises(MalformedCallbackError):
        GATEPAY.parse_return(query_of(order_id="502").replace("product_id=8&order_id=502", "product_id=85&order_id=02"))


# -- quick pay -----------------------------------------------------------------------------------------------------


@rows(
    ("options", "sent"),
    [
        ({}, {}),
        ({"price": "1.88"}, {"price": "1.88"}),
        ({"price": Decimal(2), "custom": "微信 & co"}, {"price": "2.00", "custom": "微信 & co"}),
        ({"price": "1", "stable": True, "skin": 0}, {"price": "1.00", "stable": "1", "skin": "0"}),
        ({"skin": 1, "stable": False}, {"skin": "1"}),
    ],
)
def test_quick_pay_url_contains_only_the_given_arguments(options: dict[str, Any], sent: dict[str, str]) -> None:
    """The URL is not signed and contains no secret."""
    url = urlsplit(GATEPAY.quick_pay_url("qflk nfokn", **options))
    assert (url.scheme, url.netloc, url.path) == ("https", "gatepay.io", "/pay/any")
    assert dict(parse_qsl(url.query, strict_parsing=True)) == {"appkey": "K7", "token": "qflk nfokn", **sent}


def test_quick_pay_url_is_relative_to_base_url() -> None:
    """The quick-pay page is next to the API, also behind a proxy."""
    for base_url, page in (
        ("http://127.0.0.1:8000/api/", "http://127.0.0.1:8000/pay/any?"),
        ("https://proxy.example/gatepay/api", "https://proxy.example/gatepay/pay/any?"),
    ):
        assert AsyncGatePay("K", "S", base_url=base_url).quick_pay_url("t").startswith(page)


@rows(
    ("arguments", "field"),
    [
        *(({"token": value}, "token") for value in ("", " ", "a\u200bb")),
        *(({"price": value}, "price") for value in ("0", "1.888", "x")),
        *(({"custom": value}, "custom") for value in ("", "x" * 2001)),
        *(({"skin": value}, "skin") for value in (2, -1, True, 1.0)),
    ],
)
def test_invalid_quick_pay_argument_is_rejected(arguments: dict[str, Any], field: str) -> None:
    """The error names the argument."""
    with pytest.raises(InvalidRequestError) as caught:
        GATEPAY.quick_pay_url(**{"token": "t", **arguments})
    assert caught.value.field == field
