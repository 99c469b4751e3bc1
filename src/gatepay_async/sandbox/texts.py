"""What the pages say, in English and in Chinese: one table, and the languages side by side."""

from typing import Final

__all__ = ["LANGUAGES", "PROBLEMS", "TEXTS", "text"]

LANGUAGES: Final = ("en", "zh")

# Name -> English, Chinese. {…} is filled in by the page.
TEXTS: Final[dict[str, tuple[str, str]]] = {
    # The frame
    "lang": ("en", "zh-CN"),
    "brand": ("GatePay sandbox", "GatePay 沙箱"),
    "warning": (
        "This is a sandbox on your own machine. No money moves, nothing is sold, and every secret here is a toy.",
        "这是您本机上的沙箱：没有真实的资金往来，没有真实的商品，这里的密钥都只用于测试。",
    ),
    "sandbox": ("Sandbox", "沙箱"),
    "skip": ("Skip to the content", "跳到正文"),
    "language": ("Language", "语言"),
    "offline": (
        "The sandbox no longer answers. What you see may be out of date.",
        "沙箱没有响应，页面上的内容可能已过期。",
    ),
    "reload": ("Show how it stands now", "刷新查看最新状态"),
    "no_script": (
        "Without JavaScript this page does not change by itself.",
        "浏览器未启用 JavaScript，页面不会自动更新。",
    ),
    "no_order": ("There is no such order", "没有这个订单"),
    "no_page": ("There is no such page", "没有这个页面"),
    "no_order_more": (
        "Its address may have been cut short, or the sandbox was started anew: one in memory forgets everything.",
        "地址可能不完整，或者沙箱已重新启动：内存中的沙箱不保留任何数据。",
    ),
    "no_page_more": ("The console is the place to start from.", "请从控制台开始。"),
    "to_console": ("To the console", "前往控制台"),
    # The order's page
    "order": ("Order", "订单"),
    "scan": ("Scan to pay with {by}", "请使用{by}扫码支付"),
    "scan_here": (
        "The code holds this page's address, which works on this computer only.",
        "二维码是本页地址，仅在这台电脑上有效。",
    ),
    "qr": ("QR code of this page's address", "本页地址的二维码"),
    "wechat": ("WeChat Pay", "微信支付"),
    "alipay": ("Alipay", "支付宝"),
    "onecode": ("any app", "聚合码"),
    "amount": ("Amount", "应付金额"),
    "product": ("Product", "商品"),
    "order_number": ("Order number", "订单编号"),
    "your_number": ("The shop's number", "商户订单号"),
    "created": ("Created", "创建时间"),
    "time_left": ("Time left", "剩余时间"),
    "no_end": ("This order does not expire.", "此订单不会过期。"),
    "pending": ("Waiting for payment", "等待付款"),
    "paid": ("Paid", "已付款"),
    "underpaid": ("Underpaid", "付款不足"),
    "expired": ("Expired", "已过期"),
    "late": ("Expired, paid too late", "已过期，逾期付款"),
    "pending_more": ("Pay before the time is up.", "请在倒计时结束前完成付款。"),
    "paid_more": ("{amount} received. Thank you.", "已收到 {amount}，谢谢。"),
    "underpaid_more": (
        "{amount} received, which is less than the price. A shop should not deliver.",
        "已收到 {amount}，低于订单金额。商户不应发货。",
    ),
    "expired_more": ("This order can no longer be paid. Please order again.", "此订单已不能付款，请重新下单。"),
    "late_more": (
        "{amount} came after the order had expired. GatePay tells nobody of that: please ask the shop.",
        "{amount} 在订单过期之后到账。GatePay 不会通知商户，请联系商户处理。",
    ),
    "paid_at": ("Paid at", "付款时间"),
    "paid_amount": ("Amount paid", "实付金额"),
    "expired_at": ("Expired at", "过期时间"),
    "be_customer": ("Be the customer", "模拟顾客"),
    "be_customer_more": (
        "Only a sandbox has these buttons. They do what a customer's phone would.",
        "这些按钮只在沙箱中出现，作用等同于顾客用手机操作。",
    ),
    "pay": ("Pay {amount}", "付款 {amount}"),
    "pay_late": ("Pay all the same, too late", "仍然付款（逾期）"),
    "pay_late_more": (
        "The money comes in, and your program hears nothing, until the shop says “I have been paid” in the console.",
        "款项会到账，但您的程序收不到通知，直到商户在控制台点击“我已收款”。",
    ),
    "another": ("Another amount, in yuan", "其他金额（元）"),
    "pay_another": ("Pay another amount", "支付其他金额"),
    "another_wrong": (
        "Write an amount from 0.01 to 9999999.99 yuan, such as 0.50.",
        "请输入 0.01 至 9999999.99 元之间的金额，例如 0.50。",
    ),
    "let_expire": ("Let it expire", "让订单过期"),
    "heard": ("What your program hears", "您的程序收到的通知"),
    "hears_nothing": (
        "Nothing: the shop has no callback URL. Enter one in the console.",
        "无：商铺没有填写回调 URL，请在控制台填写。",
    ),
    "hears_later": ("Once the order is paid, {url} is called.", "付款后将请求 {url}。"),
    "hears_none_late": ("Nothing: an expired order is never called back.", "无：过期的订单不会触发回调。"),
    "hears_none": ("Nothing was sent for this order.", "此订单没有发送过回调。"),
    "see_console": ("See this order in the console", "在控制台查看此订单"),
    # The console
    "console": ("Console", "控制台"),
    "shops": ("Shops", "商铺"),
    "orders": ("Orders", "订单"),
    "deliveries": ("Deliveries", "回调记录"),
    "faults": ("Faults", "故障"),
    "shop_n": ("Shop {number}", "商铺 {number}"),
    "shop_removed": ("This shop was removed; its appkey is still known.", "此商铺已删除，其 appkey 仍然有效。"),
    "shop_closed": ("card key endpoints closed", "卡密接口已关闭"),
    "copy": ("Copy", "复制"),
    "copied": ("Copied", "已复制"),
    "callback_url": ("Callback URL", "支付成功回调 URL"),
    "callback_url_more": (
        "Called with a signed request when an order is paid; must answer success. Empty: nobody is told.",
        "订单付款后会向此地址发送带签名的请求，应返回 success。留空则不通知。",
    ),
    "save": ("Save", "保存"),
    "saved": ("Saved.", "已保存。"),
    "products": ("Products", "商品"),
    "price": ("Price", "单价"),
    "unsold": ("Card keys unsold", "未售卡密"),
    "sold": ("Card keys sold", "已售卡密"),
    "state": ("State", "状态"),
    "shop_number": ("Shop's number", "商户订单号"),
    "pay_type": ("Paid by", "支付方式"),
    "custom": ("Custom (extend)", "联系方式 (extend)"),
    "page_of": ("Page {page} of {last}", "第 {page} 页，共 {last} 页"),
    "newer": ("Newer", "较新"),
    "older": ("Older", "较旧"),
    "pages": ("Pages", "翻页"),
    "no_orders": ("No orders yet. Make one with create_payment().", "还没有订单。请调用 create_payment() 创建。"),
    "no_deliveries": (
        "No deliveries yet. They begin when an order is paid whose shop has a callback URL.",
        "还没有回调记录。填写了回调 URL 的商铺，订单付款后会发送回调。",
    ),
    "pay_page": ("The customer's page", "顾客付款页"),
    "send_again": ("Send again", "重新发送"),
    "have_been_paid": ("I have been paid", "我已收款"),
    "have_been_paid_more": (
        "Makes the order a paid one, sells its card keys and calls back, although it has expired.",
        "将订单标记为已付款，售出卡密并发送回调，即使订单已过期。",
    ),
    "nothing_to_send": (
        "Nothing was sent: only a paid order of a shop with a callback URL is called back.",
        "未发送：只有已付款且商铺填写了回调 URL 的订单才会回调。",
    ),
    "attempt": ("Attempt {number} of {all}", "第 {number} 次，共 {all} 次"),
    "delivery_waiting": ("Waiting", "等待发送"),
    "delivery_sending": ("On its way", "发送中"),
    "delivery_accepted": ("Accepted", "成功"),
    "delivery_refused": ("Failed", "失败"),
    "due_at": ("due {at}", "计划于 {at} 发送"),
    "sent_at": ("Sent", "发送时间"),
    "answered_at": ("Answered", "响应时间"),
    "request": ("Request", "请求"),
    "answer": ("Answer", "响应"),
    "answer_none": ("(none)", "（无）"),
    "answer_empty": ("(an empty body)", "（空内容）"),
    "details": ("Request and answer", "请求与响应"),
    "faults_more": (
        "What goes wrong on request: the next calls to the API meet these, in this order.",
        "按需制造的故障：之后的 API 调用会依次遇到它们。",
    ),
    "no_faults": ("No faults: everything works.", "没有故障：一切正常。"),
    "fault": ("Fault", "故障"),
    "where": ("Where", "接口"),
    "anywhere": ("anywhere", "任意接口"),
    "times": ("Times (empty: always)", "次数（留空为一直）"),
    "applied": ("Applied", "已发生"),
    "applied_always": ("{applied}, and always again", "{applied}，持续发生"),
    "applied_of": ("{applied} of {times}", "{applied} / {times}"),
    "seconds": ("Seconds (slow, drip)", "秒数（slow、drip）"),
    "code": ("Code (code)", "状态码（code）"),
    "switch_on": ("Switch on", "开启"),
    "switch_off": ("Switch off", "关闭"),
    "all_off": ("Switch all off", "全部关闭"),
    "new_fault": ("A new fault", "新故障"),
    "fault_wrong": (
        "That is no fault: choose a kind; “code” needs a code, and times is a number above 0.",
        "无效的故障：请选择类型；“code”需要状态码，次数须大于 0。",
    ),
    "cut_before": ("connection cut, nothing done", "断开连接，未执行"),
    "cut_after": ("connection cut, call carried out", "断开连接，已执行"),
    "half_body": ("half of the answer, then cut", "响应中途断开，已执行"),
    "half_json": ("JSON cut in half", "JSON 被截断，已执行"),
    "slow": ("answer comes late", "响应缓慢，已执行"),
    "drip": ("answer comes byte by byte", "响应逐字节到达，已执行"),
    "rate_limited": ("HTTP 429, nothing done", "HTTP 429，未执行"),
    "bad_gateway": ("HTTP 502, nothing done", "HTTP 502，未执行"),
    "code_fault": ("refused with a code", "以状态码拒绝，未执行"),
}

# Why a delivery failed, or a callback URL can't be one.
PROBLEMS: Final[dict[str, tuple[str, str]]] = {
    "not_success": ("The answer was not success.", "响应内容不是 success。"),
    "timeout": ("No answer in time.", "响应超时。"),
    "connection": ("Nobody could be reached there, or the connection broke.", "无法连接，或连接中断。"),
    "no_http": ("The answer was not HTTP.", "响应不是 HTTP。"),
    "tls": ("The certificate is not trusted, or TLS failed.", "证书不受信任，或 TLS 失败。"),
    "too_long": ("The answer was longer than 4,096 bytes.", "响应超过 4096 字节。"),
    "no_url": ("The shop has no callback URL.", "商铺没有填写回调 URL。"),
    "url_form": (
        "Write http:// or https://, a host and a path: ASCII without blanks, at most 2,000 characters.",
        "请填写以 http:// 或 https:// 开头的完整地址：仅限 ASCII 字符，不含空格，最长 2000 个字符。",
    ),
    "url_user": ("Leave out the user's name and password.", "地址中不能包含用户名和密码。"),
    "url_taken": (
        "It has a parameter that the callback has itself, such as price or sign.",
        "地址中含有与回调相同的参数名，例如 price 或 sign。",
    ),
    "url_query": (
        "Its parameters are too long: at most 700 characters, or the callback would not fit.",
        "地址中的参数过长：最多 700 个字符，否则放不下回调。",
    ),
    "url_host": (
        "Callbacks stay on this machine: 127.0.0.1 or localhost. Sandbox(callbacks_beyond_loopback=True) allows more.",
        "回调只能发往本机（127.0.0.1 或 localhost）。如需放开，请使用 Sandbox(callbacks_beyond_loopback=True)。",
    ),
}


def text(language: str, name: str, **given: object) -> str:
    """
    Say something in a language.

    Raises:
        KeyError: The table has no such name.
    """
    both = TEXTS[name] if name in TEXTS else PROBLEMS[name]
    said = both[LANGUAGES.index(language)]
    return said.format(**given) if given else said
