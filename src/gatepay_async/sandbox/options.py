"""The sandbox's habits: where the vendor's pages are silent or speak twice, one switch for each reading."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, TypedDict

import attrs
from attrs import field, frozen

__all__ = ["CallbackMethod", "Options", "Params", "PastLastPage", "PayPath", "PhpFloats", "Switches"]

# The vendor's first page has a GET; from 6 May 2019 on it is a POST of a form, without the appkey.
CallbackMethod: TypeAlias = Literal["GET", "POST"]
PastLastPage: TypeAlias = Literal["empty", "clamp", "refuse", "thinkphp"]
PhpFloats: TypeAlias = Literal["shortest", "17 digits"]
Params: TypeAlias = Literal["as shown", "signed", "unsigned", "absent"]
PayPath: TypeAlias = Literal["/pay/api", "/pay/index"]


class Switches(TypedDict, total=False):
    """The same names and types, for :class:`~gatepay_async.sandbox.Sandbox` to take one by one."""

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
    def check(_options: object, attribute: "attrs.Attribute[object]", value: object) -> None:
        if value not in choices:
            raise ValueError(f"{attribute.name} is one of {', '.join(map(repr, choices))}, not {value!r}")

    return check


def _above_zero(_options: object, attribute: "attrs.Attribute[Any]", value: float | None) -> None:
    if value is not None and not value > 0:
        raise ValueError(f"{attribute.name} is a number of seconds above 0, not {value!r}")


def _from_zero(_options: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{attribute.name} is a number of seconds from 0, not {value!r}")


@frozen(kw_only=True)
class Options:
    """
    What can be switched: give any of these to :class:`Sandbox` by its name.

    Attributes:
        past_last_page: How ``ka/show`` answers a page past the last one: ``empty``; ``clamp``, with the last page;
            ``refuse``, with code 108; ``thinkphp``, with no rows and the last page's number (0 if there is no key).
        case_insensitive_keys: Compare keys as MySQL's default collation does: ``abc`` is ``ABC``.
        expires_after: How long an order is to be paid, in seconds; None: for ever.
        callback_interval: Seconds between an attempt to call back that failed and the next; there are four.
        callback_timeout: Seconds for one attempt, from connecting to the last byte.
        callbacks_beyond_loopback: Whether a callback URL may lead away from this machine.
        callback_method: ``"GET"``, as the vendor's page of April 2019 has it, with the appkey; or ``"POST"``, as from
            May 2019 on: a form without the appkey.
        php_floats: Write ``order_price`` as PHP does where it multiplies prices as floats: ``"shortest"``, as PHP 7.1
            and later do (3 × 1.90 is ``5.699999999999999``), or ``"17 digits"``, as earlier ones do
            (``5.6999999999999993``). None: the exact sum.
        status_is_code: Whether a code from 200 on is the HTTP status, too. A 204 and a 205 then have no body.
        html_escaped: Whether the texts of a reply are escaped as in HTML: ``&`` is ``&amp;``.
        params: What a creation's ``params`` repeats: ``signed``, all that was sent; ``unsigned``, without ``appkey``
            and ``sign``; ``absent``; or ``as shown``, as in the vendor's examples: signed for an amount, else unsigned.
        pay_path: The path of a ``pay_url``. The same page is at both.
        refuse_extra: Whether a field that the table doesn't have is refused with 106; False: it is passed over.
        urls_required: Whether a later endpoint answers 108 where neither call nor shop has a return URL, and 109 where
            neither has a callback URL.
        notify_both: Whether the shop's callback URL is called as well where an order has a ``notify_url``.
        cloud_alipay_only: Whether ``cloudpay/create`` refuses ``wechat``.
        check_finds_all: Whether ``order/check`` finds the orders of ``pay/create``, too.
        order_statuses: What ``order/check`` says for ``pending``, ``paid`` and ``expired``, if not these words:
            only ``expired`` is known.
        return_product_id: Whether an order without a single product has a ``product_id`` on the way back nevertheless.
        input_filter: Whether a call's fields are changed before their signature is checked, as FastAdmin's filter does:
            blanks at the ends and tags are dropped, and ``& < > " '`` are escaped as in HTML.
    """

    past_last_page: PastLastPage = field(default="empty", validator=_one_of("empty", "clamp", "refuse", "thinkphp"))
    case_insensitive_keys: bool = False
    expires_after: float | None = field(default=300.0, validator=_above_zero)
    callback_interval: float = field(default=60.0, validator=_from_zero)
    callback_timeout: float = field(default=10.0, validator=_above_zero)
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
