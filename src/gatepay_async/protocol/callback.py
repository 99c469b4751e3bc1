"""
Verifies the payment-success callback (支付成功回调接口): raw query text in, a ``Callback`` out.

GatePay signs the fields without separators. So digits can be moved between neighbouring fields without breaking the
signature: ``order_id=1`` and ``out_order_id=23A`` have the same signature as ``12`` and ``3A``. Checking the exact form
of each field prevents some of this. The rest is up to the receiver, who must use order numbers that don't start or end
with a digit, and compare order number and price with its own record.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from gatepay_async.protocol.callback_errors import CallbackSignatureError
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.protocol.frames import scrub_errors
from gatepay_async.protocol.models import Callback, PayType
from gatepay_async.protocol.queries import DIGITS, PRICE, SIGNATURE, TEXT, QueryForm
from gatepay_async.protocol.signing import Credentials, is_signed_by_one
from gatepay_async.words.problem import Problem

# sign = md5(md5(appkey + order_id + … + extend) + appsecret), in this order.
SIGNED = ("order_id", "out_order_id", "price", "realprice", "type", "paytime", "extend")

# Every order that this package creates must have a callback that it accepts, even if each byte is percent-encoded
# (three bytes for one). Numbers, prices, type, time and signature take at most 98 bytes; the names of the fields, 78.
#     3 × (checks.MAX_ORDER_NUMBER_BYTES + checks.MAX_CUSTOM_BYTES + MAX_APPKEY_BYTES + 98) + 78 + MAX_OWN_QUERY_BYTES
#     <= MAX_QUERY_BYTES
MAX_APPKEY_BYTES = 100  # the vendor's are shorter
MAX_OWN_QUERY_BYTES = 700  # of the shop's own parameters in its callback URL

_CALLBACK_FORM = QueryForm(
    "callback",
    {
        # Since 6 May 2019, callbacks are POSTs without an appkey. The signature still includes it.
        "appkey": TEXT,
        "order_id": DIGITS,
        "out_order_id": TEXT,
        "price": PRICE,
        "realprice": PRICE,
        "type": (re.compile("|".join(PayType)), Problem("not_one_of", choices=", ".join(PayType))),
        # From 2001 to 2286, a Unix time has ten digits. With another length, a digit was moved from or to `extend`.
        "paytime": (re.compile(r"[1-9][0-9]{9}"), Problem("form_time")),
        "extend": (re.compile(r".*", re.DOTALL), Problem("empty")),
        "sign": SIGNATURE,
    },
    optional=("appkey",),
)


@scrub_errors
def parse_callback(query: str | bytes, *, appkey: str, appsecret: str | Sequence[str]) -> Callback:
    """
    Verify a callback, or raise. No I/O; the same text always gives the same result.

    Before you deliver:

    - Compare ``realprice`` with ``price``: a customer can pay less than the price, and GatePay calls back all the same.
    - Compare ``out_order_id`` and ``price`` with your own record, and use order numbers that don't start or end with a
      digit (``new_out_order_id()``): without breaking the signature, digits can be moved between ``order_id``,
      ``out_order_id`` and ``price``.
    - Deliver once for each ``order_id``: the same callback can arrive several times.

    ``gatepay_async.callbacks.CallbackApp`` does all three. For the second one, pass it ``lookup``. The choice of order
    numbers is still up to you.

    Args:
        query: The raw text, as received: the query string of a GET (``scope["query_string"]``; a leading ``?`` is
            ignored), or the body of a POST. Not a dict, in which a field that comes twice would not show.
        appkey: Your appkey. A callback with another one is refused. Since May 2019, callbacks have none; the signature
            is verified with yours.
        appsecret: Your appsecret, or several during a rotation: a signature with any of them is accepted.

    Returns:
        The verified callback.

    Raises:
        MalformedCallbackError: A field is missing, comes twice or has the wrong form.
        CallbackSignatureError: The callback is for another appkey, or not signed with one of these secrets.
        InvalidRequestError: Your appkey or appsecret is blank.
    """
    return verify_callback(query, *credentials_of(appkey, appsecret))


@scrub_errors
def credentials_of(appkey: str, appsecret: str | Sequence[str]) -> tuple[Credentials, ...]:
    """
    Return the credentials for each secret.

    Raises:
        InvalidRequestError: The appkey or a secret is blank, or there is no secret at all.
    """
    if isinstance(appsecret, str) or not isinstance(appsecret, Sequence):
        return (Credentials(appkey, appsecret),)
    if not appsecret or isinstance(appsecret, bytes | bytearray | memoryview):
        raise InvalidRequestError(field="appsecret", problem=Problem("not_text_or_texts"))
    return tuple(Credentials(appkey, secret) for secret in appsecret)


@scrub_errors
def verify_callback(query: str | bytes, *credentials: Credentials) -> Callback:
    """Verify a callback, as ``parse_callback`` does. All *credentials* have the same appkey, and different secrets."""
    fields = _CALLBACK_FORM.read(query)
    own_appkey = credentials[0].appkey
    if fields.get("appkey", own_appkey) != own_appkey:
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
