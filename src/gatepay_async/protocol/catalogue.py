"""
One catalogue of errors: what each code means at each endpoint, why it comes, and what to do, in English and Chinese.

The class of an exception, its sentence, ``gatepay errors`` and the documentation are all made from these tables. The
codes and GatePay's words are those of the vendor's page (状态码表 of each 接口); causes and remedies are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias, TypedDict

from gatepay_async.protocol import errors
from gatepay_async.protocol.bulk import UploadIncomplete
from gatepay_async.protocol.problems import in_chinese

Lang: TypeAlias = Literal["en", "zh"]


class Words(TypedDict):
    """A text in both languages."""

    en: str
    zh: str


class Refusal(NamedTuple):
    """
    What a code means at an endpoint.

    Attributes:
        endpoint: ``"pay/create"`` and so on.
        code: The number in the reply.
        error: The class that it is raised as.
        message: GatePay's own words for it, in Chinese, as its page has them.
        cause: Why it comes.
        remedy: What to do.
    """

    endpoint: str
    code: int
    error: type[errors.RefusedError]
    message: str
    cause: Words
    remedy: Words


class Fault(NamedTuple):
    """
    What an error that is no refusal means.

    Attributes:
        error: Its class.
        sent: Of a ``TransportError``, which of the two cases it is; else None.
        cause: Why it comes.
        remedy: What to do.
    """

    error: type[errors.GatePayError]
    sent: bool | None
    cause: Words
    remedy: Words


class Explanation(NamedTuple):
    """
    An error, explained in one language.

    Attributes:
        cause: Why it came.
        remedy: What to do.
        problem: What exactly is wrong, where the error has a ``.problem``; else empty. What comes from elsewhere in it
            (an operating system's words) stays as it came.
    """

    cause: str
    remedy: str
    problem: str = ""


class _Why(NamedTuple):
    error: type[errors.RefusedError]
    cause: Words
    remedy: Words


ENDPOINTS: Mapping[str, Words] = {
    "pay/create": {"en": "Create a payment order", "zh": "创建支付订单"},
    "product/show": {"en": "List the products", "zh": "获取产品信息"},
    "ka/show": {"en": "List a product's card keys", "zh": "获取产品卡密"},
    "ka/create": {"en": "Store a product's card keys", "zh": "创建产品卡密"},
    "anypay/create": {"en": "Create an order of any amount", "zh": "创建任意金额订单"},
    "cloudpay/create": {"en": "Create a cloud order of any amount", "zh": "创建云端支付订单"},
    "grouppay/create": {"en": "Create an order of several products", "zh": "创建组合商品订单"},
    "stablepay/create": {"en": "Create an order of one product", "zh": "创建固定商品订单"},
    "order/check": {"en": "Check the status of an order", "zh": "查询付款结果"},
}


def _missing(fields: str) -> _Why:
    return _Why(
        errors.MissingParameterError,
        {
            "en": f"A parameter is missing. This endpoint requires {fields}.",
            "zh": f"缺少参数。该接口需要 {fields.replace(', ', '、')}。",
        },
        {
            "en": "This client sends all of them, so check base_url, a proxy or your own HTTP client. If they are "
            "right, GatePay may require a new parameter: update gatepay-async.",
            "zh": "本客户端会发送全部参数，请检查中间环节：base_url、代理、自备的 HTTP 客户端。若均无问题，"
            "可能是 GatePay 新增了参数：请升级 gatepay-async。",
        },
    )


_PAY_TYPE = _Why(
    errors.InvalidPayTypeError,
    {"en": "GatePay does not know this pay_type.", "zh": "GatePay 不认识这个 pay_type。"},
    {"en": "Use wechat, alipay or onecode.", "zh": "请使用 wechat、alipay 或 onecode。"},
)
_SINGLE_ONLY = _Why(
    errors.SingleItemOnlyError,
    {"en": "WeChat pays for one item only.", "zh": "微信支付只能单件购买。"},
    {
        "en": "Send product_num=1, or another pay_type.",
        "zh": "请改用 product_num=1，或换用其他 pay_type。",
    },
)
_PRODUCT_ID = _Why(
    errors.InvalidProductError,
    {"en": "product_id is not a valid product ID.", "zh": "product_id 不是合法的商品编号。"},
    {
        "en": "Use an ID from list_products() or from GatePay's console.",
        "zh": "请使用 list_products() 返回的编号，或在 GatePay 后台查看。",
    },
)
_QUANTITY = _Why(
    errors.InvalidQuantityError,
    {"en": "product_num must be above 0.", "zh": "product_num 必须大于 0。"},
    {"en": "Send the number of items, 1 or more.", "zh": "请填写顾客购买的件数，至少为 1。"},
)
_NO_PRODUCT = _Why(
    errors.ProductNotFoundError,
    {"en": "This shop has no product with this ID.", "zh": "该店铺没有这个编号的商品。"},
    {
        "en": "Check the ID with list_products(), and that the appkey is the one of the right shop.",
        "zh": "用 list_products() 查看已有的商品，并确认 appkey 属于你要操作的店铺。",
    },
)
_NO_SHOP = _Why(
    errors.ShopNotFoundError,
    {"en": "GatePay found no shop for this appkey.", "zh": "GatePay 找不到该 appkey 对应的店铺。"},
    {
        "en": "Check in GatePay's console that the shop exists and is open; if so, contact GatePay.",
        "zh": "请在 GatePay 后台确认店铺已创建并处于开启状态；若无异常，请联系 GatePay。",
    },
)
_APPKEY_CAUSE: Words = {"en": "GatePay does not accept this appkey.", "zh": "GatePay 不接受这个 appkey。"}
_APPKEY = _Why(
    errors.InvalidAppKeyError,
    _APPKEY_CAUSE,
    {
        "en": "Copy the appkey again from GatePay's console, without spaces.",
        "zh": "请从 GatePay 后台重新复制 appkey，注意不要带空格。",
    },
)
# The tables list product, shop, appkey, signature. If they are checked in that order, a product of another shop is
# found first, and then the appkey is not its owner's.
_APPKEY_OR_PRODUCT = _Why(
    errors.InvalidAppKeyError,
    _APPKEY_CAUSE,
    {
        "en": "Check product_id first: GatePay may answer this for a product of another shop (list_products() lists "
        "yours). If the product is yours, copy the appkey again from GatePay's console, without spaces.",
        "zh": "请先检查 product_id：如果商品属于其他店铺，GatePay 也可能返回此状态码"
        "（list_products() 会列出你的商品）。如果商品无误，请从 GatePay 后台重新复制 appkey，注意不要带空格。",
    },
)
_SIGNATURE_CAUSE: Words = {
    "en": "The signature you sent differs from the one that GatePay computed.",
    "zh": "GatePay 算出的签名与发送的签名不一致。",
}
_SECRET_REMEDY: Words = {
    "en": "copy appkey and appsecret again from GatePay's console: they must belong together, and a new login password "
    "there changes the appsecret.",
    "zh": "从 GatePay 后台重新复制 appkey 和 appsecret：两者必须是一对，在后台修改登录密码会更换 appsecret。",
}
_SIGNATURE = _Why(
    errors.SignatureRejectedError,
    _SIGNATURE_CAUSE,
    {"en": f"Please {_SECRET_REMEDY['en']}", "zh": f"请{_SECRET_REMEDY['zh']}"},
)


def _signature_or(text: Words) -> _Why:
    # gatepay-api.md: the vendor's framework very likely filters its input (trim, strip_tags, htmlspecialchars) before
    # it computes the signature.
    return _Why(
        errors.SignatureRejectedError,
        _SIGNATURE_CAUSE,
        {
            "en": f"If other calls with the same appsecret succeed, check {text['en']}: GatePay may change any of "
            "& < > \" ' and leading or trailing spaces before it checks the signature. Remove them. If no call "
            f"succeeds, {_SECRET_REMEDY['en']}",
            "zh": f"如果使用同一 appsecret 的其他调用成功，请检查 {text['zh']}：GatePay 可能会先改动其中的 "
            f"& < > \" ' 和首尾空白，再校验签名，请去掉这些字符后再发送。如果所有调用都失败，请{_SECRET_REMEDY['zh']}",
        },
    )


_SIGNATURE_OR_ORDER = _signature_or({"en": "out_order_id and custom", "zh": "out_order_id 和 custom"})
_SIGNATURE_OR_NUMBER = _signature_or({"en": "out_order_id", "zh": "out_order_id"})
_SIGNATURE_OR_KEYS = _signature_or({"en": "the text of the card keys", "zh": "卡密的内容"})
_STOCK = _Why(
    errors.OutOfStockError,
    {"en": "The order asks for more card keys than are in stock.", "zh": "剩余卡密少于订单所需的数量。"},
    {
        "en": "Upload card keys, or order fewer. product.stock in list_products() is the number in stock.",
        "zh": "请补充卡密，或减少购买数量。list_products() 中的 product.stock 是剩余数量。",
    },
)
_QUOTA = _Why(
    errors.QuotaExceededError,
    {"en": "The shop's quota for today is used up.", "zh": "店铺当日额度已用完。"},
    {"en": "Try again tomorrow, or ask GatePay to raise the quota.", "zh": "请次日再试，或联系 GatePay 提高额度。"},
)
_LICENCE = _Why(
    errors.LicenceExpiredError,
    {"en": "The shop's licence with GatePay has expired.", "zh": "店铺在 GatePay 的授权已过期。"},
    {"en": "Renew it with GatePay.", "zh": "请在 GatePay 续期。"},
)
_CLOSED = _Why(
    errors.EndpointClosedError,
    {"en": "This endpoint is closed for the shop.", "zh": "该接口未对店铺开放。"},
    {"en": "Ask GatePay to open it.", "zh": "请联系 GatePay 开通。"},
)
_PAGE = _Why(
    errors.InvalidPageError,
    {"en": "page is not a valid page number.", "zh": "page 不是合法的页码。"},
    {"en": "Send a whole number, 1 or more.", "zh": "请填写从 1 开始的整数。"},
)
_REPEATED = _Why(
    errors.DuplicateKeysError,
    {
        "en": "The content contains a duplicate card key; none of it was stored.",
        "zh": "提交的内容里有重复的卡密；整批都未录入。",
    },
    {
        "en": "Remove the duplicate. upload_card_keys() does this for you.",
        "zh": "请去掉重复的卡密。upload_card_keys() 会自动去重。",
    },
)
_EMPTY = _Why(
    errors.EmptyContentError,
    {"en": "GatePay found no card key in the content.", "zh": "GatePay 在提交的内容里没有找到卡密。"},
    {"en": "Send at least one card key, one per line.", "zh": "请至少提交一条卡密，一行一条。"},
)
_TOO_MANY = _Why(
    errors.TooManyKeysError,
    {"en": "More than 500 card keys in one call.", "zh": "一次提交的卡密超过 500 条。"},
    {
        "en": "Send at most 500. upload_card_keys() splits any number for you.",
        "zh": "每次最多提交 500 条。upload_card_keys() 会自动分批，数量不限。",
    },
)
_ALL_KNOWN = _Why(
    errors.AlreadyStoredError,
    {
        "en": "All of these card keys are already stored; none was added.",
        "zh": "这些卡密在数据库中均已存在，没有新增。",
    },
    {
        "en": "Nothing is lost, and you need do nothing. If the card keys should be new, check that this is the "
        "right file.",
        "zh": "没有丢失任何卡密，无需处理；如果本想录入新卡密，请检查文件是否选错。",
    },
)
_STORAGE = _Why(
    errors.StorageFailedError,
    {
        "en": "GatePay's database could not store the card keys; none was added.",
        "zh": "GatePay 批量写入数据库失败，没有新增卡密。",
    },
    {
        "en": "Send the same content again later: GatePay stores each card key once.",
        "zh": "请稍后重新提交同样的内容：GatePay 对每条卡密只保留一份。",
    },
)

_ORDER_FAILED = _Why(
    errors.OrderFailedError,
    {"en": "GatePay could not create the order.", "zh": "GatePay 未能创建订单。"},
    {
        "en": "Create the order again with a new out_order_id. If it fails again, contact GatePay and tell them the "
        "time.",
        "zh": "请使用新的 out_order_id 重新下单。如果再次出现，请带上时间联系 GatePay。",
    },
)
_UNKNOWN_FAILURE = _Why(
    errors.UnknownFailureError,
    {
        "en": "GatePay failed without giving a reason; the order may or may not exist.",
        "zh": "GatePay 出错但没有说明原因；订单可能已创建，也可能没有。",
    },
    {
        "en": "Look for out_order_id in GatePay's console before you create the order again. Then use a new "
        "out_order_id.",
        "zh": "重新下单之前，请先在 GatePay 后台查找 out_order_id；再次下单时请使用新的订单号。",
    },
)
_NO_PAY_TYPE = _Why(
    errors.NoPayTypeAvailableError,
    {
        "en": "No payment method is selected for the shop in GatePay's console.",
        "zh": "店铺没有在 GatePay 后台选择收款方式。",
    },
    {
        "en": "Select one in GatePay's console; until then, try another pay_type.",
        "zh": "请在 GatePay 后台选择收款方式；在此之前可以换用其他 pay_type。",
    },
)

_UNLISTED = _Why(
    errors.RefusedError,
    {
        "en": "GatePay's documentation does not list this code for this endpoint.",
        "zh": "GatePay 的文档没有列出该接口的这个状态码。",
    },
    {
        "en": "Read GatePay's message in .message, and contact GatePay with the endpoint, the code and the time.",
        "zh": "请查看 .message 中 GatePay 的返回信息，并带上接口名、状态码和时间联系 GatePay。",
    },
)

# 状态码表 of each interface, in the page's order. ka/create has no 108.
_ROWS: tuple[tuple[str, int, str, _Why], ...] = (
    (
        "pay/create",
        101,
        "参数不完整",
        _missing("appkey, product_id, out_order_id, product_num, pay_type, custom, sign"),
    ),
    ("pay/create", 102, "无效的支付类型", _PAY_TYPE),
    ("pay/create", 103, "微信支付只能单件购买", _SINGLE_ONLY),
    ("pay/create", 104, "产品编号不合法", _PRODUCT_ID),
    ("pay/create", 105, "购买数量需要大于0", _QUANTITY),
    ("pay/create", 106, "产品信息不存在", _NO_PRODUCT),
    ("pay/create", 107, "商铺信息不存在", _NO_SHOP),
    ("pay/create", 108, "无效的秘钥", _APPKEY_OR_PRODUCT),
    ("pay/create", 109, "签名失败", _SIGNATURE_OR_ORDER),
    ("pay/create", 110, "有效库存不足", _STOCK),
    ("pay/create", 111, "商铺当日额度已用完", _QUOTA),
    ("pay/create", 112, "商铺授权已过期", _LICENCE),
    # Added by the vendor on the day of this page.
    ("pay/create", 113, "下单失败", _ORDER_FAILED),
    ("pay/create", 114, "未知错误", _UNKNOWN_FAILURE),
    ("pay/create", 115, "没有选择收款方式", _NO_PAY_TYPE),
    ("pay/create", 116, "接口已关闭", _CLOSED),
    ("product/show", 101, "参数不完整", _missing("appkey, sign")),
    ("product/show", 102, "无效的秘钥", _APPKEY),
    ("product/show", 103, "签名失败", _SIGNATURE),
    ("ka/show", 101, "参数不完整", _missing("appkey, product_id, page, sign")),
    ("ka/show", 102, "产品编号不合法", _PRODUCT_ID),
    ("ka/show", 103, "产品不存在", _NO_PRODUCT),
    ("ka/show", 104, "商铺不存在", _NO_SHOP),
    ("ka/show", 105, "秘钥错误", _APPKEY_OR_PRODUCT),
    ("ka/show", 106, "签名失败", _SIGNATURE),
    ("ka/show", 107, "接口已关闭", _CLOSED),
    ("ka/show", 108, "页数不合法", _PAGE),
    ("ka/create", 101, "参数不完整", _missing("appkey, product_id, content, sign")),
    ("ka/create", 102, "产品编号不合法", _PRODUCT_ID),
    ("ka/create", 103, "产品不存在", _NO_PRODUCT),
    ("ka/create", 104, "商铺不存在", _NO_SHOP),
    ("ka/create", 105, "秘钥错误", _APPKEY_OR_PRODUCT),
    ("ka/create", 106, "签名失败", _SIGNATURE_OR_KEYS),
    ("ka/create", 107, "接口已关闭", _CLOSED),
    ("ka/create", 109, "卡密内容本身有重复", _REPEATED),
    ("ka/create", 110, "卡密内容为空", _EMPTY),
    ("ka/create", 111, "最多支持批量上传500条记录", _TOO_MANY),
    ("ka/create", 112, "未能录入有效内容，新卡密在数据库中均已存在", _ALL_KNOWN),
    ("ka/create", 113, "未能录入有效内容，批量插入数据库失败", _STORAGE),
)

# The later endpoints: 101 to 199 mean the same at each, and each has codes of its own from 201 on.
_CHECK_ORDER: Words = {
    "en": "Ask check_order(out_order_id), and look in GatePay's console, before you create the order again. Then use a "
    "new out_order_id.",
    "zh": "重新下单之前，请先用 check_order(out_order_id) 查询，并在 GatePay 后台查找；"
    "再次下单时请使用新的 out_order_id。",
}
_APPKEY_EXPIRED = _Why(
    errors.AppKeyExpiredError,
    {"en": "This appkey has expired.", "zh": "该 appkey 已过期。"},
    {
        "en": "Renew the plan in GatePay's console, or copy the current appkey from there. If GatePay's message says "
        "that the signature is missing, a proxy or your own HTTP client has removed it.",
        "zh": "请在 GatePay 后台续费，或重新复制当前的 appkey。如果返回信息是“签名必须”，"
        "则是代理或自备的 HTTP 客户端去掉了签名。",
    },
)
_NOT_ALLOWED = _Why(
    errors.UnexpectedParameterError,
    {
        "en": "GatePay does not allow one of the parameters, and does not say which.",
        "zh": "存在不允许传递的参数，GatePay 没有说明是哪一个。",
    },
    {
        "en": "Leave out notify_url and return_url: they are the only optional parameters. If GatePay still refuses, "
        "check that no proxy and no HTTP client of yours adds a parameter.",
        "zh": "请去掉 notify_url 和 return_url：可选参数只有这两个。"
        "如果仍被拒绝，请检查代理或自备的 HTTP 客户端是否添加了参数。",
    },
)
_NO_URLS = _Why(
    errors.CallbackUrlMissingError,
    {
        "en": "The shop has not entered its callback URL or its return URL in GatePay's console.",
        "zh": "店铺没有在 GatePay 后台填写回调地址或跳转地址。",
    },
    {
        "en": "Enter both in the account settings of GatePay's console: the URL that GatePay calls after a payment, "
        "and the one that the customer is sent back to.",
        "zh": "请在 GatePay 后台的账户配置里填写两个地址：支付成功后的异步回调地址，以及顾客付款后跳转的地址。",
    },
)
_PLAN_QUOTA = _Why(
    errors.QuotaExceededError,
    {"en": "The quota of the shop's plan is used up.", "zh": "店铺套餐的额度已用完。"},
    {
        "en": "Upgrade the plan in GatePay's console, or ask GatePay.",
        "zh": "请在 GatePay 后台升级套餐，或联系 GatePay。",
    },
)
_UNKNOWN_CREATION = _Why(errors.UnknownFailureError, _UNKNOWN_FAILURE.cause, _CHECK_ORDER)
_UNKNOWN_CHECK = _Why(
    errors.UnknownFailureError,
    {"en": "GatePay could not look up the order, and gave no reason.", "zh": "GatePay 查询订单出错，但没有说明原因。"},
    {
        "en": "Ask again later. This says nothing about the order.",
        "zh": "请稍后再次查询。这并不能说明订单的情况。",
    },
)
_PRICE = _Why(
    errors.InvalidPriceError,
    {"en": "GatePay does not accept this price.", "zh": "GatePay 不接受这个金额。"},
    {
        "en": "Send an amount in yuan above 0 with at most two decimals. GatePay does not document its limits: try a "
        "smaller amount, or ask GatePay.",
        "zh": "请填写大于 0、最多两位小数的金额（元）。GatePay 没有公布上限：可以换用较小的金额，或联系 GatePay。",
    },
)
_LINK_PAY_TYPE = _Why(
    errors.InvalidPayTypeError,
    {"en": "GatePay does not accept this pay_type here.", "zh": "该接口不接受这个 pay_type。"},
    {"en": "Use alipay or wechat.", "zh": "请使用 alipay 或 wechat。"},
)
_PAY_TYPE_CLOSED = _Why(
    errors.PayTypeClosedError,
    {"en": "The shop has switched off this pay_type.", "zh": "店铺已关闭这个 pay_type。"},
    {
        "en": "Use the other pay_type, or switch this one on in GatePay's console.",
        "zh": "请换用另一个 pay_type，或在 GatePay 后台打开它。",
    },
)
_NONE_AVAILABLE = _Why(
    errors.NoPayTypeAvailableError,
    {
        "en": "None of the shop's payment methods is available at the moment.",
        "zh": "店铺当前没有可用的收款方式。",
    },
    {
        "en": "Check in GatePay's console that a payment method is switched on and has QR codes, and that the app on "
        "your phone is online.",
        "zh": "请在 GatePay 后台确认收款方式已打开、收款码已上传，并确认手机上的 App 在线。",
    },
)
_GROUP_STOCK = _Why(
    errors.OutOfStockError,
    {"en": "No product of the group is in stock.", "zh": "组合内没有可售的库存。"},
    {
        "en": "Upload card keys, or order other products. product.stock in list_products() is the number in stock.",
        "zh": "请补充卡密，或换用其他商品。list_products() 中的 product.stock 是剩余数量。",
    },
)
_UNAVAILABLE = _Why(
    errors.ProductUnavailableError,
    {"en": "This product is not for sale.", "zh": "该商品不可购买。"},
    {
        "en": "Check the ID with list_products(), and in GatePay's console that the product is on sale.",
        "zh": "请用 list_products() 核对商品编号，并在 GatePay 后台确认商品已上架。",
    },
)
_NO_AGENT = _Why(
    errors.NotAnAgentError,
    {
        "en": "The shop's owner is not an agent, so this host does not serve the shop.",
        "zh": "该用户不是代理商，此地址不为其服务。",
    },
    {
        "en": "Check cloud_base_url. If it is right, ask GatePay to make you an agent, or use create_anypay().",
        "zh": "请检查 cloud_base_url。如果无误，请向 GatePay 申请成为代理商，或改用 create_anypay()。",
    },
)
_NO_ORDER = _Why(
    errors.OrderNotFoundError,
    {"en": "GatePay finds no order with this out_order_id.", "zh": "GatePay 没有找到这个 out_order_id 的订单。"},
    {
        "en": "Check the number. If the order was created a moment ago, ask again. GatePay does not say whether it "
        "finds orders of create_payment(): for those, look in its console.",
        "zh": "请核对订单号。如果刚刚下单，请稍后再查。"
        "GatePay 没有说明能否查到 create_payment() 的订单：这类订单请在后台查找。",
    },
)


def _not_made(english: str, chinese: str) -> _Why:
    return _Why(
        errors.OrderFailedError,
        {
            "en": f"GatePay could not create the order: its {english} failed.",
            "zh": f"GatePay 未能创建订单：{chinese}创建错误。",
        },
        _ORDER_FAILED.remedy,
    )


_CATEGORY, _PRODUCT = _not_made("category", "分类"), _not_made("product", "商品")
_STOCK_ENTRY, _QUEUE = _not_made("stock entry", "库存"), _not_made("queue entry", "队列")


def _later_rows(
    endpoint: str, fields: str, own: tuple[tuple[str, _Why], ...]
) -> tuple[tuple[str, int, str, _Why], ...]:
    check = endpoint == "order/check"
    missing = _missing(f"appkey, {fields}, sign")
    shared = (
        (101, "秘钥必须", missing),
        (102, "无效的秘钥", _APPKEY),
        (103, "秘钥已过期", _APPKEY_EXPIRED),
        (104, "无效的签名", _SIGNATURE_OR_NUMBER if check else _SIGNATURE_OR_ORDER),
        (105, "参数缺失", missing),
        (106, "存在禁止传递的参数", _NOT_ALLOWED),
        (107, "api已关闭", _CLOSED),
        (108, "回调接口url未填写", _NO_URLS),
        (109, "通知接口url未填写", _NO_URLS),
        (110, "套餐已超额", _PLAN_QUOTA),
        (199, "未知错误", _UNKNOWN_CHECK if check else _UNKNOWN_CREATION),
    )
    numbered = ((code, *row) for code, row in enumerate(own, 201))
    return tuple((endpoint, *row) for row in (*shared, *numbered))


_ANY_AMOUNT = (
    ("价格无效", _PRICE),
    ("无效的支付方式", _LINK_PAY_TYPE),
    ("当前支付方式已关闭", _PAY_TYPE_CLOSED),
    ("无可用支付方式", _NONE_AVAILABLE),
    ("分类创建错误", _CATEGORY),
    ("产品创建错误", _PRODUCT),
    ("库存创建错误", _STOCK_ENTRY),
    ("队列创建错误", _QUEUE),
)
_LATER_ROWS: tuple[tuple[str, int, str, _Why], ...] = (
    *_later_rows("anypay/create", "price, type, out_order_id, custom", _ANY_AMOUNT),
    *_later_rows("cloudpay/create", "price, type, out_order_id, custom", (*_ANY_AMOUNT, ("非代理用户", _NO_AGENT))),
    *_later_rows(
        "grouppay/create",
        "fields, type, out_order_id, custom",
        (
            *_ANY_AMOUNT[1:4],
            ("组合内无有效库存商品", _GROUP_STOCK),
            *_ANY_AMOUNT[4:],
        ),
    ),
    *_later_rows(
        "stablepay/create",
        "product_id, type, out_order_id, custom",
        (
            *_ANY_AMOUNT[1:4],
            ("队列创建错误", _QUEUE),
            ("产品不可获得", _UNAVAILABLE),
            ("当前产品无库存", _STOCK),
        ),
    ),
    *_later_rows("order/check", "out_order_id", (("订单不存在", _NO_ORDER),)),
)

REFUSALS: Mapping[tuple[str, int], Refusal] = {
    (endpoint, code): Refusal(endpoint, code, why.error, message, why.cause, why.remedy)
    for endpoint, code, message, why in (*_ROWS, *_LATER_ROWS)
}

FAULTS: tuple[Fault, ...] = (
    Fault(
        errors.InvalidRequestError,
        None,
        {
            "en": "The call is invalid, so nothing was sent.",
            "zh": "调用本身有误，因此什么都没有发送。",
        },
        {
            "en": "Correct the parameter that .field names; .problem says what is wrong with it.",
            "zh": "请修正 .field 指出的参数；.problem 说明了问题所在。",
        },
    ),
    Fault(errors.RefusedError, None, _UNLISTED.cause, _UNLISTED.remedy),
    Fault(
        errors.ProtocolError,
        None,
        {
            "en": "The response is not in GatePay's format: it may be a gateway's page, a redirect or a truncated "
            "response.",
            "zh": "返回内容不是 GatePay 的响应格式：可能是网关页面、重定向，或者残缺的响应。",
        },
        {
            "en": "Check .http_status and .excerpt, base_url, and whether a proxy responds instead of GatePay. A 5xx "
            "or 429 is usually temporary: try again later.",
            "zh": "请查看 .http_status 和 .excerpt：base_url 是否正确，是否有代理代为响应？5xx 和 429 "
            "通常是暂时的，稍后再试即可。",
        },
    ),
    Fault(
        errors.DeadlineExceededError,
        None,
        {
            "en": "The call's deadline has passed, waits and retries included.",
            "zh": "整个调用超过了 deadline（包括等待和重试）。",
        },
        {
            "en": "Call it again: any call that raises this error is safe to retry. If it happens often, raise "
            "deadline=.",
            "zh": "重新调用即可：抛出该错误的调用都可以安全重试。如果经常发生，请调大 deadline=。",
        },
    ),
    Fault(
        errors.TransportError,
        False,
        {
            "en": "GatePay could not be reached; nothing was sent.",
            "zh": "无法连接 GatePay；没有发送任何内容。",
        },
        {
            "en": "It is safe to retry. Check the network, DNS, the proxy settings and base_url.",
            "zh": "可以安全重试。请检查网络、DNS、代理设置和 base_url。",
        },
    ),
    Fault(
        errors.TransportError,
        True,
        {
            "en": "The connection was lost, or no complete response arrived within timeout; GatePay may have "
            "received the request.",
            "zh": "连接中断，或在 timeout 内没有收到完整响应；请求可能已经送达。",
        },
        {
            "en": "Call it again: any call that raises this error is safe to retry.",
            "zh": "重新调用即可：抛出该错误的调用都可以安全重试。",
        },
    ),
    Fault(
        errors.OutcomeUnknownError,
        None,
        {
            "en": "The response to the call that creates the order was lost: the order may or may not exist.",
            "zh": "下单调用的响应丢失：订单可能已创建，也可能没有。",
        },
        {
            "en": "Don't retry. Ask with check_order(error.out_order_id), or settle(error), which asks several times. "
            "If GatePay finds no order, look for .out_order_id in its console, or wait for its callback. If you can't "
            "wait, create another order with a new out_order_id.",
            "zh": "不要重发。请用 check_order(error.out_order_id) 查询，或用 settle(error) 多查几次；"
            "如果查不到，请在 GatePay 后台查找 .out_order_id，或等待它的回调；如果等不及，"
            "请用新的 out_order_id 另建一个订单。",
        },
    ),
    Fault(
        errors.MalformedCallbackError,
        None,
        {
            "en": "A field of the callback is missing, duplicated or malformed.",
            "zh": "回调的某个字段缺失、重复，或格式不符。",
        },
        {
            "en": "Respond fail and don't deliver. If GatePay sent it, check that nothing on the way rewrites the "
            "query string, and pass the raw query string.",
            "zh": "请响应 fail，不要发货。"
            "如果确实是 GatePay 发来的，请确认途中没有改写查询字符串，并传入原始的查询字符串。",
        },
    ),
    Fault(
        errors.CallbackSignatureError,
        None,
        {
            "en": "The callback is for another appkey, or was not signed with your secret.",
            "zh": "回调属于另一个 appkey，或者不是用你的 appsecret 签名的。",
        },
        {
            "en": "Respond fail and don't deliver: anyone can call this URL. If genuine callbacks fail, copy appkey "
            "and appsecret again from GatePay's console.",
            "zh": "请响应 fail，不要发货：任何人都能访问这个地址。如果真实的回调也失败，"
            "请从 GatePay 后台重新复制 appkey 和 appsecret。",
        },
    ),
    Fault(
        errors.StaleCallbackError,
        None,
        {
            "en": "The callback is genuine but too old: someone may be replaying a captured one.",
            "zh": "回调是真的，但早于你接受的时限：可能有人在重放截获的回调。",
        },
        {
            "en": "Check your own record of the order, and the clock of this machine. GatePay retries for some "
            "minutes, so a max_age of less than ten minutes may lose real payments.",
            "zh": "请核对自己的订单记录和本机时钟。GatePay 会在几分钟内重试，max_age 小于十分钟可能丢失真实的付款。",
        },
    ),
    Fault(
        errors.CallbackError,
        None,
        {"en": "The callback is invalid.", "zh": "该回调无效。"},
        {"en": "Respond fail and don't deliver.", "zh": "请响应 fail，不要发货。"},
    ),
    Fault(
        UploadIncomplete,
        None,
        {
            "en": "Some card keys of the upload may not be on the server.",
            "zh": "部分卡密未能确认上传成功。",
        },
        {
            "en": "report.chunks lists the lines and the reasons. Fix the cause, then upload the same input again: "
            "GatePay stores each card key once.",
            "zh": "report.chunks 说明是哪些行、什么原因。排除原因后重新上传同样的内容即可：GatePay "
            "对每条卡密只保留一份。",
        },
    ),
    Fault(
        errors.GatePayError,
        None,
        {"en": "Something went wrong in gatepay-async.", "zh": "gatepay-async 出错。"},
        {"en": "See the error's own text.", "zh": "请查看错误本身的文字。"},
    ),
)


def meaning(endpoint: str, code: int) -> Refusal:
    """What *code* means at *endpoint*; a number that the vendor's table lacks is a plain ``RefusedError``."""
    refusal = REFUSALS.get((endpoint, code))
    return refusal or Refusal(endpoint, code, _UNLISTED.error, "", _UNLISTED.cause, _UNLISTED.remedy)


def explain(error: errors.GatePayError, lang: Lang = "en") -> Explanation:
    """
    Why *error* came and what to do, in *lang*.

    Args:
        error: Any error of this package.
        lang: ``"en"`` or ``"zh"``.
    """
    entry: Refusal | Fault
    if isinstance(error, errors.RefusedError):
        entry = meaning(error.endpoint, error.code)
    else:
        sent = error.sent if isinstance(error, errors.TransportError) else None
        entry = next(each for each in FAULTS if isinstance(error, each.error) and each.sent in (None, sent))
    problem = str(getattr(error, "problem", ""))
    return Explanation(entry.cause[lang], entry.remedy[lang], problem if lang == "en" else in_chinese(problem))
