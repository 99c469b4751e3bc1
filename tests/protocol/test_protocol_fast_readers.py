"""
The fast readers (``read_listing``, ``read_payment``), compared with the general decoder.

A fast reader returns the same result as the general decoder, or None.
"""

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
from gatepay_async.protocol.values import MAX_EPOCH, MisreadError

pytestmark = pytest.mark.fast

LISTING_SAMPLE = (Path(__file__).parents[1] / "samples" / "ka_show.json").read_bytes()
PAYMENT_SAMPLE = (Path(__file__).parents[1] / "samples" / "pay_create.json").read_bytes()
ORDER = PayCreate(product_id=8, out_order_id="T-1-X", pay_type="alipay", product_num=1, custom="a@b.c")

any_value = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
any_value |= st.sampled_from([[], {}, "9", 4.0])
valid_rows = st.fixed_dictionaries(
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
    optional={"unknown": any_value, "create_at": any_value},
)


def decode_generally(body: bytes) -> CardKeyPage | None:
    try:
        return KaShow(3).read(codec.as_object(codec.parse_json(body), path="reply")["data"])
    except (MisreadError, KeyError):
        return None


def test_fast_reader_decodes_the_vendors_example() -> None:
    """The result is the same as that of the general decoder."""
    result = codec.read_listing(LISTING_SAMPLE)
    assert result is not None
    assert result == (100, decode_generally(LISTING_SAMPLE))
    assert [key.id for key in result[1].keys] == [1272, 1273]


@given(
    rows=st.lists(valid_rows, max_size=4),
    name=st.none() | st.sampled_from(["id", "content", "createtime"]),
    value=any_value,
)
def test_fast_listing_reader_agrees_with_the_general_decoder(
    rows: list[dict[str, Any]], name: str | None, value: object
) -> None:
    """For any rows, the fast reader returns the same page as the general decoder, or None."""
    if name is not None and rows:
        rows[-1][name] = value
    page = {"total": 9, "per_page": 50, "current_page": 1, "last_page": 1, "data": rows}
    body = json.dumps({"code": 100, "msg": "", "time": "1", "data": {"ka": page}}).encode()
    result = codec.read_listing(body)
    assert result is None or result[1] == decode_generally(body)
    if name is None:
        assert (result is not None) == all(row["createtime"] <= MAX_EPOCH >= row["updatetime"] for row in rows)


@rows("name", ["createtime", "updatetime"])
@rows(
    ("time", "accepted"),
    [(0, True), (codec._SAFE_EPOCH_LIMIT, True), (MAX_EPOCH, True), (MAX_EPOCH + 1, False), (-1, False)],
)
def test_fast_listing_reader_accepts_times_in_the_range_of_datetime(name: str, time: int, *, accepted: bool) -> None:
    """A page with a time out of range is left to the general decoder."""
    document = json.loads(LISTING_SAMPLE)
    document["data"]["ka"]["data"][1][name] = time
    assert (codec.read_listing(json.dumps(document).encode()) is not None) == accepted


def test_fast_listing_reader_leaves_create_at_to_the_general_decoder() -> None:
    """The fast reader returns None for ``create_at``. The general decoder accepts this name."""
    body = LISTING_SAMPLE.replace(b"createtime", b"create_at")
    assert codec.read_listing(body) is None
    assert decode_generally(body) == decode_generally(LISTING_SAMPLE)


def test_card_key_takes_and_returns_datetimes() -> None:
    """Users build card keys in their own tests."""
    noon = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
    key = CardKey(
        id=1, admin_id=2, pay_product_id=3, pay_order_id=0, content="A", created_at=noon, updated_at=noon, status=""
    )
    assert (key.created_at, key.updated_at, key.createtime) == (noon, noon, int(noon.timestamp()))
    later = attrs.evolve(key, created_at=1)
    assert later.created_at == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


def decode_payment_generally(body: bytes) -> Payment | None:
    try:
        return ORDER.read(codec.as_object(codec.parse_json(body), path="reply")["data"])
    except (MisreadError, KeyError):
        return None


@given(
    name=st.none() | st.sampled_from(["order_type", "order_price", "order_url", "order_qrcode"]),
    value=any_value
    | st.sampled_from(["1.50", "1e5", -0.0, 5.699999999999999, 0.001, 1e300, "data:image/png;base64,A"]),
)
def test_fast_payment_reader_agrees_with_the_general_decoder(name: str | None, value: object) -> None:
    """For any field value, the fast reader returns the general decoder's payment, or None if that decoder fails."""
    document = json.loads(PAYMENT_SAMPLE)
    if name is not None:
        document["data"][name] = value
    body = json.dumps(document).encode()
    result = codec.read_payment(body, ORDER)
    expected = decode_payment_generally(body)
    assert result == (None if expected is None else (100, expected))
    if result is not None:
        assert str(result[1].order_price) == str(expected and expected.order_price)


def test_fast_payment_reader_leaves_long_replies_to_the_general_decoder() -> None:
    """A huge list instead of a price must not fill the memory. The general decoder counts the values first."""
    assert codec.read_payment(PAYMENT_SAMPLE + b" " * codec.MAX_VALUES, ORDER) is None
