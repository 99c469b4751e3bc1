"""Amounts of money: yuan as a ``Decimal``, exact to the fen (分, 0.01 yuan)."""

from __future__ import annotations

from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, InvalidOperation

from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

_FEN = Decimal("0.01")
_MAX_YUAN = Decimal(10**12)  # yuan; parse_callback() accepts only prices below this
_MAX_DIGITS = 18

# gatepay-api.md, "What else the vendor's own repositories show": PHP multiplies prices as floats, so 3 × 1.90 arrives
# as 5.699999999999999. This rounding error is far below 0.0001, even for a thousand million yuan.
_FLOAT_NOISE = Decimal("0.0001")

# A context of our own: a program may have set another precision, rounding or trap, and money must stay exact.
_EXACT = Context(prec=2 * _MAX_DIGITS, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])


def whole_fen(amount: Decimal) -> Decimal | None:
    """
    Return *amount* rounded to exactly two decimals, if it differs only by a float's rounding error.

    Returns:
        None if it lies further than 0.0001 from a whole fen, or is too large to be an amount.
    """
    if not amount.is_finite() or amount.adjusted() >= _MAX_DIGITS:
        return None
    exact = amount.quantize(_FEN, context=_EXACT)
    if _EXACT.subtract(amount, exact).copy_abs() > _FLOAT_NOISE:
        return None
    return exact or exact.copy_abs()  # PHP writes -0.0, too


def amount_of(name: str, value: object) -> Decimal:
    """
    Check an amount that a caller passes as a ``Decimal`` or as text, and return it with two decimals.

    Raises:
        InvalidRequestError: The amount has another type (floats are not exact), is negative or too large, or is not in
            whole fen.
    """
    if not isinstance(value, Decimal | str):
        problem = Problem("money_not_decimal", kind=type(value).__name__)
        raise InvalidRequestError(field=name, problem=problem)
    amount = _parse_decimal(value)
    if amount is None or not 0 <= amount < _MAX_YUAN:
        raise InvalidRequestError(field=name, problem=Problem("money_out_of_range"))
    exact = amount.copy_abs().quantize(_FEN, context=_EXACT)
    if exact != amount:
        raise InvalidRequestError(field=name, problem=Problem("money_decimals"))
    return exact


def price_of(name: str, value: object) -> Decimal:
    """Like ``amount_of``, but 0 is refused too."""
    price = amount_of(name, value)
    if not price:
        raise InvalidRequestError(field=name, problem=Problem("money_not_positive"))
    return price


def _parse_decimal(value: Decimal | str) -> Decimal | None:
    try:
        amount = Decimal(value)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None


def is_underpaid(price: Decimal, realprice: Decimal, *, shortfall: Decimal) -> bool:
    """Whether *realprice*, which was paid, is below *price* by more than *shortfall*."""
    return _EXACT.subtract(price, realprice) > shortfall
