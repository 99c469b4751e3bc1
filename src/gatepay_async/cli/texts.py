"""Everything that the command says, in English and in Chinese. A test holds that nothing is missing."""

# name -> (English, 中文). A name without a dot is the help of a command; what follows its first line is shown
# in that command's own help only. Lines that begin with blanks are examples and are never broken.
TEXTS: dict[str, tuple[str, str]] = {
    # -- commands -----------------------------------------------------------------------------------------------------
    "gatepay": (
        "GatePay from a terminal: products, card keys, payments, callbacks.\n"
        "\n"
        "It signs with GATEPAY_APPKEY and GATEPAY_APPSECRET, or the file that GATEPAY_APPSECRET_FILE names, and calls "
        "GATEPAY_BASE_URL, by default GatePay itself. The secret is never taken from the command line.\n"
        "\n"
        "  gatepay demo                                  see it work, without an account\n"
        "  gatepay doctor                                is everything set up?\n"
        "  gatepay keys upload keys.txt --product 8      a text file, one card key a line\n"
        "\n"
        "Exit status: 0 done; 1 done in part; 2 wrong usage; 3 refused; 4 no answer; 5 the output could not be written; 130 interrupted (Ctrl-C).",
        "在终端中使用 GatePay：产品、卡密、付款、回调。\n"
        "\n"
        "用 GATEPAY_APPKEY 和 GATEPAY_APPSECRET（或 GATEPAY_APPSECRET_FILE 指定的文件）签名，访问 "
        "GATEPAY_BASE_URL，默认就是 GatePay。密钥从不通过命令行传入。\n"
        "\n"
        "  gatepay demo                                  无需账号，先看演示\n"
        "  gatepay doctor                                检查配置是否就绪\n"
        "  gatepay keys upload keys.txt --product 8      上传文本文件，一行一条卡密\n"
        "\n"
        "退出码：0 完成；1 部分完成；2 用法错误；3 被拒绝；4 没有应答；5 无法写入输出；130 被中断（Ctrl-C）。",
    ),
    "products": ("List what the shop sells: numbers, prices, stock.", "列出商铺的产品：编号、价格、库存。"),
    "keys": ("Card keys: upload, export, count.", "卡密：上传、导出、统计。"),
    "upload": (
        "Upload card keys from files, one a line.\n"
        "\n"
        "Files are looked through first: if one of them can't be right, nothing is sent. `-` is standard input, which "
        "is sent as it comes. Blank lines and repetitions are left out.\n"
        "\n"
        "To run it again is always safe: GatePay keeps one copy of each card key, and says which are new.\n"
        "\n"
        "With --durable (extra `durable`) the upload survives a crash of this program or machine: card keys wait in a "
        "queue, and `gatepay uploads` shows what became of them.\n"
        "\n"
        "  gatepay keys upload keys.txt more.txt --product 8 --failed-lines failed.txt\n"
        "  gatepay keys upload keys.txt --product 8 --dry-run\n"
        "  gatepay keys upload keys.txt --product 8 --durable",
        "从文件上传卡密，一行一条。\n"
        "\n"
        "上传前会先检查全部文件：只要有一个文件有问题，就什么都不发送。`-` 表示标准输入，边读边发。"
        "空行和重复的卡密会自动略过。\n"
        "\n"
        "重复执行总是安全的：GatePay 对每条卡密只保留一份，并会告知哪些是新增的。\n"
        "\n"
        "使用 --durable（附加组件 durable）时，即使程序或机器中途崩溃，上传也不会丢失：卡密先进入队列，"
        "之后用 gatepay uploads 查看结果。\n"
        "\n"
        "  gatepay keys upload keys.txt more.txt --product 8 --failed-lines failed.txt\n"
        "  gatepay keys upload keys.txt --product 8 --dry-run\n"
        "  gatepay keys upload keys.txt --product 8 --durable",
    ),
    "uploads": (
        "Durable uploads: list, watch, stop, go on, work at them.\n"
        "\n"
        "The queue is a file of yours; or what GATEPAY_UPLOADS names: sqlite:///a/file, or for several machines "
        "postgresql://user:password@host/database, with GATEPAY_UPLOADS_SPOOL, a folder that all of them reach.\n"
        "\n"
        "  gatepay keys upload keys.txt --product 8 --durable --no-wait\n"
        "  gatepay uploads work --concurrency 8\n"
        "  gatepay uploads list",
        "可恢复的上传：查看、跟踪、停止、继续、处理。\n"
        "\n"
        "队列默认是你自己的一个文件；也可以用 GATEPAY_UPLOADS 指定：sqlite:///文件路径，或多台机器共用的 "
        "postgresql://用户:密码@主机/数据库，此时还要用 GATEPAY_UPLOADS_SPOOL 指定一个所有机器都能访问的目录。\n"
        "\n"
        "  gatepay keys upload keys.txt --product 8 --durable --no-wait\n"
        "  gatepay uploads work --concurrency 8\n"
        "  gatepay uploads list",
    ),
    "list": ("List the durable uploads of the shop, the newest first.", "列出商铺的可恢复上传，最新的在前。"),
    "show": (
        "Show what became of a durable upload, so far or in the end.\n"
        "\n"
        "Ends as an upload does: 0 done; 1 done in part; 3 refused; 4 no answer.",
        "显示某个可恢复上传目前或最终的结果。\n\n退出码与上传相同：0 完成；1 部分完成；3 被拒绝；4 没有应答。",
    ),
    "watch": (
        "Follow a durable upload until it has ended.\n"
        "\n"
        "It only watches: somebody must work at it, `gatepay uploads work` here or elsewhere.",
        "跟踪某个可恢复上传，直到结束。\n\n它只是查看：还需要在本机或别处运行 gatepay uploads work 来处理。",
    ),
    "cancel": (
        "Send nothing more of a durable upload; calls in flight end.",
        "不再发送某个可恢复上传的剩余部分；已发出的请求会执行完。",
    ),
    "resume": (
        "Send what a durable upload has not sent, or of which that is unknown.",
        "继续发送某个可恢复上传中未发送或结果未知的部分。",
    ),
    "forget": (
        "Clean away a durable upload that has ended, with the card keys that wait for it.",
        "清除某个已结束的可恢复上传，连同暂存的卡密。",
    ),
    "work": (
        "Work at the durable uploads of the shop, until Ctrl-C.\n"
        "\n"
        "Run it as often as you like, on as many machines: they share the work, and take over from one that dies. "
        "Give all of them the same numbers.\n"
        "\n"
        "  gatepay uploads work --concurrency 8 --global-concurrency 16 --rate 20\n"
        "  gatepay uploads work --drain",
        "处理商铺的可恢复上传，按 Ctrl-C 结束。\n"
        "\n"
        "可以在任意多台机器上任意多次运行：它们分担工作，一个崩溃了由其他的接手。请给它们相同的参数。\n"
        "\n"
        "  gatepay uploads work --concurrency 8 --global-concurrency 16 --rate 20\n"
        "  gatepay uploads work --drain",
    ),
    "export": (
        "Write all card keys of a product to a file.\n"
        "\n"
        "The file appears when it is complete, and only you may read it. Its ending says how it is written: "
        ".txt (one card key a line), .csv, .jsonl. `-` is standard output.\n"
        "\n"
        "  gatepay keys export --product 8 --output keys.csv",
        "把某个产品的全部卡密写入文件。\n"
        "\n"
        "文件在写完整之后才会出现，并且只有你自己可读。扩展名决定格式：.txt（一行一条）、.csv、.jsonl。"
        "`-` 表示标准输出。\n"
        "\n"
        "  gatepay keys export --product 8 --output keys.csv",
    ),
    "count": (
        "Count card keys: those on the server, and those left to sell.",
        "统计卡密：服务器上的总数和可售库存。",
    ),
    "pay": (
        "Make an order; print its link and QR code.\n"
        "\n"
        "  gatepay pay --product 8 --type alipay\n"
        "  gatepay pay --product 8 --type alipay --wait --listen 0.0.0.0:8000\n"
        "\n"
        "With --wait, GatePay's callback must reach the address of --listen: enter a URL that leads there in "
        "GatePay's console.",
        "创建订单，显示付款链接和二维码。\n"
        "\n"
        "  gatepay pay --product 8 --type alipay\n"
        "  gatepay pay --product 8 --type alipay --wait --listen 0.0.0.0:8000\n"
        "\n"
        "使用 --wait 时，GatePay 的回调必须能到达 --listen 的地址：请在 GatePay 后台填写指向它的 URL。",
    ),
    "callback": ("Callbacks: verify one, sign one, send one to your shop.", "回调：验证、签名、发送给自己的商店。"),
    "verify": (
        "Say whether a callback is genuine, and what it says.\n"
        "\n"
        "  gatepay callback verify 'appkey=…&order_id=…&sign=…'",
        "检验一个回调是否真实，并显示其内容。\n\n  gatepay callback verify 'appkey=…&order_id=…&sign=…'",
    ),
    "sign": (
        "Print the query text that GatePay would call you with.\n"
        "\n"
        "  gatepay callback sign --order-id 7 --order T-1001-X --price 0.99",
        "输出 GatePay 回调时会使用的查询字符串。\n\n  gatepay callback sign --order-id 7 --order T-1001-X --price 0.99",
    ),
    "send": (
        "Call your shop as GatePay would when a customer has paid.\n"
        "\n"
        "Your shop will believe it: name an order that may be marked as paid. Ends with 0 for `success`, 3 for `fail`.\n"
        "\n"
        "  gatepay callback send URL --order-id 7 --order T-1001-X --price 0.99",
        "像 GatePay 在顾客付款后那样回调你的商店。\n"
        "\n"
        "你的商店会信以为真：请使用可以被标记为已付款的订单。`success` 时退出码为 0，`fail` 时为 3。\n"
        "\n"
        "  gatepay callback send URL --order-id 7 --order T-1001-X --price 0.99",
    ),
    "sandbox": (
        "Run GatePay's other end on this machine, until Ctrl-C.\n\n  gatepay sandbox --database shop.sqlite3 --port 8765",
        "在本机运行模拟的 GatePay，按 Ctrl-C 结束。\n\n  gatepay sandbox --database shop.sqlite3 --port 8765",
    ),
    "doctor": (
        "Look for what stands between you and GatePay, and say what to do.\n"
        "\n"
        "Versions, certificates, proxy, key and secret, network, clock; with --callback also your shop's own address, "
        "which is sent a genuine test callback (order GATEPAY-DOCTOR-X, 0.01) and a forged one.",
        "检查你与 GatePay 之间的各个环节，并说明怎么处理。\n"
        "\n"
        "检查版本、证书、代理、密钥、网络和时钟；加上 --callback 还会检查你商店的回调地址：向它发送一个真实的测试回调"
        "（订单 GATEPAY-DOCTOR-X，0.01 元）和一个伪造的回调。",
    ),
    "errors": (
        "Explain GatePay's error codes: why each comes, and what to do.\n"
        "\n"
        "  gatepay errors                     all of them\n"
        "  gatepay errors ka/create           those of an endpoint\n"
        "  gatepay errors pay/create 109      one",
        "解释 GatePay 的状态码：为什么出现、怎么处理。\n"
        "\n"
        "  gatepay errors                     全部\n"
        "  gatepay errors ka/create           某个接口的\n"
        "  gatepay errors pay/create 109      其中一个",
    ),
    "demo": (
        "See it work: upload, walk back, pay, callback. Needs no account.",
        "观看演示：上传、取回、付款、回调。无需账号。",
    ),
    # -- options and arguments ----------------------------------------------------------------------------------------
    "option.json": (
        "Write JSON, one object a line, for programs.",
        "输出 JSON（一行一个对象），供程序读取。",
    ),
    "option.lang": ("Language; by default the locale's.", "语言；默认跟随系统区域设置。"),
    "option.version": ("Show the version.", "显示版本号。"),
    "option.help": ("Show this help.", "显示本帮助。"),
    "option.install": ("Install completion for this shell.", "为当前 shell 安装命令补全。"),
    "option.show": ("Show the completion script, to copy it.", "显示补全脚本，便于复制。"),
    "option.product": (
        "The product's number; `gatepay products` lists them.",
        "产品编号；可用 gatepay products 查看。",
    ),
    "option.type": ("How the customer pays.", "付款方式。"),
    "upload.files": (
        "Text files, one card key a line; `-`: standard input.",
        "文本文件，一行一条卡密；`-` 为标准输入。",
    ),
    "upload.concurrency": ("Calls side by side (4).", "同时发送的请求数（4）。"),
    "upload.encoding": ("How the files are encoded (utf-8).", "文件编码（utf-8）。"),
    "upload.failed_lines": (
        "Write what is not known to be on the server here, to be uploaded again. Replaces the file; only you may read it.",
        "把尚未确认录入的卡密写入此文件，便于再次上传。会覆盖原文件；仅自己可读。",
    ),
    "upload.dry_run": ("Say what would be sent, and send nothing.", "只说明将要发送什么，不实际发送。"),
    "upload.durable": (
        "Through a queue, so that it survives a crash; run again, it goes on.",
        "通过队列上传，崩溃后也不丢失；再次执行会接着上传。",
    ),
    "upload.no_wait": (
        "With --durable: put it into the queue, and end.",
        "配合 --durable：只放入队列，随即结束。",
    ),
    "uploads.which": ("Its number, or how it begins.", "上传的编号，或编号的开头。"),
    "work.global_concurrency": (
        "Calls side by side in all workers together (no limit).",
        "所有处理进程合计的同时请求数（不限）。",
    ),
    "work.rate": ("Calls a second of all workers together (no limit).", "所有处理进程合计的每秒请求数（不限）。"),
    "work.drain": ("End as soon as nothing is left to send.", "没有待发送的内容时就结束。"),
    "export.output": ("Where to: .txt, .csv, .jsonl, or `-`.", "输出到：.txt、.csv、.jsonl，或 `-`。"),
    "export.thorough": (
        "Miss nothing even if card keys are added and deleted at once; one call in seven more.",
        "即使同时有卡密增删也不会遗漏；请求数约多七分之一。",
    ),
    "export.force": ("Replace a file that is there.", "覆盖已存在的文件。"),
    "export.reveal": ("Show card keys on a terminal.", "允许在终端上显示卡密。"),
    "count.product": ("Only this product.", "只统计这个产品。"),
    "pay.num": ("How many (1).", "数量（1）。"),
    "pay.order": ("Your order number; by default a new one.", "你的订单号；默认生成一个新的。"),
    "pay.custom": ("Comes back with the callback; by default the order number.", "随回调原样返回；默认为订单号。"),
    "pay.save_qr": ("Save GatePay's QR code as a picture.", "把 GatePay 的二维码保存为图片。"),
    "pay.wait": ("Wait until it is paid; needs --listen.", "等待付款完成；需要 --listen。"),
    "pay.listen": ("Where to listen for the callback.", "在此地址接收回调。"),
    "pay.timeout": ("How long to wait (900).", "最长等待秒数（900）。"),
    "verify.query": ("The query text, a whole address, or `-`.", "查询字符串、完整网址，或 `-`。"),
    "send.url": ("Your shop's callback address.", "你的商店的回调地址。"),
    "callback.order_id": ("GatePay's number of the order.", "GatePay 的订单编号。"),
    "callback.order": ("Your order number.", "你的订单号。"),
    "callback.price": ("The order's price, with two decimals.", "订单价格，两位小数。"),
    "callback.realprice": ("What was paid; by default the price.", "实付金额；默认等于价格。"),
    "callback.extend": ("What `custom` was.", "下单时的 custom。"),
    "callback.paid_at": ("When; by default now.", "付款时间；默认为现在。"),
    "callback.forged": ("Sign it wrongly.", "使用错误的签名。"),
    "sandbox.database": (
        "An SQLite file to keep it in; by default in memory.",
        "保存数据的 SQLite 文件；默认只在内存中。",
    ),
    "sandbox.port": ("Of 127.0.0.1; by default a free one.", "127.0.0.1 上的端口；默认自动选择。"),
    "sandbox.callback": (
        "Your shop's address on this machine, to be called when an order is paid.",
        "你的商店在本机的地址，订单付款后会回调它。",
    ),
    "doctor.callback": ("Test your shop's callback address, too.", "同时测试你商店的回调地址。"),
    "errors.endpoint": (
        "pay/create, product/show, ka/show or ka/create.",
        "pay/create、product/show、ka/show 或 ka/create。",
    ),
    "errors.code": ("The number.", "状态码。"),
    # -- how help looks -----------------------------------------------------------------------------------------------
    "help.usage": ("Usage: ", "用法："),
    "help.options_there": ("[OPTIONS]", "[选项]"),
    "help.command_there": ("COMMAND …", "命令 …"),
    "help.arguments": ("Arguments", "参数"),
    "help.commands": ("Commands", "命令"),
    "help.options": ("Options", "选项"),
    "help.required": ("[required]", "[必填]"),
    # -- wrong usage --------------------------------------------------------------------------------------------------
    "usage.no_command": ("There is no command {name}.", "没有 {name} 这个命令。"),
    "usage.meant": (" Did you mean {name}?", "是不是想用 {name}？"),
    "usage.no_option": ("There is no option {option}.", "没有 {option} 这个选项。"),
    "usage.missing_command": ("A command is missing.", "缺少命令。"),
    "usage.missing": ("{name} is missing.", "缺少 {name}。"),
    "usage.needs_value": ("{option} needs a value.", "{option} 需要一个值。"),
    "usage.no_value": ("{option} takes no value.", "{option} 不带值。"),
    "usage.bad": ("{name}: {problem}", "{name}：{problem}"),
    "usage.extra": ("Nothing is to be done with: {extra}", "多余的参数：{extra}"),
    "usage.number": ("must be a whole number above 0, not {value}", "必须是大于 0 的整数，而不是 {value}"),
    "usage.per_second": ("must be a number above 0, not {value}", "必须是大于 0 的数，而不是 {value}"),
    "usage.port": ("must be a port, 0 to 65535, not {value}", "必须是 0 到 65535 的端口，而不是 {value}"),
    "usage.choice": ("must be one of {choices}, not {value}", "只能是 {choices} 之一，而不是 {value}"),
    "usage.hint": ("read {command} --help", "查看 {command} --help"),
    # -- what went wrong ----------------------------------------------------------------------------------------------
    "output.unwritable": (
        "Error: Standard output can't be written: {reason}. The command may have done its work: check before you run it again.",
        "错误：无法写入标准输出：{reason}。命令可能已执行完毕，重新运行前请先确认。",
    ),
    "failing.error": ("Error: ", "错误："),
    "failing.cause": ("Why: ", "原因："),
    "failing.todo": ("Do: ", "处理："),
    "failing.field": ("{field}: {problem}", "{field}：{problem}"),
    "failing.InvalidRequestError": ("{problem}", "{problem}"),
    "failing.RefusedError": (
        "{endpoint} was refused with {code} ({message}).",
        "{endpoint} 被拒绝，状态码 {code}（{message}）。",
    ),
    "failing.ProtocolError": (
        "{endpoint}: the answer is not GatePay's (HTTP {http_status}): {problem}",
        "{endpoint}：应答不是 GatePay 的（HTTP {http_status}）：{problem}",
    ),
    "failing.TransportError": (
        "{endpoint}: nobody answered: {problem} (attempts: {attempts})",
        "{endpoint}：没有应答：{problem}（尝试 {attempts} 次）",
    ),
    "failing.OutcomeUnknownError": (
        "The order {out_order_id} may have been made, or not.",
        "订单 {out_order_id} 可能已创建，也可能没有。",
    ),
    "failing.CallbackError": ("Not genuine: {problem}", "回调不可信：{problem}"),
    "failing.GatePayError": ("{error}", "{error}"),
    "running.interrupted": ("Interrupted.", "已中断。"),
    "extras.missing": (
        "This needs {name}, which is not installed: pip install 'gatepay-async[{extra}]'",
        "需要 {name}，但尚未安装：pip install 'gatepay-async[{extra}]'",
    ),
    # Where the catalogue speaks to programmers.
    "todo.ProductNotFoundError": (
        "See the shop's products with `gatepay products`. Is the appkey that of the shop that you mean?",
        "用 gatepay products 查看商铺的产品，并确认 appkey 属于你要操作的商铺。",
    ),
    "todo.InvalidProductError": (
        "See the shop's products with `gatepay products`.",
        "用 gatepay products 查看商铺的产品编号。",
    ),
    "todo.InvalidAppKeyError": (
        "If you named a product, check with `gatepay products` that it is this shop's: GatePay may answer this for a "
        "product of another shop. Otherwise copy the appkey again from GatePay's console into GATEPAY_APPKEY.",
        "如果指定了产品，请先用 gatepay products 确认它属于该商铺：产品属于其他商铺时，GatePay 也可能返回此状态码。"
        "否则请从 GatePay 后台重新复制 appkey 到 GATEPAY_APPKEY。",
    ),
    "todo.SignatureRejectedError": (
        "If other calls with this secret succeed, look at the text that you send (card keys, order number, custom): "
        "GatePay may change any of & < > \" ' and blanks at the ends before it checks the signature. Otherwise copy the "
        "secret that belongs to this appkey again from GatePay's console, into GATEPAY_APPSECRET or the file of "
        "GATEPAY_APPSECRET_FILE; a new login password there changes it.",
        "如果使用同一密钥的其他调用成功，请检查发送的内容（卡密、订单号、自定义信息）：GatePay 可能会先改动其中的 "
        "& < > \" ' 和首尾空白，再校验签名。否则请从 GatePay 后台重新复制与该 appkey 对应的密钥，写入 GATEPAY_APPSECRET "
        "或 GATEPAY_APPSECRET_FILE 指定的文件；在后台修改登录密码会更换密钥。",
    ),
    "todo.InvalidRequestError": ("Correct it, and run the command again.", "请修正后重新执行命令。"),
    "todo.SingleItemOnlyError": ("Use --num 1, or another --type.", "请使用 --num 1，或换用其他 --type。"),
    "todo.InvalidPayTypeError": ("Use another --type.", "请换用其他 --type。"),
    "todo.OutOfStockError": (
        "Upload card keys, or use a smaller --num; `gatepay products` tells how many are left.",
        "请补充卡密，或减小 --num；gatepay products 可查看剩余数量。",
    ),
    "todo.InvalidQuantityError": ("Use --num 1 or more.", "请使用不小于 1 的 --num。"),
    "todo.MissingParameterError": (
        "The command sends them all: is a proxy in between? Run `gatepay doctor`. If there is none, update gatepay-async.",
        "命令会发送全部参数：中间是否有代理？请运行 gatepay doctor；若没有代理，请升级 gatepay-async。",
    ),
    "todo.DuplicateKeysError": (
        "GatePay takes two of these lines for the same (letter case, odd blanks). Leave one of them out.",
        "GatePay 认为其中有两行相同（大小写、特殊空白）。请去掉其中一行。",
    ),
    "todo.TooManyKeysError": (
        "The command sends 500 at most; update gatepay-async.",
        "命令每次最多发送 500 条；请升级 gatepay-async。",
    ),
    "todo.OrderFailedError": (
        "Run it again under a new order number. If it happens again, ask GatePay with the time.",
        "请使用新的订单号重新执行。如果再次出现，请带上时间联系 GatePay。",
    ),
    "todo.UnknownFailureError": (
        "Look for the order number in GatePay's console before you run it again, and use a new number then.",
        "重新执行之前，请先在 GatePay 后台查找这个订单号；再次执行时请使用新的订单号。",
    ),
    "todo.NoPayTypeAvailableError": (
        "Choose a way of receiving money in GatePay's console; until then try another --type.",
        "请在 GatePay 后台选择收款方式；在此之前可以换用其他 --type。",
    ),
    "todo.RefusedError": (
        "Ask GatePay, with the endpoint, the number and the time.",
        "请带上接口名、状态码和时间联系 GatePay。",
    ),
    "todo.TransportError": (
        "Run `gatepay doctor`. Then run the command again: what the server has is not stored twice.",
        "运行 gatepay doctor 检查，然后重新执行命令：服务器已有的内容不会重复录入。",
    ),
    "todo.DeadlineExceededError": (
        "Run `gatepay doctor`. Then run the command again: what the server has is not stored twice.",
        "运行 gatepay doctor 检查，然后重新执行命令：服务器已有的内容不会重复录入。",
    ),
    "todo.ProtocolError": (
        "Is GATEPAY_BASE_URL right, and is there a proxy or a login page in between? Run `gatepay doctor`.",
        "检查 GATEPAY_BASE_URL 是否正确，中间是否有代理或登录页。可运行 gatepay doctor。",
    ),
    "todo.OutcomeUnknownError": (
        "Don't run it again at once. Look for this order number in GatePay's console; if it isn't there, make another "
        "order under a new number.",
        "先不要重新执行。请在 GatePay 后台查找这个订单号；如果没有，再用新的订单号另建一个订单。",
    ),
    "todo.DurableError": (
        "`gatepay uploads resume` goes on with it, `cancel` ends it, `forget` cleans it away.",
        "gatepay uploads resume 可恢复，cancel 可取消，forget 可清除。",
    ),
    "todo.SourceChangedError": (
        "Run `gatepay keys upload` on the same input again: nothing is stored twice.",
        "请对同样的内容再次执行 gatepay keys upload：不会重复录入。",
    ),
    "todo.StaleCallbackError": (
        "Look at your own record of the order, and at this machine's clock.",
        "请核对自己的订单记录和本机时钟。",
    ),
    "todo.UploadIncomplete": (
        "Mend the cause, and upload the same again: GatePay keeps one copy of each card key.",
        "排除原因后重新上传同样的内容即可：GatePay 对每条卡密只保留一份。",
    ),
    "todo.MalformedCallbackError": (
        "Give the raw query text, exactly as it came, in quotes.",
        "请用引号括住，原样传入收到的查询字符串。",
    ),
    "todo.CallbackSignatureError": (
        "Is it for this appkey and this secret? If both are right, somebody has forged or changed it: answer `fail`, "
        "and give no goods.",
        "请确认 appkey 和密钥是否对应。如果都正确，说明回调被伪造或改动：请返回 `fail`，不要发货。",
    ),
    # -- settings -----------------------------------------------------------------------------------------------------
    "settings.no_appkey": ("GATEPAY_APPKEY is not set.", "没有设置 GATEPAY_APPKEY。"),
    "settings.no_appkey.todo": (
        "set GATEPAY_APPKEY and GATEPAY_APPSECRET to what GatePay's console shows; or try `gatepay demo` first",
        "把 GATEPAY_APPKEY 和 GATEPAY_APPSECRET 设为 GatePay 后台显示的值；也可以先试试 gatepay demo",
    ),
    "settings.no_secret": (
        "Neither GATEPAY_APPSECRET nor GATEPAY_APPSECRET_FILE is set.",
        "没有设置 GATEPAY_APPSECRET，也没有设置 GATEPAY_APPSECRET_FILE。",
    ),
    "settings.no_secret.todo": (
        "write the secret to a file that only you can read, and set GATEPAY_APPSECRET_FILE to its path",
        "把密钥写入只有你可读的文件，并将 GATEPAY_APPSECRET_FILE 设为它的路径",
    ),
    "settings.two_secrets": (
        "Both GATEPAY_APPSECRET and GATEPAY_APPSECRET_FILE are set.",
        "同时设置了 GATEPAY_APPSECRET 和 GATEPAY_APPSECRET_FILE。",
    ),
    "settings.two_secrets.todo": ("unset one of the two", "请取消其中一个"),
    "settings.secret_file": (
        "GATEPAY_APPSECRET_FILE: {path} can't be read: {reason}",
        "GATEPAY_APPSECRET_FILE：无法读取 {path}：{reason}",
    ),
    "settings.secret_form": (
        "GATEPAY_APPSECRET_FILE: {path} must hold the secret, and nothing else.",
        "GATEPAY_APPSECRET_FILE：{path} 里只能有密钥本身。",
    ),
    "settings.secret_shared": (
        "Warning: everybody on this machine can read the secret in {path}; chmod 600 mends that.",
        "警告：本机所有用户都能读取 {path} 中的密钥；请执行 chmod 600。",
    ),
    # -- files --------------------------------------------------------------------------------------------------------
    "files.there": ("{path} is there already.", "{path} 已存在。"),
    "files.there.todo": ("give --force to replace it, or another name", "用 --force 覆盖，或换一个文件名"),
    "files.no_folder": ("{path}: there is no such folder.", "{path}：文件夹不存在。"),
    "files.no_file": ("{path} is no plain file.", "{path} 不是普通文件。"),
    "files.unwritable": ("{path} can't be written: {reason}", "无法写入 {path}：{reason}"),
    "sources.stdin": ("standard input", "标准输入"),
    "sources.directory": ("{name} is a folder, not a file.", "{name} 是文件夹，不是文件。"),
    "sources.twice": ("{name} is given twice; it is read once.", "{name} 重复给出，只读取一次。"),
    "sources.missing": ("There is no file {name} here.", "没有 {name} 这个文件。"),
    "sources.bad": ("{name}: {problem}", "{name}：{problem}"),
    "sources.and": ("; ", "；"),
    "sources.unreadable": ("{name} can't be read: {reason}", "无法读取 {name}：{reason}"),
    "sources.line": ("line {line} {problem}", "第 {line} 行{problem}"),
    "sources.utf16": ("begins as UTF-16 does", "以 UTF-16 的方式开头"),
    "sources.utf8_mark": (
        "begins with the byte-order mark of UTF-8, so it is not {encoding}",
        "带有 UTF-8 的 BOM，不是 {encoding} 编码",
    ),
    "sources.utf8_mark.todo": ("leave --encoding out", "请去掉 --encoding 选项"),
    "sources.nul": ("holds a NUL, as UTF-16 does", "含有 NUL（可能是 UTF-16）"),
    "sources.cr": ("holds a lone carriage return, as files of old Macs do", "含有单独的回车符（旧式 Mac 换行）"),
    "sources.encoding": ("is in another encoding", "是别的编码"),
    "sources.long": ("is longer than {most} bytes", "超过 {most} 字节"),
    "sources.todo": (
        "save it as UTF-8 text, one card key a line, or name its --encoding (gb18030, gbk, big5)",
        "请另存为 UTF-8 文本，一行一条卡密，或用 --encoding 指定编码（gb18030、gbk、big5）",
    ),
    "uploads.keys_gone": (
        "The card keys of {count} lines are no longer in the spool and can't be written to {path}.",
        "{count} 行的卡密已不在暂存区，无法写入 {path}。",
    ),
    "uploads.kept": ("{path} is left as it was.", "{path} 保持原样。"),
    "sources.nothing_sent": ("; nothing was sent", "；没有发送任何内容"),
    "sources.changed": ("{name} has changed while it was read.", "{name} 在读取过程中被改动了。"),
    "sources.changed.todo": (
        "run it again when the file is complete; what is on the server is not stored twice",
        "等文件写完后再执行一次；服务器已有的卡密不会重复录入",
    ),
    # -- products and counts ------------------------------------------------------------------------------------------
    "products.id": ("product", "产品编号"),
    "products.category": ("category", "分类"),
    "products.name": ("name", "名称"),
    "products.price": ("price", "价格"),
    "products.stock": ("left to sell", "可售库存"),
    "products.total": ("on the server", "卡密总数"),
    "products.none": ("The shop sells nothing yet.", "商铺还没有产品。"),
    # -- the upload ---------------------------------------------------------------------------------------------------
    "screens.rate": ("{rate}/s", "{rate} 条/秒"),
    "screens.left": ("{time} left", "剩余 {time}"),
    "upload.doing": ("Uploading", "正在上传"),
    "upload.column": ("what became of them", "结果"),
    "upload.lines": ("lines", "行数"),
    "upload.read": ("read", "读取"),
    "upload.blank": ("blank", "空行"),
    "upload.duplicates": ("repeated in the input", "输入中重复"),
    "upload.stored": ("stored, new", "新录入"),
    "upload.already_there": ("on the server already", "服务器上已有"),
    "upload.refused": ("refused", "被拒绝"),
    "upload.unknown": ("unknown", "结果未知"),
    "upload.not_sent": ("not sent", "未发送"),
    "upload.to_come": ("still to come", "待处理"),
    "upload.would_send": ("would be sent", "将要发送"),
    "upload.chunks": ("calls", "请求次数"),
    "upload.where": ("where", "位置"),
    "upload.fate": ("result", "结果"),
    "upload.why": ("why", "原因"),
    "upload.more": ("… and {count} more", "……还有 {count} 项"),
    "upload.ok": ("All card keys are on the server.", "全部卡密都已在服务器上。"),
    "upload.stopped": (
        "Stopped early: every further call would have met the same.",
        "已提前停止：后面的请求也会遇到同样的问题。",
    ),
    "upload.failed_lines_at": (
        "What is not known to be on the server is in {path}, ready to be uploaded again.",
        "尚未确认录入的卡密已写入 {path}，可直接再次上传。",
    ),
    "upload.failed_lines_read": (
        "--failed-lines: {path} is what is to be uploaded, and would be replaced.",
        "--failed-lines：{path} 就是要上传的文件，会被覆盖。",
    ),
    "upload.failed_lines_read.todo": ("give another name", "请换一个文件名"),
    "upload.left_out": (
        "(Not in it: what standard input had not given yet.)",
        "（其中不含标准输入里尚未读取的部分。）",
    ),
    "upload.again": (
        "To upload the same input again is safe: GatePay keeps one copy of each card key.",
        "可以放心地重新上传同样的内容：GatePay 对每条卡密只保留一份。",
    ),
    "upload.cut_off": ("the upload was broken off", "上传被中断"),
    "upload.repeats": ("{line} repeats {first}", "{line} 与 {first} 重复"),
    "upload.cant_be": ("{line} can't be a card key", "{line} 不是有效的卡密"),
    "upload.invisible": (
        "{line} holds an invisible character, such as a zero-width space: is it part of the key?",
        "{line} 含有不可见字符（如零宽空格），请确认它是否属于卡密",
    ),
    "upload.nothing_sent": ("Nothing was sent.", "没有发送任何内容。"),
    # -- durable uploads ----------------------------------------------------------------------------------------------
    "queue.away.todo": (
        "Check GATEPAY_UPLOADS, and whether the database runs; what was submitted is safe there.",
        "请检查 GATEPAY_UPLOADS 以及数据库是否在运行；已提交的内容仍安全地保存在其中。",
    ),
    "queue.file": ("{path} can't be used: {reason}.", "{path} 无法使用：{reason}。"),
    "queue.folder": ("{path} can't be made: {reason}", "无法创建 {path}：{reason}"),
    "queue.none": ("There is no upload {wanted}.", "没有编号为 {wanted} 的上传。"),
    "queue.several": ("Several uploads begin with {wanted}.", "有多个上传的编号以 {wanted} 开头。"),
    "queue.todo": ("`gatepay uploads list` shows their numbers.", "用 gatepay uploads list 查看编号。"),
    "queue.several_files": ("{name} + {more} more", "{name} 等另外 {more} 个文件"),
    "queue.submitted": (
        "Upload {job} is in the queue: {count} card keys. It survives a crash from here on.",
        "上传 {job} 已进入队列：{count} 条卡密。从现在起，即使崩溃也不会丢失。",
    ),
    "queue.worked_at": (
        "`gatepay uploads work` sends it, `gatepay uploads watch` follows it.",
        "用 gatepay uploads work 发送，用 gatepay uploads watch 跟踪。",
    ),
    "queue.goes_on": (
        "What is still to come waits in the queue: run the same command again, or `gatepay uploads work`. ({job})",
        "尚未发送的部分留在队列中：再次执行同样的命令，或运行 gatepay uploads work 即可继续。（{job}）",
    ),
    "uploads.none": ("There are no durable uploads.", "没有可恢复的上传。"),
    "uploads.job": ("upload", "上传"),
    "uploads.name": ("input", "输入"),
    "uploads.product": ("product", "产品"),
    "uploads.state": ("state", "状态"),
    "uploads.keys": ("card keys", "卡密"),
    "uploads.there": ("on the server", "已在服务器上"),
    "uploads.created": ("submitted", "提交时间"),
    "uploads.working": ("working", "进行中"),
    "uploads.done": ("done", "已完成"),
    "uploads.stopped": ("stopped", "已停止"),
    "uploads.cancelled": ("cancelled", "已取消"),
    "uploads.is": ("Upload {job} is {state}.", "上传 {job}：{state}。"),
    "uploads.forgotten": ("Upload {job} is forgotten.", "上传 {job} 已清除。"),
    "working.open": (
        "Working at the durable uploads of this shop; Ctrl-C ends it, and loses nothing.",
        "正在处理本商铺的可恢复上传；按 Ctrl-C 结束，不会丢失任何内容。",
    ),
    "working.drained": ("Nothing is left to send.", "没有待发送的内容了。"),
    # -- the export ---------------------------------------------------------------------------------------------------
    "export.doing": ("Reading", "正在读取"),
    "export.terminal": ("Card keys are not shown on a terminal unasked.", "默认不在终端上显示卡密。"),
    "export.terminal.todo": (
        "give --reveal, or a file: --output keys.txt",
        "请加上 --reveal，或输出到文件：--output keys.txt",
    ),
    "export.closed": ("Standard output is closed, so the card keys would be lost.", "标准输出已关闭，卡密无处可写。"),
    "export.closed.todo": ("name a file with --output", "用 --output 指定文件"),
    "export.ending": ("{path}: must end in one of {endings}", "{path}：扩展名只能是 {endings}"),
    "export.written": ("{count} card keys are in {path}.", "已将 {count} 条卡密写入 {path}。"),
    "export.drifted": (
        "Note: the stock changed meanwhile. Card keys that were there all along are all included.",
        "注意：导出期间库存有变动。一直存在的卡密都已包含在内。",
    ),
    # -- payments -----------------------------------------------------------------------------------------------------
    "pay.order_is": ("order", "订单号"),
    "pay.price_is": ("price", "金额"),
    "pay.type_is": ("paid by", "付款方式"),
    "pay.link_is": ("Pay here: ", "付款链接："),
    "pay.wait_and_listen": ("--wait and --listen belong together.", "--wait 和 --listen 必须一起使用。"),
    "pay.wait_and_listen.todo": (
        "for example: --wait --listen 0.0.0.0:8000",
        "例如：--wait --listen 0.0.0.0:8000",
    ),
    "pay.address": ("--listen: {address} is no HOST:PORT.", "--listen：{address} 不是“主机:端口”的形式。"),
    "pay.cant_listen": ("Can't listen on {address}: {reason}", "无法监听 {address}：{reason}"),
    "pay.waiting": (
        "Waiting for the callback at {address}, for {minutes} minutes at most …",
        "正在 {address} 等待回调，最多 {minutes} 分钟……",
    ),
    "pay.not_paid": ("Nobody has called back in time.", "在规定时间内没有收到回调。"),
    "pay.not_paid.todo": (
        "the order may still be paid: look in GatePay's console, and at the callback URL that is entered there",
        "订单仍可能被支付：请查看 GatePay 后台，并检查其中填写的回调地址",
    ),
    "pay.paid": (
        "Paid: {realprice} by {type} (GatePay's order {order_id}).",
        "已付款：{realprice}，方式 {type}（GatePay 订单 {order_id}）。",
    ),
    # -- callbacks ----------------------------------------------------------------------------------------------------
    "callback.genuine": ("Genuine: signed with your secret.", "真实：由你的密钥签名。"),
    "callback.compare": (
        "Before you deliver, compare out_order_id and price with your own record, and realprice with price.",
        "发货前，请与自己的订单记录核对 out_order_id 和 price，并确认 realprice 不低于 price。",
    ),
    "callback.underpaid": (
        "Underpaid: {realprice} was paid for an order of {price}.",
        "付款不足：订单金额 {price}，实付 {realprice}。",
    ),
    "callback.answered": ("The shop answers: {answer} (HTTP {status})", "商店应答：{answer}（HTTP {status}）"),
    "callback.nothing": ("nothing", "空"),
    "callback.neither": (
        "The answer is neither `success` nor `fail`, the bare word.",
        "响应既不是 `success` 也不是 `fail`（只能是这个词本身）。",
    ),
    "callback.neither.todo": (
        "is it the right address? GatePay wants one of the two words, and nothing else",
        "请检查地址是否正确：GatePay 只接受这两个词之一，不能有其他内容",
    ),
    "callback.money": (
        "A price is written with two decimals, such as 0.99; {value} is none.",
        "价格必须带两位小数，例如 0.99；{value} 不符合。",
    ),
    "callback.status": (
        "`success` with HTTP {status} is no success: GatePay may take it for an error page, and the sandbox does.",
        "HTTP {status} 的 `success` 不算成功：GatePay 可能把它当作错误页面，沙箱就是如此。",
    ),
    "callback.status.todo": (
        "answer with HTTP 200; was the word written before something failed?",
        "请以 HTTP 200 响应；是否在写出该词之后发生了错误？",
    ),
    "callback.late": ("no answer within {seconds} s", "{seconds} 秒内没有响应"),
    "callback.fragment": ("must have no # in it", "不能含有 #"),
    "callback.address": ("{url}: {reason}", "{url}：{reason}"),
    "callback.unreachable": ("{url} does not answer: {reason}", "{url} 没有应答：{reason}"),
    "callback.unreachable.todo": (
        "is the shop running, and does the address lead to it?",
        "请确认商店正在运行，且该地址指向它",
    ),
    # -- the sandbox --------------------------------------------------------------------------------------------------
    "sandbox.console": ("console", "控制台"),
    "sandbox.database_at": ("database", "数据库"),
    "sandbox.memory": ("in memory", "仅在内存中"),
    "sandbox.set": ("In another terminal, set:", "在另一个终端中设置："),
    "sandbox.until": ("Serving until Ctrl-C.", "正在运行，按 Ctrl-C 结束。"),
    "sandbox.ended": ("The sandbox has ended.", "沙箱已结束。"),
    "sandbox.port_taken": ("Port {port} can't be had: {reason}", "无法使用端口 {port}：{reason}"),
    "sandbox.port_taken.todo": (
        "give another --port, or none: a free one is found",
        "换一个 --port，或不指定（自动选择）",
    ),
    "sandbox.later": (
        "{path} was made by a later version of gatepay-async.",
        "{path} 由更新版本的 gatepay-async 创建。",
    ),
    "sandbox.later.todo": (
        "update gatepay-async, or give another --database",
        "升级 gatepay-async，或换一个 --database",
    ),
    "sandbox.url_form": (
        "--callback must be http:// or https://, a host and a path: ASCII without blanks, at most 2,000 characters.",
        "--callback 必须是以 http:// 或 https:// 开头的完整地址：仅限 ASCII 字符，不含空格，最长 2000 个字符。",
    ),
    "sandbox.url_user": (
        "--callback must not hold a user's name and password.",
        "--callback 不能包含用户名和密码。",
    ),
    "sandbox.url_taken": (
        "--callback has a parameter that the callback has itself, such as price or sign.",
        "--callback 含有与回调相同的参数名，例如 price 或 sign。",
    ),
    "sandbox.url_host": (
        "--callback must lead to this machine: 127.0.0.1 or localhost.",
        "--callback 只能指向本机：127.0.0.1 或 localhost。",
    ),
    "sandbox.database_bad": ("{path} can't be used as a database: {reason}", "{path} 不能用作数据库：{reason}"),
    # -- the doctor ---------------------------------------------------------------------------------------------------
    "doctor.ok": ("[ok]  ", "[正常]"),
    "doctor.warn": ("[note]", "[注意]"),
    "doctor.bad": ("[bad] ", "[问题]"),
    "doctor.finding": ("{about}: {text}", "{about}：{text}"),
    "doctor.versions": ("Versions", "版本"),
    "doctor.without": ("no {package}", "未安装 {package}"),
    "doctor.tls": ("Certificates", "证书"),
    "doctor.tls_ok": ("{count} authorities are trusted ({version})", "信任 {count} 个证书颁发机构（{version}）"),
    "doctor.tls_empty": ("no authority is trusted", "没有任何受信任的证书颁发机构"),
    "doctor.tls_bad": ("can't be read: {reason}", "无法读取：{reason}"),
    "doctor.tls_bad.todo": (
        "unset SSL_CERT_FILE and SSL_CERT_DIR, or have them name certificates; pip install --upgrade certifi",
        "取消 SSL_CERT_FILE 和 SSL_CERT_DIR，或让它们指向有效的证书；pip install --upgrade certifi",
    ),
    "doctor.proxy": ("Proxy", "代理"),
    "doctor.through": ("calls go through {proxy}", "请求将经过 {proxy}"),
    "doctor.through.todo": (
        "if that isn't meant, unset HTTPS_PROXY, or add GatePay's host to NO_PROXY",
        "如非本意，请取消 HTTPS_PROXY，或把 GatePay 的主机加入 NO_PROXY",
    ),
    "doctor.no_proxy": ("none", "无"),
    "doctor.proxy_bypassed": ("none for {host}", "访问 {host} 不经过代理"),
    "doctor.credentials": ("Key and secret", "密钥"),
    "doctor.credentials_ok": ("appkey {appkey}, the secret from {where}", "appkey 为 {appkey}，密钥来自 {where}"),
    "doctor.secret_in_file": ("the file {path}", "文件 {path}"),
    "doctor.secret_in_variable": ("GATEPAY_APPSECRET", "GATEPAY_APPSECRET"),
    "doctor.secret_shared.todo": ("chmod 600 {path}", "chmod 600 {path}"),
    "doctor.server": ("GatePay", "GatePay"),
    "doctor.server_ok": (
        "{url} believes the signature; the shop has {products} products ({ms} ms)",
        "{url} 接受签名；商铺有 {products} 个产品（{ms} 毫秒）",
    ),
    "doctor.failed": ("{headline}. {cause}", "{headline}。{cause}"),
    "doctor.failed.todo": (
        "is {url} right, and does this machine reach it? Look at the network, DNS, the proxy and the firewall; "
        "try: curl -v {url}",
        "请确认 {url} 正确且本机能够访问：检查网络、DNS、代理和防火墙；可以试试 curl -v {url}",
    ),
    "doctor.clock": ("Clock", "时钟"),
    "doctor.clock_ok": ("{skew} s from GatePay's", "与 GatePay 相差 {skew} 秒"),
    "doctor.clock_off": (
        "{skew} s from GatePay's: here it is {ours}, there {theirs} (UTC)",
        "与 GatePay 相差 {skew} 秒：本机 {ours}，对方 {theirs}（UTC）",
    ),
    "doctor.clock_off.todo": (
        "set this machine's clock by the network (NTP); callbacks would seem too old, or from the future",
        "请开启网络校时（NTP）；否则回调会显得过旧或来自未来",
    ),
    "doctor.no_time": ("the reply doesn't say what time it is", "应答中没有可读的时间"),
    "doctor.callback_ok": (
        "answers `{genuine}` to a genuine callback of an unknown order, and `fail` to a forged one",
        "对未知订单的真实回调应答 `{genuine}`，对伪造的回调应答 `fail`",
    ),
    "doctor.callback_strange": (
        "answers {genuine} to a genuine callback, and {forged} to a forged one",
        "对真实回调响应 {genuine}，对伪造回调响应 {forged}",
    ),
    "doctor.forged_believed": ("answers `success` to a FORGED callback", "对伪造的回调应答了 `success`"),
    "doctor.forged_believed.todo": (
        "check the signature before anything else (parse_callback, or CallbackApp): anybody can have goods for nothing",
        "请务必先验证签名（使用 parse_callback 或 CallbackApp）：否则任何人都能不付款拿货",
    ),
    # -- the catalogue of errors --------------------------------------------------------------------------------------
    "errors.where": ("endpoint", "接口"),
    "errors.number": ("code", "状态码"),
    "errors.message": ("GatePay says", "GatePay 原话"),
    "errors.cause": ("why", "原因"),
    "errors.remedy": ("what to do", "处理办法"),
    "errors.class": ("class", "异常类"),
    "errors.any": ("any endpoint", "任何接口"),
    "errors.no_code": (
        "{code} is not in GatePay's table for {endpoint}.",
        "GatePay 的 {endpoint} 状态码表中没有 {code}。",
    ),
    "errors.no_code.todo": ("`gatepay errors` lists all", "用 gatepay errors 查看全部"),
    "errors.no_endpoint": (
        "There is no endpoint {endpoint}; there are {endpoints}.",
        "没有 {endpoint} 这个接口；可用的有 {endpoints}。",
    ),
    # -- the demonstration --------------------------------------------------------------------------------------------
    "demo.where": (
        "GatePay's other end now runs on this machine, at {url}",
        "模拟的 GatePay 已在本机运行：{url}",
    ),
    "demo.uploaded": (
        "1. Uploaded: {read} lines read, {stored} card keys stored, {duplicates} repeated, {blank} blank.",
        "1. 上传：读取 {read} 行，录入 {stored} 条卡密，重复 {duplicates} 行，空行 {blank} 行。",
    ),
    "demo.walked": ("2. Walked back: {count} card keys, the same ones.", "2. 取回：{count} 条卡密，与上传的完全一致。"),
    "demo.walk_differs": (
        "2. Walked back: {count} card keys, NOT the same ones.",
        "2. 取回：{count} 条卡密，与上传的不一致！",
    ),
    "demo.ordered": ("3. Made an order of {price}, to be paid at {url}", "3. 创建订单，金额 {price}，付款链接 {url}"),
    "demo.called_back": (
        "4. Called back: order {order} is paid with {price}; the signature is right.",
        "4. 收到回调：订单 {order} 已支付 {price}，签名正确。",
    ),
    "demo.forged": ("5. A forged callback was not believed.", "5. 伪造的回调没有被采信。"),
    "demo.held": ("All of it held.", "一切正常。"),
    "demo.not_held": ("Something did NOT hold; see above.", "有步骤不正常，见上文。"),
    "demo.next": (
        "Next: `gatepay sandbox` to play with it, or `gatepay doctor` with your own account.",
        "接下来：用 gatepay sandbox 动手试试，或用自己的账号运行 gatepay doctor。",
    ),
}
