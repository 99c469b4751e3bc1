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

from gatepay_async.protocol.callback_errors import CallbackSignatureError
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.frames import sealed
from gatepay_async.protocol.models import Callback, PayType
from gatepay_async.protocol.queries import DIGITS, PRICE, SIGNATURE, TEXT, QueryForm
from gatepay_async.protocol.signing import Credentials, is_signed_by_one
from gatepay_async.words.problem import Problem

# sign = md5(md5(appkey + order_id + … + extend) + appsecret), in this order.
SIGNED = ("order_id", "out_order_id", "price", "realprice", "type", "paytime", "extend")

# What must fit: every order that this package makes has a callback that it accepts, whoever encodes it, at three bytes
# for one. Numbers, prices, type, time and signature take at most 98 bytes, the names 78.
#     3 × (checks.MAX_ORDER_NUMBER_BYTES + checks.MAX_CUSTOM_BYTES + MAX_APPKEY_BYTES + 98) + 78 + MAX_OWN_QUERY_BYTES
#     <= MAX_QUERY_BYTES
MAX_APPKEY_BYTES = 100  # bytes; the vendor's are shorter
MAX_OWN_QUERY_BYTES = 700  # bytes of parameters of the shop's own, in the URL that GatePay calls

_FORM = QueryForm(
    "callback",
    {
        # The vendor's page dropped it on 6 May 2019, and made the callback a POST; it is still signed.
        "appkey": TEXT,
        "order_id": DIGITS,
        "out_order_id": TEXT,
        "price": PRICE,
        "realprice": PRICE,
        "type": (re.compile("|".join(PayType)), Problem("not_one_of", choices=", ".join(PayType))),
        # Ten digits from 2001 to 2286: of another length it has got a digit from `extend`, or given one to it.
        "paytime": (re.compile(r"[1-9][0-9]{9}"), Problem("form_time")),
        "extend": (re.compile(r".*", re.DOTALL), Problem("empty")),
        "sign": SIGNATURE,
    },
    optional=("appkey",),
)


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
    fields = _FORM.read(query)
    ours = credentials[0].appkey
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
