"""
Decodes bytes to JSON, and JSON to models. It is strict where the vendor's page documents a field.

This is the only file that uses cattrs. By default, cattrs is too lenient for money: it reads ``None`` as ``"None"``,
``4.9`` as ``4`` and ``true`` as ``1``. The hooks below refuse all three.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_origin

import attrs
import msgspec

from gatepay_async.protocol import models, money
from gatepay_async.words.problem import Problem, message_of

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")

# The vendor's names of fields that have another name here.
WIRE_NAMES: dict[type, dict[str, str]] = {
    models.PaymentLink: {"qrcode": "qrcode_body"},
    models.Catalog: {"categories": "category"},
    models.Category: {"products": "product"},
    models.CardKeyPage: {"keys": "data"},
}
# Defaults for texts that only people read. For an empty database column, PHP sends null or leaves the field out, and
# that must not make a whole catalogue or page unreadable. Numbers, money, times and card keys have no defaults.
_DEFAULTS: dict[type, dict[str, object]] = {
    models.PaymentLink: {"qrcode_url": "", "qrcode_body": ""},
    models.OrderStatus: {"order_name": "", "order_type": ""},
    models.Product: {"name": "", "description": "", "image": ""},
    models.Category: {"name": "", "product": []},
    models.CardKey: {"status": ""},
}
# 卡密接口: the table of fields says create_at and update_at, the example createtime and updatetime.
_OTHER_SPELLINGS = {"createtime": "create_at", "updatetime": "update_at"}
_MAX_PRICE_DIGITS = 18  # formatting a number with a huge exponent would fill the memory
_PRICE_TEXT = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
_DATA_URI = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,([A-Za-z0-9+/=\s]+)", re.ASCII)
MAX_VALUES = 250_000  # JSON values in one reply; a catalogue of 20,000 products has some 200,000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SAFE_EPOCH_LIMIT = 2**37  # the year 6325
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


class _Page(msgspec.Struct):
    total: int
    per_page: int
    current_page: int
    last_page: int
    data: tuple[models.CardKey, ...]


class _Ka(msgspec.Struct):
    ka: _Page


class _Listing(msgspec.Struct):
    code: int
    data: _Ka


class _Paying(msgspec.Struct):
    order_type: str
    order_price: Any
    order_url: str
    order_qrcode: str


class _Created(msgspec.Struct):
    code: int
    data: _Paying


_listing = msgspec.json.Decoder(_Listing)
_created = msgspec.json.Decoder(_Created, float_hook=Decimal)


def read_payment(body: bytes, call: Any) -> tuple[int, models.Payment] | None:
    """Like ``read_listing``, for a reply of ``pay/create``. The order number is that of *call*."""
    if len(body) > MAX_VALUES:  # the price could be a huge list instead of a number
        return None
    try:
        reply = _created.decode(body)
        data, price = reply.data, _read_money(reply.data.order_price)
        picture = _read_qr_code(data.order_qrcode)
    except (msgspec.DecodeError, ValueError, ArithmeticError, RecursionError):
        return None
    return reply.code, models.Payment(data.order_type, price, data.order_url, picture, call.out_order_id)


def read_listing(body: bytes, _: object = None) -> tuple[int, models.CardKeyPage] | None:
    """
    Read a whole reply of ``ka/show``, five times as fast as with ``parse_json`` and ``read``.

    Returns:
        The code and the page. None: the reply isn't exactly like the vendor's example. Then use the slow way, which
        accepts other spellings and says what is wrong.
    """
    try:
        reply = _listing.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    page = reply.data.ka
    # The bitwise OR of all times is negative if one of them is, and otherwise not below the latest one.
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
        raise MisreadError(message_of(_wrong(Problem("kind_object"), value)), path=path)
    return cast("dict[str, Any]", value)


def read(cls: type[T], value: object, *, path: str, **known: object) -> T:
    """
    Convert a JSON *value* to *cls*.

    Args:
        cls: One of the models, or a plain type with a hook.
        value: A value from ``parse_json``.
        path: The path of *value* in the reply, such as ``"data.ka"``, for errors.
        known: Values of fields that the reply doesn't have.

    Raises:
        MisreadError: A field is wrong. ``.path`` names the first such field.
    """
    if known and isinstance(value, dict):
        value = {**cast("dict[str, object]", value), **known}
    with suppress(Exception):  # after any error, the careful converter finds the field
        return _converter(careful=False).structure(value, cls)
    from cattrs.errors import BaseValidationError  # noqa: PLC0415 -- as in _converter()

    try:
        return _converter(careful=True).structure(value, cls)
    except (BaseValidationError, ValueError) as error:
        misread = _explain(error, path)
    raise misread  # outside of the except block: otherwise it would be chained to cattrs's error, which holds the value


def _explain(error: BaseException, path: str) -> MisreadError:
    """Find the field at fault: follow the first error of each level."""
    from cattrs.errors import (  # noqa: PLC0415 -- as in _converter()
        AttributeValidationNote,
        BaseValidationError,
        IterableValidationNote,
    )

    while isinstance(error, BaseValidationError):
        names = WIRE_NAMES.get(error.cl, {})
        error = error.exceptions[0]
        note = next(n for n in error.__notes__ if isinstance(n, AttributeValidationNote | IterableValidationNote))
        if isinstance(note, IterableValidationNote):
            path += f"[{note.index}]"
        else:
            path += f".{names.get(note.name, note.name)}"
    problem = Problem("missing") if isinstance(error, KeyError) else message_of(error)
    return MisreadError(problem, path=path)


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


def _wrong(expected: Problem, value: object) -> ValueError:
    return ValueError(Problem("wrong_kind", expected=expected, found=_kind(value)))


def _read_int(value: object, _: object = None) -> int:
    if type(value) is not int:
        raise _wrong(Problem("kind_whole"), value)
    return value


def _read_text(value: object, _: object = None) -> str:
    if type(value) is not str:
        raise _wrong(Problem("kind_text"), value)
    return value


def _read_money(value: object, _: object = None) -> Decimal:
    # 产品接口 has "1.00", 支付接口 has 1.5. Both accept either, also with the rounding errors of PHP's floats.
    if type(value) is int or (type(value) is str and _PRICE_TEXT.fullmatch(value)):
        value = Decimal(value)
    if type(value) is not Decimal or value.adjusted() >= _MAX_PRICE_DIGITS:
        raise _wrong(Problem("kind_money"), value)
    exact = money.whole_fen(value)
    if exact is None:
        raise ValueError(Problem("parts_of_fen"))
    return exact


def _read_epoch(value: object, _: object = None) -> int:
    if not 0 <= (whole := _read_int(value)) <= _MAX_EPOCH:
        raise ValueError(Problem("epoch_out_of_range"))
    return whole


def _read_time(value: object, _: object = None) -> datetime:
    return datetime.fromtimestamp(_read_epoch(value), UTC)


def _read_qr_code(value: object, _: object = None) -> models.QrCode:
    match = _DATA_URI.fullmatch(_read_text(value))
    if match is None:
        raise ValueError(Problem("not_data_uri"))
    try:
        data = base64.b64decode(match[2], validate=False)
    except binascii.Error:
        data = b""
    if not data:
        raise ValueError(Problem("image_broken"))
    return models.QrCode(data, match[1])


def _read_picture(value: object, _: object = None) -> models.QrCode | None:
    # The customer can pay without the picture. If it is unreadable, the order must not be lost.
    with suppress(ValueError):
        return _read_qr_code(value)
    return None


def _object_reader(cls: type[Any], converter: Converter) -> Callable[[Any, Any], Any]:
    from cattrs.gen import make_dict_structure_fn, override  # noqa: PLC0415 -- as in _converter()

    defaults = _DEFAULTS.get(cls)
    names = {ours: override(rename=theirs) for ours, theirs in WIRE_NAMES.get(cls, {}).items()}
    structure: Callable[[Any, Any], Any] = cast("Any", make_dict_structure_fn)(cls, converter, **names)

    def hook(value: Any, type_: Any) -> Any:
        if type(value) is not dict:
            raise _wrong(Problem("kind_object"), value)
        row = cast("dict[str, Any]", value)
        if defaults:
            row = _with_defaults(row, defaults)
        return structure(_with_documented_names(row) if cls is models.CardKey else row, type_)

    return hook


def _with_defaults(row: dict[str, Any], defaults: dict[str, object]) -> dict[str, Any]:
    """*row* with the defaults for fields that are null or absent."""
    absent = {name: empty for name, empty in defaults.items() if row.get(name) is None}
    return {**row, **absent} if absent else row


def _with_documented_names(row: dict[str, Any]) -> dict[str, Any]:
    """*row* with its times under the names in the vendor's example."""
    for spelling, other in _OTHER_SPELLINGS.items():
        if spelling not in row and other in row:
            row = {**row, spelling: row[other]}
    return row


def _list_reader(type_: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    from cattrs.cols import homogenous_tuple_structure_factory  # noqa: PLC0415 -- as in _converter()

    structure = homogenous_tuple_structure_factory(type_, converter)

    def hook(value: Any, type_: Any) -> Any:
        if type(value) is not list:
            raise _wrong(Problem("kind_list"), value)
        return structure(value, type_)

    return hook


def _is_list(type_: Any) -> bool:
    return get_origin(type_) is tuple


_HOOKS: tuple[tuple[Any, Callable[[Any, Any], Any]], ...] = (
    (int, _read_int),
    (str, _read_text),
    (Decimal, _read_money),
    (datetime, _read_time),
    (models.Epoch, _read_epoch),
    (models.QrCode, _read_qr_code),
    (models.QrCode | None, _read_picture),
)


# The careful converter is slower, and finds the field at fault. It is used only after the fast one has failed.
@cache
def _converter(*, careful: bool) -> Converter:
    from cattrs import Converter  # noqa: PLC0415 -- takes 10 ms, and payments and pages don't need it

    converter = Converter(detailed_validation=careful)
    for type_, hook in _HOOKS:
        converter.register_structure_hook(type_, hook)
    converter.register_structure_hook_factory(attrs.has, _object_reader)
    converter.register_structure_hook_factory(_is_list, _list_reader)
    return converter
