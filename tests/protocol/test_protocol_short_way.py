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

from gatepay_async import CardKey, CardKeyPage
from gatepay_async.protocol import codec
from gatepay_async.protocol.calls import KaShow

pytestmark = pytest.mark.fast

SAMPLE = (Path(__file__).parents[1] / "samples" / "ka_show.json").read_bytes()

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
