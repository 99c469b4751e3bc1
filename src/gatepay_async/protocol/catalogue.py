"""
The catalogue of errors: what each code means at each endpoint, with cause and remedy in English and Chinese.

The exception classes, their messages, ``gatepay errors`` and the documentation all use these tables. The codes and
GatePay's messages are from the vendor's page (状态码表 of each 接口). We wrote the causes and remedies, which are in
:mod:`gatepay_async.words.refusals`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gatepay_async.protocol import errors
from gatepay_async.words import Lang, Text, say
from gatepay_async.words.arguments import InvalidArgumentError
from gatepay_async.words.problem import Problem
from gatepay_async.words.refusals import CAUSES, REMEDIES


class Refusal(NamedTuple):
    """
    The meaning of a code at an endpoint.

    Attributes:
        endpoint: The endpoint, such as ``"pay/create"``.
        code: The number in the reply.
        error: The class of the exception.
        message: GatePay's own message, in Chinese, as on its page.
        cause: Why it happens, in each language.
        remedy: What to do, in each language.
    """

    endpoint: str
    code: int
    error: type[errors.RefusedError]
    message: str
    cause: Text
    remedy: Text


class ErrorMeaning(NamedTuple):
    """
    The meaning of an error that is not a refusal.

    Attributes:
        error: The name of the exception's class.
        sent: The value of ``TransportError.sent`` that this entry is for; None: any.
        cause: Why it happens, in each language.
        remedy: What to do, in each language.
    """

    error: str
    sent: bool | None
    cause: Text
    remedy: Text


class Explanation(NamedTuple):
    """
    An error, explained in one language.

    Attributes:
        cause: Why it happened.
        remedy: What to do.
        problem: What exactly is wrong, from the error's ``.problem``. Text from elsewhere is not translated.
    """

    cause: str
    remedy: str
    problem: str


# The 状态码表 of each endpoint, in the order of the vendor's page. ka/create has no 108.
_ROWS: tuple[tuple[str, int, str, type[errors.RefusedError]], ...] = (
    ("pay/create", 101, "参数不完整", errors.MissingParameterError),
    ("pay/create", 102, "无效的支付类型", errors.InvalidPayTypeError),
    ("pay/create", 103, "微信支付只能单件购买", errors.SingleItemOnlyError),
    ("pay/create", 104, "产品编号不合法", errors.InvalidProductError),
    ("pay/create", 105, "购买数量需要大于0", errors.InvalidQuantityError),
    ("pay/create", 106, "产品信息不存在", errors.ProductNotFoundError),
    ("pay/create", 107, "商铺信息不存在", errors.ShopNotFoundError),
    ("pay/create", 108, "无效的秘钥", errors.InvalidAppKeyError),
    ("pay/create", 109, "签名失败", errors.SignatureRejectedError),
    ("pay/create", 110, "有效库存不足", errors.OutOfStockError),
    ("pay/create", 111, "商铺当日额度已用完", errors.QuotaExceededError),
    ("pay/create", 112, "商铺授权已过期", errors.LicenceExpiredError),
    # The vendor added these later.
    ("pay/create", 113, "下单失败", errors.OrderFailedError),
    ("pay/create", 114, "未知错误", errors.UnknownFailureError),
    ("pay/create", 115, "没有选择收款方式", errors.NoPayTypeAvailableError),
    ("pay/create", 116, "接口已关闭", errors.EndpointClosedError),
    ("product/show", 101, "参数不完整", errors.MissingParameterError),
    ("product/show", 102, "无效的秘钥", errors.InvalidAppKeyError),
    ("product/show", 103, "签名失败", errors.SignatureRejectedError),
    ("ka/show", 101, "参数不完整", errors.MissingParameterError),
    ("ka/show", 102, "产品编号不合法", errors.InvalidProductError),
    ("ka/show", 103, "产品不存在", errors.ProductNotFoundError),
    ("ka/show", 104, "商铺不存在", errors.ShopNotFoundError),
    ("ka/show", 105, "秘钥错误", errors.InvalidAppKeyError),
    ("ka/show", 106, "签名失败", errors.SignatureRejectedError),
    ("ka/show", 107, "接口已关闭", errors.EndpointClosedError),
    ("ka/show", 108, "页数不合法", errors.InvalidPageError),
    ("ka/create", 101, "参数不完整", errors.MissingParameterError),
    ("ka/create", 102, "产品编号不合法", errors.InvalidProductError),
    ("ka/create", 103, "产品不存在", errors.ProductNotFoundError),
    ("ka/create", 104, "商铺不存在", errors.ShopNotFoundError),
    ("ka/create", 105, "秘钥错误", errors.InvalidAppKeyError),
    ("ka/create", 106, "签名失败", errors.SignatureRejectedError),
    ("ka/create", 107, "接口已关闭", errors.EndpointClosedError),
    ("ka/create", 109, "卡密内容本身有重复", errors.DuplicateKeysError),
    ("ka/create", 110, "卡密内容为空", errors.EmptyContentError),
    ("ka/create", 111, "最多支持批量上传500条记录", errors.TooManyKeysError),
    ("ka/create", 112, "未能录入有效内容，新卡密在数据库中均已存在", errors.AlreadyStoredError),
    ("ka/create", 113, "未能录入有效内容，批量插入数据库失败", errors.StorageFailedError),
)


# The codes that all later endpoints (those in `payment_calls`) share. The vendor's table lists 103 twice: its second
# meaning, "signature missing", is left out, because we always sign.
_COMMON_REFUSALS: tuple[tuple[int, str, type[errors.RefusedError]], ...] = (
    (101, "秘钥必须", errors.MissingParameterError),
    (102, "无效的秘钥", errors.InvalidAppKeyError),
    (103, "秘钥已过期", errors.AppKeyExpiredError),
    (104, "无效的签名", errors.SignatureRejectedError),
    (105, "参数缺失", errors.MissingParameterError),
    (106, "存在禁止传递的参数", errors.UnexpectedParameterError),
    (107, "api已关闭", errors.EndpointClosedError),
    (108, "回调接口url未填写", errors.CallbackUrlMissingError),
    (109, "通知接口url未填写", errors.CallbackUrlMissingError),
    (110, "套餐已超额", errors.QuotaExceededError),
    (199, "未知错误", errors.UnknownFailureError),
)
# Messages that several later endpoints share; `_LATER_REFUSALS` below combines them.
_PAY_TYPE: tuple[tuple[str, type[errors.RefusedError]], ...] = (
    ("无效的支付方式", errors.InvalidPayTypeError),
    ("当前支付方式已关闭", errors.PayTypeClosedError),
    ("无可用支付方式", errors.NoPayTypeAvailableError),
)
_NOT_CREATED: tuple[tuple[str, type[errors.RefusedError]], ...] = (
    ("分类创建错误", errors.OrderFailedError),
    ("产品创建错误", errors.OrderFailedError),
    ("库存创建错误", errors.OrderFailedError),
    ("队列创建错误", errors.OrderFailedError),
)
_ANY_AMOUNT = (("价格无效", errors.InvalidPriceError), *_PAY_TYPE, *_NOT_CREATED)
# The messages of each later endpoint. The first one has code 201, the next one 202, and so on.
_LATER_REFUSALS: dict[str, tuple[tuple[str, type[errors.RefusedError]], ...]] = {
    "anypay/create": _ANY_AMOUNT,
    "cloudpay/create": (*_ANY_AMOUNT, ("非代理用户", errors.NotAnAgentError)),
    "grouppay/create": (*_PAY_TYPE, ("组合内无有效库存商品", errors.OutOfStockError), *_NOT_CREATED),
    "stablepay/create": (
        *_PAY_TYPE,
        ("队列创建错误", errors.OrderFailedError),
        ("产品不可获得", errors.ProductUnavailableError),
        ("当前产品无库存", errors.OutOfStockError),
    ),
    "order/check": (("订单不存在", errors.OrderNotFoundError),),
}
_LATER_ROWS: tuple[tuple[str, int, str, type[errors.RefusedError]], ...] = tuple(
    (endpoint, code, message, error)
    for endpoint, own_rows in _LATER_REFUSALS.items()
    for code, message, error in (*_COMMON_REFUSALS, *((code, *row) for code, row in enumerate(own_rows, 201)))
)


def _refusal(endpoint: str, code: int, message: str, error: type[errors.RefusedError]) -> Refusal:
    """
    Return the refusal with its cause and remedy.

    The texts for this endpoint are used if there are any; else those for all later endpoints; else those for the class.
    """
    name = error.__name__
    keys = (f"{name} {endpoint}", *([f"{name} later"] if endpoint in _LATER_REFUSALS else []), name)
    cause, remedy = (next(table[key] for key in keys if key in table) for table in (CAUSES, REMEDIES))
    return Refusal(endpoint, code, error, message, cause, remedy)


REFUSALS: Mapping[tuple[str, int], Refusal] = {row[:2]: _refusal(*row) for row in (*_ROWS, *_LATER_ROWS)}


def _error_meaning(error: str, sent: bool | None = None) -> ErrorMeaning:  # noqa: FBT001 -- private, in a table
    """Return the entry for the class *error*, with its texts. *sent* distinguishes two entries for one class."""
    name = error if sent is None else f"{error} {'sent' if sent else 'unsent'}"
    return ErrorMeaning(error, sent, CAUSES[name], REMEDIES[name])


# An error is explained by the first entry whose name is that of its class or of a base class. The entries have names
# instead of classes, because the modules of some classes import this one.
ERROR_MEANINGS: tuple[ErrorMeaning, ...] = (
    _error_meaning("InvalidRequestError"),
    _error_meaning("RefusedError"),
    _error_meaning("ProtocolError"),
    _error_meaning("DeadlineExceededError"),
    _error_meaning("TransportError", False),
    _error_meaning("TransportError", True),
    _error_meaning("OutcomeUnknownError"),
    _error_meaning("MalformedCallbackError"),
    _error_meaning("CallbackSignatureError"),
    _error_meaning("StaleCallbackError"),
    _error_meaning("CallbackError"),
    _error_meaning("UploadIncomplete"),
    _error_meaning("GatePayError"),
)


def meaning(endpoint: str, code: int) -> Refusal:
    """Return the meaning of *code* at *endpoint*. An undocumented code is a plain ``RefusedError``."""
    refusal = REFUSALS.get((endpoint, code))
    return refusal or _refusal(endpoint, code, "", errors.RefusedError)


def explain(error: Exception, lang: Lang = "en") -> Explanation:
    """
    Explain in *lang* why *error* happened and what to do.

    Args:
        error: Any error of this package. Other errors get the explanation of a ``GatePayError``.
        lang: ``"en"`` or ``"zh"``.
    """
    entry: Refusal | ErrorMeaning
    if isinstance(error, errors.RefusedError):
        entry = meaning(error.endpoint, error.code)
    else:
        sent = error.sent if isinstance(error, errors.TransportError) else None
        cls = errors.InvalidRequestError if isinstance(error, InvalidArgumentError) else type(error)
        names = {base.__name__ for base in cls.__mro__} | {"GatePayError"}
        entry = next(row for row in ERROR_MEANINGS if row.error in names and row.sent in (None, sent))
    problem: Problem = getattr(error, "problem", errors.GatePayError.problem)
    return Explanation(say(entry.cause, lang), say(entry.remedy, lang), problem.in_(lang))
