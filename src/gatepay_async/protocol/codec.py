"""
Decodes bytes to JSON, and JSON to models. It is strict where the vendor's page documents a field.

``read_listing`` and ``read_payment`` decode the two most frequent replies in one step. ``parse_json`` and ``read``
decode any reply, and say which field is wrong. ``read`` uses the cattrs converter in ``converters``.
"""

from __future__ import annotations

import base64
import binascii
import re
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar, cast

import msgspec

from gatepay_async.protocol import models, money
from gatepay_async.words.problem import Problem, message_of

T = TypeVar("T")

# The vendor's names of fields that have another name here.
WIRE_NAMES: dict[type, dict[str, str]] = {
    models.PaymentLink: {"qrcode": "qrcode_body"},
    models.Catalog: {"categories": "category"},
    models.Category: {"products": "product"},
    models.CardKeyPage: {"keys": "data"},
}
_MAX_PRICE_DIGITS = 18  # formatting a number with a huge exponent would fill the memory
_PRICE_TEXT = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
_DATA_URI = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,([A-Za-z0-9+/=\s]+)", re.ASCII)
MAX_VALUES = 250_000  # JSON values in one reply; a catalogue of 20,000 products has about 200,000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SAFE_EPOCH_LIMIT = 2**37  # in the year 6325; a power of two, for the quick check in read_listing()
_MAX_EPOCH = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
_json_decoder = msgspec.json.Decoder(float_hook=Decimal)


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


def parse_json(body: bytes) -> object:
    """
    Parse *body* as JSON. A byte-order mark is allowed. A number with a decimal point becomes a ``Decimal``.

    Raises:
        MisreadError: *body* isn't valid JSON in UTF-8, is nested too deep, has a number that is too large, or has more
            values than any reply.
    """
    # A value can take three bytes in *body* and a hundred in memory. This estimate also counts commas within texts.
    if len(body) > MAX_VALUES and sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise MisreadError(Problem("json_too_much", most=MAX_VALUES))
    try:
        return _json_decoder.decode(body.removeprefix(_BYTE_ORDER_MARK))
    except RecursionError:
        problem = Problem("json_too_deep")
    except (msgspec.DecodeError, ValueError, ArithmeticError):
        # MisreadError is raised outside of this block: some of these errors hold the whole document.
        problem = Problem("json_incomplete")
    raise MisreadError(problem)


# The exact structure of the vendor's examples, for read_listing() and read_payment().
class _Page(msgspec.Struct):
    total: int
    per_page: int
    current_page: int
    last_page: int
    data: tuple[models.CardKey, ...]


class _ListingData(msgspec.Struct):
    ka: _Page


class _ListingReply(msgspec.Struct):
    code: int
    data: _ListingData


class _PaymentData(msgspec.Struct):
    order_type: str
    order_price: Any
    order_url: str
    order_qrcode: str


class _PaymentReply(msgspec.Struct):
    code: int
    data: _PaymentData


_listing_decoder = msgspec.json.Decoder(_ListingReply)
_payment_decoder = msgspec.json.Decoder(_PaymentReply, float_hook=Decimal)


def read_payment(body: bytes, call: Any) -> tuple[int, models.Payment] | None:
    """
    Read a whole reply of ``pay/create``, faster than with ``parse_json`` and ``read``.

    Args:
        body: The body of the reply.
        call: The call, which has the order number.

    Returns:
        The code and the payment. None: the reply isn't exactly like the vendor's example, as in ``read_listing``.
    """
    if len(body) > MAX_VALUES:  # the price could be a huge list instead of a number
        return None
    try:
        reply = _payment_decoder.decode(body)
        data, price = reply.data, read_money(reply.data.order_price)
        picture = read_qr_code(data.order_qrcode)
    except (msgspec.DecodeError, ValueError, ArithmeticError, RecursionError):
        return None
    return reply.code, models.Payment(data.order_type, price, data.order_url, picture, call.out_order_id)


def read_listing(body: bytes, _: object = None) -> tuple[int, models.CardKeyPage] | None:
    """
    Read a whole reply of ``ka/show``, five times as fast as with ``parse_json`` and ``read``.

    Returns:
        The code and the page. None: the reply isn't exactly like the vendor's example. Then call ``parse_json`` and
        ``read``, which accept other spellings and say what is wrong.
    """
    try:
        reply = _listing_decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    page = reply.data.ka
    # A quick check of all times: their bitwise OR is negative if one of them is; otherwise it is at least the latest.
    times = 0
    for row in page.data:
        times |= row.createtime | row.updatetime
    # msgspec is as strict as our cattrs hooks, except for the range of times.
    each_time = (time for row in page.data for time in (row.createtime, row.updatetime))
    if not 0 <= times < _SAFE_EPOCH_LIMIT and not all(0 <= time <= _MAX_EPOCH for time in each_time):
        return None
    return reply.code, models.CardKeyPage(page.total, page.per_page, page.current_page, page.last_page, page.data)


def as_object(value: object, *, path: str) -> dict[str, Any]:
    """
    Return *value*, a JSON object.

    Raises:
        MisreadError: *value* is something else.
    """
    if not isinstance(value, dict):
        raise MisreadError(message_of(wrong_kind(Problem("kind_object"), value)), path=path)
    return cast("dict[str, Any]", value)


def read(cls: type[T], value: object, *, path: str, **known: object) -> T:
    """
    Convert a JSON *value* to *cls*.

    Args:
        cls: One of the models, or a plain type with a hook.
        value: A value from ``parse_json``.
        path: The path of *value* in the reply, such as ``"data.ka"``, for errors.
        known: Values of model fields that the reply doesn't contain.

    Raises:
        MisreadError: A field is wrong. ``.path`` names the first such field.
    """
    from gatepay_async.protocol import converters  # noqa: PLC0415 -- imports cattrs: 10 ms that pages and payments save

    if known and isinstance(value, dict):
        value = {**cast("dict[str, object]", value), **known}
    return converters.convert(cls, value, path=path)


def _kind(value: object) -> Problem:
    """The JSON type of *value*."""
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
    if not 0 <= (whole := read_int(value)) <= _MAX_EPOCH:
        raise ValueError(Problem("epoch_out_of_range"))
    return whole


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
