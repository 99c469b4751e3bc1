"""Describes a reply that is not GatePay's without quoting it, because anything in it may be a card key."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal
from typing import Any, cast

from gatepay_async.protocol.codec import parse_json
from gatepay_async.protocol.masking import MASK, mask
from gatepay_async.protocol.values import MisreadError
from gatepay_async.protocol.vocabulary import FIELDS, MEDIA_TYPES

_TITLE_SCAN_BYTES = 4096  # the title of a page is searched for only in the first bytes
_MAX_JSON_BYTES = 2**20  # a larger body is not parsed
_MAX_DEPTH = 4  # the levels of objects that are shown
_MAX_FIELDS = 12  # the fields of each object that are shown
_DESCRIPTION_CHARS = 300

_TITLE = re.compile(r"<title[^>]*>([^<]*)</", re.IGNORECASE)
_FIELD_NAME = re.compile(r"[a-z]{1,20}(_[a-z]{1,20}|[A-Z][a-z]{2,20}){0,3}")
_TYPE_NAMES: dict[type, str] = {str: "text", bool: "bool", int: "int", Decimal: "number", type(None): "null"}


def describe(body: bytes, *, content_type: str = "", keys: Iterable[str] = (), strict: bool = False) -> str:
    """
    Describe *body*.

    A web page is described like ``text/html, 168 bytes, titled "502 Bad Gateway"``; JSON by its fields and their types,
    like ``application/json, 60 bytes, {code: int, data: {order_price: text}}``.

    Args:
        body: The decoded body.
        content_type: The content type of the reply. It is shown if it is a known one.
        keys: Card keys that were sent.
        strict: In titles and field names, show only the words that `vocabulary` lists.
    """
    parts = [_media_type(content_type), "1 byte" if len(body) == 1 else f"{len(body)} bytes"]
    title = _TITLE.search(body[:_TITLE_SCAN_BYTES].decode("utf-8", "replace"))
    if title is not None:
        # Masked twice: before blanks are collapsed, because a card key may contain several, and afterwards, because a
        # line break may split one.
        shown = mask(html.unescape(title[1]), keys=keys, strict=strict)
        parts.append(f'titled "{mask(" ".join(shown.split()), keys=keys, strict=strict)}"')
    elif len(body) <= _MAX_JSON_BYTES:
        with suppress(MisreadError):
            parts.append(_describe_value(parse_json(body), strict=strict, depth=0))
    text = ", ".join(filter(None, parts))
    return text if len(text) <= _DESCRIPTION_CHARS else text[: _DESCRIPTION_CHARS - 1] + "…"


def _media_type(content_type: str) -> str:
    """Return the media type in *content_type*, or say that it is unknown. Empty: there is none."""
    name = content_type.partition(";")[0].strip().lower()
    return name if name in MEDIA_TYPES else "of an unknown type" if name else ""


def _describe_value(value: object, *, strict: bool, depth: int) -> str:
    """Return the type of a JSON value, with the names and types of its fields."""
    if isinstance(value, dict):
        return "{" + _describe_fields(cast("dict[str, Any]", value), strict=strict, depth=depth) + "}"
    if isinstance(value, list):
        rows = cast("list[object]", value)
        return f"[{len(rows)} × {_describe_value(rows[0], strict=strict, depth=depth)}]" if rows else "[]"
    return _TYPE_NAMES[type(value)]


def _describe_fields(value: dict[str, Any], *, strict: bool, depth: int) -> str:
    if depth == _MAX_DEPTH:
        return "…" if value else ""
    named = [
        f"{_show_name(name, strict=strict)}: {_describe_value(inner, strict=strict, depth=depth + 1)}"
        for name, inner in list(value.items())[:_MAX_FIELDS]
    ]
    return ", ".join(named + ["…"] * (len(value) > _MAX_FIELDS))


def _show_name(name: str, *, strict: bool) -> str:
    return name if name in FIELDS or (not strict and _FIELD_NAME.fullmatch(name)) else MASK
