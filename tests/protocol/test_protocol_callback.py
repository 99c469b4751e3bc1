"""Callbacks: what is believed, what isn't, and why."""

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
ORDER = ("order_id", "out_order_id", "price", "realprice", "type", "paytime", "extend")
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


def signed(**changes: str) -> dict[str, str]:
    """The fields with *changes*, signed by whoever has the secret."""
    fields = {**FIELDS, **changes}
    return {**fields, "sign": sign(SHOP, [fields[name] for name in ORDER])}


def query(fields: dict[str, str]) -> str:
    return urlencode(fields)


def parse(text: Any) -> Callback:
    return parse_callback(text, appkey="gp-key", appsecret="gp-secret")


def malformed(text: Any) -> MalformedCallbackError:
    with pytest.raises(MalformedCallbackError) as caught:
        parse(text)
    assert caught.value.__context__ is None
    return caught.value


def unsigned(text: Any) -> CallbackSignatureError:
    with pytest.raises(CallbackSignatureError) as caught:
        parse(text)
    return caught.value


def test_believing() -> None:
    """
    A callback that is signed and in form is believed: from text or bytes, with a question mark before it or not.

    Its names come in any order, and others, which are not signed, between them.
    """
    expected = Callback(
        order_id=67848,
        out_order_id="T-1001-X",
        price=Decimal("10.23"),
        realprice=Decimal("10.20"),
        pay_type="alipay",
        paid_at=datetime(2019, 4, 20, 8, 50, 50, tzinfo=UTC),
        extend="terry@example.com",
    )
    text = query(signed())
    backwards = query(dict(reversed(signed().items())))
    among_others = f"shop=1&{text}&utm_source=&%E5%AF%86=%2B"
    for received in (text, "?" + text, text.encode(), b"?" + text.encode(), f"&{text}&&", backwards, among_others):
        assert parse(received) == expected
        assert verify_callback(received, SHOP) == expected
    assert str(parse(text).realprice) == "10.20"
    assert parse(text).paid_at.tzinfo is UTC


@rows("name", NAMES[1:])
def test_missing(name: str) -> None:
    """A field that is missing is named."""
    fields = signed()
    del fields[name]
    error = malformed(query(fields))
    assert (error.field, error.problem) == (name, "is missing")


@rows("name", NAMES)
@rows("escape", [False, True])
def test_doubled(name: str, *, escape: bool) -> None:
    """A field that comes twice is named, also when one of its names is escaped, and whatever the values."""
    again = f"%{ord(name[0]):02x}{name[1:]}" if escape else name
    for value in (signed()[name], "", "other"):
        error = malformed(f"{query(signed())}&{again}={quote_plus(value)}")
        assert (error.field, error.problem) == (name, "a parameter appears twice")


@rows("name", ["appkey", "order_id", "out_order_id", "price", "realprice", "type", "paytime", "sign"])
def test_empty(name: str) -> None:
    """A field that is empty, with a sign of equality or without, is named; only extend may be."""
    fields = signed() if name in ("appkey", "sign") else signed(**{name: ""})
    rest = query({each: value for each, value in fields.items() if each != name})
    assert malformed(f"{rest}&{name}=").field == name
    assert malformed(f"{rest}&{name}").field == name


@rows("extend", ["", " ", "\n", "  two  ", "=&?#%+", "密 钥", "a\x00b"])
def test_extend_is_kept(extend: str) -> None:
    """What extend holds may be anything, blank or empty, and is kept as it is; a bare name is an empty value."""
    text = query(signed(extend=extend))
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
def test_altered(name: str, value: str) -> None:
    """A field that was changed after signing fails the signature, which the error doesn't repeat."""
    error = unsigned(query({**signed(), name: value}))
    assert (error.field, error.problem) == ("sign", "does not match the fields and your secret")
    assert signed()["sign"] not in str(error)


def test_another_shop() -> None:
    """A callback for another appkey, or signed with another secret, is not yours."""
    other = Credentials("other", "gp-secret")
    fields = {**FIELDS, "appkey": "other"}
    fields["sign"] = sign(other, [fields[name] for name in ORDER])
    error = unsigned(query(fields))
    assert (error.field, error.problem) == ("appkey", "is not yours")
    with pytest.raises(CallbackSignatureError) as caught:
        parse_callback(query(signed()), appkey="gp-key", appsecret="another")
    assert caught.value.field == "sign"


def test_an_appkey_that_slides() -> None:
    """An appkey can't lend its end to the order_id, though the signature is the same."""
    slid = {**signed(), "appkey": "gp-ke", "order_id": "y67848"}
    assert malformed(query(slid)).field == "order_id"
    shop = Credentials("gp-key6", "gp-secret")
    fields = {**FIELDS, "order_id": "7848", "sign": signed()["sign"]}
    assert sign(shop, [fields[name] for name in ORDER]) == fields["sign"]
    assert unsigned(query({**fields, "appkey": "gp-key6"})).field == "appkey"


@rows("name", ["appkey", "appsecret"])
def test_your_own_credentials(name: str) -> None:
    """A blank appkey or appsecret of your own is your mistake, not the caller's."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_callback(query(signed()), **{"appkey": "gp-key", "appsecret": "gp-secret", name: " "})
    assert caught.value.field == name


@rows("change", [str.upper, lambda sign: sign[:-1], lambda sign: sign + "0", lambda sign: sign[::-1]
    + "\n", lambda sign: " " + sign[1:], lambda sign: "g" + sign[1:], lambda sign: "０" + sign[1:]])  # fmt: skip
def test_the_form_of_sign(change: Callable[[str], str]) -> None:
    """A sign that is not 32 lower-case hex digits is malformed."""
    fields = signed()
    error = malformed(query({**fields, "sign": change(fields["sign"])}))
    assert (error.field, error.problem) == ("sign", "must be 32 lower-case hex digits")


BAD_MONEY = [
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
BAD_MONEY += ["1e2", "NaN", "10.23\n", " 10.23", "10.23 ", "1_0.00", "0x1.00", "1234567890123.00", "10.2٣"]
FORMS = [
    *(("price", value) for value in BAD_MONEY),
    *(("realprice", value) for value in BAD_MONEY),
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


@rows(("name", "value"), FORMS)
def test_forms(name: str, value: str) -> None:
    """A field that has not its exact form is named, although the signature is right."""
    assert malformed(query(signed(**{name: value}))).field == name


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
def test_forms_at_their_edge(name: str, value: str) -> None:
    """The smallest and the largest of each form are believed."""
    assert parse(query(signed(**{name: value}))).extend == "terry@example.com"


# The signed text has no separators. (from, to): what is signed, and what a forger makes of the same text.
CLOSED = [
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


@rows(("real", "slid", "field"), CLOSED)
def test_slides_that_are_closed(real: dict[str, str], slid: dict[str, str], field: str) -> None:
    """Characters that slide over an edge leave a field without its form, though the signature still is right."""
    fields = signed(**real)
    forged = {**fields, **slid}
    assert sign(SHOP, [forged[name] for name in ORDER]) == fields["sign"]
    assert str(parse(query(fields)).order_id) == fields["order_id"]
    assert malformed(query(forged)).field == field


# What the text can't close; each is a reason for the advice in parse_callback.
OPEN = [
    # A digit of order_id goes to an out_order_id, or back: order numbers that don't begin in a digit close it.
    ({"order_id": "12", "out_order_id": "3A"}, {"order_id": "1", "out_order_id": "23A"}),
    ({"order_id": "1", "out_order_id": "23A"}, {"order_id": "12", "out_order_id": "3A"}),
    # The same between out_order_id and price: order numbers that don't end in a digit, and the merchant's own record
    # of the price, close it.
    ({"out_order_id": "A", "price": "12.00"}, {"out_order_id": "A1", "price": "2.00"}),
    ({"out_order_id": "A1", "price": "2.00"}, {"out_order_id": "A", "price": "12.00"}),
    # An order_id of several digits whose rest is an order number.
    ({"order_id": "10", "out_order_id": "A"}, {"order_id": "1", "out_order_id": "0A"}),
]


@rows(("real", "slid"), OPEN)
def test_slides_that_only_the_record_closes(real: dict[str, str], slid: dict[str, str]) -> None:
    """Digits that slide so that both fields keep their form are believed: that is why records must be compared."""
    fields = signed(**real)
    forged = {**fields, **slid}
    assert sign(SHOP, [forged[name] for name in ORDER]) == fields["sign"]
    assert parse(query(fields)) != parse(query(forged))


@rows("order_id", ["7", "70", "67848"])
@rows("price", ["0.10", "2.00", "12.00", "112.00"])
def test_the_advised_order_numbers_close_the_rest(order_id: str, price: str) -> None:
    """With an order number that neither begins nor ends in a digit no other split makes a number of that form."""
    fields = signed(order_id=order_id, out_order_id="T-1001-X", price=price)
    text = order_id + "T-1001-X" + price
    believed = []
    for one in range(len(text) + 1):
        for two in range(one, len(text) + 1):
            split = {"order_id": text[:one], "out_order_id": text[one:two], "price": text[two:]}
            try:
                believed.append(parse(query({**fields, **split})))
            except MalformedCallbackError:
                continue
    numbers = {(each.order_id, each.out_order_id, each.price) for each in believed}
    genuine = (int(order_id), "T-1001-X", Decimal(price))
    assert {each for each in numbers if each[1].startswith("T") and each[1].endswith("X")} == {genuine}


@rows("name", ["shop", "", "%E5%AF%86"])
def test_another_name_doubled(name: str) -> None:
    """Another name that comes twice is refused too, and not repeated in the error."""
    error = malformed(f"{name}=1&{query(signed())}&{name}=1")
    assert (error.field, error.problem) == (None, "a parameter appears twice")


def test_plus_and_escapes() -> None:
    """A plus and %20 are blanks, %2B is a plus, in either case of the digits; UTF-8 may come unescaped."""
    fields = signed(extend="a b+c 密")
    rest = query({name: value for name, value in fields.items() if name != "extend"})
    for extend in ("a+b%2bc%20密", "a%20b%2Bc+%E5%AF%86", "%61 b%2Bc %e5%af%86"):
        assert parse(f"{rest}&extend={extend}").extend == "a b+c 密"
        assert parse(f"{rest}&extend={extend}".encode()).extend == "a b+c 密"


@rows("extend", ["%", "%2", "%zz", "%2z", "a%", "%%32", "%u5bc6", "100%&x=1"])
def test_broken_escapes(extend: str) -> None:
    """A per-cent sign without two hex digits is malformed, where Python's own would let it through."""
    error = malformed(f"{query(signed())}&x{extend}")
    assert (error.field, error.problem) == (None, "contains a % without two hex digits")
    assert malformed(f"{query(signed())}&y={extend}").problem == "contains a % without two hex digits"


@rows("value", ["%ff", "%C0%80", "%ED%A0%80", "%E5%AF", "\ud800", b"\xff", b"\xed\xa0\x80"])
def test_no_utf8(value: Any) -> None:
    """Bytes that are no UTF-8, escaped or not, are malformed, in a value and in a name."""
    raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    for received in (query(signed()).encode() + b"&y=" + raw, raw + b"=1&" + query(signed()).encode()):
        assert malformed(received).problem == "contains bytes that are not UTF-8"
    if isinstance(value, str):
        assert malformed(f"{query(signed())}&y={value}").problem == "contains bytes that are not UTF-8"


def test_too_long() -> None:
    """A query of more than 8192 bytes is not read."""
    text = query(signed()) + "&y="
    assert parse(text + "y" * (8192 - len(text))) == parse(query(signed()))
    assert malformed(text + "y" * (8193 - len(text))).problem == "is longer than 8192 bytes"
    assert malformed("密" * 2731).problem == "is longer than 8192 bytes"


@rows("value", [None, {}, FIELDS, [], 7, True, bytearray(b"a=1"), parse_qsl("a=1")])
def test_no_query(value: Any) -> None:
    """Something else than the raw text is refused: in a dict a name that comes twice could not be seen."""
    assert malformed(value).problem == f"the query must be text or bytes, not {type(value).__name__}"


@rows("text", ["", "?", "&", "=", b""])
def test_nothing(text: Any) -> None:
    """A query without fields lacks the first that must be there."""
    assert (malformed(text).field, malformed(text).problem) == ("order_id", "is missing")


def test_comparing_takes_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signature is compared by hmac.compare_digest, and by nothing else."""
    seen: list[bool] = []

    def compare(one: bytes, other: bytes) -> bool:
        seen.append(one == other)
        return True

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert parse(query(signed())) == parse(query({**signed(), "sign": "0" * 32}))
    assert seen == [True, False]


def test_several_secrets() -> None:
    """While the secret is changed any of several is believed, in a list or a tuple; one that isn't there is not."""
    text = query(signed())
    for secrets in (["gp-secret"], ["next", "gp-secret"], ("gp-secret", "next"), ["next", "gp-secret", "third"]):
        assert parse_callback(text, appkey="gp-key", appsecret=secrets) == parse(text)
    with pytest.raises(CallbackSignatureError) as caught:
        parse_callback(text, appkey="gp-key", appsecret=["next", "third"])
    assert (caught.value.field, caught.value.problem) == ("sign", "does not match the fields and your secret")


def test_every_secret_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each secret is compared, whichever fits: the time doesn't tell."""
    seen: list[bool] = []

    def compare(one: bytes, other: bytes) -> bool:
        seen.append(one == other)
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    parse_callback(query(signed()), appkey="gp-key", appsecret=["a", "gp-secret", "b"])
    assert seen == [False, True, False]


@rows("secrets", [[], (), [""], ["gp-secret", " "], [None], ["gp-secret", 7], b"gp-secret", {"a"}, 7])
def test_secrets_that_cannot_be_right(secrets: Any) -> None:
    """A list without a secret, with a blank one, or something else: your mistake, and nothing secret is repeated."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_callback(query(signed()), appkey="gp-key", appsecret=secrets)
    assert caught.value.field == "appsecret"
    assert "gp-secret" not in str(caught.value)


pieces = st.one_of(
    st.sampled_from([*(f"{name}=" for name in NAMES), "&", "?", "%", "+", "=", *FIELDS.values(), query(signed())]),
    st.text(max_size=6),
)


@given(st.one_of(st.text(), st.binary(), st.lists(pieces, max_size=12).map("".join)))
def test_anything(received: str | bytes) -> None:
    """Whatever is received is a Callback or a CallbackError."""
    try:
        result = parse(received)
    except CallbackError:
        return
    assert type(result) is Callback


@given(st.sampled_from(NAMES), st.text(max_size=12))
def test_any_value(name: str, value: str) -> None:
    """A field that is anything but what was signed is never believed."""
    fields = signed()
    try:
        result = parse(urlencode({**fields, name: value}, errors="surrogatepass"))
    except CallbackError:
        return
    assert value == fields[name]
    assert result == parse(query(fields))
