"""Amounts are exact to the fen, despite PHP's floats and the program's own decimal context."""

import decimal
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatepay_async.protocol.calls import PayCreate
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.messages import Reply, decode
from gatepay_async.protocol.money import is_underpaid, parse_amount, whole_fen

pytestmark = pytest.mark.fast

CALL = PayCreate(product_id=8, out_order_id="T-1-X", pay_type="alipay", product_num=3, custom="terry")
REPLY = (
    b'{"code": 100, "msg": "", "time": "1555750250", "data": {"order_type": "alipay", "order_price": %b,'
    b' "order_url": "https://gatepay.io/pay/index?id=1", "order_qrcode": "data:image/png;base64,iVBORw0KGgo="}}'
)


def decoded_price(number: str) -> Decimal:
    """Return the ``order_price`` decoded from a reply with this JSON number."""
    return decode(CALL, Reply(200, REPLY % number.encode())).order_price


@given(fen=st.integers(1, 10**9), count=st.integers(1, 1000))
@example(fen=190, count=3)
@example(fen=999_999_999, count=1000)
@example(fen=1, count=1)
def test_prices_multiplied_with_floats_are_exact(fen: int, count: int) -> None:
    """A price × count that PHP computed with floats is decoded exactly, whether PHP writes few digits or all 17."""
    product = float(f"{fen // 100}.{fen % 100:02d}") * count
    exact = Decimal(fen * count).scaleb(-2)
    for number in (repr(product), format(product, ".17g"), format(product, ".16e")):
        assert decoded_price(number) == exact
        assert decoded_price(number).as_tuple().exponent == -2


def test_all_prices_up_to_100_yuan_are_exact() -> None:
    """Each price is multiplied by 3, 7 and 10. Of the results for 3, 20 to 40 % have float errors."""
    inexact, mismatches = 0, []
    for fen in range(1, 10_001):
        for count in (3, 7, 10):
            product = float(f"{fen // 100}.{fen % 100:02d}") * count
            exact = Decimal(fen * count).scaleb(-2)
            inexact += count == 3 and Decimal(repr(product)) != exact
            if any(whole_fen(Decimal(text)) != exact for text in (repr(product), format(product, ".17g"))):
                mismatches.append((fen, count))
    assert mismatches == []
    assert 2_000 < inexact < 4_000


@given(fen=st.integers(0, 10**11), hundred_thousandths=st.integers(11, 50))
def test_amount_more_than_a_rounding_error_from_whole_fen_is_rejected(fen: int, hundred_thousandths: int) -> None:
    """A number that differs from whole fen by more than 0.0001 yuan isn't an amount."""
    assert [whole_fen(Decimal(text)) for text in ("NaN", "Infinity", "1e18", "0e18")] == [None] * 4
    distance = Decimal(hundred_thousandths).scaleb(-5)
    assert whole_fen(Decimal(fen).scaleb(-2) + distance) is None
    assert whole_fen(Decimal(fen + 1).scaleb(-2) - distance) is None


def test_programs_decimal_context_does_not_change_amounts() -> None:
    """The program may change precision, rounding and traps of its decimal context."""
    traps = [decimal.Inexact, decimal.Rounded, decimal.Subnormal, decimal.InvalidOperation]
    with decimal.localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_UP, traps=traps)):
        assert str(decoded_price("123456.78999999999")) == "123456.79"
        assert str(decoded_price("1e-99")) == "0.00"
        assert str(parse_amount("price", "123456.7")) == "123456.70"
        assert is_underpaid(Decimal("123456.79"), Decimal("123456.78"), shortfall=Decimal(0))
        assert not is_underpaid(Decimal("123456.79"), Decimal("123456.79"), shortfall=Decimal(0))


INVALID_AMOUNTS: list[tuple[Any, str]] = [
    (0.1, "not float"),
    (1, "not int"),
    (True, "not bool"),
    (None, "not NoneType"),
    (Decimal("-0.01"), "0 or more"),
    ("-1", "0 or more"),
    (Decimal("NaN"), "0 or more"),
    (Decimal("sNaN"), "0 or more"),
    (Decimal("Infinity"), "0 or more"),
    ("nan", "0 or more"),
    ("free", "0 or more"),
    ("", "0 or more"),
    ("1e12", "below 10 to the 12th"),
    ("0.005", "two decimals"),
    (Decimal("1e-400"), "two decimals"),
]


def test_invalid_amount_is_rejected() -> None:
    """A caller's amount must be a Decimal or text, finite, not negative, and in whole fen."""
    for amount, message in INVALID_AMOUNTS:
        with pytest.raises(InvalidRequestError, match=message) as caught:
            parse_amount("shortfall", amount)
        assert caught.value.field == "shortfall"


def test_amount_has_exactly_two_decimals() -> None:
    """Two decimals are added if they are missing. The amount is never -0.00."""
    expected = {"0": "0.00", "0.1": "0.10", "9.990": "9.99", Decimal("-0"): "0.00", Decimal("1e2"): "100.00"}
    assert {value: str(parse_amount("price", value)) for value in expected} == expected
