"""Checks of the arguments that ``Sandbox``, ``Options`` and ``Fault`` get. All raise ``InvalidArgumentError``."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, cast

from gatepay_async.words.arguments import InvalidArgumentError, check_instance, check_text, check_whole
from gatepay_async.words.problem import Problem

__all__ = [
    "ONE_FEN",
    "check_amount",
    "checked_by",
    "list_texts",
    "list_wholes",
    "optional",
]

ONE_FEN = Decimal("0.01")
MAX_AMOUNT = Decimal("9999999.99")


def check_amount(name: str, amount: object, *, least: Decimal = ONE_FEN) -> None:
    """Require an amount in yuan from *least* to ``MAX_AMOUNT``, in whole fen."""
    check_instance(name, amount, Decimal)
    amount = cast("Decimal", amount)
    is_within = amount.is_finite() and least <= amount <= MAX_AMOUNT
    if not is_within or amount != amount.quantize(ONE_FEN):
        problem = Problem("amount_range", least=str(least), most=f"{MAX_AMOUNT:,}")
        raise InvalidArgumentError(field=name, problem=problem)


def list_texts(name: str, texts: object) -> list[str]:
    """Return an iterable of texts as a list. A single text is refused: it would be split into letters."""
    items: list[Any] = _as_list(name, texts)
    for text in items:
        check_text(name, text)
    return items


def list_wholes(name: str, numbers: object) -> list[int]:
    """Return an iterable of whole numbers from 1 as a list."""
    items: list[Any] = _as_list(name, numbers)
    for number in items:
        check_whole(name, number, 1)
    return items


def _as_list(name: str, values: object) -> list[Any]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidArgumentError(field=name, problem=Problem("not_list", kind=type(values).__name__))
    return list(values)  # pyright: ignore[reportUnknownArgumentType] -- the callers check the elements


def checked_by(check: Callable[..., object], *arguments: Any) -> Any:
    """Return a validator for an attrs field that calls ``check(name, value, *arguments)``."""

    def validate(_: object, attribute: Any, value: object) -> None:
        check(attribute.name, value, *arguments)

    return validate


def optional(check: Callable[..., object]) -> Callable[..., None]:
    """Return *check* for a parameter that may also be None."""

    def check_unless_none(name: str, value: object, *arguments: Any) -> None:
        if value is not None:
            check(name, value, *arguments)

    return check_unless_none
