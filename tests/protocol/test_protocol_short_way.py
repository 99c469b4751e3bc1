"""The short way of reading a page of card keys, beside the long one: it says the same, or nothing."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import rows

from gatepay_async import CardKey, CardKeyPage, Payment
from gatepay_async.protocol import codec
from gatepay_async.protocol.calls import KaShow, PayCreate

pytestmark = pytest.mark.fast

SAMPLE = (Path(__file__).parents[1] / "samples" / "ka_show.json").read_bytes()
PAID = (Path(__file__).parents[1] / "samples" / "pay_create.json").read_bytes()
ORDER = PayCreate(product_id=8, out_order_id="T-1-X", pay_type="alipay", product_num=1, custom="a@b.c")

odd = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
odd |= st.sampled_from([[], {}, "9", 4.0])
answered = st.fixed_dictionaries(
    {
        "id": st.integers(0, 2**70),
        "admin_id": st.integers(0, 9),
        "pay_product_id": st.integers(0, 9),
        "pay_order_id": st.integers(0, 9),
        "content": st.text(),
        "createtime": st.integers(0, 2**38),
        "updatetime": st.integers(0, 2**38),
        "status": st.text(),
    },
    optional={"unknown": odd, "create_at": odd},
)


def long_way(body: bytes) -> CardKeyPage | None:
    try:
        return KaShow(3).read(codec.as_object(codec.parse_json(body), path="reply")["data"])
    except (codec.MisreadError, KeyError):
        return None


def test_the_vendors_example() -> None:
    """The vendor's example is read the short way, and comes out the same."""
    read = codec.read_listing(SAMPLE)
    assert read is not None
    assert read == (100, long_way(SAMPLE))
    assert [key.id for key in read[1].keys] == [1272, 1273]


@given(
    rows=st.lists(answered, max_size=4), name=st.none() | st.sampled_from(["id", "content", "createtime"]), value=odd
)
def test_both_ways_agree(rows: list[dict[str, Any]], name: str | None, value: object) -> None:
    """Whatever the rows hold, the short way gives what the long one gives, or leaves the page to it."""
    if name is not None and rows:
        rows[-1][name] = value
    page = {"total": 9, "per_page": 50, "current_page": 1, "last_page": 1, "data": rows}
    body = json.dumps({"code": 100, "msg": "", "time": "1", "data": {"ka": page}}).encode()
    read = codec.read_listing(body)
    assert read is None or read[1] == long_way(body)
    if name is None:
        assert (read is not None) == all(row["createtime"] <= codec._MAX_EPOCH >= row["updatetime"] for row in rows)


@rows("name", ["createtime", "updatetime"])
@rows(
    ("time", "read"),
    [(0, True), (codec._SAFE_EPOCH_LIMIT, True), (codec._MAX_EPOCH, True), (codec._MAX_EPOCH + 1, False), (-1, False)],
)
def test_times(name: str, time: int, *, read: bool) -> None:
    """A time is read the short way from the first second to the last that a datetime knows."""
    document = json.loads(SAMPLE)
    document["data"]["ka"]["data"][1][name] = time
    assert (codec.read_listing(json.dumps(document).encode()) is not None) == read


def test_the_other_spelling_takes_the_long_way() -> None:
    """Times under the other spelling of the vendor's page are left to the long way."""
    body = SAMPLE.replace(b"createtime", b"create_at")
    assert codec.read_listing(body) is None
    assert long_way(body) == long_way(SAMPLE)


def test_card_keys_are_made_by_hand() -> None:
    """In a test of yours a card key takes its times as times, and gives them back, aware and UTC."""
    noon = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
    key = CardKey(
        id=1, admin_id=2, pay_product_id=3, pay_order_id=0, content="A", created_at=noon, updated_at=noon, status=""
    )
    assert (key.created_at, key.updated_at, key.createtime) == (noon, noon, int(noon.timestamp()))
    later = attrs.evolve(key, created_at=1)
    assert later.created_at == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


def long_way_of_a_payment(body: bytes) -> Payment | None:
    try:
        return ORDER.read(codec.as_object(codec.parse_json(body), path="reply")["data"])
    except (codec.MisreadError, KeyError):
        return None


@given(
    name=st.none() | st.sampled_from(["order_type", "order_price", "order_url", "order_qrcode"]),
    value=odd | st.sampled_from(["1.50", "1e5", -0.0, 5.699999999999999, 0.001, 1e300, "data:image/png;base64,A"]),
)
def test_both_ways_agree_on_a_payment(name: str | None, value: object) -> None:
    """Whatever a field holds, the short way gives the payment that the long one gives, or leaves it to that one."""
    document = json.loads(PAID)
    if name is not None:
        document["data"][name] = value
    body = json.dumps(document).encode()
    read = codec.read_payment(body, ORDER)
    expected = long_way_of_a_payment(body)
    assert read == (None if expected is None else (100, expected))
    if read is not None:
        assert str(read[1].order_price) == str(expected and expected.order_price)


def test_a_payment_with_more_than_any_has() -> None:
    """A list in the place of a price must not fill the memory: the long way counts first."""
    assert codec.read_payment(PAID + b" " * codec.MAX_VALUES, ORDER) is None
