"""
Verifies the query of the return URL (支付成功同步通知接口): raw query text in, a ``PaymentReturn`` out.

The signed text has no separators, so digits can be moved between ``product_id``, ``order_id`` and ``out_order_id``
without breaking the signature. Checking the form of the fields can't prevent that. The query also doesn't say when it
was signed, or how much was paid.
"""

from __future__ import annotations

import re
from decimal import Decimal

from gatepay_async.protocol.callback_errors import CallbackSignatureError
from gatepay_async.protocol.frames import scrub_errors
from gatepay_async.protocol.models import PaymentReturn, PayType
from gatepay_async.protocol.queries import DIGITS, PRICE, SIGNATURE, TEXT, QueryForm
from gatepay_async.protocol.signing import Credentials, is_signed
from gatepay_async.words.problem import Problem

# sign = md5(md5(appkey + price + type + product_id + order_id + out_order_id) + appsecret), in this order.
SIGNED = ("price", "type", "product_id", "order_id", "out_order_id")

_RETURN_FORM = QueryForm(
    "return",
    {
        "price": PRICE,
        "type": (re.compile("|".join(PayType)), Problem("not_one_of", choices=", ".join(PayType))),
        # The vendor doesn't document whether orders without a product have a product_id here.
        "product_id": (re.compile(f"({DIGITS[0].pattern})?"), DIGITS[1]),
        "order_id": DIGITS,
        "out_order_id": TEXT,
        "sign": SIGNATURE,
    },
    optional=("product_id",),
)


@scrub_errors  # the traceback of an error must not show the query
def verify_return(query: str | bytes, credentials: Credentials) -> PaymentReturn:
    """
    Check the fields and the signature of the query.

    Raises:
        MalformedCallbackError: A field is missing, comes twice or has the wrong form.
        CallbackSignatureError: The query was not signed with this secret.
    """
    fields = {"product_id": "", **_RETURN_FORM.read(query)}
    if not is_signed(credentials, [fields[name] for name in SIGNED], fields["sign"]):
        raise CallbackSignatureError(field="sign", problem=Problem("bad_signature"), source="return")
    return PaymentReturn(
        price=Decimal(fields["price"]),
        pay_type=fields["type"],
        product_id=int(fields["product_id"]) if fields["product_id"] else None,
        order_id=int(fields["order_id"]),
        out_order_id=fields["out_order_id"],
    )
