"""
The payment-success callback (支付成功回调接口): raw query text in, a believed ``Callback`` out.

The signed text has no separators, so digits can slide between neighbours (``order_id=1, out_order_id=23A``
signs like ``12`` and ``3A``): a valid signature alone does not prove the fields. Each field is therefore held
to its exact form before it is believed. What remains open, the text can't close: a receiver uses order numbers that
neither begin nor end in a digit, and compares number and price with its own record of the order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import unquote_to_bytes

from gatepay_async.protocol.errors import CallbackSignatureError, InvalidRequestError, MalformedCallbackError
from gatepay_async.protocol.frames import sealed
from gatepay_async.protocol.models import Callback, PayType
from gatepay_async.protocol.signing import Credentials, is_signed_by_one
from gatepay_async.words.problem import Problem

# sign = md5(md5(appkey + order_id + … + extend) + appsecret), in this order.
SIGNED = ("order_id", "out_order_id", "price", "realprice", "type", "paytime", "extend")

MAX_QUERY_BYTES = 8192  # bytes of a query string; GatePay's own have about 300. Many web servers accept no longer one

# What must fit: every order that this package makes has a callback that it accepts, whoever encodes it, at three bytes
# for one. Numbers, prices, type, time and signature take at most 98 bytes, the names 78.
#     3 × (checks.MAX_ORDER_NUMBER_BYTES + checks.MAX_CUSTOM_BYTES + MAX_APPKEY_BYTES + 98) + 78 + MAX_OWN_QUERY_BYTES
#     <= MAX_QUERY_BYTES
MAX_APPKEY_BYTES = 100  # bytes; the vendor's are shorter
MAX_OWN_QUERY_BYTES = 700  # bytes of parameters of the shop's own, in the URL that GatePay calls

_ORDER_ID = re.compile(r"0|[1-9][0-9]{0,18}")
_PRICE = re.compile(r"(0|[1-9][0-9]{0,11})\.[0-9]{2}")  # 精确小数点后2位
# The exact form of each field, and what the error calls it.
_FORMS: dict[str, tuple[re.Pattern[str], str]] = {
    # The vendor's page dropped it on 6 May 2019, and made the callback a POST; it is still signed.
    "appkey": (re.compile(r".+", re.DOTALL), Problem("empty")),
    "order_id": (_ORDER_ID, Problem("form_id")),
    "out_order_id": (re.compile(r".+", re.DOTALL), Problem("empty")),
    "price": (_PRICE, Problem("form_money")),
    "realprice": (_PRICE, Problem("form_money")),
    "type": (re.compile("|".join(PayType)), Problem("not_one_of", choices=", ".join(PayType))),
    # Ten digits from 2001 to 2286: of another length it has got a digit from `extend`, or given one to it.
    "paytime": (re.compile(r"[1-9][0-9]{9}"), Problem("form_time")),
    "extend": (re.compile(r".*", re.DOTALL), ""),
    "sign": (re.compile(r"[0-9a-f]{32}"), Problem("form_signature")),
}
_OPTIONAL_FIELD = "appkey"
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


@sealed
def parse_callback(query: str | bytes, *, appkey: str, appsecret: str | Sequence[str]) -> Callback:
    """
    Verify a callback, or raise. No I/O; the same text always gives the same result.

    Before you deliver:

    - Compare ``realprice`` with ``price``: a customer can pay less than the price, and GatePay calls back all the same.
    - Compare ``out_order_id`` and ``price`` with your own record: the vendor's signature lets digits slide between
      ``order_id``, ``out_order_id`` and ``price``, and only your record, and order numbers that neither begin nor end
      in a digit (``new_out_order_id()``), close that.
    - Deliver once for each ``order_id``: the same callback comes again.

    ``gatepay_async.callbacks.CallbackApp`` does all three.

    Args:
        query: The raw text, as received: the query string of a GET (``scope["query_string"]``; a leading ``?`` is
            ignored), the body of a POST. Not a dict: a name that comes twice must be seen.
        appkey: Yours. A callback that names another one is refused. One without it is verified by its signature, which
            is computed with yours: GatePay's page has left it out since May 2019.
        appsecret: Yours; several while you change it in GatePay's console: a callback signed with any of them is
            believed.

    Returns:
        The payment that GatePay vouches for.

    Raises:
        MalformedCallbackError: A field is missing, comes twice or has not its exact form.
        CallbackSignatureError: It is for another appkey, or not signed with one of these secrets.
        InvalidRequestError: Your appkey or appsecret is blank.
    """
    return verify_callback(query, *credentials_of(appkey, appsecret))


@sealed
def credentials_of(appkey: str, appsecret: str | Sequence[str]) -> tuple[Credentials, ...]:
    """
    One for each secret.

    Raises:
        InvalidRequestError: The appkey or a secret is blank, or there is no secret at all.
    """
    if isinstance(appsecret, str) or not isinstance(appsecret, Sequence):
        return (Credentials(appkey, appsecret),)
    if not appsecret or isinstance(appsecret, bytes | bytearray | memoryview):
        raise InvalidRequestError(field="appsecret", problem=Problem("not_text_or_texts"))
    return tuple(Credentials(appkey, each) for each in appsecret)


@sealed
def verify_callback(query: str | bytes, *credentials: Credentials) -> Callback:
    """As ``parse_callback``, for credentials that are at hand: one shop's, with one secret or several."""
    fields = _read_fields(query)
    ours = credentials[0].appkey
    for name in _FORMS:
        if name in fields or name != _OPTIONAL_FIELD:
            _check_form(name, fields)
    if fields.get("appkey", ours) != ours:
        raise CallbackSignatureError(field="appkey", problem=Problem("not_your_appkey"))
    if not is_signed_by_one(credentials, [fields[name] for name in SIGNED], fields["sign"]):
        raise CallbackSignatureError(field="sign", problem=Problem("bad_signature"))
    return Callback(
        order_id=int(fields["order_id"]),
        out_order_id=fields["out_order_id"],
        price=Decimal(fields["price"]),
        realprice=Decimal(fields["realprice"]),
        pay_type=fields["type"],
        paid_at=datetime.fromtimestamp(int(fields["paytime"]), UTC),
        extend=fields["extend"],
    )


def _read_fields(query: str | bytes) -> dict[str, str]:
    """Names and values; other names than the vendor's may be there (your URL's own), but none twice."""
    if not isinstance(query, str | bytes):
        raise MalformedCallbackError(problem=Problem("query_not_text", kind=type(query).__name__))
    raw = query if isinstance(query, bytes) else query.encode("utf-8", "surrogatepass")
    if len(raw) > MAX_QUERY_BYTES:
        raise MalformedCallbackError(problem=Problem("too_long", most=MAX_QUERY_BYTES))
    fields: dict[str, str] = {}
    for pair in filter(None, raw.removeprefix(b"?").split(b"&")):
        name, _, value = pair.partition(b"=")
        text = _unquote(name)
        if text in fields:
            raise MalformedCallbackError(field=text if text in _FORMS else None, problem=Problem("name_twice"))
        fields[text] = _unquote(value)
    return fields


def _unquote(text: bytes) -> str:
    """Undo form encoding; strict, where Python's own is kind. UTF-8 that nobody escaped is let through."""
    if _BAD_ESCAPE.search(text):
        raise MalformedCallbackError(problem=Problem("bad_escape"))
    try:
        return unquote_to_bytes(text.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        pass
    raise MalformedCallbackError(problem=Problem("bytes_not_utf8"))


def _check_form(name: str, fields: dict[str, str]) -> None:
    if name not in fields:
        raise MalformedCallbackError(field=name, problem=Problem("missing"))
    form, problem = _FORMS[name]
    if form.fullmatch(fields[name]) is None:
        raise MalformedCallbackError(field=name, problem=problem)
