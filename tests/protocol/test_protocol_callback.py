"""Verification of callbacks: which queries ``parse_callback`` accepts, and the errors for all others."""

import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import rows

from gatepay_async.protocol.callback import parse_callback, verify_callback
from gatepay_async.protocol.callback_errors import CallbackError, CallbackSignatureError, MalformedCallbackError
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.models import Callback
from gatepay_async.protocol.signing import Credentials, sign

pytestmark = pytest.mark.fast

SHOP = Credentials("gp-key", "gp-secret")
# In the order in which they are signed.
SIGNED_NAMES = ("order_id", "out_order_id", "price", "realprice", "type", "paytime", "extend")
FIELDS = {
    "appkey": "gp-key",
    "order_id": "67848",
    "out_order_id": "T-1001-X",
    "price": "10.23",
    "realprice": "10.20",
    "type": "alipay",
    "paytime": "1555750250",
    "extend": "terry@example.com",
}
NAMES = [*FIELDS, "sign"]


def signed_fields(**changes: str) -> dict[str, str]:
    """Return the fields with *changes* and a valid signature."""
    fields = {**FIELDS, **changes}
    return {**fields, "sign": sign(SHOP, [fields[name] for name in SIGNED_NAMES])}


def query(fields: dict[str, str]) -> str:
    return urlencode(fields)


def parse(text: Any) -> Callback:
    return parse_callback(text, appkey="gp-key", appsecret="gp-secret")


def malformed_error(text: Any) -> MalformedCallbackError:
    with pytest.raises(MalformedCallbackError) as caught:
        parse(text)
    assert caught.value.__context__ is None
    return caught.value


def signature_error(text: Any) -> CallbackSignatureError:
    with pytest.raises(CallbackSignatureError) as caught:
        parse(text)
    return caught.value


def test_signed_callback_is_accepted_as_text_or_bytes() -> None:
    """The query may start with ``?``, have its fields in any order, and contain other, unsigned parameters."""
    expected = Callback(
        order_id=67848,
        out_order_id="T-1001-X",
        price=Decimal("10.23"),
        realprice=Decimal("10.20"),
        pay_type="alipay",
        paid_at=datetime(2019, 4, 20, 8, 50, 50, tzinfo=UTC),
        extend="terry@example.com",
    )
    text = query(signed_fields())
    backwards = query(dict(reversed(signed_fields().items())))
    with_other_parameters = f"shop=1&{text}&utm_source=&%E5%AF%86=%2B"
    for received in (
        text,
        "?" + text,
        text.encode(),
        b"?" + text.encode(),
        f"&{text}&&",
        backwards,
        with_other_parameters,
    ):
        assert parse(received) == expected
        assert verify_callback(received, SHOP) == expected
    assert str(parse(text).realprice) == "10.20"
    assert parse(text).paid_at.tzinfo is UTC


@rows("name", NAMES[1:])  # the first one, the appkey, may be missing
def test_missing_field_is_reported(name: str) -> None:
    """The error names the missing field."""
    fields = signed_fields()
    del fields[name]
    error = malformed_error(query(fields))
    assert (error.field, error.problem) == (name, "is missing")


@rows("name", NAMES)
@rows("escape", [False, True])
def test_repeated_field_is_reported(name: str, *, escape: bool) -> None:
    """The field is found even if its second name is percent-encoded. Its second value doesn't matter."""
    second_name = f"%{ord(name[0]):02x}{name[1:]}" if escape else name
    for value in (signed_fields()[name], "", "other"):
        error = malformed_error(f"{query(signed_fields())}&{second_name}={quote_plus(value)}")
        assert (error.field, error.problem) == (name, "a parameter appears twice")


@rows("name", ["appkey", "order_id", "out_order_id", "price", "realprice", "type", "paytime", "sign"])
def test_empty_field_is_reported(name: str) -> None:
    """Every field but ``extend`` must have a value. ``name=`` and ``name`` without ``=`` are both empty."""
    fields = signed_fields() if name in ("appkey", "sign") else signed_fields(**{name: ""})
    other_fields = query({field: value for field, value in fields.items() if field != name})
    assert malformed_error(f"{other_fields}&{name}=").field == name
    assert malformed_error(f"{other_fields}&{name}").field == name


@rows("extend", ["", " ", "\n", "  two  ", "=&?#%+", "密 钥", "a\x00b"])
def test_extend_may_be_any_text_and_is_unchanged(extend: str) -> None:
    """``extend`` may be blank or empty. ``extend`` without ``=`` is an empty value."""
    text = query(signed_fields(extend=extend))
    assert parse(text).extend == extend
    if not extend:
        assert parse(text.replace("extend=&", "extend&")).extend == ""


@rows(
    ("name", "value"),
    [
        ("order_id", "67849"),
        ("out_order_id", "T-1002-X"),
        ("out_order_id", "T-1001-x"),
        ("price", "0.01"),
        ("realprice", "0.01"),
        ("type", "wechat"),
        ("paytime", "1555750251"),
        ("extend", "eve@example.com"),
        ("extend", "terry@example.com "),
        ("sign", "0" * 32),
    ],
)
def test_altered_field_breaks_the_signature(name: str, value: str) -> None:
    """The error doesn't repeat the signature."""
    error = signature_error(query({**signed_fields(), name: value}))
    assert (error.field, error.problem) == ("sign", "does not match the fields and your secret")
    assert signed_fields()["sign"] not in str(error)


def test_callback_for_another_appkey_or_secret_is_rejected() -> None:
    """A callback with another appkey, or signed with another secret, raises ``CallbackSignatureError``."""
    other_shop = Credentials("other", "gp-secret")
    fields = {**FIELDS, "appkey": "other"}
    fields["sign"] = sign(other_shop, [fields[name] for name in SIGNED_NAMES])
    error = signature_error(query(fields))
    assert (error.field, error.problem) == ("appkey", "is not yours")
    with pytest.raises(CallbackSignatureError) as caught:
        parse_callback(query(signed_fields()), appkey="gp-key", appsecret="another")
    assert caught.value.field == "sign"


def test_moving_characters_from_appkey_to_order_id_is_detected() -> None:
    """The signature stays valid if characters move between the appkey and ``order_id``, but one of the two is wrong."""
    forged = {**signed_fields(), "appkey": "gp-ke", "order_id": "y67848"}
    assert malformed_error(query(forged)).field == "order_id"
    shop = Credentials("gp-key6", "gp-secret")
    fields = {**FIELDS, "order_id": "7848", "sign": signed_fields()["sign"]}
    assert sign(shop, [fields[name] for name in SIGNED_NAMES]) == fields["sign"]
    assert signature_error(query({**fields, "appkey": "gp-key6"})).field == "appkey"


@rows("name", ["appkey", "appsecret"])
def test_blank_own_credentials_raise_invalid_request(name: str) -> None:
    """A blank appkey or appsecret of the merchant is not an error of the callback."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_callback(query(signed_fields()), **{"appkey": "gp-key", "appsecret": "gp-secret", name: " "})
    assert caught.value.field == name


@rows(
    "change",
    [
        str.upper,
        lambda sign: sign[:-1],
        lambda sign: sign + "0",
        lambda sign: sign[::-1] + "\n",
        lambda sign: " " + sign[1:],
        lambda sign: "g" + sign[1:],
        lambda sign: "０" + sign[1:],
    ],
)
def test_sign_must_be_32_lower_case_hex_digits(change: Callable[[str], str]) -> None:
    """Any other form of ``sign`` is malformed."""
    fields = signed_fields()
    error = malformed_error(query({**fields, "sign": change(fields["sign"])}))
    assert (error.field, error.problem) == ("sign", "must be 32 lower-case hex digits")


INVALID_PRICES = [
    "10",
    "10.",
    "10.2",
    "10.234",
    "010.23",
    "00.10",
    ".10",
    "1,000.00",
    "10,23",
    "１０.２３",
    "-1.00",
    "+1.00",
]
INVALID_PRICES += ["1e2", "NaN", "10.23\n", " 10.23", "10.23 ", "1_0.00", "0x1.00", "1234567890123.00", "10.2٣"]
INVALID_VALUES = [
    *(("price", value) for value in INVALID_PRICES),
    *(("realprice", value) for value in INVALID_PRICES),
    *(
        ("order_id", value)
        for value in ("007", "00", "-1", "+1", "١", "１", "1.0", "1e3", " 1", "1 ", "1\n", "x", "0x1", "1_0", "1" * 20)
    ),
    *(("type", value) for value in ("paypal", "ALIPAY", "alipay ", "alipayx", "xwechat", "wechat|alipay", "1alipay")),
    *(
        ("paytime", value)
        for value in (
            "0",
            "0155575025",
            "-155575025",
            "155575025",
            "15557502500",
            "155575025.5",
            "155575025١",
            "soon",
            "1555750250\n",
        )
    ),
]


@rows(("name", "value"), INVALID_VALUES)
def test_field_with_the_wrong_form_is_reported_despite_a_valid_signature(name: str, value: str) -> None:
    """Each field must have exactly its documented form."""
    assert malformed_error(query(signed_fields(**{name: value}))).field == name


@rows(
    ("name", "value"),
    [
        ("order_id", "0"),
        ("order_id", "9" * 19),
        ("price", "0.00"),
        ("price", "999999999999.99"),
        ("paytime", "1000000000"),
        ("paytime", "9" * 10),
        ("type", "wechat"),
        ("type", "onecode"),
        ("out_order_id", "0001"),
        ("out_order_id", " \n"),
        ("out_order_id", "密钥+%"),
    ],
)
def test_extreme_and_unusual_values_are_accepted(name: str, value: str) -> None:
    """The smallest and largest values, every payment type, and any text as order number are accepted."""
    assert parse(query(signed_fields(**{name: value}))).extend == "terry@example.com"


# The signed text has no separators, so characters can be moved between neighbouring fields without breaking the
# signature. Each row: the signed values, the forged values, and the field whose form the forgery breaks.
DETECTABLE_FORGERIES = [
    ({"price": "12.00", "realprice": "10.00"}, {"price": "12.001", "realprice": "0.00"}, "price"),
    ({"price": "12.00", "realprice": "10.00"}, {"price": "12.0", "realprice": "010.00"}, "price"),
    ({"realprice": "10.00", "type": "alipay"}, {"realprice": "10.0", "type": "0alipay"}, "realprice"),
    ({"realprice": "10.00", "type": "alipay"}, {"realprice": "10.00a", "type": "lipay"}, "realprice"),
    ({"type": "alipay", "paytime": "1555750250"}, {"type": "alipay1", "paytime": "555750250"}, "type"),
    ({"type": "alipay", "paytime": "1555750250"}, {"type": "alipa", "paytime": "y1555750250"}, "type"),
    ({"paytime": "1555750250", "extend": "x"}, {"paytime": "155575025", "extend": "0x"}, "paytime"),
    ({"paytime": "1555750250", "extend": "7x"}, {"paytime": "15557502507", "extend": "x"}, "paytime"),
    ({"order_id": "1", "out_order_id": "-A"}, {"order_id": "1-", "out_order_id": "A"}, "order_id"),
    ({"order_id": "10", "out_order_id": "A"}, {"order_id": "", "out_order_id": "10A"}, "order_id"),
    ({"out_order_id": "A-", "price": "2.00"}, {"out_order_id": "A", "price": "-2.00"}, "price"),
    ({"out_order_id": "A0", "price": "2.00"}, {"out_order_id": "A", "price": "02.00"}, "price"),
    ({"out_order_id": "A", "price": "2.00"}, {"out_order_id": "A2", "price": ".00"}, "price"),
]


@rows(("signed", "forged", "field"), DETECTABLE_FORGERIES)
def test_moved_characters_that_break_a_fields_form_are_detected(
    signed: dict[str, str], forged: dict[str, str], field: str
) -> None:
    """The signature stays valid, but one of the two fields no longer has its form."""
    fields = signed_fields(**signed)
    forged_fields = {**fields, **forged}
    assert sign(SHOP, [forged_fields[name] for name in SIGNED_NAMES]) == fields["sign"]
    assert str(parse(query(fields)).order_id) == fields["order_id"]
    assert malformed_error(query(forged_fields)).field == field


# Forgeries that parse_callback can't detect. Its docstring advises merchants how to detect them.
UNDETECTABLE_FORGERIES = [
    # A digit moves between order_id and out_order_id. It can't if order numbers don't start with a digit.
    ({"order_id": "12", "out_order_id": "3A"}, {"order_id": "1", "out_order_id": "23A"}),
    ({"order_id": "1", "out_order_id": "23A"}, {"order_id": "12", "out_order_id": "3A"}),
    # A digit moves between out_order_id and price. It can't if order numbers don't end with a digit. The merchant's own
    # record of the price shows it, too.
    ({"out_order_id": "A", "price": "12.00"}, {"out_order_id": "A1", "price": "2.00"}),
    ({"out_order_id": "A1", "price": "2.00"}, {"out_order_id": "A", "price": "12.00"}),
    # The end of a longer order_id moves to out_order_id.
    ({"order_id": "10", "out_order_id": "A"}, {"order_id": "1", "out_order_id": "0A"}),
]


@rows(("signed", "forged"), UNDETECTABLE_FORGERIES)
def test_some_moved_digits_can_not_be_detected(signed: dict[str, str], forged: dict[str, str]) -> None:
    """Both fields keep their form and the signature stays valid. So merchants must compare their own records."""
    fields = signed_fields(**signed)
    forged_fields = {**fields, **forged}
    assert sign(SHOP, [forged_fields[name] for name in SIGNED_NAMES]) == fields["sign"]
    assert parse(query(fields)) != parse(query(forged_fields))


@rows("order_id", ["7", "70", "67848"])
@rows("price", ["0.10", "2.00", "12.00", "112.00"])
def test_advised_order_numbers_make_moved_digits_detectable(order_id: str, price: str) -> None:
    """If an order number neither starts nor ends with a digit, no other split yields a number of that form."""
    fields = signed_fields(order_id=order_id, out_order_id="T-1001-X", price=price)
    text = order_id + "T-1001-X" + price
    accepted = []
    for start in range(len(text) + 1):
        for end in range(start, len(text) + 1):
            split = {"order_id": text[:start], "out_order_id": text[start:end], "price": text[end:]}
            try:
                accepted.append(parse(query({**fields, **split})))
            except MalformedCallbackError:
                continue
    values = {(callback.order_id, callback.out_order_id, callback.price) for callback in accepted}
    genuine = (int(order_id), "T-1001-X", Decimal(price))
    assert {value for value in values if value[1].startswith("T") and value[1].endswith("X")} == {genuine}


@rows("name", ["shop", "", "%E5%AF%86"])
def test_other_repeated_parameter_is_rejected_without_its_name(name: str) -> None:
    """The error doesn't name a repeated parameter that isn't a callback field."""
    error = malformed_error(f"{name}=1&{query(signed_fields())}&{name}=1")
    assert (error.field, error.problem) == (None, "a parameter appears twice")


def test_form_encoding_is_decoded() -> None:
    """``+`` and ``%20`` are spaces, ``%2B`` is a plus. Hex digits may be in either case. UTF-8 may be unescaped."""
    fields = signed_fields(extend="a b+c 密")
    other_fields = query({name: value for name, value in fields.items() if name != "extend"})
    for extend in ("a+b%2bc%20密", "a%20b%2Bc+%E5%AF%86", "%61 b%2Bc %e5%af%86"):
        assert parse(f"{other_fields}&extend={extend}").extend == "a b+c 密"
        assert parse(f"{other_fields}&extend={extend}".encode()).extend == "a b+c 密"


@rows("text", ["%", "%2", "%zz", "%2z", "a%", "%%32", "%u5bc6", "100%&x=1"])
def test_percent_sign_without_two_hex_digits_is_malformed(text: str) -> None:
    """A ``%`` without two hex digits is malformed, although ``urllib.parse`` accepts it."""
    error = malformed_error(f"{query(signed_fields())}&x{text}")
    assert (error.field, error.problem) == (None, "contains a % without two hex digits")
    assert malformed_error(f"{query(signed_fields())}&y={text}").problem == "contains a % without two hex digits"


@rows("value", ["%ff", "%C0%80", "%ED%A0%80", "%E5%AF", "\ud800", b"\xff", b"\xed\xa0\x80"])
def test_bytes_that_are_not_utf8_are_malformed(value: Any) -> None:
    """Invalid bytes in a name or a value are rejected, whether they are escaped or not."""
    raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    for received in (query(signed_fields()).encode() + b"&y=" + raw, raw + b"=1&" + query(signed_fields()).encode()):
        assert malformed_error(received).problem == "contains bytes that are not UTF-8"
    if isinstance(value, str):
        assert malformed_error(f"{query(signed_fields())}&y={value}").problem == "contains bytes that are not UTF-8"


def test_query_longer_than_8192_bytes_is_rejected() -> None:
    """The limit is a number of bytes, not of characters."""
    text = query(signed_fields()) + "&y="
    assert parse(text + "y" * (8192 - len(text))) == parse(query(signed_fields()))
    assert malformed_error(text + "y" * (8193 - len(text))).problem == "is longer than 8192 bytes"
    assert malformed_error("密" * 2731).problem == "is longer than 8192 bytes"  # 2731 characters, 8193 bytes


@rows("value", [None, {}, FIELDS, [], 7, True, bytearray(b"a=1"), parse_qsl("a=1")])
def test_only_text_or_bytes_are_accepted(value: Any) -> None:
    """A dict is rejected, because it can't show that a name came twice."""
    assert malformed_error(value).problem == f"the query must be text or bytes, not {type(value).__name__}"


@rows("text", ["", "?", "&", "=", b""])
def test_query_without_fields_reports_the_first_field_as_missing(text: Any) -> None:
    """An empty query is malformed."""
    assert (malformed_error(text).field, malformed_error(text).problem) == ("order_id", "is missing")


def test_signature_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature is accepted if ``hmac.compare_digest`` says so. Its time doesn't depend on where the texts differ."""
    results: list[bool] = []

    def compare(first: bytes, second: bytes) -> bool:
        results.append(first == second)
        return True

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert parse(query(signed_fields())) == parse(query({**signed_fields(), "sign": "0" * 32}))
    assert results == [True, False]


def test_signature_with_any_of_several_secrets_is_accepted() -> None:
    """During a rotation, ``appsecret`` is a list or tuple. A signature with a secret that isn't in it is rejected."""
    text = query(signed_fields())
    for secrets in (["gp-secret"], ["next", "gp-secret"], ("gp-secret", "next"), ["next", "gp-secret", "third"]):
        assert parse_callback(text, appkey="gp-key", appsecret=secrets) == parse(text)
    with pytest.raises(CallbackSignatureError) as caught:
        parse_callback(text, appkey="gp-key", appsecret=["next", "third"])
    assert (caught.value.field, caught.value.problem) == ("sign", "does not match the fields and your secret")


def test_signature_is_compared_with_every_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """All secrets are compared, so that the time doesn't reveal which one fits."""
    results: list[bool] = []

    def compare(first: bytes, second: bytes) -> bool:
        results.append(first == second)
        return first == second

    monkeypatch.setattr(hmac, "compare_digest", compare)
    parse_callback(query(signed_fields()), appkey="gp-key", appsecret=["a", "gp-secret", "b"])
    assert results == [False, True, False]


@rows("secrets", [[], (), [""], ["gp-secret", " "], [None], ["gp-secret", 7], b"gp-secret", {"a"}, 7])
def test_invalid_appsecret_raises_invalid_request(secrets: Any) -> None:
    """The appsecret is an empty list, a list with a blank secret, or of another type. The error repeats no secret."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_callback(query(signed_fields()), appkey="gp-key", appsecret=secrets)
    assert caught.value.field == "appsecret"
    assert "gp-secret" not in str(caught.value)


query_parts = st.one_of(
    st.sampled_from(
        [*(f"{name}=" for name in NAMES), "&", "?", "%", "+", "=", *FIELDS.values(), query(signed_fields())]
    ),
    st.text(max_size=6),
)


@given(st.one_of(st.text(), st.binary(), st.lists(query_parts, max_size=12).map("".join)))
def test_any_input_yields_a_callback_or_a_callback_error(received: str | bytes) -> None:
    """``parse_callback`` raises no other error for any text or bytes."""
    try:
        result = parse(received)
    except CallbackError:
        return
    assert type(result) is Callback


@given(st.sampled_from(NAMES), st.text(max_size=12))
def test_changed_field_is_never_accepted(name: str, value: str) -> None:
    """A callback is accepted only if every field has the value that was signed."""
    fields = signed_fields()
    try:
        result = parse(urlencode({**fields, name: value}, errors="surrogatepass"))
    except CallbackError:
        return
    assert value == fields[name]
    assert result == parse(query(fields))
