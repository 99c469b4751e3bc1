"""The sandbox's switches. Most choose between behaviours where GatePay's documentation is unclear or contradictory."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, TypedDict

import attrs
from attrs import field, frozen

__all__ = ["CallbackMethod", "Options", "Params", "PastLastPage", "PayPath", "PhpFloats", "Switches"]

# The vendor's first page documents a GET; since 6 May 2019, callbacks are POSTs of a form without the appkey.
CallbackMethod: TypeAlias = Literal["GET", "POST"]
PastLastPage: TypeAlias = Literal["empty", "clamp", "refuse", "thinkphp"]
PhpFloats: TypeAlias = Literal["shortest", "17 digits"]
Params: TypeAlias = Literal["as shown", "signed", "unsigned", "absent"]
PayPath: TypeAlias = Literal["/pay/api", "/pay/index"]


class Switches(TypedDict, total=False):
    """The names and types of ``Options``, for the keyword arguments of :class:`~gatepay_async.sandbox.Sandbox`."""

    past_last_page: PastLastPage
    case_insensitive_keys: bool
    expires_after: float | None
    callback_interval: float
    callback_timeout: float
    callbacks_beyond_loopback: bool
    callback_method: CallbackMethod
    php_floats: PhpFloats | None
    status_is_code: bool
    html_escaped: bool
    params: Params
    pay_path: PayPath
    refuse_extra: bool
    urls_required: bool
    notify_both: bool
    cloud_alipay_only: bool
    check_finds_all: bool
    order_statuses: Mapping[str, str]
    return_product_id: bool
    input_filter: bool


def _one_of(*choices: str | None) -> Any:
    """Return a validator for attrs that accepts *choices* only."""

    def check(_options: object, attribute: "attrs.Attribute[object]", value: object) -> None:
        if value not in choices:
            raise ValueError(f"{attribute.name} must be one of {', '.join(map(repr, choices))}, not {value!r}")

    return check


def _positive(_options: object, attribute: "attrs.Attribute[Any]", value: float | None) -> None:
    if value is not None and not value > 0:
        raise ValueError(f"{attribute.name} must be a number of seconds above 0, not {value!r}")


def _not_negative(_options: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{attribute.name} must be 0 or a positive number of seconds, not {value!r}")


@frozen(kw_only=True)
class Options:
    """
    The sandbox's switches. Pass any of them to :class:`Sandbox` by its name.

    Attributes:
        past_last_page: What ``ka/show`` returns for a page past the last one. ``empty``: no rows. ``clamp``: the last
            page. ``refuse``: code 108. ``thinkphp``: no rows, and the number of the last page (0 if there are no keys).
        case_insensitive_keys: Compare keys as MySQL's default collation does: ``abc`` equals ``ABC``.
        expires_after: The seconds after which an unpaid order expires; None: never.
        callback_interval: Seconds between a failed callback and the next attempt. There are four attempts.
        callback_timeout: Seconds for one attempt, from connecting to the last byte.
        callbacks_beyond_loopback: Whether a callback URL may lead to another machine.
        callback_method: ``"GET"``: a query with the appkey, as on the vendor's page of April 2019. ``"POST"``: a form
            without the appkey, as since May 2019.
        php_floats: Compute ``order_price`` with floats, as PHP does. ``"shortest"``: written as by PHP 7.1 and later
            (3 × 1.90 is ``5.699999999999999``). ``"17 digits"``: as by earlier versions (``5.6999999999999993``).
            None: the exact price.
        status_is_code: Whether codes from 200 on are also the HTTP status. Then 204 and 205 have no body.
        html_escaped: Whether texts in replies are HTML-escaped: ``&`` becomes ``&amp;``.
        params: The contents of ``params`` in the reply to a new order. ``signed``: all fields of the call.
            ``unsigned``: the fields without ``appkey`` and ``sign``. ``absent``: there is no ``params``. ``as shown``:
            as in GatePay's examples, signed for ``anypay`` and ``cloudpay``, otherwise unsigned.
        pay_path: The path of ``pay_url``: ``/pay/api`` or ``/pay/index``. Both show the same page.
        refuse_extra: Whether a field that isn't documented is refused with 106; False: it is ignored.
        urls_required: Whether the later endpoints return 108 if neither the call nor the shop has a return URL, and 109
            if neither has a callback URL.
        notify_both: Whether the shop's callback URL is called as well if an order has a ``notify_url``.
        cloud_alipay_only: Whether ``cloudpay/create`` refuses ``wechat``.
        check_finds_all: Whether ``order/check`` also finds orders of ``pay/create``.
        order_statuses: Other words for ``pending``, ``paid`` and ``expired`` in the replies of ``order/check``. GatePay
            documents only ``expired``.
        return_product_id: Whether the return URL has a ``product_id`` even if the order has no product, or several.
        input_filter: Whether fields are filtered before the signature is checked, as FastAdmin does: leading and
            trailing spaces and all tags are removed, and ``& < > " '`` are HTML-escaped.
    """

    past_last_page: PastLastPage = field(default="empty", validator=_one_of("empty", "clamp", "refuse", "thinkphp"))
    case_insensitive_keys: bool = False
    expires_after: float | None = field(default=300.0, validator=_positive)
    callback_interval: float = field(default=60.0, validator=_not_negative)
    callback_timeout: float = field(default=10.0, validator=_positive)
    callbacks_beyond_loopback: bool = False
    callback_method: CallbackMethod = field(default="GET", validator=_one_of("GET", "POST"))
    php_floats: PhpFloats | None = field(default=None, validator=_one_of("shortest", "17 digits", None))
    status_is_code: bool = False
    html_escaped: bool = False
    params: Params = field(default="as shown", validator=_one_of("as shown", "signed", "unsigned", "absent"))
    pay_path: PayPath = field(default="/pay/api", validator=_one_of("/pay/api", "/pay/index"))
    refuse_extra: bool = True
    urls_required: bool = False
    notify_both: bool = False
    cloud_alipay_only: bool = False
    check_finds_all: bool = True
    order_statuses: Mapping[str, str] = field(factory=dict[str, str])
    return_product_id: bool = True
    input_filter: bool = False
