"""Strict reading: what is not what the vendor's page says is named by its path."""

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

pytestmark = pytest.mark.fast

SAMPLES = Path(__file__).parents[1] / "samples"
PAY = PayCreate(product_id=8, out_order_id="T-1-X", pay_type="wechat", product_num=1, custom="terry")
CALLS: dict[str, Any] = {"pay_create": PAY, "product_show": ProductShow(), "ka_show": KaShow(3, 2)}
Path_ = tuple[str | int, ...]

FIRST_KEY: Path_ = ("data", "ka", "data", 0)
LAST_KEY: Path_ = ("data", "ka", "data", 1)
PRODUCT: Path_ = ("data", "category", 1, "product", 0)
NUMBERS: list[tuple[str, Path_]] = [
    *(("ka_show", ("data", "ka", name)) for name in ("total", "per_page", "current_page", "last_page")),
    *(("ka_show", (*LAST_KEY, name)) for name in ("id", "admin_id", "pay_product_id", "pay_order_id")),
    *(("ka_show", (*FIRST_KEY, name)) for name in ("id", "createtime", "updatetime")),
    ("product_show", ("data", "category", 1, "id")),
    *(("product_show", (*PRODUCT, name)) for name in ("id", "admin_id", "category_id", "stock")),
]
TEXTS: list[tuple[str, Path_]] = [
    ("ka_show", (*LAST_KEY, "content")),
    *(("pay_create", ("data", name)) for name in ("order_type", "order_url", "order_qrcode")),
]
# What only people read: null or absent is empty.
OPTIONAL: list[tuple[str, Path_]] = [
    ("ka_show", (*LAST_KEY, "status")),
    ("product_show", ("data", "category", 0, "name")),
    *(("product_show", (*PRODUCT, name)) for name in ("name", "description", "image")),
]
MONEY: list[tuple[str, Path_]] = [("pay_create", ("data", "order_price")), ("product_show", (*PRODUCT, "price"))]
LISTS: list[tuple[str, Path_]] = [
    ("ka_show", ("data", "ka", "data")),
    ("product_show", ("data", "category")),
]
OBJECTS: list[tuple[str, Path_]] = [
    ("ka_show", ("data",)),
    ("ka_show", ("data", "ka")),
    ("ka_show", LAST_KEY),
    ("product_show", ("data",)),
    ("product_show", ("data", "category", 1)),
    ("product_show", PRODUCT),
    ("pay_create", ("data",)),
]


def shown(path: Path_) -> str:
    """``data.ka.data[3].id``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def changed(name: str, path: Path_, raw: str | None) -> bytes:
    """The example with JSON text *raw* at *path*; None: without it."""
    reply = json.loads((SAMPLES / f"{name}.json").read_bytes())
    at = reply
    for step in path[:-1]:
        at = at[step]
    if raw is None:
        del at[path[-1]]
    else:
        at[path[-1]] = "@here@"
    return json.dumps(reply).replace('"@here@"', raw or "").encode("utf-8", "surrogatepass")


def read(name: str, path: Path_, raw: str | None) -> Any:
    return decode(CALLS[name], Reply(200, changed(name, path, raw)))


def misread(name: str, path: Path_, raw: str | None) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        read(name, path, raw)
    assert type(caught.value) is ProtocolError
    assert caught.value.path == shown(path)
    assert str(caught.value).startswith(f"{CALLS[name].path} (HTTP 200): {shown(path)} {caught.value.problem}")
    return caught.value


@rows(("name", "path"), NUMBERS)
@rows("raw", ["null", "4.9", "4.0", "1e2", "true", "false", '"x"', '"4"', "[]", "{}"])
def test_numbers(name: str, path: Path_, raw: str) -> None:
    """What is no whole number is refused where one belongs, by its path."""
    assert misread(name, path, raw).problem.startswith("should be a whole number, is ")


@rows(("name", "path"), TEXTS)
@rows("raw", ["null", "4.9", "4", "true", "[]", "{}"])
def test_texts(name: str, path: Path_, raw: str) -> None:
    """What is no text is refused where text belongs, by its path."""
    assert misread(name, path, raw).problem.startswith("should be text, is ")


@rows(("name", "path"), [*OPTIONAL, ("product_show", ("data", "category", 1, "product"))])
@rows("raw", ["4.9", "4", "true", "{}"])
def test_what_may_be_absent_is_strict_else(name: str, path: Path_, raw: str) -> None:
    """What may be null or absent is held to its kind when it is there."""
    assert misread(name, path, raw).problem.startswith("should be ")


@rows(("name", "path"), LISTS)
@rows("raw", ["null", "4.9", "4", "true", '"x"', "{}", '{"0": {}}'])
def test_lists(name: str, path: Path_, raw: str) -> None:
    """What is no list is refused where a list belongs, by its path."""
    assert misread(name, path, raw).problem.startswith("should be a list, is ")


@rows(("name", "path"), OBJECTS)
@rows("raw", ["null", "4.9", "4", "true", '"x"', "[]", "[{}]"])
def test_objects(name: str, path: Path_, raw: str) -> None:
    """What is no object is refused where an object belongs, by its path."""
    assert misread(name, path, raw).problem.startswith("should be an object, is ")


REQUIRED = [*NUMBERS, *TEXTS, *MONEY, *LISTS, ("ka_show", ("data", "ka"))]


@rows(("name", "path"), REQUIRED)
def test_missing(name: str, path: Path_) -> None:
    """A field that is not there is named by its path."""
    assert misread(name, path, None).problem == "is missing"


@rows(("name", "path"), MONEY)
@rows(
    ("raw", "exact"),
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
        # PHP's products: 3 × 1.90, written by PHP 7.1 and later, and by earlier ones.
        ("5.699999999999999", "5.70"),
        ("5.6999999999999993", "5.70"),
        ('"5.699999999999999"', "5.70"),
        ("0.30000000000000004", "0.30"),
        ("1.0001", "1.00"),
        ("0.9999", "1.00"),
    ],
)
def test_money(name: str, path: Path_, raw: str, exact: str) -> None:
    """Money is text or a number in JSON, and comes out exact to the fen."""
    result = read(name, path, raw)
    price = result.order_price if name == "pay_create" else result.product(5).price
    assert type(price) is Decimal
    assert str(price) == exact


@pytest.mark.parametrize(("name", "path"), MONEY, ids=str)
@pytest.mark.parametrize("raw", ["1.00011", "0.005", "1.9950", '"1.0002"', "12.3456789", "-0.005"])
def test_parts_of_a_fen(name: str, path: Path_, raw: str) -> None:
    """What lies further than 0.0001 from a whole fen is no noise, and refused."""
    assert misread(name, path, raw).problem == "should be money in whole fen, has parts of a fen"


NO_TEXT_OF_MONEY = ["NaN", "Infinity", "1e5", " 1.00", "1.00 ", "1.00\n", "１", "１.００", "1,00", "1_0", ".5", "1."]
NO_TEXT_OF_MONEY += ["", "+1", "0x1", "9999999999999999999"]
NO_NUMBER_OF_MONEY = ["1e999", "1e18", "0e999", "9" * 30, "-1e18"]
NO_MONEY = [json.dumps(text) for text in NO_TEXT_OF_MONEY] + NO_NUMBER_OF_MONEY
NO_MONEY += ["true", "false", "null", "[]", "{}", '["1.00"]']


@rows(("name", "path"), MONEY)
@rows("raw", NO_MONEY)
def test_no_money(name: str, path: Path_, raw: str) -> None:
    """What is no amount, or one without measure, is refused by its path."""
    assert misread(name, path, raw).problem.startswith('should be money, such as 1.5 or "1.50", is ')


@rows("raw", ["NaN", "Infinity", "-Infinity", "nan", "01", "1.", "+1", "'1'", "undefined", ""])
def test_numbers_that_are_no_json(raw: str) -> None:
    """What JSON doesn't know makes the whole reply no JSON."""
    with pytest.raises(ProtocolError) as caught:
        read("pay_create", ("data", "order_price"), raw)
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
def test_no_json(body: bytes) -> None:
    """Bytes that are no UTF-8, half characters, numbers without measure and trailing text are no JSON."""
    with pytest.raises(codec.MisreadError) as caught:
        codec.parse_json(body)
    assert (caught.value.path, str(caught.value)) == (None, "is not complete JSON")
    assert caught.value.__context__ is None


@rows("body", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000])
def test_deep_nesting(body: bytes) -> None:
    """JSON nested without end is refused, not a crash."""
    with pytest.raises(codec.MisreadError, match=r"^is JSON nested too deep$"):
        codec.parse_json(body)


@rows("unit", [b"[],", b"{},", b'{"a":1},', b"1.5,"])
def test_more_values_than_any_reply_has(unit: bytes) -> None:
    """A reply of many small values, which would take a hundred times its length in memory, isn't read."""
    most = codec.MAX_VALUES
    with pytest.raises(codec.MisreadError, match=f"^has more than {most} values$"):
        codec.parse_json(b"[" + unit * most + b"0]")
    assert codec.parse_json(b"[" + b"1," * (most - 1) + b"0]") == [*[1] * (most - 1), 0]
    assert codec.parse_json(b'"' + b"x" * (2 * most) + b'"') == "x" * (2 * most)


def test_a_name_twice() -> None:
    """Of a name that comes twice in an object the last value counts."""
    assert codec.parse_json(b'{"a": 1, "a": 2}') == {"a": 2}


def test_blanks_around_json() -> None:
    """Blanks and line breaks around the JSON are passed over."""
    assert codec.parse_json(b'\xef\xbb\xbf\r\n\t {"a": 1.50}\n') == {"a": Decimal("1.50")}


@rows(("ours", "example", "table"), [
    ("created_at", "createtime", "create_at"), ("updated_at", "updatetime", "update_at"),
])  # fmt: skip
def test_both_spellings_of_the_times(ours: str, example: str, table: str) -> None:
    """A time is read under the name of the example or of the table; the example's goes first."""
    reply = json.loads((SAMPLES / "ka_show.json").read_bytes())
    row = reply["data"]["ka"]["data"][1]
    row[table] = 1
    both = decode(KaShow(3, 2), Reply(200, json.dumps(reply).encode()))
    assert getattr(both.keys[1], ours) == datetime(2019, 4, 26, 4, 5, 20, tzinfo=UTC)
    del row[example]
    other = decode(KaShow(3, 2), Reply(200, json.dumps(reply).encode()))
    assert getattr(other.keys[1], ours) == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


@rows("raw", ["1" + "0" * 30, "-1" + "0" * 30, "253402300800", "99999999999999"])
@rows("name", ["createtime", "updatetime"])
def test_times_out_of_range(name: str, raw: str) -> None:
    """Epoch seconds that no calendar holds are refused by their path."""
    assert misread("ka_show", (*LAST_KEY, name), raw).problem == "should be a Unix timestamp, is out of range"


@rows("status", ["soldin", "sold", "", "售出"])
def test_any_status(status: str) -> None:
    """Any text is a status: the page doesn't list them."""
    assert read("ka_show", (*LAST_KEY, "status"), json.dumps(status)).keys[1].status == status


def test_huge_ids() -> None:
    """An id may be larger than a database's."""
    assert read("ka_show", (*LAST_KEY, "id"), "1" + "0" * 30).keys[1].id == 10**30


def test_the_first_of_several() -> None:
    """Of several wrong fields the error names the first one, in the row it stands in."""
    reply = json.loads((SAMPLES / "ka_show.json").read_bytes())
    row = reply["data"]["ka"]["data"][0]
    reply["data"]["ka"]["data"] = [{**row, "id": 1}, row, row, {**row, "id": None}, {**row, "content": None}]
    with pytest.raises(ProtocolError) as caught:
        decode(KaShow(3, 2), Reply(200, json.dumps(reply).encode()))
    assert caught.value.path == "data.ka.data[3].id"


def test_nothing_hangs_on_the_error() -> None:
    """The error of a wrong field comes alone: the library's own would hold the card key."""
    row = json.loads((SAMPLES / "ka_show.json").read_bytes())["data"]["ka"]["data"][0]
    with pytest.raises(codec.MisreadError) as caught:
        codec.read(CardKey, {**row, "id": None}, path="row")
    assert caught.value.path == "row.id"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_empty_lists() -> None:
    """A page without rows, a category without products and a shop without categories are right."""
    assert read("ka_show", ("data", "ka", "data"), "[]").keys == ()
    assert read("product_show", ("data", "category", 1, "product"), "[]").categories[1].products == ()
    assert read("product_show", ("data", "category"), "[]").products == ()


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
def test_no_qr_code(raw: str) -> None:
    """A picture that is no data URI with base64, or whose base64 is cut, is refused by its path."""
    assert misread("pay_create", ("data", "order_qrcode"), json.dumps(raw)).problem.startswith("should be an image ")


def test_a_qr_code_with_line_breaks() -> None:
    """Base64 may be broken into lines."""
    text = base64.encodebytes(b"\xff\xd8\xff" + b"x" * 200).decode()
    picture = read("pay_create", ("data", "order_qrcode"), json.dumps(f"data:image/png;base64,{text}")).order_qrcode
    assert (picture.data, picture.media_type) == (b"\xff\xd8\xff" + b"x" * 200, "image/jpeg")
