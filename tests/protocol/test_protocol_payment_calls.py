"""The later endpoints: what is sent, what comes back, and what each of their numbers means."""

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
# Computed by the PHP beside it.
VECTORS = json.loads((TESTS / "vectors" / "later_signatures.json").read_text(encoding="utf-8"))["signatures"]
SENT = [vector for vector in VECTORS if vector["kind"] != "return"]
ORDER: dict[str, Any] = {"pay_type": "wechat", "out_order_id": "T-1-X", "custom": "terry"}
RIGHT: dict[Any, dict[str, Any]] = {
    AnypayCreate: {**ORDER, "price": "0.82"},
    CloudpayCreate: {**ORDER, "price": "0.82"},
    GrouppayCreate: {**ORDER, "items": {8: 2, 7: 3}},
    StablepayCreate: {**ORDER, "product_id": 8},
    OrderCheck: {"out_order_id": "T-1-X"},
}
CALLS: dict[str, Any] = {cls.path: cls(**arguments) for cls, arguments in RIGHT.items()}
CREATIONS = [cls for cls in RIGHT if cls is not OrderCheck]

# "Codes that all of them share", and the table below it.
SHARED = {
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
PAY_TYPE = [errors.InvalidPayTypeError, errors.PayTypeClosedError, errors.NoPayTypeAvailableError]
OWN: dict[str, list[type[RefusedError]]] = {
    "anypay/create": [errors.InvalidPriceError, *PAY_TYPE, *4 * [errors.OrderFailedError]],
    "cloudpay/create": [errors.InvalidPriceError, *PAY_TYPE, *4 * [errors.OrderFailedError], errors.NotAnAgentError],
    "grouppay/create": [*PAY_TYPE, errors.OutOfStockError, *4 * [errors.OrderFailedError]],
    "stablepay/create": [
        *PAY_TYPE, errors.OrderFailedError, errors.ProductUnavailableError, errors.OutOfStockError,
    ],
    "order/check": [errors.OrderNotFoundError],
}  # fmt: skip
TABLE = [
    (endpoint, code, cause)
    for endpoint, own in OWN.items()
    for code, cause in [*SHARED.items(), *enumerate(own, start=201)]
]

NO_PAY_TYPES: list[Any] = ["onecode", None, []]
NO_ITEMS: list[Any] = [7, "8:2", [8, 2], [(8, 2, 1)]]
NO_URLS: list[tuple[Any, str]] = [
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
    (f"https://h/?{'x' * 701}", "must have at most 700 characters behind its ?"),
    ("https://h/?a=b&sign=", "must not have sign behind its ?"),
    ("https://h/?order_id", "must not have order_id behind its ?"),
    ("", "must not be empty"),
    (7, "must be text"),
]
NO_NUMBERS: list[Any] = [{8: 1.0}, {"8": 1}, {8: True}]


def built(vector: dict[str, Any]) -> Any:
    """The call that *vector* is of."""
    params = {name: value for name, value in vector["params"].items() if name != "appkey"}
    if "type" in params:
        params["pay_type"] = params.pop("type")
    if "product_id" in params:
        params["product_id"] = int(params["product_id"])
    if "fields" in params:
        params["items"] = [tuple(map(int, pair.split(":"))) for pair in params.pop("fields").split(",")]
    [cls] = [cls for cls in RIGHT if cls.path == vector["kind"]]
    return cls(**params)


@rows("vector", SENT)
def test_encoding(vector: dict[str, Any]) -> None:
    """A call of a vector's values is encoded to its fields and its signature, and to nothing else."""
    form = encode(built(vector), Credentials(vector["appkey"], vector["appsecret"]))
    assert parse_qsl(form.decode("ascii"), strict_parsing=True) == list(
        {**vector["params"], "sign": vector["sign"]}.items()
    )


def test_what_is_known_of_each() -> None:
    """Nothing that makes an order is sent twice; the check is a GET; one goes to the cloud."""
    assert len(SENT) == 6 * len(RIGHT)
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
def test_prices(cls: Any, price: Any, sent: str) -> None:
    """A price is sent with exactly two decimals."""
    assert cls(**{**RIGHT[cls], "price": price}).fields()["price"] == sent


@rows("cls", [AnypayCreate, GrouppayCreate, StablepayCreate])
def test_urls(cls: Any) -> None:
    """The two URLs are sent where they are given, and change no signature."""
    urls = {"notify_url": "https://shop.example/paid", "return_url": "http://127.0.0.1:8000/back"}
    plain, more = cls(**RIGHT[cls]).fields(), cls(**RIGHT[cls], **urls).fields()
    assert more == {**plain, **urls}
    assert not set(cls.signed) & set(urls)


@rows(
    ("cls", "wrong", "problem"),
    [
        *((cls, {"price": 1.5}, "must be a Decimal") for cls in (AnypayCreate, CloudpayCreate)),
        (AnypayCreate, {"price": 1}, "must be a Decimal"),
        *((AnypayCreate, {"price": value}, "must be an amount in yuan") for value in ("-1", "x", "NaN", "1e12")),
        (AnypayCreate, {"price": "1.005"}, "must not have more than two decimals"),
        (AnypayCreate, {"price": "0.00"}, "must be above 0"),
        *((cls, {"pay_type": value}, "must be one of wechat") for cls in CREATIONS for value in NO_PAY_TYPES),
        *((cls, {"out_order_id": ""}, "must not be empty") for cls in RIGHT),
        *((cls, {"custom": "x" * 2001}, "takes 2001 bytes") for cls in CREATIONS),
        (StablepayCreate, {"product_id": 0}, "must be from 1"),
        *((GrouppayCreate, {"items": value}, "must say how many") for value in NO_ITEMS),
        *((GrouppayCreate, {"items": value}, "must be from 1 to ") for value in ({8: 0}, {0: 1}, {8: -1})),
        *((GrouppayCreate, {"items": value}, "must be a whole") for value in NO_NUMBERS),
        (GrouppayCreate, {"items": {}}, "must hold at least one product"),
        (GrouppayCreate, {"items": [(8, 1), (7, 1), (8, 2)]}, "holds product 8 twice"),
        (GrouppayCreate, {"items": dict.fromkeys(range(1, 102), 1)}, "holds 101 products, and the limit is 100"),
        *(
            (AnypayCreate, {field: value}, problem)
            for field in ("notify_url", "return_url")
            for value, problem in NO_URLS
        ),
    ],
)  # fmt: skip
def test_what_can_not_be_right(cls: Any, wrong: dict[str, Any], problem: str) -> None:
    """Arguments that can't be right are refused by their names, before anything is sent."""
    with pytest.raises(InvalidRequestError) as caught:
        cls(**{**RIGHT[cls], **wrong})
    assert caught.value.field == next(iter(wrong))
    assert caught.value.problem.startswith(problem)


def test_the_most_products() -> None:
    """A hundred products fit."""
    fields = GrouppayCreate(**{**RIGHT[GrouppayCreate], "items": dict.fromkeys(range(1, 101), 1)}).fields()
    assert fields["fields"].startswith("1:1,2:1,")


# -- the vendor's example replies ----------------------------------------------------------------------------------


def sample(name: str) -> bytes:
    return (TESTS / "samples" / "later" / f"{name}.reply.txt").read_bytes()


def link(call: Any, body: bytes) -> PaymentLink:
    found: PaymentLink = decode(call, Reply(200, body))
    return found


@rows("name", ["anypay", "cloudpay"])
def test_examples_that_are_no_json(name: str) -> None:
    """Two examples have a comma too many: no reply of GatePay's, until it is taken away."""
    call = CALLS[f"{name}/create"]
    with pytest.raises(ProtocolError, match="complete JSON") as caught:
        decode(call, Reply(200, sample(name)))
    assert caught.value.may_have_been_done
    assert "45f46863f10965c0f0671fb738efb13e" not in str(caught.value)
    right = sample(name).replace(b'13e",', b'13e"')
    found = link(call, right)
    assert found.pay_url.endswith(f"/pay/api?id=5cc75a6a0b418&type={'wechat' if name == 'anypay' else 'alipay'}")
    assert found.qrcode_url.startswith("https://")
    assert (found.qrcode is None) == (name == "cloudpay")
    assert found.out_order_id == "T-1-X"
    assert "45f46863f10965c0f0671fb738efb13e" not in repr(found)


@rows("name", ["grouppay", "stablepay"])
def test_examples(name: str) -> None:
    """The others are read: the link, the picture's address, the picture, the number that was sent."""
    found = link(CALLS[f"{name}/create"], sample(name))
    assert found.pay_url.startswith("https://gatepay.io/pay/api?id=")
    assert found.qrcode_url.startswith("https://gatepay.io/qrcode/build?size=130&text=https%3A%2F%2F")
    assert found.qrcode is not None
    assert (found.qrcode.media_type, found.qrcode.declared) == ("image/png", "image/jpeg")
    assert found.out_order_id == "T-1-X"


def test_a_status() -> None:
    """An order's state: the price is exact, the rest is GatePay's own text."""
    status = decode(CALLS["order/check"], Reply(200, sample("order-check")))
    assert status == OrderStatus(522, "任意金额支付:1.88元", Decimal("1.88"), "alipay", "expired")
    assert str(status.order_price) == "1.88"


def changed(name: str, **data: Any) -> bytes:
    """An example with other values in its data; None takes one away."""
    reply = json.loads(sample(name))
    reply["data"] = {key: value for key, value in {**reply["data"], **data}.items() if value is not None}
    return json.dumps(reply).encode()


@rows(
    ("data", "pay_url", "qrcode_url", "qrcode"),
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
def test_other_links(data: dict[str, Any], pay_url: str | None, qrcode_url: str | None, qrcode: Any) -> None:
    """What is not needed may be absent or strange; URLs that are escaped for HTML are undone once."""
    plain, found = (link(CALLS["grouppay/create"], changed("grouppay", **each)) for each in ({}, data))
    assert found.pay_url == (plain.pay_url if pay_url is None else pay_url)
    assert found.qrcode_url == (plain.qrcode_url if qrcode_url is None else qrcode_url)
    assert (type(found.qrcode) is QrCode) == qrcode


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
def test_replies_of_another_shape(name: str, data: dict[str, Any], path: str) -> None:
    """What is needed must be there."""
    with pytest.raises(ProtocolError) as caught:
        decode(CALLS[name.replace("-", "/") if "-" in name else f"{name}/create"], Reply(200, changed(name, **data)))
    assert caught.value.path == path


@rows(("price", "read"), [(1.88, "1.88"), (5.699999999999999, "5.70"), (2, "2.00"), ("0.82", "0.82")])
def test_exact_to_the_fen(price: Any, read: str) -> None:
    """A price that comes as a number is exact to the fen."""
    status = decode(CALLS["order/check"], Reply(200, changed("order-check", order_price=price, order_name=None)))
    assert (str(status.order_price), status.order_name) == (read, "")


# -- codes ---------------------------------------------------------------------------------------------------------


def refusal(endpoint: str, reply: Reply) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        decode(CALLS[endpoint], reply)
    return caught.value


@rows(("endpoint", "code", "cause"), TABLE)
def test_each_number(endpoint: str, code: int, cause: type[RefusedError]) -> None:
    """A number is the class of its cause, under HTTP 200 and, from 200 on, under the status that is the code."""
    why = REFUSALS[endpoint, code]
    body = json.dumps({"code": code, "msg": why.message, "time": "1556614084", "data": ""}).encode()
    for status in (200, code) if code >= HTTPStatus.OK else (200,):
        error = refusal(endpoint, Reply(status, body))
        assert type(error) is cause
        assert (error.code, error.message, error.endpoint) == (code, why.message, endpoint)
        assert (error.cause, error.remedy) == (why.cause[0], why.remedy[0])


def test_the_table_is_whole() -> None:
    """No endpoint has another number."""
    assert [key for key in REFUSALS if key[0] in OWN] == [(endpoint, code) for endpoint, code, _ in TABLE]


@rows("body", [b"", b" \r\n"])
@rows(("endpoint", "code"), [(endpoint, code) for endpoint in OWN for code in (204, 205)])
def test_a_status_without_body(endpoint: str, code: int, body: bytes) -> None:
    """HTTP 204 and 205 have no body: they are that code of that endpoint, where it has one."""
    if (endpoint, code) in REFUSALS:
        error = refusal(endpoint, Reply(code, body))
        assert (type(error), error.code, error.message) == (REFUSALS[endpoint, code].error, code, "")
    else:
        with pytest.raises(ProtocolError, match="complete JSON"):
            decode(CALLS[endpoint], Reply(code, body))


@rows("status", [200, 201, 203, 206, 500])
def test_other_statuses_without_body(status: int) -> None:
    """Any other empty reply is none."""
    with pytest.raises(ProtocolError):
        decode(CALLS["anypay/create"], Reply(status, b""))


@rows(("endpoint", "code"), [(endpoint, code) for endpoint in OWN for code in (111, 198, 200, 210, 999)])
def test_other_numbers(endpoint: str, code: int) -> None:
    """A number that the tables lack is a plain RefusedError."""
    assert type(refusal(endpoint, Reply(200, json.dumps({"code": code, "msg": "?"}).encode()))) is RefusedError
