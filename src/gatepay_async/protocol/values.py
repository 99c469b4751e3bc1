"""Readers for single JSON values: each checks the type and the form, and says what is wrong."""

from __future__ import annotations

import base64
import binascii
import re
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal

from gatepay_async.protocol import models, money
from gatepay_async.words.problem import Problem

# The latest time that a datetime can have, in seconds since 1970.
MAX_EPOCH = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
_MAX_PRICE_DIGITS = 18  # formatting a number with a huge exponent would fill the memory
_PRICE_TEXT = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
_DATA_URI = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,([A-Za-z0-9+/=\s]+)", re.ASCII)


class MisreadError(ValueError):
    """
    A reply doesn't have the structure that the vendor's page documents.

    Attributes:
        path: The field at fault, such as ``"data.ka.data[3].id"``; None: the reply isn't JSON.
        problem: What was expected. Never repeats the value, which may be a card key.
    """

    def __init__(self, problem: str, *, path: str | None = None) -> None:
        self.problem, self.path = Problem.of(problem), path
        super().__init__(f"{path}: {problem}" if path else problem)


def _kind(value: object) -> Problem:
    """Return the name of the JSON type of *value*."""
    names: dict[type, Problem] = {
        dict: Problem("kind_object"),
        list: Problem("kind_list"),
        str: Problem("kind_text"),
        bool: Problem("kind_boolean"),
        int: Problem("kind_whole"),
        Decimal: Problem("kind_fraction"),
    }
    return names.get(type(value), Problem("kind_null"))


def wrong_kind(expected: Problem, value: object) -> ValueError:
    """Return the error for a *value* whose JSON type isn't the *expected* one."""
    return ValueError(Problem("wrong_kind", expected=expected, found=_kind(value)))


# The following functions each read one JSON value. They raise ValueError if it has the wrong type or form. The second
# parameter, which is ignored, makes them usable as cattrs hooks.


def read_int(value: object, _: object = None) -> int:
    """Read a whole number."""
    if type(value) is not int:
        raise wrong_kind(Problem("kind_whole"), value)
    return value


def read_text(value: object, _: object = None) -> str:
    """Read a text."""
    if type(value) is not str:
        raise wrong_kind(Problem("kind_text"), value)
    return value


def read_money(value: object, _: object = None) -> Decimal:
    """Read an amount in yuan, from a number or a text, rounded to two decimals."""
    # 产品接口 sends "1.00", 支付接口 sends 1.5. Accept both forms, also with the rounding errors of PHP's floats.
    if type(value) is int or (type(value) is str and _PRICE_TEXT.fullmatch(value)):
        value = Decimal(value)
    if type(value) is not Decimal or value.adjusted() >= _MAX_PRICE_DIGITS:
        raise wrong_kind(Problem("kind_money"), value)
    exact = money.whole_fen(value)
    if exact is None:
        raise ValueError(Problem("parts_of_fen"))
    return exact


def read_epoch(value: object, _: object = None) -> int:
    """Read a time in seconds since 1970."""
    if not 0 <= (seconds := read_int(value)) <= MAX_EPOCH:
        raise ValueError(Problem("epoch_out_of_range"))
    return seconds


def read_time(value: object, _: object = None) -> datetime:
    """Read a time in seconds since 1970 as a ``datetime`` in UTC."""
    return datetime.fromtimestamp(read_epoch(value), UTC)


def read_qr_code(value: object, _: object = None) -> models.QrCode:
    """Read a picture from a text with a data URI."""
    match = _DATA_URI.fullmatch(read_text(value))
    if match is None:
        raise ValueError(Problem("not_data_uri"))
    try:
        data = base64.b64decode(match[2], validate=False)
    except binascii.Error:
        data = b""
    if not data:
        raise ValueError(Problem("image_broken"))
    return models.QrCode(data, match[1])


def read_picture(value: object, _: object = None) -> models.QrCode | None:
    """Like ``read_qr_code``, but return None if the picture is unreadable."""
    # The customer can pay without the picture. If it is unreadable, the order must not be lost.
    with suppress(ValueError):
        return read_qr_code(value)
    return None
