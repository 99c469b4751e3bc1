"""
The cattrs converter, which turns JSON values into models. Only ``codec.read`` uses this module, which imports cattrs.

By default, cattrs is too lenient for money: it reads ``None`` as ``"None"``, ``4.9`` as ``4`` and ``true`` as ``1``.
The hooks below refuse all three.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar, cast, get_origin

import attrs
from cattrs import Converter
from cattrs.cols import homogenous_tuple_structure_factory
from cattrs.errors import AttributeValidationNote, BaseValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, override

from gatepay_async.protocol import models
from gatepay_async.protocol.values import (
    MisreadError,
    read_epoch,
    read_int,
    read_money,
    read_picture,
    read_qr_code,
    read_text,
    read_time,
    wrong_kind,
)
from gatepay_async.words.problem import Problem, message_of

T = TypeVar("T")

# The vendor's names of fields that have another name here.
_WIRE_NAMES: dict[type, dict[str, str]] = {
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


def convert(cls: type[T], value: object, *, path: str) -> T:
    """
    Convert a JSON *value* to *cls*, like ``codec.read``.

    Raises:
        MisreadError: A field is wrong. ``.path`` names the first such field.
    """
    with suppress(Exception):  # after any error, the careful converter finds the field at fault
        return _converter(careful=False).structure(value, cls)
    try:
        return _converter(careful=True).structure(value, cls)
    except (BaseValidationError, ValueError) as error:
        misread = _misread_error(error, path)
    raise misread  # outside of the except block: otherwise it would be chained to cattrs's error, which holds the value


def _misread_error(error: BaseException, path: str) -> MisreadError:
    """Return the error that names the field at fault. It is found by following the first error of each level."""
    while isinstance(error, BaseValidationError):
        names = _WIRE_NAMES.get(error.cl, {})
        error = error.exceptions[0]
        note = next(n for n in error.__notes__ if isinstance(n, AttributeValidationNote | IterableValidationNote))
        if isinstance(note, IterableValidationNote):
            path += f"[{note.index}]"
        else:
            path += f".{names.get(note.name, note.name)}"
    problem = Problem("missing") if isinstance(error, KeyError) else message_of(error)
    return MisreadError(problem, path=path)


def _object_reader(cls: type[Any], converter: Converter) -> Callable[[Any, Any], Any]:
    """Return the hook that converts a JSON object to *cls*."""
    defaults = _DEFAULTS.get(cls)
    names = {ours: override(rename=theirs) for ours, theirs in _WIRE_NAMES.get(cls, {}).items()}
    structure: Callable[[Any, Any], Any] = cast("Any", make_dict_structure_fn)(cls, converter, **names)

    def hook(value: Any, type_: Any) -> Any:
        if type(value) is not dict:
            raise wrong_kind(Problem("kind_object"), value)
        row = cast("dict[str, Any]", value)
        if defaults:
            row = _with_defaults(row, defaults)
        return structure(_with_documented_names(row) if cls is models.CardKey else row, type_)

    return hook


def _with_defaults(row: dict[str, Any], defaults: dict[str, object]) -> dict[str, Any]:
    """Return *row* with the defaults for fields that are null or absent."""
    missing = {name: default for name, default in defaults.items() if row.get(name) is None}
    return {**row, **missing} if missing else row


def _with_documented_names(row: dict[str, Any]) -> dict[str, Any]:
    """Return *row* with its times under the names in the vendor's example."""
    for spelling, other in _OTHER_SPELLINGS.items():
        if spelling not in row and other in row:
            row = {**row, spelling: row[other]}
    return row


def _list_reader(type_: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    """Return the hook that converts a JSON list to a tuple."""
    structure = homogenous_tuple_structure_factory(type_, converter)

    def hook(value: Any, type_: Any) -> Any:
        if type(value) is not list:
            raise wrong_kind(Problem("kind_list"), value)
        return structure(value, type_)

    return hook


def _is_list(type_: Any) -> bool:
    """Whether a JSON list is converted to *type_*: the models have tuples instead of lists."""
    return get_origin(type_) is tuple


_HOOKS: tuple[tuple[Any, Callable[[Any, Any], Any]], ...] = (
    (int, read_int),
    (str, read_text),
    (Decimal, read_money),
    (datetime, read_time),
    (models.Epoch, read_epoch),
    (models.QrCode, read_qr_code),
    (models.QrCode | None, read_picture),
)


@cache
def _converter(*, careful: bool) -> Converter:
    """Return a converter. The careful one is slower, but finds the field at fault. Use it if the other has failed."""
    converter = Converter(detailed_validation=careful)
    for type_, hook in _HOOKS:
        converter.register_structure_hook(type_, hook)
    converter.register_structure_hook_factory(attrs.has, _object_reader)
    converter.register_structure_hook_factory(_is_list, _list_reader)
    return converter
