"""Constructors of calls reject invalid values, and the error names the field."""

import math
from datetime import timedelta
from typing import Any, cast

import pytest
from tables import rows

from gatepay_async.protocol.calls import KaCreate, KaShow, PayCreate
from gatepay_async.protocol.durations import to_seconds, to_seconds_or_none
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.models import PayType
from gatepay_async.protocol.retrying import RetryPolicy

pytestmark = pytest.mark.fast

VALID_ARGUMENTS: dict[Any, dict[str, Any]] = {
    PayCreate: {"product_id": 8, "out_order_id": "T-1-X", "pay_type": "alipay", "product_num": 2, "custom": "terry"},
    KaShow: {"product_id": 8, "page": 1},
    KaCreate: {"product_id": 8, "keys": ["A", "B"]},
}
NUMBERS = [(PayCreate, "product_id"), (PayCreate, "product_num"), (KaShow, "product_id"), (KaShow, "page")]
NUMBERS += [(KaCreate, "product_id")]
TEXTS = [(PayCreate, "out_order_id"), (PayCreate, "custom")]


def rejection(cls: Any, **invalid: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        cls(**{**VALID_ARGUMENTS[cls], **invalid})
    assert isinstance(caught.value, ValueError)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


@rows(("cls", "field"), NUMBERS)
@rows("value", [True, False, "8", "", "x", 1.0, 8.5, math.nan, None, [], b"8", object()])
def test_value_that_is_no_whole_number_is_rejected(cls: Any, field: str, value: Any) -> None:
    """The error names the field."""
    error = rejection(cls, **{field: value})
    assert (error.field, error.problem) == (field, f"must be a whole number, not {type(value).__name__}")


@rows(("cls", "field"), NUMBERS)
@rows("value", [0, -1, -(10**30), 2**63, 10**5000])
def test_number_out_of_range_is_rejected(cls: Any, field: str, value: int) -> None:
    """The range is from 1 to the largest integer of most databases."""
    error = rejection(cls, **{field: value})
    assert (error.field, error.problem) == (field, "must be from 1 to 9223372036854775807")


@rows(("cls", "field"), NUMBERS)
@rows("value", [1, 2**63 - 1])
def test_smallest_and_largest_number_are_sent_unchanged(cls: Any, field: str, value: int) -> None:
    """1 and 2**63 - 1 are the limits."""
    assert cls(**{**VALID_ARGUMENTS[cls], field: value}).fields()[field] == str(value)


@rows(("cls", "field"), TEXTS)
@rows(
    ("value", "problem"),
    [
        ("", "must not be empty"),
        (" \t\n", "must not be empty"),
        ("\u3000", "must not be empty"),
        ("a\ud800", "contains half a character (a lone surrogate)"),
        ("\udfff", "contains half a character (a lone surrogate)"),
        (None, "must be text, not NoneType"),
        (7, "must be text, not int"),
        (True, "must be text, not bool"),
        (b"T", "must be text, not bytes"),
        (["T"], "must be text, not list"),
    ],
)
def test_invalid_text_is_rejected(cls: Any, field: str, value: Any, problem: str) -> None:
    """The value is blank, isn't text, or can't be encoded in UTF-8. The error names the field."""
    error = rejection(cls, **{field: value})
    assert (error.field, error.problem) == (field, problem)


@rows(("cls", "field"), TEXTS)
@rows("value", [" a ", "a\nb", "\ud7ff\ue000", "😀", "0"])
def test_valid_text_is_sent_unchanged(cls: Any, field: str, value: str) -> None:
    """Spaces, line breaks and emoji within a text are kept."""
    assert cls(**{**VALID_ARGUMENTS[cls], field: value}).fields()[field] == value


@rows("value", [None, [], {}, "", "ALIPAY", "Alipay", " alipay", "paypal", 1, True, b"alipay", object()])
def test_unknown_pay_type_is_rejected(value: Any) -> None:
    """The error lists the three pay types."""
    error = rejection(PayCreate, pay_type=value)
    assert (error.field, error.problem) == ("pay_type", "must be one of wechat, alipay, onecode")


@rows("value", ["wechat", "alipay", "onecode", *PayType])
def test_pay_type_may_be_text_or_enum(value: str) -> None:
    """A text and an enum member are sent as the same plain text."""
    call = PayCreate(**{**VALID_ARGUMENTS[PayCreate], "pay_type": value, "product_num": 1})
    assert call.pay_type is PayType(value)
    assert type(call.fields()["pay_type"]) is str
    assert call.fields()["pay_type"] == str(value)


@rows("number", [2, 2**63 - 1])
@rows("pay_type", ["wechat", PayType.WECHAT])
def test_wechat_order_of_several_items_is_rejected(pay_type: str, number: int) -> None:
    """Other pay types allow several items."""
    error = rejection(PayCreate, pay_type=pay_type, product_num=number)
    assert (error.field, error.problem) == ("product_num", f"WeChat pays for one item only, not {number}")
    assert (
        PayCreate(**{**VALID_ARGUMENTS[PayCreate], "pay_type": "onecode", "product_num": number}).product_num == number
    )


@rows(
    ("keys", "problem"),
    [
        ("AAA", "must be a list of card keys, not one text"),
        (b"AAA", "must be a list of card keys, not one text"),
        ("", "must be a list of card keys, not one text"),
        (None, "must be a list of card keys, not NoneType"),
        (7, "must be a list of card keys, not int"),
        ([], "must contain at least one card key"),
        ((), "must contain at least one card key"),
        (iter([]), "must contain at least one card key"),
        (
            [f"K{i}" for i in range(501)],
            "501 card keys in one call, but GatePay accepts 500; upload_card_keys() splits them",
        ),
        (["A"] * 501, "501 card keys in one call, but GatePay accepts 500; upload_card_keys() splits them"),
        (["A", "B", "A"], "line 3 repeats line 1"),
        (["A", "B", "B", "A"], "line 3 repeats line 2"),
        (["A", ""], "line 2 is blank"),
        ([" \t", "A"], "line 1 is blank"),
        (["A", "B\nC"], "line 2 contains a line break, which would split it into two card keys"),
        (["A\n"], "line 1 contains a line break, which would split it into two card keys"),
        (["A\rB"], "line 1 contains a line break, which would split it into two card keys"),
        (["A", "B\0"], "line 2 contains a NUL character; the file may be UTF-16"),
        (["A", 7], "line 2 must be text, not int"),
        (["A", " A\t"], "line 2 repeats line 1"),
        (["A", None], "line 2 must be text, not NoneType"),
        (["A", b"B"], "line 2 must be text, not bytes"),
        (["A", ["B"]], "line 2 must be text, not list"),
        (["A", "B\udc80"], "line 2 can't be encoded as UTF-8"),
    ],
)
def test_invalid_card_keys_are_rejected(keys: Any, problem: str) -> None:
    """The error names the line, but never shows the card key."""
    error = rejection(KaCreate, keys=keys)
    assert (error.field, error.problem) == ("keys", problem)


@rows("keys", [["A"], ("A", "B"), [" A ", "B"], ["a", "A"], ["\u3000A", "A"], ["卡号 1", "A\u2028B"]])
def test_card_keys_are_sent_unchanged(keys: Any) -> None:
    """Card keys that differ only in case, or have spaces at their ends, are valid."""
    call = KaCreate(8, keys)
    assert call.keys == call.secrets() == tuple(keys)
    assert call.fields()["content"].split("\n") == list(keys)


def test_call_takes_500_card_keys_from_any_iterable() -> None:
    """500 card keys are GatePay's limit for one call."""
    assert len(KaCreate(8, (f"K{number}" for number in range(500))).keys) == 500


def test_call_is_immutable() -> None:
    """A valid call can't become invalid later."""
    with pytest.raises(AttributeError):
        KaShow(8).page = 0  # type: ignore[misc]  # frozen


@rows("field", ["first_wait", "longest_wait", "longest_retry_after", "budget"])
@rows("value", [-1, -0.001, math.nan, True, "1", None, [], -math.inf])
def test_invalid_number_in_a_retry_policy_is_rejected(field: str, value: Any) -> None:
    """The error names the parameter."""
    with pytest.raises(InvalidRequestError) as caught:
        RetryPolicy(**{field: value})
    problem = "number_from_0" if field == "budget" else "seconds_from_0"
    assert (caught.value.field, caught.value.problem.name) == (field, problem)


@rows("value", [0, -1, 1.0, True, None, "4"])
def test_attempts_of_a_retry_policy_must_be_a_positive_whole_number(value: Any) -> None:
    """The error names the parameter ``attempts``."""
    with pytest.raises(InvalidRequestError) as caught:
        RetryPolicy(attempts=value)
    assert caught.value.field == "attempts"


@rows("value", [0, -1, math.nan, True, "1", [], -math.inf, 2**63, 10**400, timedelta(0), timedelta(days=-1)])
def test_invalid_seconds_are_rejected(value: Any) -> None:
    """The error names the parameter."""
    with pytest.raises(InvalidRequestError) as caught:
        to_seconds_or_none("timeout", value)
    assert (caught.value.field, caught.value.problem) == (
        "timeout",
        "must be a number of seconds above 0, a timedelta, or None for no limit",
    )


def test_seconds_may_be_a_number_a_timedelta_or_none() -> None:
    """None and infinity mean no limit."""
    values = (None, math.inf, 1, 0.001, timedelta(minutes=1), timedelta(milliseconds=1))
    expected = (None, None, 1.0, 0.001, 60.0, 0.001)
    assert tuple(to_seconds_or_none("timeout", value) for value in values) == expected


def test_interval_must_be_finite_and_policy_waits_may_be_0_or_infinite() -> None:
    """``to_seconds`` requires a finite time above 0. The waits of a retry policy may be 0 or infinite."""
    for value in (None, 0, math.inf, -1, math.nan, "1", True, timedelta(0)):
        with pytest.raises(InvalidRequestError, match=r"^every: must be a number of seconds above 0, or a timedelta"):
            to_seconds("every", value)
    policy = RetryPolicy(first_wait=0, longest_wait=timedelta(seconds=3), longest_retry_after=math.inf)
    assert (policy.first_wait, policy.longest_wait, policy.longest_retry_after) == (0.0, 3.0, math.inf)
    for value in (-1, math.nan, None, timedelta(seconds=-1)):
        with pytest.raises(InvalidRequestError, match="first_wait: must be a number of seconds, 0 or more"):
            RetryPolicy(first_wait=cast("Any", value))
