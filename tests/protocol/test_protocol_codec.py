"""Decoding of JSON is strict: a value of another type than documented is rejected, and the error has its path."""

import base64
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tables import rows

from gatepay_async.protocol import codec
from gatepay_async.protocol.calls import KaShow, PayCreate, ProductShow
from gatepay_async.protocol.errors import ProtocolError
from gatepay_async.protocol.messages import Reply, decode
from gatepay_async.protocol.models import CardKey
from gatepay_async.protocol.values import MisreadError

pytestmark = pytest.mark.fast

SAMPLES = Path(__file__).parents[1] / "samples"
PAY = PayCreate(product_id=8, out_order_id="T-1-X", pay_type="wechat", product_num=1, custom="terry")
CALLS: dict[str, Any] = {"pay_create": PAY, "product_show": ProductShow(), "ka_show": KaShow(3, 2)}
JsonPath = tuple[str | int, ...]

FIRST_KEY: JsonPath = ("data", "ka", "data", 0)
LAST_KEY: JsonPath = ("data", "ka", "data", 1)
PRODUCT: JsonPath = ("data", "category", 1, "product", 0)
# The fields of the examples, grouped by type: the name of the example, and the path of the field in it.
NUMBERS: list[tuple[str, JsonPath]] = [
    *(("ka_show", ("data", "ka", name)) for name in ("total", "per_page", "current_page", "last_page")),
    *(("ka_show", (*LAST_KEY, name)) for name in ("id", "admin_id", "pay_product_id", "pay_order_id")),
    *(("ka_show", (*FIRST_KEY, name)) for name in ("id", "createtime", "updatetime")),
    ("product_show", ("data", "category", 1, "id")),
    *(("product_show", (*PRODUCT, name)) for name in ("id", "admin_id", "category_id", "stock")),
]
TEXTS: list[tuple[str, JsonPath]] = [
    ("ka_show", (*LAST_KEY, "content")),
    *(("pay_create", ("data", name)) for name in ("order_type", "order_url", "order_qrcode")),
]
# Texts that only people read. If they are null or absent, they are read as empty.
OPTIONAL: list[tuple[str, JsonPath]] = [
    ("ka_show", (*LAST_KEY, "status")),
    ("product_show", ("data", "category", 0, "name")),
    *(("product_show", (*PRODUCT, name)) for name in ("name", "description", "image")),
]
MONEY: list[tuple[str, JsonPath]] = [("pay_create", ("data", "order_price")), ("product_show", (*PRODUCT, "price"))]
LISTS: list[tuple[str, JsonPath]] = [
    ("ka_show", ("data", "ka", "data")),
    ("product_show", ("data", "category")),
]
OBJECTS: list[tuple[str, JsonPath]] = [
    ("ka_show", ("data",)),
    ("ka_show", ("data", "ka")),
    ("ka_show", LAST_KEY),
    ("product_show", ("data",)),
    ("product_show", ("data", "category", 1)),
    ("product_show", PRODUCT),
    ("pay_create", ("data",)),
]


def format_path(path: JsonPath) -> str:
    """Return *path* as in errors, such as ``data.ka.data[3].id``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def changed_sample(name: str, path: JsonPath, raw: str | None) -> bytes:
    """Return the vendor's example with the JSON text *raw* at *path*. None removes the value."""
    reply = json.loads((SAMPLES / f"{name}.json").read_bytes())
    parent = reply
    for step in path[:-1]:
        parent = parent[step]
    if raw is None:
        del parent[path[-1]]
    else:
        parent[path[-1]] = "@placeholder@"
    return json.dumps(reply).replace('"@placeholder@"', raw or "").encode("utf-8", "surrogatepass")


def decode_changed(name: str, path: JsonPath, raw: str | None) -> Any:
    return decode(CALLS[name], Reply(200, changed_sample(name, path, raw)))


def decode_error(name: str, path: JsonPath, raw: str | None) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        decode_changed(name, path, raw)
    assert type(caught.value) is ProtocolError
    assert caught.value.path == format_path(path)
    assert str(caught.value).startswith(f"{CALLS[name].path} (HTTP 200): {format_path(path)} {caught.value.problem}")
    return caught.value


@rows(("name", "path"), NUMBERS)
@rows("raw", ["null", "4.9", "4.0", "1e2", "true", "false", '"x"', '"4"', "[]", "{}"])
def test_value_that_is_no_whole_number_is_rejected_with_its_path(name: str, path: JsonPath, raw: str) -> None:
    """A fraction, a boolean, null or a text isn't accepted as a whole number."""
    assert decode_error(name, path, raw).problem.startswith("should be a whole number, is ")


@rows(("name", "path"), TEXTS)
@rows("raw", ["null", "4.9", "4", "true", "[]", "{}"])
def test_value_that_is_no_text_is_rejected_with_its_path(name: str, path: JsonPath, raw: str) -> None:
    """A number, a boolean or null isn't accepted as a text."""
    assert decode_error(name, path, raw).problem.startswith("should be text, is ")


@rows(("name", "path"), [*OPTIONAL, ("product_show", ("data", "category", 1, "product"))])
@rows("raw", ["4.9", "4", "true", "{}"])
def test_optional_field_must_have_its_type_if_present(name: str, path: JsonPath, raw: str) -> None:
    """A field that may be null or absent must otherwise have the documented type."""
    assert decode_error(name, path, raw).problem.startswith("should be ")


@rows(("name", "path"), LISTS)
@rows("raw", ["null", "4.9", "4", "true", '"x"', "{}", '{"0": {}}'])
def test_value_that_is_no_list_is_rejected_with_its_path(name: str, path: JsonPath, raw: str) -> None:
    """An object, a text or null isn't accepted as a list."""
    assert decode_error(name, path, raw).problem.startswith("should be a list, is ")


@rows(("name", "path"), OBJECTS)
@rows("raw", ["null", "4.9", "4", "true", '"x"', "[]", "[{}]"])
def test_value_that_is_no_object_is_rejected_with_its_path(name: str, path: JsonPath, raw: str) -> None:
    """A list, a text or null isn't accepted as an object."""
    assert decode_error(name, path, raw).problem.startswith("should be an object, is ")


REQUIRED = [*NUMBERS, *TEXTS, *MONEY, *LISTS, ("ka_show", ("data", "ka"))]


@rows(("name", "path"), REQUIRED)
def test_missing_required_field_is_reported_with_its_path(name: str, path: JsonPath) -> None:
    """The path in the error is that of the missing field."""
    assert decode_error(name, path, None).problem == "is missing"


@rows(("name", "path"), MONEY)
@rows(
    ("raw", "rounded"),
    [
        ("1.5", "1.50"),
        ("1.10", "1.10"),
        ('"1.50"', "1.50"),
        ("2", "2.00"),
        ('"2"', "2.00"),
        ("0", "0.00"),
        ("-0.0", "0.00"),
        ("1e-99", "0.00"),
        ("0.1", "0.10"),
        ("1e2", "100.00"),
        ("123456789012345678.25", "123456789012345678.25"),
        ("999999999999999999", "999999999999999999.00"),
        ('"-0.01"', "-0.01"),
        # 3 × 1.90, computed by PHP 7.1 and later, and by earlier versions.
        ("5.699999999999999", "5.70"),
        ("5.6999999999999993", "5.70"),
        ('"5.699999999999999"', "5.70"),
        ("0.30000000000000004", "0.30"),
        ("1.0001", "1.00"),
        ("0.9999", "1.00"),
    ],
)
def test_money_is_rounded_to_the_fen(name: str, path: JsonPath, raw: str, rounded: str) -> None:
    """A price may be a text or a number. The rounding errors of PHP's floats are removed."""
    result = decode_changed(name, path, raw)
    price = result.order_price if name == "pay_create" else result.product(5).price
    assert type(price) is Decimal
    assert str(price) == rounded


@pytest.mark.parametrize(("name", "path"), MONEY, ids=str)
@pytest.mark.parametrize("raw", ["1.00011", "0.005", "1.9950", '"1.0002"', "12.3456789", "-0.005"])
def test_fractions_of_a_fen_are_rejected(name: str, path: JsonPath, raw: str) -> None:
    """More than 0.0001 away from a whole fen is not a rounding error."""
    assert decode_error(name, path, raw).problem == "should be money in whole fen, has parts of a fen"


INVALID_PRICE_TEXTS = ["NaN", "Infinity", "1e5", " 1.00", "1.00 ", "1.00\n", "１", "１.００", "1,00", "1_0", ".5", "1."]
INVALID_PRICE_TEXTS += ["", "+1", "0x1", "9999999999999999999"]
INVALID_PRICE_NUMBERS = ["1e999", "1e18", "0e999", "9" * 30, "-1e18"]
INVALID_PRICES = [json.dumps(text) for text in INVALID_PRICE_TEXTS] + INVALID_PRICE_NUMBERS
INVALID_PRICES += ["true", "false", "null", "[]", "{}", '["1.00"]']


@rows(("name", "path"), MONEY)
@rows("raw", INVALID_PRICES)
def test_value_that_is_no_amount_is_rejected_with_its_path(name: str, path: JsonPath, raw: str) -> None:
    """A price that isn't a plain decimal number, or has a huge exponent, is rejected."""
    assert decode_error(name, path, raw).problem.startswith('should be money, such as 1.5 or "1.50", is ')


@rows("raw", ["NaN", "Infinity", "-Infinity", "nan", "01", "1.", "+1", "'1'", "undefined", ""])
def test_number_that_is_no_json_makes_the_reply_invalid(raw: str) -> None:
    """JSON has no NaN, no infinity, and no numbers in forms such as ``01`` and ``1.``."""
    with pytest.raises(ProtocolError) as caught:
        decode_changed("pay_create", ("data", "order_price"), raw)
    assert (caught.value.path, caught.value.problem) == (None, "is not complete JSON")


@rows(
    "body",
    [
        b'{"code": 100, "msg": "\xff"}',
        b'{"code": 100, "msg": "\xed\xa0\x80"}',
        b'{"code": 100, "msg": "\\ud800"}',
        b'{"code": 100, "msg": "\\udc00x"}',
        b'{"code": 100, "msg": "\x00"}',
        b'{"code": ' + b"1" * 5000 + b"}",
        b'{"code": 100, "data": 1e99999999999999999999}',
        b'{"code": 100}}',
        b'{"code": 100} {}',
        b'{"code": 100,}',
        "{}".encode("utf-16"),
        b"<br />Notice: x\n" + b'{"code": 100}',
    ],
)
def test_invalid_json_is_rejected(body: bytes) -> None:
    """Invalid UTF-8, lone surrogates, numbers that are too large, and trailing text are rejected."""
    with pytest.raises(MisreadError) as caught:
        codec.parse_json(body)
    assert (caught.value.path, str(caught.value)) == (None, "is not complete JSON")
    assert caught.value.__context__ is None


@rows("body", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000])
def test_deeply_nested_json_is_rejected(body: bytes) -> None:
    """Deeply nested JSON raises ``MisreadError`` instead of ``RecursionError``."""
    with pytest.raises(MisreadError, match=r"^is JSON nested too deep$"):
        codec.parse_json(body)


@rows("unit", [b"[],", b"{},", b'{"a":1},', b"1.5,"])
def test_json_with_too_many_values_is_rejected(unit: bytes) -> None:
    """Many small values could take a hundred times the length of the reply in memory."""
    limit = codec.MAX_VALUES
    with pytest.raises(MisreadError, match=f"^has more than {limit} values$"):
        codec.parse_json(b"[" + unit * limit + b"0]")
    assert codec.parse_json(b"[" + b"1," * (limit - 1) + b"0]") == [*[1] * (limit - 1), 0]
    assert codec.parse_json(b'"' + b"x" * (2 * limit) + b'"') == "x" * (2 * limit)


def test_last_value_of_a_repeated_name_counts() -> None:
    """If an object has a name twice, its last value is used."""
    assert codec.parse_json(b'{"a": 1, "a": 2}') == {"a": 2}


def test_blanks_and_a_byte_order_mark_around_json_are_ignored() -> None:
    """Blanks, line breaks and one byte-order mark may surround the JSON."""
    assert codec.parse_json(b'\xef\xbb\xbf\r\n\t {"a": 1.50}\n') == {"a": Decimal("1.50")}


@rows(("attribute", "name_in_example", "name_in_table"), [
    ("created_at", "createtime", "create_at"), ("updated_at", "updatetime", "update_at"),
])  # fmt: skip
def test_times_are_read_under_both_documented_names(attribute: str, name_in_example: str, name_in_table: str) -> None:
    """The vendor's example and table use different names. If both are present, that of the example counts."""
    reply = json.loads((SAMPLES / "ka_show.json").read_bytes())
    row = reply["data"]["ka"]["data"][1]
    row[name_in_table] = 1
    with_both_names = decode(KaShow(3, 2), Reply(200, json.dumps(reply).encode()))
    assert getattr(with_both_names.keys[1], attribute) == datetime(2019, 4, 26, 4, 5, 20, tzinfo=UTC)
    del row[name_in_example]
    with_name_of_table = decode(KaShow(3, 2), Reply(200, json.dumps(reply).encode()))
    assert getattr(with_name_of_table.keys[1], attribute) == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


@rows("raw", ["1" + "0" * 30, "-1" + "0" * 30, "253402300800", "99999999999999"])
@rows("name", ["createtime", "updatetime"])
def test_time_out_of_range_is_rejected_with_its_path(name: str, raw: str) -> None:
    """A time must be one that ``datetime`` can hold."""
    assert decode_error("ka_show", (*LAST_KEY, name), raw).problem == "should be a Unix timestamp, is out of range"


@rows("status", ["soldin", "sold", "", "售出"])
def test_card_key_status_may_be_any_text(status: str) -> None:
    """GatePay doesn't document the possible values."""
    assert decode_changed("ka_show", (*LAST_KEY, "status"), json.dumps(status)).keys[1].status == status


def test_id_may_exceed_64_bits() -> None:
    """The size of an id isn't limited."""
    assert decode_changed("ka_show", (*LAST_KEY, "id"), "1" + "0" * 30).keys[1].id == 10**30


def test_first_of_several_wrong_fields_is_reported() -> None:
    """The path in the error includes the index of the field's row."""
    reply = json.loads((SAMPLES / "ka_show.json").read_bytes())
    row = reply["data"]["ka"]["data"][0]
    reply["data"]["ka"]["data"] = [{**row, "id": 1}, row, row, {**row, "id": None}, {**row, "content": None}]
    with pytest.raises(ProtocolError) as caught:
        decode(KaShow(3, 2), Reply(200, json.dumps(reply).encode()))
    assert caught.value.path == "data.ka.data[3].id"


def test_misread_error_is_not_chained() -> None:
    """The error of cattrs would hold the card key."""
    row = json.loads((SAMPLES / "ka_show.json").read_bytes())["data"]["ka"]["data"][0]
    with pytest.raises(MisreadError) as caught:
        codec.read(CardKey, {**row, "id": None}, path="row")
    assert caught.value.path == "row.id"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_empty_lists_are_accepted() -> None:
    """A page may have no rows, a category no products, and a shop no categories."""
    assert decode_changed("ka_show", ("data", "ka", "data"), "[]").keys == ()
    assert decode_changed("product_show", ("data", "category", 1, "product"), "[]").categories[1].products == ()
    assert decode_changed("product_show", ("data", "category"), "[]").products == ()


@rows(
    "raw",
    [
        "",
        "x",
        "data:image/png,abc",
        "data:image/png;base64,",
        "data:image/png;base64,====",
        "data:image/png;base64,A",
        "data:image/png;base64,ab*d",
        "https://gatepay.io/qr.png",
        "data:image/png;base64,ＡＡＡＡ",
        "data:;base64,AAAA",
        "DATA:image/png;base64,AAAA",
    ],
)
def test_invalid_data_uri_is_rejected_with_its_path(raw: str) -> None:
    """A picture must be a data URI with valid base64."""
    assert decode_error("pay_create", ("data", "order_qrcode"), json.dumps(raw)).problem.startswith(
        "should be an image "
    )


def test_base64_may_contain_line_breaks() -> None:
    """Line breaks within the base64 of a picture are ignored."""
    text = base64.encodebytes(b"\xff\xd8\xff" + b"x" * 200).decode()
    picture = decode_changed(
        "pay_create", ("data", "order_qrcode"), json.dumps(f"data:image/png;base64,{text}")
    ).order_qrcode
    assert (picture.data, picture.media_type) == (b"\xff\xd8\xff" + b"x" * 200, "image/jpeg")
