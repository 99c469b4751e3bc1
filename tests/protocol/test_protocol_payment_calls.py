"""The endpoints that GatePay added later: encoding of calls, decoding of replies, and the meaning of their codes."""

import json
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from tables import rows

from gatepay_async.protocol import errors
from gatepay_async.protocol.catalogue import REFUSALS
from gatepay_async.protocol.errors import InvalidRequestError, ProtocolError, RefusedError
from gatepay_async.protocol.messages import Reply, decode, encode
from gatepay_async.protocol.models import OrderStatus, PaymentLink, QrCode
from gatepay_async.protocol.payment_calls import (
    AnypayCreate,
    CloudpayCreate,
    GrouppayCreate,
    OrderCheck,
    StablepayCreate,
)
from gatepay_async.protocol.signing import Credentials

pytestmark = pytest.mark.fast

TESTS = Path(__file__).parents[1]
# Computed by the PHP script in the same folder.
VECTORS = json.loads((TESTS / "vectors" / "later_signatures.json").read_text(encoding="utf-8"))["signatures"]
CALL_VECTORS = [vector for vector in VECTORS if vector["kind"] != "return"]
ORDER: dict[str, Any] = {"pay_type": "wechat", "out_order_id": "T-1-X", "custom": "terry"}
VALID_ARGUMENTS: dict[Any, dict[str, Any]] = {
    AnypayCreate: {**ORDER, "price": "0.82"},
    CloudpayCreate: {**ORDER, "price": "0.82"},
    GrouppayCreate: {**ORDER, "items": {8: 2, 7: 3}},
    StablepayCreate: {**ORDER, "product_id": 8},
    OrderCheck: {"out_order_id": "T-1-X"},
}
CALLS: dict[str, Any] = {cls.path: cls(**arguments) for cls, arguments in VALID_ARGUMENTS.items()}
CREATIONS = [cls for cls in VALID_ARGUMENTS if cls is not OrderCheck]

# The codes that all later endpoints share, from the vendor's page. OWN_CODES has those of each endpoint, from 201 on.
SHARED_CODES = {
    101: errors.MissingParameterError,
    102: errors.InvalidAppKeyError,
    103: errors.AppKeyExpiredError,
    104: errors.SignatureRejectedError,
    105: errors.MissingParameterError,
    106: errors.UnexpectedParameterError,
    107: errors.EndpointClosedError,
    108: errors.CallbackUrlMissingError,
    109: errors.CallbackUrlMissingError,
    110: errors.QuotaExceededError,
    199: errors.UnknownFailureError,
}
PAY_TYPE_ERRORS = [errors.InvalidPayTypeError, errors.PayTypeClosedError, errors.NoPayTypeAvailableError]
OWN_CODES: dict[str, list[type[RefusedError]]] = {
    "anypay/create": [errors.InvalidPriceError, *PAY_TYPE_ERRORS, *4 * [errors.OrderFailedError]],
    "cloudpay/create": [
        errors.InvalidPriceError, *PAY_TYPE_ERRORS, *4 * [errors.OrderFailedError], errors.NotAnAgentError,
    ],
    "grouppay/create": [*PAY_TYPE_ERRORS, errors.OutOfStockError, *4 * [errors.OrderFailedError]],
    "stablepay/create": [
        *PAY_TYPE_ERRORS, errors.OrderFailedError, errors.ProductUnavailableError, errors.OutOfStockError,
    ],
    "order/check": [errors.OrderNotFoundError],
}  # fmt: skip
ALL_CODES = [
    (endpoint, code, cause)
    for endpoint, own in OWN_CODES.items()
    for code, cause in [*SHARED_CODES.items(), *enumerate(own, start=201)]
]

INVALID_PAY_TYPES: list[Any] = ["onecode", None, []]
INVALID_ITEMS: list[Any] = [7, "8:2", [8, 2], [(8, 2, 1)]]
INVALID_URLS: list[tuple[Any, str]] = [
    *(
        (text, "must be a whole URL")
        for text in (
            "shop.example",
            "https://",
            "https://a b",
            "ftp://shop.example",
            "https://例子/",
            "https://u@h/",
            "https://h:0/",
            "https://h:x/",
            "https://[h/",
            "https://?a",
            "https://h/#a",
            f"https://h/{'x' * 2000}",
        )
    ),
    (f"https://h/?{'x' * 701}", "must have at most 700 characters after its ?"),
    ("https://h/?a=b&sign=", "must not have sign after its ?"),
    ("https://h/?order_id", "must not have order_id after its ?"),
    ("", "must not be empty"),
    (7, "must be text"),
]
INVALID_QUANTITIES: list[Any] = [{8: 1.0}, {"8": 1}, {8: True}]


def call_of(vector: dict[str, Any]) -> Any:
    """Return the call with the parameters of *vector*."""
    params = {name: value for name, value in vector["params"].items() if name != "appkey"}
    if "type" in params:
        params["pay_type"] = params.pop("type")
    if "product_id" in params:
        params["product_id"] = int(params["product_id"])
    if "fields" in params:
        params["items"] = [tuple(map(int, pair.split(":"))) for pair in params.pop("fields").split(",")]
    [cls] = [cls for cls in VALID_ARGUMENTS if cls.path == vector["kind"]]
    return cls(**params)


@rows("vector", CALL_VECTORS)
def test_call_is_encoded_to_its_fields_and_signature(vector: dict[str, Any]) -> None:
    """The expected signatures were computed with PHP."""
    form = encode(call_of(vector), Credentials(vector["appkey"], vector["appsecret"]))
    assert parse_qsl(form.decode("ascii"), strict_parsing=True) == list(
        {**vector["params"], "sign": vector["sign"]}.items()
    )


def test_calls_that_create_an_order_are_posts_and_not_repeatable() -> None:
    """The check of an order is a repeatable GET. Cloud payments go to the cloud server."""
    assert len(CALL_VECTORS) == 6 * len(VALID_ARGUMENTS)  # six recorded signatures of each call
    assert {call.path: (call.method, call.repeatable, call.on_cloud) for call in CALLS.values()} == {
        "anypay/create": ("POST", False, False),
        "cloudpay/create": ("POST", False, True),
        "grouppay/create": ("POST", False, False),
        "stablepay/create": ("POST", False, False),
        "order/check": ("GET", True, False),
    }


@rows(
    ("price", "sent"),
    [("10.23", "10.23"), ("1", "1.00"), ("1.5", "1.50"), (Decimal("1E+2"), "100.00"), (Decimal("0.010"), "0.01")],
)
@rows("cls", [AnypayCreate, CloudpayCreate])
def test_price_is_sent_with_two_decimals(cls: Any, price: Any, sent: str) -> None:
    """A ``Decimal`` or a text with fewer decimals is padded."""
    assert cls(**{**VALID_ARGUMENTS[cls], "price": price}).fields()["price"] == sent


@rows("cls", [AnypayCreate, GrouppayCreate, StablepayCreate])
def test_urls_are_sent_if_set_and_are_not_signed(cls: Any) -> None:
    """``notify_url`` and ``return_url`` don't change the signature."""
    urls = {"notify_url": "https://shop.example/paid", "return_url": "http://127.0.0.1:8000/back"}
    without_urls, with_urls = cls(**VALID_ARGUMENTS[cls]).fields(), cls(**VALID_ARGUMENTS[cls], **urls).fields()
    assert with_urls == {**without_urls, **urls}
    assert not set(cls.signed) & set(urls)


@rows(
    ("cls", "invalid", "problem"),
    [
        *((cls, {"price": 1.5}, "must be a Decimal") for cls in (AnypayCreate, CloudpayCreate)),
        (AnypayCreate, {"price": 1}, "must be a Decimal"),
        *((AnypayCreate, {"price": value}, "must be an amount in yuan") for value in ("-1", "x", "NaN", "1e12")),
        (AnypayCreate, {"price": "1.005"}, "must not have more than two decimals"),
        (AnypayCreate, {"price": "0.00"}, "must be above 0"),
        *((cls, {"pay_type": value}, "must be one of wechat") for cls in CREATIONS for value in INVALID_PAY_TYPES),
        *((cls, {"out_order_id": ""}, "must not be empty") for cls in VALID_ARGUMENTS),
        *((cls, {"custom": "x" * 2001}, "takes 2001 bytes") for cls in CREATIONS),
        (StablepayCreate, {"product_id": 0}, "must be from 1"),
        *((GrouppayCreate, {"items": value}, "must say how many") for value in INVALID_ITEMS),
        *((GrouppayCreate, {"items": value}, "must be from 1 to ") for value in ({8: 0}, {0: 1}, {8: -1})),
        *((GrouppayCreate, {"items": value}, "must be a whole") for value in INVALID_QUANTITIES),
        (GrouppayCreate, {"items": {}}, "must hold at least one product"),
        (GrouppayCreate, {"items": [(8, 1), (7, 1), (8, 2)]}, "holds product 8 twice"),
        (GrouppayCreate, {"items": dict.fromkeys(range(1, 102), 1)}, "holds 101 products, and the limit is 100"),
        *(
            (AnypayCreate, {field: value}, problem)
            for field in ("notify_url", "return_url")
            for value, problem in INVALID_URLS
        ),
    ],
)  # fmt: skip
def test_invalid_argument_raises_and_names_the_field(cls: Any, invalid: dict[str, Any], problem: str) -> None:
    """The constructor raises before anything is sent."""
    with pytest.raises(InvalidRequestError) as caught:
        cls(**{**VALID_ARGUMENTS[cls], **invalid})
    assert caught.value.field == next(iter(invalid))
    assert caught.value.problem.startswith(problem)


def test_order_of_100_products_is_accepted() -> None:
    """100 products are the limit of our own check."""
    fields = GrouppayCreate(**{**VALID_ARGUMENTS[GrouppayCreate], "items": dict.fromkeys(range(1, 101), 1)}).fields()
    assert fields["fields"].startswith("1:1,2:1,")


# -- the vendor's example replies ----------------------------------------------------------------------------------


SIGNATURE_IN_EXAMPLE = "45f46863f10965c0f0671fb738efb13e"


def read_sample(name: str) -> bytes:
    return (TESTS / "samples" / "later" / f"{name}.reply.txt").read_bytes()


def decode_link(call: Any, body: bytes) -> PaymentLink:
    link: PaymentLink = decode(call, Reply(200, body))
    return link


@rows("name", ["anypay", "cloudpay"])
def test_vendor_examples_with_a_stray_comma_are_rejected(name: str) -> None:
    """Two of the vendor's examples are invalid JSON. They are decoded once the comma is removed."""
    call = CALLS[f"{name}/create"]
    with pytest.raises(ProtocolError, match="complete JSON") as caught:
        decode(call, Reply(200, read_sample(name)))
    assert caught.value.may_have_been_done
    assert SIGNATURE_IN_EXAMPLE not in str(caught.value)
    corrected = read_sample(name).replace(b'13e",', b'13e"')
    link = decode_link(call, corrected)
    assert link.pay_url.endswith(f"/pay/api?id=5cc75a6a0b418&type={'wechat' if name == 'anypay' else 'alipay'}")
    assert link.qrcode_url.startswith("https://")
    assert (link.qrcode is None) == (name == "cloudpay")  # only this example has no picture
    assert link.out_order_id == "T-1-X"
    assert SIGNATURE_IN_EXAMPLE not in repr(link)


@rows("name", ["grouppay", "stablepay"])
def test_vendor_examples_are_decoded_to_links(name: str) -> None:
    """A link has the URL of the page, the picture and its URL, and the order number that was sent."""
    link = decode_link(CALLS[f"{name}/create"], read_sample(name))
    assert link.pay_url.startswith("https://gatepay.io/pay/api?id=")
    assert link.qrcode_url.startswith("https://gatepay.io/qrcode/build?size=130&text=https%3A%2F%2F")
    assert link.qrcode is not None
    assert (link.qrcode.media_type, link.qrcode.declared) == ("image/png", "image/jpeg")
    assert link.out_order_id == "T-1-X"


def test_order_status_is_decoded_with_an_exact_price() -> None:
    """The price of the vendor's example is a text."""
    status = decode(CALLS["order/check"], Reply(200, read_sample("order-check")))
    assert status == OrderStatus(522, "任意金额支付:1.88元", Decimal("1.88"), "alipay", "expired")
    assert str(status.order_price) == "1.88"


def changed_sample(name: str, **data: Any) -> bytes:
    """Return the vendor's example with other values in its data. None removes a field."""
    reply = json.loads(read_sample(name))
    reply["data"] = {key: value for key, value in {**reply["data"], **data}.items() if value is not None}
    return json.dumps(reply).encode()


@rows(
    ("data", "pay_url", "qrcode_url", "has_qrcode"),  # None: as in the example
    [
        ({"params": None}, None, None, True),
        ({"params": ["anything", 7]}, None, None, True),
        ({"qrcode_body": None, "qrcode_url": None}, None, "", False),
        ({"qrcode_body": "no picture"}, None, None, False),
        ({"qrcode_body": 7}, None, None, False),
        ({"pay_url": "https://h/pay/index?id=1&amp;type=wechat"}, "https://h/pay/index?id=1&type=wechat", None, True),
        ({"pay_url": "https://h/x", "qrcode_url": "//h/a&amp;b"}, "https://h/x", "//h/a&b", True),
    ],
)
def test_optional_fields_of_a_link_may_be_absent_or_invalid(
    data: dict[str, Any], pay_url: str | None, qrcode_url: str | None, *, has_qrcode: bool
) -> None:
    """URLs that are HTML-escaped are unescaped once."""
    call = CALLS["grouppay/create"]
    original = decode_link(call, changed_sample("grouppay"))
    link = decode_link(call, changed_sample("grouppay", **data))
    assert link.pay_url == (original.pay_url if pay_url is None else pay_url)
    assert link.qrcode_url == (original.qrcode_url if qrcode_url is None else qrcode_url)
    assert (type(link.qrcode) is QrCode) == has_qrcode


@rows(
    ("name", "data", "path"),
    [
        ("grouppay", {"pay_url": None}, "data.pay_url"),
        ("grouppay", {"pay_url": 7}, "data.pay_url"),
        ("grouppay", {"qrcode_url": []}, "data.qrcode_url"),
        ("order-check", {"order_id": "522"}, "data.order_id"),
        ("order-check", {"order_price": "1.888"}, "data.order_price"),
        ("order-check", {"order_status": None}, "data.order_status"),
    ],
)
def test_missing_or_invalid_required_field_raises_protocol_error(name: str, data: dict[str, Any], path: str) -> None:
    """The error has the path of the field."""
    endpoint = "order/check" if name == "order-check" else f"{name}/create"
    with pytest.raises(ProtocolError) as caught:
        decode(CALLS[endpoint], Reply(200, changed_sample(name, **data)))
    assert caught.value.path == path


@rows(("price", "read"), [(1.88, "1.88"), (5.699999999999999, "5.70"), (2, "2.00"), ("0.82", "0.82")])
def test_price_sent_as_a_number_is_rounded_to_the_fen(price: Any, read: str) -> None:
    """The rounding errors of PHP's floats are removed."""
    status = decode(CALLS["order/check"], Reply(200, changed_sample("order-check", order_price=price, order_name=None)))
    assert (str(status.order_price), status.order_name) == (read, "")


# -- codes ---------------------------------------------------------------------------------------------------------


def decode_refusal(endpoint: str, reply: Reply) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        decode(CALLS[endpoint], reply)
    return caught.value


@rows(("endpoint", "code", "cause"), ALL_CODES)
def test_code_raises_the_exception_of_its_cause(endpoint: str, code: int, cause: type[RefusedError]) -> None:
    """The HTTP status is 200 or, for codes from 200 on, the code itself."""
    entry = REFUSALS[endpoint, code]
    body = json.dumps({"code": code, "msg": entry.message, "time": "1556614084", "data": ""}).encode()
    for status in (200, code) if code >= HTTPStatus.OK else (200,):
        error = decode_refusal(endpoint, Reply(status, body))
        assert type(error) is cause
        assert (error.code, error.message, error.endpoint) == (code, entry.message, endpoint)
        assert (error.cause, error.remedy) == (entry.cause[0], entry.remedy[0])


def test_catalogue_lists_exactly_the_documented_codes() -> None:
    """The codes are in the order of the vendor's page."""
    assert [key for key in REFUSALS if key[0] in OWN_CODES] == [(endpoint, code) for endpoint, code, _ in ALL_CODES]


@rows("body", [b"", b" \r\n"])
@rows(("endpoint", "code"), [(endpoint, code) for endpoint in OWN_CODES for code in (204, 205)])
def test_status_204_or_205_without_body_is_the_code(endpoint: str, code: int, body: bytes) -> None:
    """If the endpoint's table lacks the code, the reply raises ``ProtocolError``."""
    if (endpoint, code) in REFUSALS:
        error = decode_refusal(endpoint, Reply(code, body))
        assert (type(error), error.code, error.message) == (REFUSALS[endpoint, code].error, code, "")
    else:
        with pytest.raises(ProtocolError, match="complete JSON"):
            decode(CALLS[endpoint], Reply(code, body))


@rows("status", [200, 201, 203, 206, 500])
def test_empty_reply_with_another_status_raises_protocol_error(status: int) -> None:
    """An empty body with a status other than 204 and 205 isn't a reply of GatePay's."""
    with pytest.raises(ProtocolError):
        decode(CALLS["anypay/create"], Reply(status, b""))


@rows(("endpoint", "code"), [(endpoint, code) for endpoint in OWN_CODES for code in (111, 198, 200, 210, 999)])
def test_undocumented_code_raises_plain_refused_error(endpoint: str, code: int) -> None:
    """A code that the endpoint's table doesn't list raises ``RefusedError`` itself."""
    assert type(decode_refusal(endpoint, Reply(200, json.dumps({"code": code, "msg": "?"}).encode()))) is RefusedError
