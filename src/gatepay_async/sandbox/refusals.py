"""
The codes of each endpoint, as on the vendor's pages: a number and a Chinese text for each cause.

On the first page of GatePay's documentation, the same cause has different numbers at different endpoints. So the tables
of that page share nothing. Those of the endpoints documented later share the codes below 200.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

__all__ = [
    "ANYPAY_CREATE",
    "CLOUDPAY_CREATE",
    "GROUPPAY_CREATE",
    "KA_CREATE",
    "KA_SHOW",
    "ORDER_CHECK",
    "PAY_CREATE",
    "PRODUCT_SHOW",
    "STABLEPAY_CREATE",
    "SUCCESS",
    "SUCCESS_TEXT",
    "Cause",
    "Refusals",
    "text_of",
]


class Cause(StrEnum):
    """Why a call is refused. Its code depends on the endpoint."""

    MISSING = "missing"
    PAY_TYPE = "pay_type"
    WECHAT_QUANTITY = "single_only"
    PRODUCT_ID = "product_id"
    QUANTITY = "quantity"
    NO_PRODUCT = "no_product"
    NO_SHOP = "no_shop"
    APPKEY = "appkey"
    SIGNATURE = "signature"
    STOCK = "stock"
    QUOTA = "quota"
    LICENCE = "licence"
    CLOSED = "closed"
    PAGE = "page"
    REPEATED = "repeated"
    EMPTY = "empty"
    TOO_MANY = "too_many"
    ALL_KNOWN = "all_known"
    STORAGE = "storage"
    # Only for the endpoints documented later:
    NO_APPKEY = "no_appkey"
    NO_SIGN = "no_sign"
    KEY_EXPIRED = "key_expired"
    NOT_ALLOWED = "not_allowed"
    # In the next two, GatePay calls the return URL "callback" and the callback URL "notify".
    NO_CALLBACK_URL = "no_callback_url"
    NO_NOTIFY_URL = "no_notify_url"
    UNKNOWN = "unknown"
    PRICE = "price"
    PAY_TYPE_CLOSED = "pay_type_closed"
    NO_PAY_TYPE = "no_pay_type"
    CATEGORY_FAILED = "category_failed"
    PRODUCT_FAILED = "product_failed"
    STOCK_FAILED = "stock_failed"
    QUEUE_FAILED = "queue_failed"
    NOT_AN_AGENT = "no_agent"
    NO_ORDER = "no_order"


Refusals: TypeAlias = Mapping[Cause, tuple[int, str]]

SUCCESS = 100
SUCCESS_TEXT = "请求成功"  # the `msg` in the vendor's examples; its tables of codes say 成功

# 支付接口, 状态码表
PAY_CREATE: Refusals = {
    Cause.MISSING: (101, "参数不完整"),
    Cause.PAY_TYPE: (102, "无效的支付类型"),
    Cause.WECHAT_QUANTITY: (103, "微信支付只能单件购买"),
    Cause.PRODUCT_ID: (104, "产品编号不合法"),
    Cause.QUANTITY: (105, "购买数量需要大于0"),
    Cause.NO_PRODUCT: (106, "产品信息不存在"),
    Cause.NO_SHOP: (107, "商铺信息不存在"),
    Cause.APPKEY: (108, "无效的秘钥"),
    Cause.SIGNATURE: (109, "签名失败"),
    Cause.STOCK: (110, "有效库存不足"),
    Cause.QUOTA: (111, "商铺当日额度已用完"),
    Cause.LICENCE: (112, "商铺授权已过期"),
}

# 产品接口, 状态码表
PRODUCT_SHOW: Refusals = {
    Cause.MISSING: (101, "参数不完整"),
    Cause.APPKEY: (102, "无效的秘钥"),
    Cause.SIGNATURE: (103, "签名失败"),
}

# 卡密接口, 获取产品卡密, 状态码表
KA_SHOW: Refusals = {
    Cause.MISSING: (101, "参数不完整"),
    Cause.PRODUCT_ID: (102, "产品编号不合法"),
    Cause.NO_PRODUCT: (103, "产品不存在"),
    Cause.NO_SHOP: (104, "商铺不存在"),
    Cause.APPKEY: (105, "秘钥错误"),
    Cause.SIGNATURE: (106, "签名失败"),
    Cause.CLOSED: (107, "接口已关闭"),
    Cause.PAGE: (108, "页数不合法"),
}

# 卡密接口, 创建产品卡密, 状态码表 (it has no 108)
KA_CREATE: Refusals = {
    Cause.MISSING: (101, "参数不完整"),
    Cause.PRODUCT_ID: (102, "产品编号不合法"),
    Cause.NO_PRODUCT: (103, "产品不存在"),
    Cause.NO_SHOP: (104, "商铺不存在"),
    Cause.APPKEY: (105, "秘钥错误"),
    Cause.SIGNATURE: (106, "签名失败"),
    Cause.CLOSED: (107, "接口已关闭"),
    Cause.REPEATED: (109, "卡密内容本身有重复"),
    Cause.EMPTY: (110, "卡密内容为空"),
    Cause.TOO_MANY: (111, "最多支持批量上传500条记录"),
    Cause.ALL_KNOWN: (112, "未能录入有效内容，新卡密在数据库中均已存在"),
    Cause.STORAGE: (113, "未能录入有效内容，批量插入数据库失败"),
}

# The endpoints documented later, 状态码表. The code 103 has two causes.
_LATER_CODES: Refusals = {
    Cause.NO_APPKEY: (101, "秘钥必须"),
    Cause.APPKEY: (102, "无效的秘钥"),
    Cause.NO_SIGN: (103, "签名必须"),
    Cause.KEY_EXPIRED: (103, "秘钥已过期"),
    Cause.SIGNATURE: (104, "无效的签名"),
    Cause.MISSING: (105, "参数缺失"),
    Cause.NOT_ALLOWED: (106, "存在禁止传递的参数"),
    Cause.CLOSED: (107, "api已关闭"),
    Cause.NO_CALLBACK_URL: (108, "回调接口url未填写"),
    Cause.NO_NOTIFY_URL: (109, "通知接口url未填写"),
    Cause.QUOTA: (110, "套餐已超额"),
    Cause.UNKNOWN: (199, "未知错误"),
}
ANYPAY_CREATE: Refusals = {
    **_LATER_CODES,
    Cause.PRICE: (201, "价格无效"),
    Cause.PAY_TYPE: (202, "无效的支付方式"),
    Cause.PAY_TYPE_CLOSED: (203, "当前支付方式已关闭"),
    Cause.NO_PAY_TYPE: (204, "无可用支付方式"),
    Cause.CATEGORY_FAILED: (205, "分类创建错误"),
    Cause.PRODUCT_FAILED: (206, "产品创建错误"),
    Cause.STOCK_FAILED: (207, "库存创建错误"),
    Cause.QUEUE_FAILED: (208, "队列创建错误"),
}
CLOUDPAY_CREATE: Refusals = {**ANYPAY_CREATE, Cause.NOT_AN_AGENT: (209, "非代理用户")}
GROUPPAY_CREATE: Refusals = {
    **_LATER_CODES,
    Cause.PAY_TYPE: (201, "无效的支付方式"),
    Cause.PAY_TYPE_CLOSED: (202, "当前支付方式已关闭"),
    Cause.NO_PAY_TYPE: (203, "无可用支付方式"),
    Cause.STOCK: (204, "组合内无有效库存商品"),
    Cause.CATEGORY_FAILED: (205, "分类创建错误"),
    Cause.PRODUCT_FAILED: (206, "产品创建错误"),
    Cause.STOCK_FAILED: (207, "库存创建错误"),
    Cause.QUEUE_FAILED: (208, "队列创建错误"),
}
STABLEPAY_CREATE: Refusals = {
    **_LATER_CODES,
    Cause.PAY_TYPE: (201, "无效的支付方式"),
    Cause.PAY_TYPE_CLOSED: (202, "当前支付方式已关闭"),
    Cause.NO_PAY_TYPE: (203, "无可用支付方式"),
    Cause.QUEUE_FAILED: (204, "队列创建错误"),
    Cause.NO_PRODUCT: (205, "产品不可获得"),
    Cause.STOCK: (206, "当前产品无库存"),
}
ORDER_CHECK: Refusals = {**_LATER_CODES, Cause.NO_ORDER: (201, "订单不存在")}


def text_of(refusals: Refusals, code: int) -> str:
    """Return the endpoint's text for *code*. A fault may have a code that isn't in the table; its text is 未知错误."""
    texts = {SUCCESS: SUCCESS_TEXT, **dict(refusals.values())}
    return texts.get(code, "未知错误")
