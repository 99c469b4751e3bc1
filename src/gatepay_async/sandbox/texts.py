"""All texts of the pages, in English and Chinese."""

from typing import Final

__all__ = ["LANGUAGES", "PROBLEMS", "TEXTS", "text"]

LANGUAGES: Final = ("en", "zh")

# Name -> English, Chinese. {…} is filled in by the page.
TEXTS: Final[dict[str, tuple[str, str]]] = {
    # The frame
    "lang": ("en", "zh-CN"),
    "brand": ("GatePay sandbox", "GatePay 沙箱"),
    "warning": (
        "This is a sandbox on your own machine. It moves no real money or goods, and its secrets are for testing only.",
        "这是你本机上的沙箱：没有真实的资金往来，没有真实的商品，这里的密钥都只用于测试。",
    ),
    "sandbox": ("Sandbox", "沙箱"),
    "skip": ("Skip to the content", "跳到正文"),
    "language": ("Language", "语言"),
    "offline": (
        "The sandbox is not responding. This page may be out of date.",
        "沙箱没有响应，页面上的内容可能已过期。",
    ),
    "reload": ("Reload", "刷新"),
    "no_script": (
        "This page needs JavaScript to update by itself.",
        "浏览器未启用 JavaScript，页面不会自动更新。",
    ),
    "no_order": ("Order not found", "找不到这个订单"),
    "no_page": ("Page not found", "找不到这个页面"),
    "no_order_more": (
        "The address may be incomplete, or the sandbox was restarted: an in-memory sandbox keeps no data.",
        "地址可能不完整，或者沙箱已重启。数据只保存在内存中时，重启后会清空。",
    ),
    "no_page_more": ("Start from the console.", "请从控制台开始。"),
    "to_console": ("Go to the console", "前往控制台"),
    # The order's page
    "order": ("Order", "订单"),
    "scan": ("Scan to pay with {by}", "请使用{by}扫码支付"),
    "scan_here": (
        "The code contains the address of this page. It works on this computer only.",
        "二维码是本页地址，仅在这台电脑上有效。",
    ),
    "qr": ("QR code of this page's address", "本页地址的二维码"),
    "wechat": ("WeChat Pay", "微信支付"),
    "alipay": ("Alipay", "支付宝"),
    "onecode": ("any app", "聚合码"),
    "amount": ("Amount", "应付金额"),
    "product": ("Product", "商品"),
    "order_number": ("Order number", "订单编号"),
    "your_number": ("Shop's order number", "商户订单号"),
    "created": ("Created", "创建时间"),
    "time_left": ("Time left", "剩余时间"),
    "no_end": ("This order does not expire.", "此订单不会过期。"),
    "pending": ("Waiting for payment", "等待付款"),
    "paid": ("Paid", "已付款"),
    "underpaid": ("Underpaid", "付款不足"),
    "expired": ("Expired", "已过期"),
    "late": ("Paid after expiry", "过期后到账"),
    "pending_more": ("Pay before the time runs out.", "请在倒计时结束前完成付款。"),
    "paid_more": ("{amount} received. Thank you.", "已收到 {amount}，谢谢。"),
    "underpaid_more": (
        "{amount} received, less than the price. The shop should not deliver.",
        "已收到 {amount}，低于订单金额。商户不应发货。",
    ),
    "expired_more": ("This order can no longer be paid. Please order again.", "此订单已不能付款，请重新下单。"),
    "late_more": (
        "{amount} was paid after the order expired. GatePay sends no callback for this. Please contact the shop.",
        "{amount} 在订单过期之后到账。GatePay 不会发送回调，请联系商户处理。",
    ),
    "paid_at": ("Paid at", "付款时间"),
    "paid_amount": ("Amount paid", "实付金额"),
    "expired_at": ("Expired at", "过期时间"),
    "be_customer": ("Act as the customer", "模拟顾客"),
    "be_customer_more": (
        "These buttons exist only in the sandbox. They do what a customer does on a phone.",
        "这些按钮只在沙箱中出现，作用等同于顾客用手机操作。",
    ),
    "pay": ("Pay {amount}", "付款 {amount}"),
    "pay_late": ("Pay after expiry", "过期后付款"),
    "pay_late_more": (
        "The money arrives, but your program receives no callback until you select “I have been paid” in the console.",
        "款项会到账，但你的程序收不到回调，直到你在控制台点击“我已收款”。",
    ),
    "another": ("Other amount (yuan)", "其他金额（元）"),
    "pay_another": ("Pay this amount", "支付此金额"),
    "another_wrong": (
        "Enter an amount from 0.01 to 9999999.99 yuan, such as 0.50.",
        "请输入 0.01 至 9999999.99 元之间的金额，例如 0.50。",
    ),
    "let_expire": ("Expire the order", "让订单过期"),
    "heard": ("Callbacks to your program", "发给你程序的回调"),
    "hears_nothing": (
        "None: the shop has no callback URL. Set one in the console.",
        "无：店铺没有填写回调 URL，请在控制台填写。",
    ),
    "hears_later": ("When the order is paid, the sandbox calls {url}.", "付款后，沙箱会请求 {url}。"),
    "hears_none_late": ("None: an expired order gets no callback.", "无：过期的订单不会触发回调。"),
    "hears_none": ("No callback was sent for this order.", "此订单没有发送过回调。"),
    "see_console": ("Show this order in the console", "在控制台查看此订单"),
    # The console
    "console": ("Console", "控制台"),
    "shops": ("Shops", "店铺"),
    "orders": ("Orders", "订单"),
    "deliveries": ("Callbacks", "回调记录"),
    "faults": ("Faults", "故障"),
    "shop_n": ("Shop {number}", "店铺 {number}"),
    "shop_removed": ("This shop was deleted. Its appkey is still valid.", "此店铺已删除，但 appkey 仍然有效。"),
    "shop_closed": ("card key API closed", "卡密接口已关闭"),
    "copy": ("Copy", "复制"),
    "copied": ("Copied", "已复制"),
    "callback_url": ("Callback URL", "支付成功回调 URL"),
    "callback_url_more": (
        "The sandbox calls this URL when an order is paid; your shop must respond success. Leave it empty for none.",
        "订单付款后，沙箱会向此地址发送带签名的请求，应响应 success。留空则不发送。",
    ),
    "save": ("Save", "保存"),
    "saved": ("Saved.", "已保存。"),
    "products": ("Products", "商品"),
    "price": ("Price", "单价"),
    "unsold": ("Card keys in stock", "未售卡密"),
    "sold": ("Card keys sold", "已售卡密"),
    "state": ("State", "状态"),
    "shop_number": ("Shop's order number", "商户订单号"),
    "pay_type": ("Payment method", "付款方式"),
    "custom": ("Custom (extend)", "自定义参数（extend）"),
    "page_of": ("Page {page} of {last}", "第 {page} 页，共 {last} 页"),
    "newer": ("Newer", "较新"),
    "older": ("Older", "较旧"),
    "pages": ("Pages", "翻页"),
    "no_orders": ("No orders yet. Create one with create_payment().", "还没有订单。请调用 create_payment() 创建。"),
    "no_deliveries": (
        "No callbacks yet. The sandbox sends one when an order is paid and its shop has a callback URL.",
        "还没有回调记录。店铺填写回调 URL 后，订单付款时沙箱会发送回调。",
    ),
    "pay_page": ("Payment page", "付款页面"),
    "send_again": ("Send again", "重新发送"),
    "have_been_paid": ("I have been paid", "我已收款"),
    "have_been_paid_more": (
        "Marks the order as paid, sells its card keys and sends the callback, even if the order has expired.",
        "将订单标记为已付款，售出卡密并发送回调，即使订单已过期。",
    ),
    "nothing_to_send": (
        "Nothing was sent. A callback needs a paid order, and a shop with a callback URL.",
        "未发送：订单须已付款，且店铺填写了回调 URL。",
    ),
    "attempt": ("Attempt {number} of {all}", "第 {number} 次，共 {all} 次"),
    "delivery_waiting": ("Waiting", "等待发送"),
    "delivery_sending": ("Sending", "发送中"),
    "delivery_accepted": ("Accepted", "成功"),
    "delivery_refused": ("Failed", "失败"),
    "due_at": ("due {at}", "计划于 {at} 发送"),
    "sent_at": ("Sent at", "发送时间"),
    "answered_at": ("Response at", "响应时间"),
    "request": ("Request", "请求"),
    "answer": ("Response", "响应"),
    "answer_none": ("(none)", "（无）"),
    "answer_empty": ("(empty)", "（空内容）"),
    "details": ("Request and response", "请求与响应"),
    "faults_more": (
        "Simulate failures: each fault applies to the next API calls, in this order.",
        "模拟故障：接下来的 API 调用会依次遇到这些故障。",
    ),
    "no_faults": ("No faults: everything works.", "没有故障：一切正常。"),
    "fault": ("Fault", "故障"),
    "where": ("Endpoint", "接口"),
    "anywhere": ("any endpoint", "任意接口"),
    "times": ("Times (empty: no limit)", "次数（留空为不限）"),
    "applied": ("Triggered", "已触发"),
    "applied_always": ("{applied} (no limit)", "{applied}（不限次数）"),
    "applied_of": ("{applied} of {times}", "{applied} / {times}"),
    "seconds": ("Seconds (slow, drip)", "秒数（slow、drip）"),
    "code": ("Code (code)", "状态码（code）"),
    "switch_on": ("Switch on", "开启"),
    "switch_off": ("Switch off", "关闭"),
    "all_off": ("Switch all off", "全部关闭"),
    "new_fault": ("New fault", "新增故障"),
    "fault_wrong": (
        "Invalid fault: choose a kind. “code” needs a code, and the number of times must be above 0.",
        "无效的故障：请选择类型；“code”需要状态码，次数须大于 0。",
    ),
    "cut_before": ("connection cut, call not executed", "断开连接，未执行"),
    "cut_after": ("connection cut, call executed", "断开连接，已执行"),
    "half_body": ("connection cut halfway through the response, call executed", "响应中途断开，已执行"),
    "half_json": ("truncated JSON, call executed", "JSON 被截断，已执行"),
    "slow": ("slow response, call executed", "响应缓慢，已执行"),
    "drip": ("response arrives byte by byte, call executed", "响应逐字节到达，已执行"),
    "rate_limited": ("HTTP 429, call not executed", "HTTP 429，未执行"),
    "bad_gateway": ("HTTP 502, call not executed", "HTTP 502，未执行"),
    "code_fault": ("refused with a code, call not executed", "以状态码拒绝，未执行"),
}

# Why a callback failed, or a callback URL is invalid.
PROBLEMS: Final[dict[str, tuple[str, str]]] = {
    "not_success": ("The response was not success.", "响应内容不是 success。"),
    "timeout": ("No response in time.", "响应超时。"),
    "connection": ("Could not connect, or the connection was lost.", "无法连接，或连接中断。"),
    "no_http": ("The response was not HTTP.", "响应不是 HTTP。"),
    "tls": ("The certificate is not trusted, or TLS failed.", "证书不受信任，或 TLS 失败。"),
    "too_long": ("The response was longer than 4,096 bytes.", "响应超过 4096 字节。"),
    "no_url": ("The shop has no callback URL.", "店铺没有填写回调 URL。"),
    "url_form": (
        "Enter a full http:// or https:// URL: ASCII, no spaces, at most 2,000 characters.",
        "请填写以 http:// 或 https:// 开头的完整地址：仅限 ASCII 字符，不含空格，最长 2000 个字符。",
    ),
    "url_user": ("The URL must not contain a user name or password.", "地址中不能包含用户名和密码。"),
    "url_taken": (
        "The URL has a parameter with the same name as one of the callback's own, such as price or sign.",
        "地址中含有与回调相同的参数名，例如 price 或 sign。",
    ),
    "url_query": (
        "The parameters of the URL are too long: at most 700 characters, or the callback does not fit.",
        "地址中的参数过长：最多 700 个字符，否则放不下回调。",
    ),
    "url_host": (
        "Use 127.0.0.1 or localhost. Sandbox(callbacks_beyond_loopback=True) allows other hosts.",
        "回调只能发往本机（127.0.0.1 或 localhost）。如需放开，请使用 Sandbox(callbacks_beyond_loopback=True)。",
    ),
}


def text(language: str, name: str, **values: object) -> str:
    """
    Say something in a language.

    Raises:
        KeyError: The table has no such name.
    """
    both = TEXTS[name] if name in TEXTS else PROBLEMS[name]
    template = both[LANGUAGES.index(language)]
    return template.format(**values) if values else template
