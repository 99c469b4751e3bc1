"""
Bytes to JSON, and JSON to models: strict where the vendor's page says what a field is.

The only file that knows cattrs. Plain cattrs is too kind for money: it reads ``None`` as ``"None"``,
``4.9`` as ``4`` and ``true`` as ``1``; the hooks below refuse all three.
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
from typing import Any, TypeVar, cast, get_origin

import attrs
import msgspec
from cattrs import Converter
from cattrs.cols import homogenous_tuple_structure_factory
from cattrs.errors import AttributeValidationNote, BaseValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, override

from gatepay_async.protocol import models, money
from gatepay_async.words.problem import Problem, message_of

T = TypeVar("T")

# What the vendor calls a field, where our name differs.
WIRE_NAMES: dict[type, dict[str, str]] = {
    models.PaymentLink: {"qrcode": "qrcode_body"},
    models.Catalog: {"categories": "category"},
    models.Category: {"products": "product"},
    models.CardKeyPage: {"keys": "data"},
}
# What a person reads and no program computes with. PHP sends null for an empty column of its database, or leaves the
# field out; neither may spoil a whole catalogue or a whole page. Numbers, money, times and card keys stay strict.
_DEFAULTS: dict[type, dict[str, object]] = {
    models.PaymentLink: {"qrcode_url": "", "qrcode_body": ""},
    models.OrderStatus: {"order_name": "", "order_type": ""},
    models.Product: {"name": "", "description": "", "image": ""},
    models.Category: {"name": "", "product": []},
    models.CardKey: {"status": ""},
}
# 卡密接口: the table of fields says create_at and update_at, the example createtime and updatetime.
_OTHER_SPELLINGS = {"createtime": "create_at", "updatetime": "update_at"}

_MAX_PRICE_DIGITS = 18  # an exponent without measure would fill the memory of whoever writes it out
_PRICE_TEXT = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
_DATA_URI = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,([A-Za-z0-9+/=\s]+)", re.ASCII)
MAX_VALUES = 250_000  # in one reply; a catalogue of 20,000 products has some 200,000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SURELY_A_TIME = 2**37  # the year 6325
_MAX_EPOCH = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
_json_decoder = msgspec.json.Decoder(float_hook=Decimal)


class MisreadError(ValueError):
    """
    A reply that has not the shape of the vendor's page.

    Attributes:
        path: Where (``"data.ka.data[3].id"``), or None if it isn't JSON at all.
        problem: What was expected. Never repeats what was found: it may be a card key.
    """

    def __init__(self, problem: str, *, path: str | None = None) -> None:
        self.problem, self.path = Problem.of(problem), path
        super().__init__(f"{path}: {problem}" if path else problem)


def parse_json(body: bytes) -> object:
    """
    Read *body* as JSON, a byte-order mark before it allowed; a number with a point is a ``Decimal``.

    Raises:
        MisreadError: It is none, cut, not UTF-8, nested without end, or a number without measure; or it holds more than
            any reply does.
    """
    # A value takes three bytes in *body* and up to a hundred in memory. Commas within a text count, too.
    if len(body) > MAX_VALUES and sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise MisreadError(Problem("json_too_much", most=MAX_VALUES))
    try:
        return _json_decoder.decode(body.removeprefix(_BYTE_ORDER_MARK))
    except RecursionError:
        problem = Problem("json_too_deep")
    except (msgspec.DecodeError, ValueError, ArithmeticError):
        # Raised below, outside: some of these errors hold the whole document.
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
    """As ``read_listing``, for a reply of ``pay/create``; the order number is that of *call*."""
    if len(body) > MAX_VALUES:  # in the place of a price there may be a list
        return None
    try:
        reply = _created.decode(body)
        price, picture = _read_money(reply.data.order_price), _read_qr_code(reply.data.order_qrcode)
    except (msgspec.DecodeError, ValueError, ArithmeticError, RecursionError):
        return None
    data = reply.data
    return reply.code, models.Payment(data.order_type, price, data.order_url, picture, call.out_order_id)


def read_listing(body: bytes, _: object = None) -> tuple[int, models.CardKeyPage] | None:
    """
    Read a whole reply of ``ka/show`` in one go, five times as fast as ``parse_json`` and ``read``.

    Returns:
        Its code and its page; None wherever it is not exactly the vendor's example, be it wrong or just another
        spelling: then the slow way decides, and says what is wrong.
    """
    try:
        reply = _listing.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    page = reply.data.ka
    times = 0  # their bits, all in one number: below 0 if one of them is, else no smaller than the latest
    for row in page.data:
        times |= row.createtime | row.updatetime
    # What a hook of cattrs checks; all else msgspec is as strict about as our hooks.
    each_time = (time for row in page.data for time in (row.createtime, row.updatetime))
    if not 0 <= times < _SURELY_A_TIME and not all(0 <= time <= _MAX_EPOCH for time in each_time):
        return None
    return reply.code, models.CardKeyPage(page.total, page.per_page, page.current_page, page.last_page, page.data)


def as_object(value: object, *, path: str) -> dict[str, Any]:
    """
    *value*, if it is a JSON object.

    Raises:
        MisreadError: It is something else.
    """
    if not isinstance(value, dict):
        raise MisreadError(message_of(_wrong(Problem("kind_object"), value)), path=path)
    return cast("dict[str, Any]", value)


def read(cls: type[T], value: object, *, path: str, **known: object) -> T:
    """
    Make a *cls* of a JSON *value*.

    Args:
        cls: One of the models, or a plain type that has a hook.
        value: As ``parse_json`` gave it.
        path: Where *value* stands in the reply (``"data.ka"``), for the error.
        known: Fields of it that the reply doesn't have.

    Raises:
        MisreadError: With the path of the first field that is wrong.
    """
    if known and isinstance(value, dict):
        value = {**cast("dict[str, object]", value), **known}
    with suppress(Exception):  # whatever it is: the careful converter says where
        return _converter(careful=False).structure(value, cls)
    try:
        return _converter(careful=True).structure(value, cls)
    except (BaseValidationError, ValueError) as error:
        misread = _explain(error, path)
    raise misread  # out here, or the error of cattrs, which holds the value, would hang on it


def _explain(error: BaseException, path: str) -> MisreadError:
    """Follow the first error of each level down to the field at fault."""
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
    """What JSON calls *value*."""
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
    # 产品接口 gives "1.00", 支付接口 gives 1.5; either is accepted in both, and so is the noise of PHP's floats.
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
    # Where the customer pays is known without it, so a picture that can't be read must not lose an order.
    with suppress(ValueError):
        return _read_qr_code(value)
    return None


def _object_reader(cls: type[Any], converter: Converter) -> Callable[[Any, Any], Any]:
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
    """*row* with an empty value for each field that may be null or absent, and is."""
    absent = {name: empty for name, empty in defaults.items() if row.get(name) is None}
    return {**row, **absent} if absent else row


def _with_documented_names(row: dict[str, Any]) -> dict[str, Any]:
    """*row* with its times under the names of the vendor's example."""
    for spelling, other in _OTHER_SPELLINGS.items():
        if spelling not in row and other in row:
            row = {**row, spelling: row[other]}
    return row


def _list_reader(type_: Any, converter: Converter) -> Callable[[Any, Any], Any]:
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


# One for speed; one that says where, asked only when the first has refused. Made when they are first needed.
@cache
def _converter(*, careful: bool) -> Converter:
    converter = Converter(detailed_validation=careful)
    for type_, hook in _HOOKS:
        converter.register_structure_hook(type_, hook)
    converter.register_structure_hook_factory(attrs.has, _object_reader)
    converter.register_structure_hook_factory(_is_list, _list_reader)
    return converter
