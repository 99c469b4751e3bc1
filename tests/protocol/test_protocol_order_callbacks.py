"""Every order that this package creates has a callback that it accepts, however GatePay encodes the query."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gatepay_async.protocol import checks
from gatepay_async.protocol.callback import MAX_APPKEY_BYTES, MAX_OWN_QUERY_BYTES, parse_callback
from gatepay_async.protocol.calls import PayCreate
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.queries import MAX_QUERY_BYTES
from gatepay_async.testing import signed_callback

pytestmark = pytest.mark.fast

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=2100) | st.builds(
    lambda letter, count: letter * count,
    st.characters(exclude_categories=["Cs"]),
    st.integers(1, 2100),
)


def escape_every_byte(text: str) -> str:
    """Percent-encode each byte, even those that need no escaping."""
    return "".join(f"%{byte:02x}" for byte in text.encode())


# How GatePay may encode a query: like Python, like PHP's rawurlencode, and in the longest possible way.
ENCODERS: list[Callable[[str], str]] = [quote_plus, lambda text: quote(text, ""), escape_every_byte]


def encodings_of(query: str) -> Iterator[str]:
    """Yield *query* with GatePay's values in each encoding. The shop's own parameter stays unchanged."""
    own, *pairs = query.split("&")
    for encode in ENCODERS:
        values = parse_qsl("&".join(pairs), keep_blank_values=True)
        yield "&".join([own, *(f"{name}={encode(value)}" for name, value in values)])


def make_order(out_order_id: str, custom: str) -> PayCreate:
    return PayCreate(product_id=8, product_num=1, pay_type="onecode", out_order_id=out_order_id, custom=custom)


# A character takes at most 12 bytes if percent-encoded, and a shop's own parameters at most 700.
@given(out_order_id=TEXTS, custom=TEXTS, own=st.text(max_size=57))
@example(out_order_id="中" * 85, custom="中" * 666, own="")
@example(out_order_id="\x00" * 255, custom='"' * 2000, own="&" * 232)
@example(out_order_id="T-1-X", custom="中" * 900, own="")
def test_callback_of_every_accepted_order_is_accepted(out_order_id: str, custom: str, own: str) -> None:
    """``parse_callback`` accepts every order number and custom text that ``create_payment`` accepts, at any length."""
    try:
        make_order(out_order_id, custom)
    except InvalidRequestError:
        assume(condition=False)
    shop: dict[str, Any] = {"appkey": "密" * (MAX_APPKEY_BYTES // 3), "appsecret": "secret"}
    query = signed_callback(  # the other fields have their longest values
        **shop,
        out_order_id=out_order_id,
        order_id=2**63 - 1,
        price="999999999999.99",
        pay_type="onecode",
        extend=custom,
        extra={"own": own.encode("utf-8", "replace").decode()},
    )
    for encoded in encodings_of(query):
        callback = parse_callback(encoded, **shop)
        assert (callback.out_order_id, callback.extend) == (out_order_id, custom)


def test_limits_of_all_fields_fit_into_the_longest_query() -> None:
    """The sum assumes that each byte is percent-encoded, which takes three bytes."""
    longest = {"order_id": 2**63 - 1, "price": "9" * 12 + ".99", "realprice": "9" * 12 + ".99", "type": "onecode"}
    other_bytes = len("".join(map(str, longest.values()))) + len("1555750250") + 32
    name_bytes = len("appkey=&order_id=&out_order_id=&price=&realprice=&type=&paytime=&extend=&sign=")
    assert (other_bytes, name_bytes, MAX_APPKEY_BYTES, MAX_OWN_QUERY_BYTES) == (98, 78, 100, 700)
    worst = 3 * (checks.MAX_ORDER_NUMBER_BYTES + checks.MAX_CUSTOM_BYTES + MAX_APPKEY_BYTES + other_bytes) + name_bytes
    assert worst + MAX_OWN_QUERY_BYTES + len("&") <= MAX_QUERY_BYTES


def test_text_too_long_for_the_callback_is_rejected_before_sending() -> None:
    """The limit counts bytes: a Chinese character has three. The error names the field, its size and the limit."""
    for name, longest, too_long, size, limit in (
        ("custom", "中" * 666 + "ab", "中" * 667, 2001, 2000),
        ("custom", "x" * 2000, "x" * 2001, 2001, 2000),
        ("custom", "😀" * 500, "中" * 900, 2700, 2000),
        ("out_order_id", "中" * 85, "中" * 86, 258, 255),
        ("out_order_id", "x" * 255, "x" * 256, 256, 255),
    ):
        texts = {"out_order_id": "T-1-X", "custom": "terry"}
        make_order(**{**texts, name: longest})
        with pytest.raises(InvalidRequestError) as caught:
            make_order(**{**texts, name: too_long})
        assert (caught.value.field, caught.value.problem) == (
            name,
            f"takes {size} bytes in UTF-8, and the limit is {limit}: a longer one may not fit into the callback",
        )


def test_signed_callback_rejects_texts_that_are_too_long() -> None:
    """The helper for tests never makes a callback that ``parse_callback`` would reject."""
    too_long: list[tuple[str, dict[str, Any]]] = [
        ("extend", {"extend": "中" * 900}),
        ("out_order_id", {"out_order_id": "x" * 256}),
        ("appkey", {"appkey": "x" * 101}),
        ("extra", {"extra": {"own": "中" * 80}}),
    ]
    for field, argument in too_long:
        with pytest.raises(InvalidRequestError) as caught:
            signed_callback(**{"appkey": "gp-key", "appsecret": "secret", **argument})
        assert caught.value.field == field
