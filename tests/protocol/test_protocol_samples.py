"""The vendor's own example replies: what they become, whole, cut, and changed."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import rows

from gatepay_async.protocol.calls import KaCreate, KaShow, PayCreate, ProductShow
from gatepay_async.protocol.errors import ProtocolError, RefusedError
from gatepay_async.protocol.messages import Reply, decode, open_envelope
from gatepay_async.protocol.models import CardKey, CardKeyPage, Catalog, Payment, Stored

pytestmark = pytest.mark.fast

SAMPLES = Path(__file__).parents[1] / "samples"
PAY = PayCreate(product_id=8, out_order_id="T-1-X", pay_type="wechat", product_num=1, custom="terry")
KINDS: list[tuple[str, Any, type]] = [
    ("pay_create", PAY, Payment),
    ("product_show", ProductShow(), Catalog),
    ("ka_show", KaShow(3, 2), CardKeyPage),
    ("ka_create", KaCreate(3, ["asdf"]), Stored),
]
kinds = rows(("name", "call", "model"), KINDS)
calls = rows("call", [call for _, call, _ in KINDS])


def sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.json").read_bytes().strip()


def test_a_payment() -> None:
    """pay/create: the price is exact, and the picture is what its bytes are, a PNG declared as JPEG."""
    payment = decode(PAY, Reply(200, sample("pay_create")))
    assert payment.order_type == "wechat"
    assert payment.order_price == Decimal("1.5")
    assert str(payment.order_price) == "1.50"
    assert payment.order_url == "https://gatepay.io/pay/index?id=5cbadd67774f8&type=wechat"
    assert payment.out_order_id == "T-1-X"
    picture = payment.order_qrcode
    assert picture.data.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.data.endswith(b"IEND\xaeB`\x82")
    assert (picture.declared, picture.media_type) == ("image/jpeg", "image/png")


def test_a_catalog() -> None:
    """product/show: categories and their products, in order, with prices from text."""
    catalog = decode(ProductShow(), Reply(200, sample("product_show")))
    assert [(category.id, category.name) for category in catalog.categories] == [(39, "爱奇艺会员"), (40, "腾讯会员")]
    assert [product.id for product in catalog.products] == [4, 5, 8]
    product = catalog.product(8)
    assert (product.admin_id, product.category_id, product.stock) == (6, 40, 89)
    assert (product.name, product.description) == ("腾讯视频SVIP账号", "超强，什么都能看")
    assert product.image.endswith("2d169ca784ebfef2bc97f204b18ad80f.png")
    assert [str(product.price) for product in catalog.products] == ["1.00", "1.90", "0.99"]
    with pytest.raises(KeyError):
        catalog.product(39)


def test_a_page() -> None:
    """ka/show: two card keys of 70, with aware times in UTC."""
    page = decode(KaShow(3, 2), Reply(200, sample("ka_show")))
    assert (page.total, page.per_page, page.current_page, page.last_page) == (70, 50, 2, 2)
    then = datetime(2019, 4, 26, 4, 5, 20, tzinfo=UTC)
    assert page.keys == (
        CardKey(1272, 3, 3, 0, "asdfsafasdfsadf", then, then, "soldin"),
        CardKey(1273, 3, 3, 0, "asdf", then, then, "soldin"),
    )
    assert page.keys[0].created_at.tzinfo is UTC


def test_stored() -> None:
    """ka/create: the number in the sentence, and the sentence."""
    assert decode(KaCreate(3, ["asdf"]), Reply(200, sample("ka_create"))) == Stored(1, "成功录入:1条卡密")


@rows(
    ("data", "stored"),
    [
        ("成功录入：2条卡密", 2),
        ("成功录入 : 0 条", 0),
        ("成功录入:3条卡密", None),
        ("成功录入:501条卡密", None),
        ("stored 2", None),
        ("", None),
        (None, None),
        (2, None),
        ({"count": 2}, None),
    ],
)
def test_other_sentences(data: Any, stored: int | None) -> None:
    """A sentence that can't be read, or says more than was sent, is a success whose number isn't known."""
    reply = Reply(200, json.dumps({"code": 100, "data": data}).encode())
    result = decode(KaCreate(3, ["KEY-1", "KEY-2"]), reply)
    assert result == Stored(stored, data if isinstance(data, str) else "")


def test_a_sentence_that_repeats_card_keys() -> None:
    """Card keys in a sentence that the page doesn't show are masked, also where one begins another."""
    reply = Reply(200, json.dumps({"code": 100, "data": "成功录入:1条卡密 (曲奇, 曲奇二)"}).encode())
    result = decode(KaCreate(3, ["曲奇", "曲奇二"]), reply)
    assert result == Stored(1, "成功录入:1条卡密 (***, ***)")


def test_a_number_that_is_a_card_key() -> None:
    """The vendor's own sentence is shown as it is, though a card key be its number."""
    assert decode(KaCreate(3, ["1"]), Reply(200, sample("ka_create"))) == Stored(1, "成功录入:1条卡密")


@kinds
def test_cut_after_each_byte(name: str, call: Any, model: type) -> None:
    """A reply that is cut anywhere is a ProtocolError; only the whole one is the model."""
    body = sample(name)
    for end in range(len(body)):
        with pytest.raises(ProtocolError) as caught:
            decode(call, Reply(200, body[:end]))
        assert type(caught.value) is ProtocolError
        assert caught.value.path is None
    assert type(decode(call, Reply(200, body))) is model


@kinds
def test_a_byte_order_mark(name: str, call: Any, model: type) -> None:
    """One byte-order mark before the JSON is passed over; two are not."""
    assert decode(call, Reply(200, b"\xef\xbb\xbf" + sample(name))) == decode(call, Reply(200, sample(name)))
    with pytest.raises(ProtocolError):
        decode(call, Reply(200, b"\xef\xbb\xbf" * 2 + sample(name)))


@kinds
def test_unknown_fields(name: str, call: Any, model: type) -> None:
    """Fields that the page doesn't know are passed over at every level."""

    def more(value: Any) -> Any:
        if isinstance(value, dict):
            return {"later": [1.5, None], **{key: more(inner) for key, inner in value.items()}, "zz": {}}
        return [more(inner) for inner in value] if isinstance(value, list) else value

    body = json.dumps(more(json.loads(sample(name)))).encode()
    assert decode(call, Reply(200, body)) == decode(call, Reply(200, sample(name)))


def test_the_envelope() -> None:
    """code, msg, time and data, as every example wraps them."""
    envelope = open_envelope(sample("ka_create"))
    assert (envelope.code, envelope.message, envelope.data) == (100, "请求成功", "成功录入:1条卡密")
    assert envelope.time == datetime(2019, 4, 26, 9, 36, 53, tzinfo=UTC)


def outcome(call: Any, body: bytes, status: int = 200) -> object:
    try:
        return decode(call, Reply(status, body))
    except (RefusedError, ProtocolError) as error:
        return error


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["1.00", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
envelopes = st.fixed_dictionaries(
    {"code": st.sampled_from([100, 101, 109, 112, 999, 0, -1, "100", None, 1.5, True]), "data": json_values},
    optional={"msg": json_values, "time": json_values},
)


@calls
@given(body=st.binary(max_size=80), status=st.integers(100, 599))
def test_any_bytes(call: Any, body: bytes, status: int) -> None:
    """Whatever bytes come back are what the call promises, a refusal, or a ProtocolError."""
    assert isinstance(outcome(call, body, status), ProtocolError | RefusedError)


@kinds
@given(reply=st.one_of(json_values, envelopes), status=st.sampled_from([200, 201, 302, 404, 500, 502]))
def test_any_json(name: str, call: Any, model: type, reply: Any, status: int) -> None:
    """Whatever JSON comes back is what the call promises, a refusal, or a ProtocolError."""
    assert isinstance(outcome(call, json.dumps(reply).encode(), status), model | RefusedError | ProtocolError)


@kinds
@given(data=st.data())
def test_an_example_with_one_value_changed(name: str, call: Any, model: type, data: st.DataObject) -> None:
    """A vendor's example in which any one value is another is still one of the three."""
    reply = json.loads(sample(name))
    at = reply
    while True:
        key = data.draw(st.sampled_from(list(at) if isinstance(at, dict) else list(range(len(at)))))
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.integers(0, 4)) == 0:
            break
        at = at[key]
    at[key] = data.draw(json_values)
    assert isinstance(outcome(call, json.dumps(reply).encode()), model | RefusedError | ProtocolError)
