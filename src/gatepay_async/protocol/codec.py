"""
Decodes bytes to JSON, and JSON to models. It is strict where the vendor's page documents a field.

``read_listing`` and ``read_payment`` decode the two most frequent replies in one step. ``parse_json`` and ``read``
decode any reply, and say which field is wrong. ``read`` uses the cattrs converter in ``converters``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeVar, cast

import msgspec

from gatepay_async.protocol import models
from gatepay_async.protocol.values import MAX_EPOCH, MisreadError, read_money, read_qr_code, wrong_kind
from gatepay_async.words.problem import Problem, message_of

T = TypeVar("T")

MAX_VALUES = 250_000  # JSON values in one reply; a catalogue of 20,000 products has about 200,000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SAFE_EPOCH_LIMIT = 2**37  # in the year 6325; a power of two, for the quick check in read_listing()
_json_decoder = msgspec.json.Decoder(float_hook=Decimal)


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
        The code and the payment. None: the reply isn't exactly like the vendor's example. Then call ``parse_json`` and
        ``read``, which accept other spellings and say what is wrong.
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
    if not 0 <= times < _SAFE_EPOCH_LIMIT and not all(0 <= time <= MAX_EPOCH for time in each_time):
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


def read(cls: type[T], value: object, *, path: str, **extra_fields: object) -> T:
    """
    Convert a JSON *value* to *cls*.

    Args:
        cls: One of the models, or a plain type with a hook.
        value: A value from ``parse_json``.
        path: The path of *value* in the reply, such as ``"data.ka"``, for errors.
        extra_fields: Values of model fields that the reply doesn't contain.

    Raises:
        MisreadError: A field is wrong. ``.path`` names the first such field.
    """
    from gatepay_async.protocol import converters  # noqa: PLC0415 -- it imports cattrs, which takes 10 ms

    if extra_fields and isinstance(value, dict):
        value = {**cast("dict[str, object]", value), **extra_fields}
    return converters.convert(cls, value, path=path)
