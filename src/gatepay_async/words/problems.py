"""The sentences of ``Problem``, which errors have as ``.problem``, by name."""

from gatepay_async.words import Text

# The names of httpx's error classes. The messages of these errors come from the OS or a library, and aren't translated.
HTTPX_ERRORS: dict[str, Text] = {
    "CloseError": ("CloseError", "关闭连接时出错"),
    "ConnectError": ("ConnectError", "无法建立连接"),
    "ConnectTimeout": ("ConnectTimeout", "建立连接超时"),
    "DecodingError": ("DecodingError", "响应无法解码"),
    "HTTPStatusError": ("HTTPStatusError", "HTTP 状态异常"),
    "InvalidURL": ("InvalidURL", "网址无效"),
    "LocalProtocolError": ("LocalProtocolError", "请求不符合 HTTP 协议"),
    "NetworkError": ("NetworkError", "网络错误"),
    "PoolTimeout": ("PoolTimeout", "等待空闲连接超时"),
    "ProtocolError": ("ProtocolError", "通信不符合 HTTP 协议"),
    "ProxyError": ("ProxyError", "代理出错"),
    "ReadError": ("ReadError", "读取响应时连接中断"),
    "ReadTimeout": ("ReadTimeout", "等待响应超时"),
    "RemoteProtocolError": ("RemoteProtocolError", "对方的响应不符合 HTTP 协议"),
    "RequestError": ("RequestError", "请求出错"),
    "TimeoutException": ("TimeoutException", "超时"),
    "TooManyRedirects": ("TooManyRedirects", "重定向次数过多"),
    "TransportError": ("TransportError", "传输出错"),
    "UnsupportedProtocol": ("UnsupportedProtocol", "不支持的协议"),
    "WriteError": ("WriteError", "发送请求时连接中断"),
    "WriteTimeout": ("WriteTimeout", "发送请求超时"),
}

PROBLEMS: dict[str, Text] = {
    # -- the parameters of calls (checks, calls, client, upload, exchange) --------------------------------------------
    "not_auto": ('must be a whole number above 0, or "auto"', '必须是大于 0 的整数，或 "auto"'),
    "not_whole": ("must be a whole number, not {kind}", "必须是整数，而不是 {kind}"),
    "out_of_range": ("must be from 1 to 9223372036854775807", "必须在 1 到 9223372036854775807 之间"),
    "not_text_or_texts": ("must be text, or several texts in a list", "必须是文本，或由多个文本组成的列表"),
    "not_text": ("must be text, not {kind}", "必须是文本，而不是 {kind}"),
    "empty": ("must not be empty", "不能为空"),
    "too_many_bytes": (
        "takes {size} bytes in UTF-8, and the limit is {most}: a longer one may not fit into the callback",
        "以 UTF-8 编码占 {size} 字节，上限为 {most} 字节：再长可能放不进回调",
    ),
    "lone_surrogate": ("contains half a character (a lone surrogate)", "含有半个字符（单独的代理码位）"),
    "invisible_character": (
        "contains an invisible character ({code}); copy it again",
        "含有看不见的字符（{code}）；请重新复制",
    ),
    "not_seconds": ("must be a number of seconds above 0, or a timedelta", "必须是大于 0 的秒数，或 timedelta"),
    "seconds_or_none": (
        "must be a number of seconds above 0, a timedelta, or None for no limit",
        "必须是大于 0 的秒数或 timedelta；不限时请用 None",
    ),
    "seconds_from_0": (
        "must be a number of seconds, 0 or more, or a timedelta",
        "必须是不小于 0 的秒数，或 timedelta",
    ),
    "number_from_0": ("must be a number, 0 or more", "必须是不小于 0 的数"),
    "not_one_of": ("must be one of {choices}", "取值无效（可选 {choices}）"),
    "wechat_single": ("WeChat pays for one item only, not {count}", "微信支付只能单件购买，而不是 {count} 件"),
    "money_not_positive": ("must be above 0", "必须大于 0"),
    "not_0_or_1": ("must be 0 or 1", "只能是 0 或 1"),
    "not_web_url": (
        "must be a whole URL that begins with http:// or https://, in ASCII, without user name and #",
        "必须是以 http:// 或 https:// 开头的完整网址，只含 ASCII 字符，不带用户名和 #",
    ),
    "url_query_too_long": (
        "must have at most {most} characters after its ?, because GatePay adds fields there",
        "问号后面最多 {most} 个字符，因为 GatePay 还要在后面添加字段",
    ),
    "url_takes_field": (
        "must not have {name} after its ?: GatePay adds a field of that name",
        "问号后面不能有 {name}：GatePay 会添加同名字段",
    ),
    "not_items": (
        "must say how many of each product, such as {{8: 2, 7: 3}}",
        "必须写明每种商品的件数，例如 {{8: 2, 7: 3}}",
    ),
    "no_items": ("must hold at least one product", "至少要有一种商品"),
    "too_many_items": (
        "holds {count} products, and the limit is {most}; split the order",
        "包含 {count} 种商品，上限为 {most} 种；请拆分订单",
    ),
    "item_twice": ("holds product {product} twice", "商品 {product} 重复"),
    "one_text_as_keys": ("must be a list of card keys, not one text", "必须是卡密的列表，而不是一段文本"),
    "keys_not_list": ("must be a list of card keys, not {kind}", "必须是卡密的列表，而不是 {kind}"),
    "keys_not_iterable": (
        "must be an open file or an iterable of card keys, not one text or a path",
        "必须是已打开的文件或卡密的可迭代对象，而不是一段文本或路径",
    ),
    "not_iterable": ("must be iterable, {kind} is not", "必须可迭代，而 {kind} 不可迭代"),
    "not_callable": ("must be callable, {kind} is not", "必须可调用，而 {kind} 不可调用"),
    "no_keys": ("must contain at least one card key", "至少要有一条卡密"),
    "too_many_keys": (
        "{count} card keys in one call, but GatePay accepts {most}; upload_card_keys() splits them",
        "一次提交了 {count} 条卡密，而 GatePay 最多接受 {most} 条；upload_card_keys() 会自动分批",
    ),
    "wrong_encoding": (
        "the text after line {line} is not {encoding}; open the file with the right encoding",
        "第 {line} 行之后的内容不是 {encoding} 编码，请用正确的编码打开文件",
    ),
    "not_set": ("is missing: pass it, or set {variable}", "缺失：请传入，或设置环境变量 {variable}"),
    "two_secrets": (
        "is set, and so is GATEPAY_APPSECRET; unset one of them",
        "与 GATEPAY_APPSECRET 不能同时设置；请取消其中一个",
    ),
    "secret_unreadable": ("names {path}, which can't be read: {reason}", "指定的 {path} 无法读取：{reason}"),
    "secret_form": (
        "names {path}, which must contain the secret and nothing else",
        "指定的 {path} 里只能有密钥本身",
    ),
    "not_base_url": ("must be a URL such as https://gatepay.io/api/", "必须是网址，例如 https://gatepay.io/api/"),
    "cloud_not_set": (
        "is missing: with another server than GatePay's it has no default, so that no order reaches the real cloud by "
        "mistake. Pass it, or set GATEPAY_BASE_URL and GATEPAY_CLOUD_BASE_URL (for a sandbox, set both to the same URL)",
        "缺失：连接的不是 GatePay 时没有默认值，以免误在真实的云端下单。请传入，或同时设置环境变量 GATEPAY_BASE_URL 和 GATEPAY_CLOUD_BASE_URL"
        "（使用沙箱时两者填同一个地址）",
    ),
    "url_with_extras": ("must not have a user name, query or fragment", "不能带用户名、查询参数或片段"),
    "not_https": (
        "must be https: over http anyone on the way can read card keys (allow_http=True allows it)",
        "必须是 https：使用 http 时，途中任何人都能读到卡密（allow_http=True 可放行）",
    ),
    "client_and_transport": ("pass http_client or transport, not both", "http_client 和 transport 只能给一个"),
    "opened_twice": ("can be opened only once; create a new one", "只能打开一次，请新建一个"),
    "not_open": ("is not open yet", "尚未打开"),
    "closed": ("has been closed", "已经关闭"),
    "other_event_loop": (
        "was opened in another event loop; open one client per loop",
        "是在另一个事件循环中打开的，请为每个循环各打开一个",
    ),
    "aiohttp_transport": (
        "can no longer be a name; leave it out, or pass httpx_aiohttp.AiohttpTransport() to use aiohttp's connections",
        "不再接受名称；请去掉此参数，如需使用 aiohttp 的连接，请传入 httpx_aiohttp.AiohttpTransport()",
    ),
    "not_base_url_because": (
        "must be a URL such as https://gatepay.io/api/; this one {reason}",
        "必须是网址，例如 https://gatepay.io/api/；当前值{reason}",
    ),
    "url_invisible": ("contains a space or an invisible character ({code})", "含有空格或看不见的字符（{code}）"),
    "url_unreadable": ("is not a valid URL", "不是有效的网址"),
    "url_scheme": ("must begin with {schemes} and a host", "必须以 {schemes} 加主机名开头"),
    "url_port": ("has an invalid port: {port}", "端口 {port} 无效"),
    "url_host": ("has an invalid host name", "主机名无效"),
    "proxy_unusable": ("names a proxy, which {problem}", "指定的代理{problem}"),
    "needs_socksio": ("needs socksio: pip install 'httpx[socks]'", "需要 socksio：pip install 'httpx[socks]'"),
    "certificates_unreadable": ("names {path}, which can't be read: {reason}", "指定的 {path} 无法读取：{reason}"),
    "certificates_none": (
        "names {path}, which holds no certificate that can be read",
        "指定的 {path} 中没有可用的证书",
    ),
    "certificates_no_folder": ("names {path}, which is not a folder", "指定的 {path} 不是文件夹"),
    "certificates_unhashed": (
        "names {path}, which holds no certificate under its hash; run: openssl rehash {folder}",
        "指定的 {path} 中没有以哈希命名的证书；请运行：openssl rehash {folder}",
    ),
    "call_in_test": (
        "this test would call the real {host}: use the fixture `gatepay`, or pass http_client or transport; "
        "@pytest.mark.gatepay_live, --gatepay-live or the setting gatepay_live allows it",
        "这个测试会真正访问 {host}：请使用 fixture `gatepay`，或传入 http_client 或 transport；"
        "如需放行，请用 @pytest.mark.gatepay_live、--gatepay-live 或配置项 gatepay_live",
    ),
    "blank": ("is blank", "是空行"),
    "line_break": ("contains a line break, which would split it into two card keys", "含有换行，会被拆成两条卡密"),
    "nul": ("contains a NUL character; the file may be UTF-16", "含有 NUL 字符，文件可能是 UTF-16 编码"),
    "not_utf8": ("can't be encoded as UTF-8", "无法用 UTF-8 编码"),
    "repeats_line": ("repeats line {line}", "与第 {line} 行重复"),
    # -- raw calls ----------------------------------------------------------------------------------------------------
    "raw_path": (
        "must be a path below base_url, such as pay/create: no scheme, no query, and no / or dot at the start",
        "必须是 base_url 之下的路径，例如 pay/create：不带协议和查询参数，不以 / 或点开头",
    ),
    "field": ("field {number} {problem}", "第 {number} 个字段{problem}"),
    "field_name": (
        "must have a name of ASCII letters, digits, _ . - [ ]",
        "的名称只能由 ASCII 字母、数字和 _ . - [ ] 组成",
    ),
    "added_by_client": ("is {name}, which the client adds itself", "是 {name}，由客户端自动添加"),
    "field_not_text": ("({name}) must be text, not {kind}", "（{name}）必须是文本，而不是 {kind}"),
    "field_not_utf8": ("({name}) can't be encoded as UTF-8", "（{name}）无法用 UTF-8 编码"),
    "not_names": ("must be a tuple of the names of fields", "必须是由字段名组成的元组"),
    "no_such_field": ("name {number} is not among the fields", "第 {number} 个名称不在字段之中"),
    "signed_twice": ("names {name} twice", "两次写了 {name}"),
    "not_bool": ("must be True or False, not {kind}", "必须是 True 或 False，而不是 {kind}"),
    # -- replies (codec, messages, paging, exchange) -----------------------------------------------------------------------
    "json_too_deep": ("is JSON nested too deep", "是嵌套过深的 JSON"),
    "json_too_much": ("has more than {most} values", "包含超过 {most} 个值"),
    "json_incomplete": ("is not complete JSON", "不是完整的 JSON"),
    "missing": ("is missing", "缺失"),
    "epoch_out_of_range": ("should be a Unix timestamp, is out of range", "应为 Unix 时间戳，但超出范围"),
    "not_data_uri": ("should be an image as a data URI with base64", "应为 base64 编码的图片 data URI"),
    "image_broken": (
        "should be an image in base64, which is empty, cut or broken",
        "应为 base64 图片，但内容为空、残缺或损坏",
    ),
    "wrong_kind": ("should be {expected}, is {found}", "应为{expected}，实为{found}"),
    "kind_object": ("an object", "对象"),
    "kind_list": ("a list", "列表"),
    "kind_text": ("text", "文本"),
    "kind_boolean": ("true or false", "布尔值"),
    "kind_whole": ("a whole number", "整数"),
    "kind_fraction": ("a fraction", "小数"),
    "kind_null": ("null", "空值（null）"),
    "parts_of_fen": ("should be money in whole fen, has parts of a fen", "应为精确到分的金额，实际含有不足一分的部分"),
    "kind_money": ('money, such as 1.5 or "1.50"', '金额（例如 1.5 或 "1.50"）'),
    "says_success": ("says success", "表示成功"),
    "unknown_code": ("is not a code of GatePay's", "不是 GatePay 的状态码"),
    "redirect": ("is a redirect, which is not followed; check base_url", "是重定向，不会跟随；请检查 base_url"),
    "later_page": ("is after the requested page", "在所请求的页之后"),
    "earlier_page": ("is before the requested page", "在所请求的页之前"),
    "id_not_ascending": ("is not above the id of the row before it", "不大于上一行的 id"),
    "not_above_0": ("is not above 0", "不大于 0"),
    "changes_too_fast": ("changes too fast to list every card key", "变化太快，无法完整列出所有卡密"),
    "cancelled_elsewhere": ("the request was cancelled, but not by its caller", "请求被取消，但并非由调用方取消"),
    "packed_several_times": ("is compressed more than once", "被多次压缩"),
    "unpackable": ("can't be decompressed", "无法解压"),
    "reply_too_large": ("is larger than {most} bytes", "超过 {most} 字节"),
    "used_up_by_hook": (
        "was consumed by a hook of your httpx client; call `await response.aread()` first in that hook",
        "已被你的 httpx 客户端的钩子读走；请在钩子中先调用 `await response.aread()`",
    ),
    # -- no reply (exchange, pool) -------------------------------------------------------------------------------------
    "deadline_passed": ("the call's deadline has passed", "已超过整个调用的时限（deadline）"),
    "no_whole_reply": ("no whole reply within {seconds:g} s", "{seconds:g} 秒内没有收到完整响应"),
    "foreign_error": ("your httpx client or transport raised {kind}", "你的 httpx 客户端或 transport 抛出了 {kind}"),
    "foreign_cancellation": (
        "your httpx client or transport was cancelled from within",
        "你的 httpx 客户端或 transport 内部被取消",
    ),
    "not_connected": ("not connected within {seconds} s", "{seconds} 秒内没有连上"),
    "no_tls": ("no TLS within {seconds} s", "{seconds} 秒内没有完成 TLS 握手"),
    "nothing_to_read": ("nothing to read for {seconds} s", "{seconds} 秒内没有读到内容"),
    "nothing_written": ("nothing written for {seconds} s", "{seconds} 秒内没能发出内容"),
    "no_connection_free": (
        "no connection became free within {seconds} s; nothing was sent",
        "{seconds} 秒内没有空闲连接；什么都没有发送",
    ),
    "other_origin": ("only {origin} can be reached here, not {host!r}", "这里只能访问 {origin}，而不是 {host!r}"),
    "not_an_origin": (
        "an origin is http:// or https:// and a host, not {scheme!r}",
        "必须是 http:// 或 https:// 加主机名，而不是 {scheme!r}",
    ),
    "client_closed": ("the client was closed; nothing was sent", "客户端已关闭；什么都没有发送"),
    "no_response": ("the server closed the connection without a response", "服务器没有响应就关闭了连接"),
    "half_a_response": (
        "the server closed the connection before the response was complete",
        "服务器在响应传完之前关闭了连接",
    ),
    "closed_at_this_end": ("the connection was closed at this end", "连接已在本端关闭"),
    "closed_before_tls": (
        "the server closed the connection before there was TLS",
        "TLS 握手尚未完成，服务器就关闭了连接",
    ),
    "not_valid_http": ("the response is not valid HTTP: {reason}", "响应不是有效的 HTTP：{reason}"),
    "unexpected_status": ("the status of the response is unexpected", "响应的 HTTP 状态码不应出现在这里"),
    "unsupported_http_version": ("the HTTP version of the response is not supported", "不支持响应所用的 HTTP 版本"),
    "other_protocol": ("the response is not HTTP but a similar protocol", "响应不是 HTTP，而是与之相似的另一种协议"),
    "unsupported_transfer_encoding": (
        "the transfer-encoding of the response is not supported",
        "不支持响应的 transfer-encoding",
    ),
    "response_header_too_long": ("a header of the response is too long", "响应头过长"),
    "bad_target": (
        "the method or the target of the request contains an invalid character",
        "请求的方法或路径中有不允许的字符",
    ),
    "bad_request_header": ("a header of the request contains an invalid character", "请求头中有不允许的字符"),
    "no_host_header": ("the request needs one Host header", "请求必须有且只有一个 Host 头"),
    "no_single_length": (
        "the headers of the request must give exactly one length of its body",
        "请求头没有给出唯一的请求体长度",
    ),
    "request_body_too_long": (
        "the body of the request is longer than its Content-Length",
        "请求体比 Content-Length 所写的长",
    ),
    "request_body_too_short": (
        "the body of the request is shorter than its Content-Length",
        "请求体比 Content-Length 所写的短",
    ),
    "spoke_too_early": ("the server responded before the request was sent", "请求尚未发出，服务器就已有响应"),
    # -- callbacks ----------------------------------------------------------------------------------------------------
    "form_id": ("must be digits only, not starting with 0", "只能是数字，且首位不为 0"),
    "form_money": ("must have two decimals, such as 0.99", "必须带两位小数，例如 0.99"),
    "form_time": ("must be a Unix timestamp of ten digits", "必须是十位的 Unix 时间戳"),
    "form_signature": ("must be 32 lower-case hex digits", "必须是 32 位小写十六进制数字"),
    "not_your_appkey": ("is not yours", "不是你的"),
    "bad_signature": ("does not match the fields and your secret", "与各字段和你的密钥不符"),
    "query_not_text": ("the query must be text or bytes, not {kind}", "查询字符串必须是文本或字节，而不是 {kind}"),
    "too_long": ("is longer than {most} bytes", "超过 {most} 字节"),
    "name_twice": ("a parameter appears twice", "同一个参数名出现了两次"),
    "bad_escape": ("contains a % without two hex digits", "% 之后缺少两位十六进制数字"),
    "bytes_not_utf8": ("contains bytes that are not UTF-8", "含有不是 UTF-8 的字节"),
    "unknown_order": ("is not one of your orders", "不是你的订单"),
    "price_differs": ("is not your order's", "与你的订单不符"),
    "paid_less": ("{realprice} was paid for an order of {price}", "订单金额 {price}，实付 {realprice}"),
    "not_a_form": (
        "a POST must contain a form, but its Content-Type is different",
        "POST 的内容必须是表单，但 Content-Type 是其他类型",
    ),
    "handled_differently": (
        "was handled before, with another out_order_id or price",
        "已经处理过，但当时的 out_order_id 或 price 不同",
    ),
    "too_old": ("is more than {seconds:g} s ago", "早于 {seconds:g} 秒之前"),
    "in_the_future": ("is more than {seconds:g} s from now", "晚于 {seconds:g} 秒之后"),
    "max_age_too_long": (
        "the store keeps a callback for {keep:g} s only, so an older one could be replayed: "
        "set max_age to at most {most:g} s",
        "store 只保留最近 {keep:g} 秒的回调，更早的可能被重放：max_age 最多为 {most:g} 秒",
    ),
    "not_async_function": ("must be an async function: async def {name}(…)", "必须是异步函数：async def {name}(…)"),
    "timeout_too_long": (
        "must be at most {seconds:g} s: GatePay waits for the response",
        "最多 {seconds:g} 秒：GatePay 在等待响应",
    ),
    "not_a_file": (
        "must be the path of a file; to keep records in memory, use MemoryStore",
        "必须是文件路径；只在内存中记录请用 MemoryStore",
    ),
    "no_folder": ("there is no folder {folder}", "文件夹 {folder} 不存在"),
    "not_redis": ("must be a client of redis.asyncio, or a URL", "必须是 redis.asyncio 的客户端，或网址"),
    # -- durable uploads ----------------------------------------------------------------------------------------------
    "database_url": (
        "must be sqlite:///a/file or postgresql://user:password@host/database",
        "必须是 sqlite:///a/file 或 postgresql://user:password@host/database",
    ),
    "spool_missing": (
        "is missing: with PostgreSQL, name a folder that all machines share",
        "缺失：使用 PostgreSQL 时，请指定一个所有机器共用的文件夹",
    ),
    "connect_not_callable": ("must be a callable that returns a client", "必须可调用，并返回一个客户端"),
    "queue_name": ("must be 1 to 63 characters of a-z, 0-9, - and _", "只能由最多 63 个 a-z、0-9、- 和 _ 组成"),
    "not_path": ("must be a path, or a Source, not {kind}", "必须是路径或 Source，而不是 {kind}"),
    "too_many_keys_in_input": ("holds more than {most:,} card keys; split it", "卡密超过 {most:,} 条；请拆分后再提交"),
    "client_without_timeout": (
        "the client that connect() returns needs a timeout or a deadline; without one, a dead worker can't be told from a slow one",
        "connect() 创建的客户端必须有 timeout 或 deadline；否则无法区分崩溃和缓慢",
    ),
    "durable_needs_asyncio": (
        "durable uploads need asyncio: DBOS supports no other event loop",
        "断点续传需要 asyncio：它所依赖的 DBOS 不支持其他事件循环",
    ),
    "job_cancelled": ("it was cancelled; it can be resumed", "已取消；可以恢复"),
    "no_job": ("there is no job {job!r}; jobs() lists all jobs", "没有任务 {job!r}；jobs() 会列出所有任务"),
    "no_job_in_queue": ("there is no job {job!a} in this queue", "此队列中没有任务 {job!a}"),
    "worker_failed": ("{kind} in a worker", "worker 中发生 {kind}"),
    "row_unreadable": (
        "a row of the database can't be read: another version, or someone else, has written it",
        "数据库中有一条记录无法读取：它由其他版本写入，或被他人改动",
    ),
    "row_unreadable_named": (
        "the row {row!a} of the database can't be read: another version, or someone else, has written it",
        "数据库中的记录 {row!a} 无法读取：它由其他版本写入，或被他人改动",
    ),
    "spool_foreign": (
        "the spool {folder} belongs to another user; use a folder of your own",
        "暂存区 {folder} 属于其他用户；请指定你自己的文件夹",
    ),
    "spool_writable": (
        "other users can write to the spool {folder}; remove that permission: chmod go-w",
        "其他用户可以写入暂存区 {folder}；请取消该权限：chmod go-w",
    ),
    "secret_damaged": (
        "{where} must hold {wanted} bytes, not {found}: restore it, or use a new spool",
        "{where} 应为 {wanted} 字节，而不是 {found} 字节：请恢复该文件，或使用新的暂存区",
    ),
    "worker_open": (
        "a worker is already open in this process; open others in their own processes",
        "本进程已打开一个 worker；请在各自的进程中打开其他的",
    ),
    "executor_taken": (
        "another worker has the executor_id {name!r}, too; give your DBOS a unique one",
        "另一个 worker 的 executor_id 也是 {name!r}；请给你的 DBOS 一个独有的",
    ),
    "application_version": (
        "the application_version of your DBOS is {version!r}: pin it, and pass it to DurableUploads as version",
        "你的 DBOS 的 application_version 是 {version!r}：请固定下来，并作为 version 传给 DurableUploads",
    ),
    "databases_differ": (
        "your DBOS and this DurableUploads use different databases; use the same one for both",
        "你的 DBOS 与这个 DurableUploads 使用了不同的数据库；请使用同一个",
    ),
    "dbos_not_launched": (
        "your DBOS isn't launched yet; launch it before the worker is opened",
        "你的 DBOS 尚未启动；请在打开 worker 之前启动它",
    ),
    "queue_unavailable": ("the queue's database can't be used: {reason}", "无法使用队列的数据库：{reason}"),
    "source_changed": ("has changed since it was submitted", "在提交之后发生了变化"),
    "changed_while_read": ("has changed while it was read", "在读取过程中发生了变化"),
    "gone": ("is gone", "已不存在"),
    "not_regular_file": ("{path} is not a regular file", "{path} 不是普通文件"),
    # -- amounts, and callbacks signed in tests -----------------------------------------------------------------------
    "money_not_decimal": (
        'must be a Decimal or text ("9.99"), not {kind}',
        '必须是 Decimal 或文本（"9.99"），而不是 {kind}',
    ),
    "money_out_of_range": (
        "must be an amount in yuan, 0 or more and below 10 to the 12th",
        "必须是以元为单位的金额，不小于 0 且小于 10 的 12 次方",
    ),
    "money_decimals": ("must not have more than two decimals", "小数不能超过两位"),
    "query_too_long": (
        "take {size} bytes in the query string, and the limit is {most}",
        "在查询字符串中占 {size} 字节，上限为 {most} 字节",
    ),
    "naive_datetime": ("must have a time zone, such as datetime.now(UTC)", "必须带时区，例如 datetime.now(UTC)"),
    "paid_at_form": (
        "must be a datetime with a time zone, or a Unix timestamp of ten digits",
        "必须是带时区的 datetime，或十位的 Unix 时间戳",
    ),
    "vendor_field": (
        "{name} is one of GatePay's own fields; to change it, use tampered={{…}}",
        "{name} 是 GatePay 自己的字段；请用 tampered={{…}} 修改",
    ),
    "no_field": ("no field {name!r}; there are {names}", "没有字段 {name!r}；可用的有 {names}"),
    "not_dict": ("must be a dict, not {kind}", "必须是 dict，而不是 {kind}"),
    "wrong_type": ("must be a {wanted}, not {kind}", "必须是 {wanted}，而不是 {kind}"),
    "lacks_members": ("must be a {wanted}: {kind} has no {missing}", "必须是 {wanted}：{kind} 没有 {missing}"),
    "not_instance": ("must be an instance of {wanted}, not of {kind}", "必须是 {wanted} 的实例，而不是 {kind}"),
    # -- the arguments of the sandbox and of the pool -----------------------------------------------------------------
    "no_origin": (
        "must be a URL with http:// or https:// and a host",
        "必须是网址：以 http:// 或 https:// 开头，带主机名",
    ),
    "synchronous_body": (
        "has a body that can only be read synchronously; an asynchronous transport can't send it",
        "的请求体只能同步读取，异步 transport 无法发送",
    ),
    "no_choice": ("must be one of {choices}, not {kind}", "必须是 {choices} 之一，而不是 {kind}"),
    "not_number": ("must be a number, not {kind}", "必须是数，而不是 {kind}"),
    "not_list": ("must be a list or another iterable, not {kind}", "必须是列表或其他可迭代对象，而不是 {kind}"),
    "only_loopback": (
        "must be 127.0.0.1, because the sandbox shows its secrets",
        "只能是 127.0.0.1，因为沙箱会显示自己的密钥",
    ),
    "not_in_range": ("must be from {least} to {most}", "必须在 {least} 到 {most} 之间"),
    "amount_range": (
        "must be an amount from {least} to {most} yuan, in whole fen",
        "必须是 {least} 到 {most} 元之间的金额，精确到分",
    ),
    "fault_without_code": (
        "is missing: FaultKind.CODE needs the code to refuse with",
        "缺失：FaultKind.CODE 需要指定拒绝时的状态码",
    ),
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
    "url_not_local": (
        "The URL must point to this machine (127.0.0.1 or localhost). Sandbox(callbacks_beyond_loopback=True) allows other hosts.",
        "回调只能发往本机（127.0.0.1 或 localhost）。如需放开，请使用 Sandbox(callbacks_beyond_loopback=True)。",
    ),
    # -- sentences that start with a placeholder ----------------------------------------------------------------------
    "sending_failed": (
        "{kind} while sending; see the worker's log",
        "发送时出现 {kind}；请查看 worker 的日志",
    ),
    "job_in_work": ("{job} is running; cancel it first", "{job} 正在处理中；请先取消"),
    "job_gone": ("{job} no longer exists; someone has deleted it", "{job} 已不存在，可能已被删除"),
    "source_lost": (
        "{source}: {problem}; none of it was sent. Submit the input again, and resume the job",
        "{source}：{problem}；其中的内容都没有发送，请重新提交并恢复任务",
    ),
    "line": ("line {line} {problem}", "第 {line} 行{problem}"),
    "lines": ("lines {first} to {last}: each {problem}", "第 {first} 至 {last} 行每行都{problem}"),
    "with_example": ("{problem}:\n{example}", "{problem}：\n{example}"),
    "key_not_text": ("{key!r} must be text", "{key!r} 必须是文本"),
    # -- errors of a transport ----------------------------------------------------------------------------------------
    **HTTPX_ERRORS,
    "error": ("{kind}", "{kind}"),
    "error_says": ("{kind}: {reason}", "{kind}：{reason}"),
    # -- texts from elsewhere -----------------------------------------------------------------------------------------
    "other": ("{text}", "{text}"),
}
