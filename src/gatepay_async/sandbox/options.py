"""The sandbox's switches. Most choose between behaviours where GatePay's documentation is unclear or contradictory."""

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias, TypedDict, cast, get_args

from attrs import field, frozen

from gatepay_async.sandbox.arguments import checked_by, optional
from gatepay_async.sandbox.orders import OrderState
from gatepay_async.words.arguments import (
    Seconds,
    check_bool,
    check_choice,
    check_instance,
    check_text,
    seconds_above_0,
    seconds_from_0,
    seconds_or_none,
    without_timedelta,
)

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
    expires_after: Seconds | None
    callback_interval: Seconds
    callback_timeout: Seconds
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


def _without_infinity(value: Seconds | None) -> float | None:
    """Convert a ``timedelta`` to seconds, and ``math.inf`` to None. Other values are left to the validator."""
    seconds = None if value is None else without_timedelta(value)
    return None if seconds == math.inf else seconds


def _check_order_statuses(name: str, statuses: object) -> None:
    check_instance(name, statuses, Mapping)
    for state, word in cast("Mapping[object, object]", statuses).items():
        check_choice(name, state, OrderState)
        check_text(name, word)


_BOOLEAN = checked_by(check_bool)


@frozen(kw_only=True)
class Options:
    """
    The sandbox's switches. Pass any of them to :class:`Sandbox` by its name.

    Attributes:
        past_last_page: What ``ka/show`` returns for a page past the last one. ``empty``: no rows. ``clamp``: the last
            page. ``refuse``: code 108. ``thinkphp``: no rows, and the number of the last page (0 if there are no keys).
        case_insensitive_keys: Compare keys as MySQL's default collation does: ``abc`` equals ``ABC``.
        expires_after: Seconds until an unpaid order expires, or a ``timedelta``; None: never.
        callback_interval: Seconds between a failed callback and the next attempt, or a ``timedelta``. There are four
            attempts.
        callback_timeout: Seconds for one attempt, from connecting to the last byte, or a ``timedelta``.
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

    past_last_page: PastLastPage = field(default="empty", validator=checked_by(check_choice, get_args(PastLastPage)))
    case_insensitive_keys: bool = field(default=False, validator=_BOOLEAN)
    expires_after: float | None = field(
        default=300.0, converter=_without_infinity, validator=checked_by(seconds_or_none)
    )
    callback_interval: float = field(default=60.0, converter=without_timedelta, validator=checked_by(seconds_from_0))
    callback_timeout: float = field(default=10.0, converter=without_timedelta, validator=checked_by(seconds_above_0))
    callbacks_beyond_loopback: bool = field(default=False, validator=_BOOLEAN)
    callback_method: CallbackMethod = field(default="GET", validator=checked_by(check_choice, get_args(CallbackMethod)))
    php_floats: PhpFloats | None = field(
        default=None, validator=checked_by(optional(check_choice), get_args(PhpFloats))
    )
    status_is_code: bool = field(default=False, validator=_BOOLEAN)
    html_escaped: bool = field(default=False, validator=_BOOLEAN)
    params: Params = field(default="as shown", validator=checked_by(check_choice, get_args(Params)))
    pay_path: PayPath = field(default="/pay/api", validator=checked_by(check_choice, get_args(PayPath)))
    refuse_extra: bool = field(default=True, validator=_BOOLEAN)
    urls_required: bool = field(default=False, validator=_BOOLEAN)
    notify_both: bool = field(default=False, validator=_BOOLEAN)
    cloud_alipay_only: bool = field(default=False, validator=_BOOLEAN)
    check_finds_all: bool = field(default=True, validator=_BOOLEAN)
    order_statuses: Mapping[str, str] = field(factory=dict[str, str], validator=checked_by(_check_order_statuses))
    return_product_id: bool = field(default=True, validator=_BOOLEAN)
    input_filter: bool = field(default=False, validator=_BOOLEAN)
