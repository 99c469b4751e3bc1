"""
What is wrong, in Chinese: each sentence that an error of ours carries as ``.problem``, which is English.

What comes from elsewhere (an operating system's words, a name, a number) stands in the holes of a sentence, and stays
as it is. A test walks the code and holds that no sentence is missing.
"""

from __future__ import annotations

import re
from functools import cache

# httpx's errors by what has happened; what follows the colon is the system's or the library's own.
_HAPPENED = {
    "CloseError": "关闭连接时出错",
    "ConnectError": "无法建立连接",
    "ConnectTimeout": "建立连接超时",
    "DecodingError": "响应无法解码",
    "HTTPStatusError": "HTTP 状态异常",
    "InvalidURL": "网址无效",
    "LocalProtocolError": "请求不符合 HTTP 协议",
    "NetworkError": "网络错误",
    "PoolTimeout": "等待空闲连接超时",
    "ProtocolError": "通信不符合 HTTP 协议",
    "ProxyError": "代理出错",
    "ReadError": "读取响应时连接中断",
    "ReadTimeout": "等待响应超时",
    "RemoteProtocolError": "对方的响应不符合 HTTP 协议",
    "RequestError": "请求出错",
    "TimeoutException": "超时",
    "TooManyRedirects": "重定向次数过多",
    "TransportError": "传输出错",
    "UnsupportedProtocol": "不支持的协议",
    "WriteError": "发送请求时连接中断",
    "WriteTimeout": "发送请求超时",
}

# English -> 中文. The first that fits the whole of a sentence counts; what is in a hole is looked up in its turn.
CHINESE: dict[str, str] = {
    # -- the parameters of calls (checks, calls, client, upload, exchange) --------------------------------------------
    "must be a whole number, not {kind}": "必须是整数，而不是 {kind}",
    "must be above 0 and below 2 to the 63rd": "必须大于 0 且小于 2 的 63 次方",
    "must be text, or several texts in a list": "必须是文本，或由多个文本组成的列表",
    "must be text, not {kind}": "必须是文本，而不是 {kind}",
    "must not be empty": "不能为空",
    "takes {size} bytes in UTF-8, and the limit is {most}: a longer one may not fit into the callback": (
        "以 UTF-8 编码占 {size} 字节，上限为 {most} 字节：再长可能放不进回调"
    ),
    "holds half a character (a lone surrogate)": "含有半个字符（单独的代理码位）",
    "holds an invisible character ({code}); copy it again": "含有看不见的字符（{code}）；请重新复制",
    "must be a number of seconds above 0, or None for no bound": "必须是大于 0 的秒数；不限时请用 None",
    "must be a number of seconds above 0, or a timedelta": "必须是大于 0 的秒数，或 timedelta",
    "must be a number, 0 or more": "必须是不小于 0 的数",
    "must be one of {choices}": "只能是 {choices} 之一",
    "WeChat pays for one item only, not {count}": "微信支付只能单件购买，而不是 {count} 件",
    "must be a list of card keys, not one text": "必须是卡密的列表，而不是一段文本",
    "must be a list of card keys, not {kind}": "必须是卡密的列表，而不是 {kind}",
    "must be an open file or an iterable of card keys, not one text or a path": (
        "必须是已打开的文件或卡密的可迭代对象，而不是一段文本或路径"
    ),
    "must be iterable, {kind} is not": "必须可迭代，而 {kind} 不可迭代",
    "must be callable, {kind} is not": "必须可调用，而 {kind} 不可调用",
    "must hold at least one card key": "至少要有一条卡密",
    "{count} card keys in one call, GatePay takes {most}; upload_card_keys() splits them": (
        "一次提交了 {count} 条卡密，而 GatePay 最多接受 {most} 条；upload_card_keys() 会自动分批"
    ),
    "what follows line {line} is not {encoding}; open the file with its encoding": (
        "第 {line} 行之后的内容不是 {encoding} 编码，请用正确的编码打开文件"
    ),
    "is missing: pass it, or set {variable}": "缺失：请传入，或设置环境变量 {variable}",
    "must be a URL such as https://gatepay.io/api/": "必须是网址，例如 https://gatepay.io/api/",
    "must have no user, query or fragment": "不能带用户名、查询参数或片段",
    "must be https: over http anyone on the way can read card keys (allow_http=True allows it)": (
        "必须是 https：使用 http 时，途中任何人都能读到卡密（allow_http=True 可放行）"
    ),
    "give http_client or transport, not both": "http_client 和 transport 只能给一个",
    "can be opened only once; make a new one": "只能打开一次，请新建一个",
    "is not open yet": "尚未打开",
    "has been closed": "已经关闭",
    "was opened in another event loop; open one in each": "是在另一个事件循环中打开的，请为每个循环各打开一个",
    "aiohttp {problem}": "aiohttp {problem}",
    "runs on asyncio only; leave transport out": "只能在 asyncio 上运行，请不要传 transport",
    "needs the extra: pip install 'gatepay-async[aiohttp]'": "需要可选依赖：pip install 'gatepay-async[aiohttp]'",
    "{problem}; this one {reason}": "{problem}；当前值{reason}",
    "holds a space or an invisible character ({code})": "含有空格或看不见的字符（{code}）",
    "can't be read as a URL": "不是有效的网址",
    "must begin with {schemes} and a host": "必须以 {schemes} 加主机名开头",
    "has a port that there is not: {port}": "端口 {port} 不存在",
    "has a host name that there can't be": "主机名无效",
    "names a proxy, which {problem}": "指定的代理{problem}",
    "needs socksio: pip install 'httpx[socks]'": "需要 socksio：pip install 'httpx[socks]'",
    "names {path}, which can't be read: {reason}": "指定的 {path} 无法读取：{reason}",
    "names {path}, which holds no certificate that can be read": "指定的 {path} 中没有可用的证书",
    "names {path}, which is no folder": "指定的 {path} 不是目录",
    "names {path}, which holds no certificate under its hash; run: openssl rehash {folder}": (
        "指定的 {path} 中没有以哈希命名的证书；请运行：openssl rehash {folder}"
    ),
    "this test would call {host} itself: use the fixture `gatepay`, or pass http_client or transport; "
    "@pytest.mark.gatepay_live, --gatepay-live or the setting gatepay_live allows it": (
        "这个测试会真正访问 {host}：请使用 fixture `gatepay`，或传入 http_client 或 transport；"
        "如需放行，请用 @pytest.mark.gatepay_live、--gatepay-live 或配置项 gatepay_live"
    ),
    "is blank": "是空行",
    "holds a line break, which would make two keys of it": "含有换行，会被拆成两条卡密",
    "holds a NUL; is the file UTF-16?": "含有 NUL，文件是不是 UTF-16 编码？",
    "can't be encoded as UTF-8": "无法用 UTF-8 编码",
    "repeats line {line}": "与第 {line} 行重复",
    # -- raw calls -----------------------------------------------------------------------------------------------------
    "must be a path below base_url, such as pay/create: no scheme, no query, no / in front, no dots first": (
        "必须是 base_url 之下的路径，例如 pay/create：不带协议和查询参数，不以 / 或点开头"
    ),
    "must have a name of ASCII letters, digits, _ . - [ ]": "的名称只能由 ASCII 字母、数字和 _ . - [ ] 组成",
    "is {name}, which the client adds itself": "是 {name}，由客户端自动添加",
    "({name}) must be text, not {kind}": "（{name}）必须是文本，而不是 {kind}",
    "({name}) can't be encoded as UTF-8": "（{name}）无法用 UTF-8 编码",
    "must be a tuple of the names of fields": "必须是由字段名组成的元组",
    "name {number} is not among the fields": "第 {number} 个名称不在字段之中",
    "names {name} twice": "两次写了 {name}",
    "must be True or False, not {kind}": "必须是 True 或 False，而不是 {kind}",
    # -- replies (codec, wire, paging, exchange) -----------------------------------------------------------------------
    "is JSON nested too deep": "是嵌套过深的 JSON",
    "is no complete JSON": "不是完整的 JSON",
    "is missing": "缺失",
    "should be epoch seconds, is out of range": "应为纪元秒，但超出范围",
    "should be an image as a data URI with base64": "应为 base64 编码的图片 data URI",
    "should be an image in base64, which is empty, cut or broken": "应为 base64 图片，但内容为空、残缺或损坏",
    "should be {expected}, is {found}": "应为{expected}，实为{found}",
    "an object": "对象",
    "a list": "列表",
    "text": "文本",
    "true or false": "布尔值",
    "a whole number": "整数",
    "a fraction": "小数",
    "null": "空值（null）",
    "should be money in whole fen, has parts of a fen": "应为精确到分的金额，实际含有不足一分的部分",
    'money, such as 1.5 or "1.50"': '金额（例如 1.5 或 "1.50"）',
    "says success": "表示成功",
    "is none of GatePay's": "不是 GatePay 的状态码",
    "is a redirect, which is not followed; is base_url right?": "是重定向，不会跟随；base_url 是否正确？",
    "is a later page than was asked for": "是所请求页之后的页",
    "is an earlier page than was asked for": "是所请求页之前的页",
    "is not above the id of the row before it": "不大于上一行的 id",
    "is not above 0": "不大于 0",
    "changes too fast to list every card key": "变化太快，无法完整列出所有卡密",
    "the request was cancelled, but not by its caller": "请求被取消，但并非由调用方取消",
    "is packed several times": "被多次压缩",
    "can't be unpacked": "无法解压",
    "is larger than {most} bytes": "超过 {most} 字节",
    "was used up by a hook of your httpx client; call `await response.aread()` in it before anything else": (
        "已被你的 httpx 客户端的钩子读走；请在钩子中先调用 `await response.aread()`"
    ),
    # -- nobody answers (exchange, pool) -------------------------------------------------------------------------------
    "the call's deadline has passed": "已超过整个调用的时限（deadline）",
    "no whole reply within {seconds} s": "{seconds} 秒内没有收到完整响应",
    "your httpx client or transport raised {kind}": "你的 httpx 客户端或 transport 抛出了 {kind}",
    "your httpx client or transport was cancelled from within": "你的 httpx 客户端或 transport 内部被取消",
    "not connected within {seconds} s": "{seconds} 秒内没有连上",
    "no TLS within {seconds} s": "{seconds} 秒内没有完成 TLS 握手",
    "nothing to read for {seconds} s": "{seconds} 秒内没有读到内容",
    "nothing written for {seconds} s": "{seconds} 秒内没能发出内容",
    "no connection came free within {seconds} s; nothing was sent": "{seconds} 秒内没有空闲连接；什么都没有发送",
    "only {origin} can be reached here, not {host}": "这里只能访问 {origin}，而不是 {host}",
    "an origin is http:// or https:// and a host, not {scheme}": (
        "必须是 http:// 或 https:// 加主机名，而不是 {scheme}"
    ),
    "the client was closed; nothing was sent": "客户端已关闭；什么都没有发送",
    # -- callbacks ----------------------------------------------------------------------------------------------------
    "must be digits only, the first not 0": "只能是数字，且首位不为 0",
    "must be digits, a point, two digits": "必须带两位小数，例如 0.99",
    "must be epoch seconds, ten digits": "必须是十位数字的纪元秒",
    "must be 32 lower-case hex digits": "必须是 32 位小写十六进制数字",
    "is not yours": "不是你的",
    "does not match the fields and your secret": "与各字段和你的密钥不符",
    "the query must be text or bytes, not {kind}": "查询字符串必须是文本或字节，而不是 {kind}",
    "is longer than {most} bytes": "超过 {most} 字节",
    "a name comes twice": "同一个参数名出现了两次",
    "holds a % without two hex digits": "% 之后缺少两位十六进制数字",
    "holds bytes that are not UTF-8": "含有不是 UTF-8 的字节",
    "is no order of yours": "不是你的订单",
    "is not your order's": "与你的订单不符",
    "{realprice} was paid for an order of {price}": "订单金额 {price}，实付 {realprice}",
    "a POST must carry a form, and has another type": "POST 的内容必须是表单，但 Content-Type 是其他类型",
    "was handled before, with another out_order_id or price": "已经处理过，但当时的 out_order_id 或 price 不同",
    "is more than {seconds} s ago": "早于 {seconds} 秒之前",
    "is more than {seconds} s from now": "晚于 {seconds} 秒之后",
    "the store forgets what is older than {keep} s, and what it has forgotten could be replayed: "
    "give a max_age of at most {most} s": (
        "store 只保留 {keep} 秒，更早的回调可能被重放：max_age 最多只能是 {most} 秒"
    ),
    "must be at most {seconds} s: GatePay waits for the answer": "最多 {seconds} 秒：GatePay 在等待响应",
    "must be a file's; MemoryStore remembers in memory": "必须是文件路径；只在内存中记录请用 MemoryStore",
    "there is no folder {folder}": "文件夹 {folder} 不存在",
    "must be a client of redis.asyncio, or a URL": "必须是 redis.asyncio 的客户端，或网址",
    # -- durable uploads ----------------------------------------------------------------------------------------------
    "must be sqlite:///a/file or postgresql://user:password@host/database": (
        "必须是 sqlite:///a/file 或 postgresql://user:password@host/database"
    ),
    "is missing: with PostgreSQL, name a folder that all machines share": (
        "缺失：使用 PostgreSQL 时，请指定一个所有机器共用的目录"
    ),
    "must be callable, and make a client": "必须可调用，并返回一个客户端",
    "must be up to 63 of a-z, 0-9, - and _": "只能由最多 63 个 a-z、0-9、- 和 _ 组成",
    "must be a number of seconds above 0": "必须是大于 0 的秒数",
    "must be a path, or a Source, not {kind}": "必须是路径或 Source，而不是 {kind}",
    "holds more than {most} card keys; split it": "卡密超过 {most} 条；请拆分后再提交",
    "the client that connect() makes needs a timeout or a deadline; without, a dead worker looks slow": (
        "connect() 创建的客户端必须有 timeout 或 deadline；否则无法区分崩溃和缓慢"
    ),
    "durable uploads need asyncio: DBOS, which they are built on, knows no other loop": (
        "可恢复的上传需要 asyncio：它所依赖的 DBOS 不支持其他事件循环"
    ),
    "it was cancelled; it can be resumed": "已取消；可以恢复",
    "there is no job {job}; jobs() tells which there are": "没有任务 {job}；jobs() 会列出所有任务",
    "there is no job {job} in this queue": "此队列中没有任务 {job}",
    "{kind} in a worker": "worker 中发生 {kind}",
    "a row of the database can't be read: another version, or somebody else, wrote it": (
        "数据库中有一行无法读取：它是由别的版本或别人写入的"
    ),
    "the row {row} of the database can't be read: another version, or somebody else, wrote it": (
        "数据库中的记录 {row} 无法读取：它由其他版本写入，或被他人改动"
    ),
    "the spool {folder} belongs to another user; name a folder of your own": (
        "暂存目录 {folder} 属于其他用户；请指定你自己的目录"
    ),
    "other users can write into the spool {folder}; take that right away: chmod go-w": (
        "其他用户可以写入暂存目录 {folder}；请取消该权限：chmod go-w"
    ),
    "{where} must hold {wanted} bytes, not {found}: restore it, or use a new spool": (
        "{where} 应为 {wanted} 字节，而不是 {found} 字节：请恢复该文件，或使用新的暂存目录"
    ),
    "a worker is open in this process already; open others in processes of their own": (
        "本进程已打开一个 worker；请在各自的进程中打开其他的"
    ),
    "another worker's executor_id is {name}, too; give your DBOS one of its own": (
        "另一个 worker 的 executor_id 也是 {name}；请给你的 DBOS 一个独有的"
    ),
    "the application_version of your DBOS is {version}: pin it, and give it to DurableUploads as version": (
        "你的 DBOS 的 application_version 是 {version}：请固定下来，并作为 version 传给 DurableUploads"
    ),
    "your DBOS and this DurableUploads have different databases; give both the same": (
        "你的 DBOS 与这个 DurableUploads 使用了不同的数据库；请使用同一个"
    ),
    "your DBOS isn't launched yet; launch it before the worker is opened": (
        "你的 DBOS 尚未启动；请在打开 worker 之前启动它"
    ),
    "the queue's database can't be used: {reason}": "无法使用队列的数据库：{reason}",
    "has changed since it was submitted": "在提交之后发生了变化",
    "has changed while it was read": "在读取过程中发生了变化",
    "is gone": "已不存在",
    "{path} is not a regular file": "{path} 不是普通文件",
    # -- amounts, and callbacks that tests make -----------------------------------------------------------------------
    'must be a Decimal or text ("9.99"), not {kind}': '必须是 Decimal 或文本（"9.99"），而不是 {kind}',
    "must be an amount in yuan, 0 or more and below 10 to the 12th": (
        "必须是以元为单位的金额，不小于 0 且小于 10 的 12 次方"
    ),
    "must not have more than two decimals": "小数不能超过两位",
    "take {size} bytes in the query string, and the limit is {most}": (
        "在查询字符串中占 {size} 字节，上限为 {most} 字节"
    ),
    "must be aware: datetime.now(UTC), for example": "必须带时区，例如 datetime.now(UTC)",
    "must be an aware datetime, or whole epoch seconds of ten digits": (
        "必须是带时区的 datetime，或十位数的整数纪元秒"
    ),
    "{name} is the vendor's own; tampered={{…}} changes it": "{name} 是 GatePay 自己的字段；请用 tampered={{…}} 修改",
    "no field {name}; there are {names}": "没有字段 {name}；可用的有 {names}",
    "must be a dict, not {kind}": "必须是 dict，而不是 {kind}",
    "must be a {wanted}, not {kind}": "必须是 {wanted}，而不是 {kind}",
    # -- what opens with a hole, and so fits much: last ---------------------------------------------------------------
    **_HAPPENED,
    **{f"{name}: {{reason}}": f"{text}：{{reason}}" for name, text in _HAPPENED.items()},
    "{kind} while sending; the worker's log may say more": "发送时出现 {kind}；处理进程的日志可能有更多信息",
    "{job} is being worked at; cancel it first": "{job} 正在处理中；请先取消",
    "{job} is gone; somebody has cleaned it away": "{job} 已不存在；有人把它清除了",
    "{source}: {problem}; none of it was sent. Submit the input again, and resume the job": (
        "{source}：{problem}；其中的内容都没有发送，请重新提交并恢复任务"
    ),
    "line {line} {problem}": "第 {line} 行{problem}",
    "field {number} {problem}": "第 {number} 个字段{problem}",
    "lines {first} to {last}: each {problem}": "第 {first} 至 {last} 行每行都{problem}",
    "{problem}:\n{example}": "{problem}：\n{example}",
    "{key} must be text": "{key} 必须是文本",
}

_HOLE = re.compile(r"\\{(\w+)\\}")


def in_chinese(problem: str) -> str:
    """*problem* in Chinese; as it is, where it is none of our sentences."""
    for form, chinese in _forms():
        match = form.fullmatch(problem)
        if match is not None:
            return chinese.format(**{name: in_chinese(value) for name, value in match.groupdict().items()})
    return problem


@cache
def _forms() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Each English sentence as a pattern with its holes, beside the Chinese one; made when the first is needed."""
    return tuple((re.compile(_pattern(english), re.DOTALL), chinese) for english, chinese in CHINESE.items())


def _pattern(english: str) -> str:
    plain = english.replace("{{", "\x01").replace("}}", "\x02")
    return _HOLE.sub(r"(?P<\1>.+?)", re.escape(plain)).replace("\x01", r"\{").replace("\x02", r"\}")
