"""Amounts of money: yuan as a ``Decimal``, exact to the fen (分, 0.01 yuan)."""

from __future__ import annotations

from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, InvalidOperation

from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

_FEN = Decimal("0.01")
_MAX_YUAN = Decimal(10**12)  # yuan; parse_callback() accepts only prices below this
_MAX_YUAN_DIGITS = 18  # before the decimal point; this keeps quantize() within the precision of _EXACT

# GatePay's server is written in PHP and multiplies prices as floats, so 3 × 1.90 arrives as 5.699999999999999. This
# rounding error is far below 0.0001, even for a billion yuan.
_MAX_ROUNDING_ERROR = Decimal("0.0001")

# Amounts must stay exact even if the program changes the precision, rounding or traps of the default context.
_EXACT = Context(prec=2 * _MAX_YUAN_DIGITS, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])


def whole_fen(amount: Decimal) -> Decimal | None:
    """
    Return *amount* rounded to two decimals, if only a float's rounding error is lost.

    Returns:
        None if *amount* is more than 0.0001 away from a whole number of fen, or too large to be an amount.
    """
    if not amount.is_finite() or amount.adjusted() >= _MAX_YUAN_DIGITS:
        return None
    exact = amount.quantize(_FEN, context=_EXACT)
    if _EXACT.subtract(amount, exact).copy_abs() > _MAX_ROUNDING_ERROR:
        return None
    return exact or exact.copy_abs()  # 0.00 instead of -0.00: PHP may send -0.0


def parse_amount(name: str, value: object) -> Decimal:
    """
    Return an amount that a caller passes as a ``Decimal`` or as text, with two decimals.

    Raises:
        InvalidRequestError: The amount has another type (floats are not exact), is negative, is too large, or has
            fractions of a fen.
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


def parse_price(name: str, value: object) -> Decimal:
    """Like ``parse_amount``, but reject 0."""
    price = parse_amount(name, value)
    if not price:
        raise InvalidRequestError(field=name, problem=Problem("money_not_positive"))
    return price


def _parse_decimal(value: Decimal | str) -> Decimal | None:
    """Convert *value*. None: it isn't a number, or it is infinite."""
    try:
        amount = Decimal(value)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None


def is_underpaid(price: Decimal, realprice: Decimal, *, shortfall: Decimal) -> bool:
    """Whether the amount paid, *realprice*, is below *price* by more than *shortfall*."""
    return _EXACT.subtract(price, realprice) > shortfall
