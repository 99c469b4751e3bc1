"""Signed callbacks for the tests of your own shop, both valid and invalid ones."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from gatepay_async.protocol import checks, money
from gatepay_async.protocol.callback import MAX_APPKEY_BYTES, MAX_OWN_QUERY_BYTES, SIGNED
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.frames import scrub_errors
from gatepay_async.protocol.models import PayType
from gatepay_async.protocol.signing import Credentials, sign
from gatepay_async.words.problem import Problem

__all__ = ["signed_callback"]

_CALLBACK_FIELDS = ("appkey", *SIGNED, "sign")
_VALID_PAYTIMES = range(10**9, 10**10)  # the epoch seconds of ten digits, which parse_callback() accepts


@scrub_errors
def signed_callback(
    *,
    appkey: str,
    appsecret: str,
    out_order_id: str = "T-1001-X",
    price: Decimal | int | str = "1.00",
    realprice: Decimal | int | str | None = None,
    pay_type: PayType | str = PayType.ALIPAY,
    order_id: int | None = None,
    paid_at: datetime | int | None = None,
    extend: str = "",
    extra: Mapping[str, str] | None = None,
    tampered: Mapping[str, str | None] | None = None,
) -> str:
    """
    Return the query text of a payment-success callback (支付成功回调接口), signed as GatePay signs it.

    ::

        genuine = signed_callback(appkey=appkey, appsecret=appsecret, out_order_id="T-7-X", price="9.99")
        forged = signed_callback(appkey=appkey, appsecret=appsecret, tampered={"price": "0.01"})
        unsigned = signed_callback(appkey=appkey, appsecret=appsecret, tampered={"sign": None})
        underpaid = signed_callback(appkey=appkey, appsecret=appsecret, price="9.99", realprice="0.01")

    Send it in one of GatePay's two forms: as the query string of a GET to your callback URL, or as the body of a POST
    without the appkey (``tampered={"appkey": None}``). The POST is the newer form, used since May 2019. To repeat a
    delivery, send the same text again.

    Args:
        appkey: The appkey that your shop expects.
        appsecret: The appsecret that your shop expects. With another one, you get a forged callback.
        out_order_id: Your order number, at most 255 bytes in UTF-8.
        price: The price of the order, in yuan. It is written with two decimals.
        realprice: The amount that was paid; None: the price.
        pay_type: A ``PayType`` or its text.
        order_id: GatePay's number of the order. None: a number computed from ``out_order_id``, so that each order
            always has the same number.
        paid_at: A time with a time zone, or epoch seconds; None: now.
        extend: The ``custom`` text of the order, at most 2,000 bytes in UTF-8.
        extra: Parameters of your own callback URL. They come first, and are not signed.
        tampered: Fields to change after signing, with the vendor's names (``price``, ``type``, ``sign`` and so on).
            None removes a field.

    Returns:
        The raw query text, without ``?``.

    Raises:
        InvalidRequestError: An argument is invalid; the error names it.
    """
    credentials = Credentials(appkey, appsecret)
    _check_byte_length("appkey", appkey, MAX_APPKEY_BYTES)
    checks.check("out_order_id", out_order_id, checks.order_number)
    _check_extend(extend)
    signed = {
        "order_id": _order_id_text(out_order_id, order_id),
        "out_order_id": out_order_id,
        "price": _amount_text("price", price),
        "realprice": _amount_text("realprice", price if realprice is None else realprice),
        "type": _pay_type_text(pay_type),
        "paytime": _paytime_text(paid_at),
        "extend": extend,
    }
    fields = {"appkey": appkey, **signed, "sign": sign(credentials, [signed[name] for name in SIGNED])}
    return urlencode(_checked_extra_fields(extra) | _tamper(fields, tampered))


def _check_extend(extend: str) -> None:
    # Unlike `custom` in a call, `extend` in a callback may be empty.
    if not isinstance(extend, str):
        raise InvalidRequestError(field="extend", problem=Problem("not_text", kind=type(extend).__name__))
    if not checks.is_utf8(extend):
        raise InvalidRequestError(field="extend", problem=Problem("lone_surrogate"))
    _check_byte_length("extend", extend, checks.MAX_CUSTOM_BYTES)


def _check_byte_length(name: str, value: str, limit: int) -> None:
    size = len(value.encode())
    if size > limit:
        raise InvalidRequestError(field=name, problem=Problem("too_many_bytes", size=size, most=limit))


def _order_id_text(out_order_id: str, order_id: int | None) -> str:
    # The default is computed from the order number. With a constant, the handler would run only for a test's first
    # order, because each order_id is handled once.
    number = 1 + zlib.crc32(out_order_id.encode()) if order_id is None else order_id
    checks.check("order_id", number, checks.positive)
    return str(number)


def _amount_text(name: str, value: Decimal | int | str) -> str:
    # parse_amount() refuses floats, which are not exact.
    return f"{money.parse_amount(name, Decimal(value) if type(value) is int else value):f}"


def _pay_type_text(value: PayType | str) -> str:
    if value not in list(PayType):
        raise InvalidRequestError(field="pay_type", problem=Problem("not_one_of", choices=", ".join(PayType)))
    return PayType(value).value


def _paytime_text(paid_at: datetime | int | None) -> str:
    if isinstance(paid_at, datetime):
        if paid_at.utcoffset() is None:
            raise InvalidRequestError(field="paid_at", problem=Problem("naive_datetime"))
        seconds: object = int(paid_at.timestamp())
    else:
        seconds = int(time.time()) if paid_at is None else paid_at
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds not in _VALID_PAYTIMES:
        problem = Problem("paid_at_form")
        raise InvalidRequestError(field="paid_at", problem=problem)
    return str(seconds)


def _checked_extra_fields(extra: Mapping[str, str] | None) -> dict[str, str]:
    """Return *extra*, if its names are not GatePay's and it is not too long."""
    own_fields = _checked_texts("extra", extra)
    for name in own_fields:
        if name in _CALLBACK_FIELDS:
            raise InvalidRequestError(field="extra", problem=Problem("vendor_field", name=name))
    size = len(urlencode(own_fields))
    if size > MAX_OWN_QUERY_BYTES:
        problem = Problem("query_too_long", size=size, most=MAX_OWN_QUERY_BYTES)
        raise InvalidRequestError(field="extra", problem=problem)
    return own_fields


def _tamper(fields: dict[str, str], tampered: Mapping[str, str | None] | None) -> dict[str, str]:
    """Return *fields* with the changes that *tampered* asks for."""
    changes = _checked_texts("tampered", tampered, allow_none=True)
    for name in changes:
        if name not in _CALLBACK_FIELDS:
            raise InvalidRequestError(
                field="tampered", problem=Problem("no_field", name=name, names=", ".join(_CALLBACK_FIELDS))
            )
    return {name: text for name, value in fields.items() if (text := changes.get(name, value)) is not None}


def _checked_texts(name: str, mapping: Mapping[Any, Any] | None, *, allow_none: bool = False) -> dict[str, Any]:
    """Return *mapping*, if it has only texts. urlencode() would convert other values, such as None to ``None``."""
    if mapping is not None and not isinstance(mapping, Mapping):
        raise InvalidRequestError(field=name, problem=Problem("not_dict", kind=type(mapping).__name__))
    texts = dict(mapping or {})
    for key, value in texts.items():
        if not isinstance(key, str) or not (isinstance(value, str) or (allow_none and value is None)):
            raise InvalidRequestError(field=name, problem=Problem("key_not_text", key=key))
    return texts
