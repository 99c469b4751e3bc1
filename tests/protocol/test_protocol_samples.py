"""Decoding of the vendor's example replies: complete, truncated and changed."""

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
# For each example reply: the file, the call that it answers, and the class of the result.
KINDS: list[tuple[str, Any, type]] = [
    ("pay_create", PAY, Payment),
    ("product_show", ProductShow(), Catalog),
    ("ka_show", KaShow(3, 2), CardKeyPage),
    ("ka_create", KaCreate(3, ["asdf"]), Stored),
]
each_kind = rows(("name", "call", "model"), KINDS)
each_call = rows("call", [call for _, call, _ in KINDS])


def read_sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.json").read_bytes().strip()


def test_payment_example_is_decoded() -> None:
    """The price is exact. The picture is declared as JPEG, but its bytes are a PNG."""
    payment = decode(PAY, Reply(200, read_sample("pay_create")))
    assert payment.order_type == "wechat"
    assert payment.order_price == Decimal("1.5")
    assert str(payment.order_price) == "1.50"
    assert payment.order_url == "https://gatepay.io/pay/index?id=5cbadd67774f8&type=wechat"
    assert payment.out_order_id == "T-1-X"
    picture = payment.order_qrcode
    assert picture.data.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.data.endswith(b"IEND\xaeB`\x82")
    assert (picture.declared, picture.media_type) == ("image/jpeg", "image/png")


def test_catalog_example_is_decoded() -> None:
    """Categories and products keep their order, and prices are texts in the reply."""
    catalog = decode(ProductShow(), Reply(200, read_sample("product_show")))
    assert [(category.id, category.name) for category in catalog.categories] == [(39, "爱奇艺会员"), (40, "腾讯会员")]
    assert [product.id for product in catalog.products] == [4, 5, 8]
    product = catalog.product(8)
    assert (product.admin_id, product.category_id, product.stock) == (6, 40, 89)
    assert (product.name, product.description) == ("腾讯视频SVIP账号", "超强，什么都能看")
    assert product.image.endswith("2d169ca784ebfef2bc97f204b18ad80f.png")
    assert [str(product.price) for product in catalog.products] == ["1.00", "1.90", "0.99"]
    with pytest.raises(KeyError):
        catalog.product(39)


def test_page_example_is_decoded_with_times_in_utc() -> None:
    """The page has two of the 70 card keys."""
    page = decode(KaShow(3, 2), Reply(200, read_sample("ka_show")))
    assert (page.total, page.per_page, page.current_page, page.last_page) == (70, 50, 2, 2)
    created = datetime(2019, 4, 26, 4, 5, 20, tzinfo=UTC)
    common: dict[str, Any] = {"admin_id": 3, "pay_product_id": 3, "pay_order_id": 0, "status": "soldin"}
    common |= {"created_at": created, "updated_at": created}
    assert page.keys == (
        CardKey(id=1272, content="asdfsafasdfsadf", **common),
        CardKey(id=1273, content="asdf", **common),
    )
    assert page.keys[0].created_at.tzinfo is UTC


def test_stored_example_is_decoded() -> None:
    """The number of new card keys is read from the sentence."""
    assert decode(KaCreate(3, ["asdf"]), Reply(200, read_sample("ka_create"))) == Stored(1, "成功录入:1条卡密")


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
def test_unreadable_sentence_is_a_success_with_an_unknown_number(data: Any, stored: int | None) -> None:
    """An unreadable number, or one above the number of card keys sent, is ignored."""
    reply = Reply(200, json.dumps({"code": 100, "data": data}).encode())
    result = decode(KaCreate(3, ["KEY-1", "KEY-2"]), reply)
    assert result == Stored(stored, data if isinstance(data, str) else "")


def test_card_keys_in_an_undocumented_sentence_are_masked() -> None:
    """The masking works even if one card key is the start of another."""
    reply = Reply(200, json.dumps({"code": 100, "data": "成功录入:1条卡密 (曲奇, 曲奇二)"}).encode())
    result = decode(KaCreate(3, ["曲奇", "曲奇二"]), reply)
    assert result == Stored(1, "成功录入:1条卡密 (***, ***)")


def test_documented_sentence_is_not_masked() -> None:
    """The sentence is shown unchanged even if its number equals a card key."""
    assert decode(KaCreate(3, ["1"]), Reply(200, read_sample("ka_create"))) == Stored(1, "成功录入:1条卡密")


@each_kind
def test_truncated_reply_raises_protocol_error(name: str, call: Any, model: type) -> None:
    """A reply is rejected wherever it is cut."""
    body = read_sample(name)
    for end in range(len(body)):
        with pytest.raises(ProtocolError) as caught:
            decode(call, Reply(200, body[:end]))
        assert type(caught.value) is ProtocolError
        assert caught.value.path is None
    assert type(decode(call, Reply(200, body))) is model


@each_kind
def test_one_byte_order_mark_is_ignored(name: str, call: Any, model: type) -> None:
    """Two byte-order marks are an error."""
    assert decode(call, Reply(200, b"\xef\xbb\xbf" + read_sample(name))) == decode(call, Reply(200, read_sample(name)))
    with pytest.raises(ProtocolError):
        decode(call, Reply(200, b"\xef\xbb\xbf" * 2 + read_sample(name)))


@each_kind
def test_unknown_fields_are_ignored_at_every_level(name: str, call: Any, model: type) -> None:
    """GatePay may add fields without breaking the client."""

    def with_unknown_fields(value: Any) -> Any:
        if isinstance(value, dict):
            documented = {key: with_unknown_fields(inner) for key, inner in value.items()}
            return {"unknown_first": [1.5, None], **documented, "unknown_last": {}}
        return [with_unknown_fields(inner) for inner in value] if isinstance(value, list) else value

    body = json.dumps(with_unknown_fields(json.loads(read_sample(name)))).encode()
    assert decode(call, Reply(200, body)) == decode(call, Reply(200, read_sample(name)))


def test_envelope_example_is_decoded() -> None:
    """An envelope has the code, the message, the time and the data."""
    envelope = open_envelope(read_sample("ka_create"))
    assert (envelope.code, envelope.message, envelope.data) == (100, "请求成功", "成功录入:1条卡密")
    assert envelope.time == datetime(2019, 4, 26, 9, 36, 53, tzinfo=UTC)


def result_or_error(call: Any, body: bytes, status: int = 200) -> object:
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


@each_call
@given(body=st.binary(max_size=80), status=st.integers(100, 599))
def test_any_bytes_raise_refused_or_protocol_error(call: Any, body: bytes, status: int) -> None:
    """No other exception escapes, whatever the server sends."""
    assert isinstance(result_or_error(call, body, status), ProtocolError | RefusedError)


@each_kind
@given(reply=st.one_of(json_values, envelopes), status=st.sampled_from([200, 201, 302, 404, 500, 502]))
def test_any_json_yields_the_model_or_an_error(name: str, call: Any, model: type, reply: Any, status: int) -> None:
    """Any JSON is decoded to the model, or raises ``RefusedError`` or ``ProtocolError``."""
    assert isinstance(result_or_error(call, json.dumps(reply).encode(), status), model | RefusedError | ProtocolError)


@each_kind
@given(data=st.data())
def test_example_with_a_changed_value_yields_the_model_or_an_error(
    name: str, call: Any, model: type, data: st.DataObject
) -> None:
    """A random value in an example yields the model, ``RefusedError`` or ``ProtocolError``."""
    reply = json.loads(read_sample(name))
    parent = reply
    while True:
        key = data.draw(st.sampled_from(list(parent) if isinstance(parent, dict) else list(range(len(parent)))))
        # Change this value, or descend into it. Four of five times, descend.
        if not isinstance(parent[key], dict | list) or not parent[key] or data.draw(st.integers(0, 4)) == 0:
            break
        parent = parent[key]
    parent[key] = data.draw(json_values)
    assert isinstance(result_or_error(call, json.dumps(reply).encode()), model | RefusedError | ProtocolError)
