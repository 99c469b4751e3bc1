"""The quick-pay link (快捷收款集成接口) to a page where a customer pays any amount. The link is not signed."""

from __future__ import annotations

from decimal import Decimal
from urllib.parse import urlencode, urljoin

from gatepay_async.protocol import checks, money
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem


def quick_pay_url(
    base_url: str,
    appkey: str,
    token: str,
    *,
    price: Decimal | str | None,
    custom: str | None,
    stable: bool,
    skin: int | None,
) -> str:
    """
    Return the link. Arguments that are None or False are left out.

    Raises:
        InvalidRequestError: An argument is invalid.
    """
    checks.check("token", token, checks.token)
    fields = {"appkey": appkey, "token": token}
    if price is not None:
        fields["price"] = f"{money.parse_price('price', price):f}"
    if custom is not None:
        checks.check("custom", custom, checks.custom)
        fields["custom"] = custom
    if stable:
        fields["stable"] = "1"
    if skin is not None:
        if type(skin) is not int or skin not in (0, 1):
            raise InvalidRequestError(field="skin", problem=Problem("not_0_or_1"))
        fields["skin"] = str(skin)
    # The page is next to the API: https://gatepay.io/api/ and https://gatepay.io/pay/any.
    return f"{urljoin(base_url, '../pay/any')}?{urlencode(fields)}"
