"""All texts of the ``gatepay`` command."""

from gatepay_async.words import Text

# A name without a dot is the help of a command. The list of commands shows only its first line. Lines that start with
# spaces are examples, and are never wrapped. Chinese amounts have the wide ￥, because GBK, the encoding of a pipe on
# Chinese Windows, has no narrow one.
COMMAND: dict[str, Text] = {
    # -- commands -----------------------------------------------------------------------------------------------------
    "gatepay": (
        "Use GatePay from your terminal: products, card keys, payments and callbacks.\n"
        "\n"
        "Run `gatepay login` once to store your key. Or set GATEPAY_APPKEY, and either GATEPAY_APPSECRET or "
        "GATEPAY_APPSECRET_FILE (the path of a file with the secret). To use another server, such as the sandbox, set "
        "GATEPAY_BASE_URL. The secret is never read from the command line.\n"
        "\n"
        "  gatepay demo                                  try it, no account needed\n"
        "  gatepay login                                 store your shop's key\n"
        "  gatepay doctor                                check your setup\n"
        "  gatepay keys upload keys.txt --product 8      upload card keys, one per line\n"
        "\n"
        "Exit status: 0 done; 1 partly done; 2 invalid usage; 3 refused (by GatePay, an invalid callback, an expired order); 4 no "
        "response; 5 output could not be written; 130 interrupted (Ctrl-C).",
        "在终端中使用 GatePay：商品、卡密、付款、回调。\n"
        "\n"
        "请先运行一次 gatepay login 保存密钥；也可以设置 GATEPAY_APPKEY，以及 GATEPAY_APPSECRET 或 "
        "GATEPAY_APPSECRET_FILE（保存密钥的文件路径）。"
        "如需访问沙箱等其他服务器，请设置 GATEPAY_BASE_URL。密钥不会从命令行参数中读取。\n"
        "\n"
        "  gatepay demo                                  运行演示，无需账号\n"
        "  gatepay login                                 保存店铺的密钥\n"
        "  gatepay doctor                                检查配置\n"
        "  gatepay keys upload keys.txt --product 8      上传卡密，一行一条\n"
        "\n"
        "退出码：0 完成；1 部分完成；2 用法错误；3 被拒绝（GatePay 拒绝、回调无效，或订单已过期）；4 没有响应；5 无法写入输出；130 被中断（Ctrl-C）。",
    ),
    "login": (
        "Store your shop's key for all later commands.\n"
        "\n"
        "Asks for the appkey and the appsecret of GatePay's console, and checks them with one call. The secret goes to "
        "your system's keyring or, if there is none, to a file that only you can read. Without a terminal, the command "
        "reads one line of standard input for each.\n"
        "\n"
        "  gatepay login\n"
        "  gatepay login --profile shop2\n"
        "  gatepay login --profile test --base-url http://127.0.0.1:8765/api/",
        "保存店铺的密钥，供之后的命令使用。\n"
        "\n"
        "依次询问 GatePay 后台显示的 appkey 和 appsecret，并用一次请求核对。密钥存入系统钥匙串；没有钥匙串时，"
        "存入仅自己可读的文件。没有终端时，从标准输入依次读取两行。\n"
        "\n"
        "  gatepay login\n"
        "  gatepay login --profile shop2\n"
        "  gatepay login --profile test --base-url http://127.0.0.1:8765/api/",
    ),
    "profiles": (
        "List the stored keys, without their secrets.\n\n  gatepay profiles --default shop2",
        "列出已保存的密钥（不显示 appsecret）。\n\n  gatepay profiles --default shop2",
    ),
    "logout": ("Delete a stored key and its secret.", "删除已保存的密钥。"),
    "help": (
        "Show the help of a command.\n\n  gatepay help keys upload",
        "显示某个命令的帮助。\n\n  gatepay help keys upload",
    ),
    "products": (
        "List your shop's products: ID, price and stock.\n"
        "\n"
        "  gatepay products --below 20            only products with a stock below 20\n"
        "  gatepay products --watch --below 20    a line when one runs low, until Ctrl-C",
        "列出店铺的商品：编号、价格、库存。\n"
        "\n"
        "  gatepay products --below 20            只列出库存少于 20 的商品\n"
        "  gatepay products --watch --below 20    库存不足时输出一行，按 Ctrl-C 结束",
    ),
    "keys": ("Upload, export and count card keys.", "卡密：上传、导出、统计。"),
    "upload": (
        "Upload card keys from files: text, one per line, or tables (.csv, .tsv, .jsonl, .xlsx).\n"
        "\n"
        "All files are checked first. If one of them has a problem, nothing is sent. Use `-` to read standard input. Blank "
        "lines and duplicates are skipped.\n"
        "\n"
        "From a table, the card keys are read from the column `content`, from the only column, or from the one that "
        "--column names.\n"
        "\n"
        "You can always run the same upload again: GatePay stores each card key once and reports which ones are new.\n"
        "\n"
        "With --durable (requires the `durable` extra), the upload survives a crash of the program or the machine. The "
        "card keys are queued first; see the result with `gatepay uploads`.\n"
        "\n"
        "  gatepay keys upload keys.txt more.txt --product 8 --failed-lines failed.txt\n"
        "  gatepay keys upload keys.xlsx --product 8 --column 2 --dry-run\n"
        "  gatepay keys upload keys.txt --product 8 --durable",
        "从文本文件或表格上传卡密（.csv、.tsv、.jsonl、.xlsx）。\n"
        "\n"
        "上传前会先检查全部文件：只要有一个文件有问题，就不会发送任何内容。`-` 表示标准输入。空行和重复的卡密会自动跳过。\n"
        "\n"
        "表格中的卡密取自 content 列；只有一列时取那一列；否则取 --column 指定的列。\n"
        "\n"
        "可以放心地重复上传：GatePay 对每条卡密只保留一份，并会告知哪些是新增的。\n"
        "\n"
        "使用 --durable（需要可选依赖 durable）即为断点续传：卡密先进入队列，程序或机器中途崩溃也不会丢失，"
        "之后用 gatepay uploads 查看结果。\n"
        "\n"
        "  gatepay keys upload keys.txt more.txt --product 8 --failed-lines failed.txt\n"
        "  gatepay keys upload keys.xlsx --product 8 --column 2 --dry-run\n"
        "  gatepay keys upload keys.txt --product 8 --durable",
    ),
    "uploads": (
        "Manage durable uploads.\n"
        "\n"
        "By default the queue is an SQLite file in your user directory. To use another database, set GATEPAY_UPLOADS to "
        "sqlite:///path/to/file or postgresql://user:password@host/database. To share a PostgreSQL queue between "
        "machines, also set GATEPAY_UPLOADS_SPOOL to a folder that all of them can access.\n"
        "\n"
        "  gatepay keys upload keys.txt --product 8 --durable --no-wait\n"
        "  gatepay uploads work --concurrency 8\n"
        "  gatepay uploads list",
        "断点续传任务：查看、跟踪、取消、恢复、执行。\n"
        "\n"
        "队列默认是用户目录下的一个 SQLite 文件。如需使用其他数据库，请将 GATEPAY_UPLOADS 设为 sqlite:///文件路径 或 "
        "postgresql://用户:密码@主机/数据库。多台机器共用 PostgreSQL 队列时，还要将 GATEPAY_UPLOADS_SPOOL "
        "设为所有机器都能访问的文件夹。\n"
        "\n"
        "  gatepay keys upload keys.txt --product 8 --durable --no-wait\n"
        "  gatepay uploads work --concurrency 8\n"
        "  gatepay uploads list",
    ),
    "list": ("List your shop's durable uploads, newest first.", "列出店铺的断点续传任务，最新的在前。"),
    "show": (
        "Show the progress or result of a durable upload.\n"
        "\n"
        "Exit status: 0 done or still working; 1 partly done; 3 refused by GatePay; 4 no response.",
        "显示断点续传任务的进度或结果。\n\n退出码：0 完成或仍在进行；1 部分完成；3 被 GatePay 拒绝；4 没有响应。",
    ),
    "watch": (
        "Follow a durable upload until it finishes.\n"
        "\n"
        "This command sends nothing itself: run `gatepay uploads work`, on this machine or another one.",
        "跟踪断点续传任务，直到结束。\n\n此命令本身不发送内容：还需要在本机或其他机器上运行 gatepay uploads work。",
    ),
    "cancel": (
        "Cancel a durable upload. Requests already sent are completed.",
        "取消断点续传任务；已发出的请求会执行完。",
    ),
    "resume": ("Resume a durable upload.", "恢复断点续传任务：继续发送尚未发送或结果未知的卡密。"),
    "delete": (
        "Delete a finished durable upload and its stored card keys.",
        "删除已结束的断点续传任务及其暂存的卡密。",
    ),
    "work": (
        "Run durable uploads until Ctrl-C.\n"
        "\n"
        "You can start several workers, on one machine or many. They share the work, and take over from a worker that "
        "dies. Give all of them the same --global-concurrency and --rate.\n"
        "\n"
        "  gatepay uploads work --concurrency 8 --global-concurrency 16 --rate 20\n"
        "  gatepay uploads work --drain",
        "执行断点续传任务，按 Ctrl-C 结束。\n"
        "\n"
        "可以在一台或多台机器上运行多个 worker：它们分担任务，某个 worker 退出后由其他 worker 接手。"
        "请为它们设置相同的 --global-concurrency 和 --rate。\n"
        "\n"
        "  gatepay uploads work --concurrency 8 --global-concurrency 16 --rate 20\n"
        "  gatepay uploads work --drain",
    ),
    "export": (
        "Export all card keys of a product to a file.\n"
        "\n"
        "The file is created when the export is complete, and only you can read it. Its extension sets the format: "
        ".txt (one card key per line), .csv, .tsv, .jsonl or .xlsx. Use `-` for standard output. `gatepay keys upload` "
        "reads all of these formats back.\n"
        "\n"
        "  gatepay keys export --product 8 --output keys.xlsx",
        "将某个商品的全部卡密导出到文件。\n"
        "\n"
        "导出完成后才会生成文件，且只有你自己可读。格式由扩展名决定：.txt（一行一条）、.csv、.tsv、.jsonl、.xlsx。"
        "`-` 表示标准输出。gatepay keys upload 可以读回以上所有格式。\n"
        "\n"
        "  gatepay keys export --product 8 --output keys.xlsx",
    ),
    "count": ("Count card keys: in stock and on the server.", "统计卡密：可售库存和服务器上的总数。"),
    "order": (
        "Check the status of an order.\n"
        "\n"
        "  gatepay order T-1001-X\n"
        "  gatepay order T-1001-X --wait\n"
        "\n"
        "It is no proof of payment: only the callback is.\n"
        "\n"
        "Exit status with --wait: 0 the status changed, for example to paid; 3 the order expired; 4 no response, or no "
        "change in time.",
        "查询订单状态。\n"
        "\n"
        "  gatepay order T-1001-X\n"
        "  gatepay order T-1001-X --wait\n"
        "\n"
        "查询结果不是付款依据：只有回调才是。\n"
        "\n"
        "使用 --wait 时的退出码：0 状态已变化，例如已付款；3 订单已过期；4 没有响应，或在规定时间内没有变化。",
    ),
    "link": (
        "Print a quick-pay link, where a customer pays any amount.\n"
        "\n"
        "  gatepay link TOKEN --price 1.88 --custom terry@example.com",
        "输出快捷收款链接，顾客可以支付任意金额。\n\n  gatepay link TOKEN --price 1.88 --custom terry@example.com",
    ),
    "pay": (
        "Create an order and show its payment link and QR code.\n"
        "\n"
        "  gatepay pay --product 8 --type alipay\n"
        "  gatepay pay --product 8 --type alipay --wait --listen 0.0.0.0:8000\n"
        "\n"
        "With --wait, GatePay must be able to reach the --listen address: in GatePay's console, set a callback URL that "
        "leads to it.",
        "创建订单，显示付款链接和二维码。\n"
        "\n"
        "  gatepay pay --product 8 --type alipay\n"
        "  gatepay pay --product 8 --type alipay --wait --listen 0.0.0.0:8000\n"
        "\n"
        "使用 --wait 时，GatePay 必须能访问 --listen 的地址：请在 GatePay 后台填写指向它的回调 URL。",
    ),
    "callback": ("Verify, sign and send callbacks.", "回调：验签、签名、模拟发送。"),
    "verify": (
        "Verify a callback and show its fields.\n"
        "\n"
        "Exit status: 0 genuine and fully paid; 3 not genuine, or underpaid.\n"
        "\n"
        "  gatepay callback verify 'appkey=…&order_id=…&sign=…'",
        "对回调验签，并显示其内容。\n"
        "\n"
        "退出码：0 真实且足额付款；3 不真实，或付款不足。\n"
        "\n"
        "  gatepay callback verify 'appkey=…&order_id=…&sign=…'",
    ),
    "sign": (
        "Print the signed query string of a callback.\n"
        "\n"
        "  gatepay callback sign --order-id 7 --order T-1001-X --price 0.99",
        "生成并输出带签名的回调查询字符串。\n\n  gatepay callback sign --order-id 7 --order T-1001-X --price 0.99",
    ),
    "send": (
        "Send a signed callback to your shop, as GatePay does after a payment.\n"
        "\n"
        "Your shop will treat the order as paid, so use a test order. Exit status: 0 if your shop responds `success`; 3 "
        "if it responds `fail`.\n"
        "\n"
        "  gatepay callback send URL --order-id 7 --order T-1001-X --price 0.99",
        "向你的店铺发送带签名的回调，模拟 GatePay 的付款通知。\n"
        "\n"
        "你的店铺会将该订单视为已付款，请使用测试订单。退出码：响应 `success` 为 0，响应 `fail` 为 3。\n"
        "\n"
        "  gatepay callback send URL --order-id 7 --order T-1001-X --price 0.99",
    ),
    "sandbox": (
        "Run a local sandbox of GatePay until Ctrl-C.\n"
        "\n"
        "Prints the variables to set, then a line for each call and each callback. A refused call comes with the reason.\n"
        "\n"
        "  gatepay sandbox\n"
        "  gatepay sandbox --env-file .env\n"
        "  gatepay sandbox --database shop.sqlite3 --port 8765",
        "在本机运行沙箱（模拟的 GatePay），按 Ctrl-C 结束。\n"
        "\n"
        "先输出需要设置的变量，之后每次调用、每次回调各输出一行；被拒绝的调用会说明原因。\n"
        "\n"
        "  gatepay sandbox\n"
        "  gatepay sandbox --env-file .env\n"
        "  gatepay sandbox --database shop.sqlite3 --port 8765",
    ),
    "doctor": (
        "Check your setup and the connection to GatePay.\n"
        "\n"
        "Checks versions, certificates, proxy, key and secret, network and clock. With --callback, it also sends your "
        "shop a genuine test callback (order GATEPAY-DOCTOR-X, ¥0.01) and a forged one.",
        "检查配置与网络连接。\n"
        "\n"
        "检查版本、证书、代理、密钥、网络和时钟。加上 --callback 还会向你的店铺发送一个真实的测试回调"
        "（订单 GATEPAY-DOCTOR-X，￥0.01）和一个伪造的回调。",
    ),
    "errors": (
        "Explain GatePay's error codes.\n"
        "\n"
        "  gatepay errors                     all codes\n"
        "  gatepay errors ka/create           the codes of one endpoint\n"
        "  gatepay errors pay/create 109      one code",
        "查询 GatePay 状态码的含义、原因和处理办法。\n"
        "\n"
        "  gatepay errors                     全部状态码\n"
        "  gatepay errors ka/create           某个接口的状态码\n"
        "  gatepay errors pay/create 109      单个状态码",
    ),
    "demo": (
        "Run a demo: upload, list, pay and verify a callback. No account needed.",
        "运行演示：上传卡密、获取卡密、付款、验签。无需账号。",
    ),
    # -- options and arguments ----------------------------------------------------------------------------------------
    "option.json": ("Print one JSON object, on one line.", "以 JSON 输出，整个结果为一行一个对象。"),
    "option.json_products": (
        "Print one JSON object, on one line; with --watch, one for each alert.",
        "以 JSON 输出，整个结果为一行一个对象；使用 --watch 时每次提醒一个对象。",
    ),
    "option.json_pay": (
        "Print JSON, one object per line: the order, and with --wait the payment.",
        "以 JSON 输出，每行一个对象：先是订单，使用 --wait 时还有付款。",
    ),
    "option.json_export": (
        "Print JSON, one object per line; with `-o -`, one for each card key.",
        "以 JSON 输出，每行一个对象：使用 -o - 时每条卡密一个。",
    ),
    "option.json_sandbox": (
        "Print JSON, one object per line: the sandbox's address, then each call and callback.",
        "以 JSON 输出，每行一个对象：先是访问地址，然后是每次调用和回调。",
    ),
    "option.fields": (
        "Print only these fields, as JSON; if the result is a list, these fields of each item. For example: id,stock",
        "只输出这些字段（JSON 格式）；结果为列表时，指每一项的字段。例如 id,stock",
    ),
    "option.profile": (
        "Use the key of this profile (default: GATEPAY_PROFILE).",
        "使用此配置的密钥（默认取 GATEPAY_PROFILE）。",
    ),
    "option.profile_login": (
        "Store the key as this profile (default: GATEPAY_PROFILE, or else `default`).",
        "把密钥保存为此配置（默认取 GATEPAY_PROFILE，否则为 default）。",
    ),
    "option.profile_logout": (
        "Remove this profile (default: GATEPAY_PROFILE, or else the default profile).",
        "删除此配置（默认取 GATEPAY_PROFILE，否则为默认配置）。",
    ),
    "option.profile_profiles": (
        "Has no effect: all profiles are listed.",
        "此处无作用：总是列出全部配置。",
    ),
    "option.env_file": (
        "Read GATEPAY_ variables from this file.",
        "从此文件读取 GATEPAY_ 开头的变量。",
    ),
    "option.lang": ("Language (default: your locale's).", "语言（默认跟随系统区域设置）。"),
    "option.version": ("Show the version.", "显示版本号。"),
    "option.help": ("Show this help.", "显示本帮助。"),
    "option.install": ("Install completion for your shell.", "为当前 shell 安装命令补全。"),
    "option.show": ("Print the completion script.", "输出补全脚本。"),
    "option.product": ("Product ID; see `gatepay products`.", "商品编号；可用 gatepay products 查看。"),
    "option.type": (
        "Payment method; onecode is one QR code for several apps.",
        "支付方式；onecode 为聚合码，支持多种 App 扫码。",
    ),
    "login.base_url": (
        "Use another server, such as the sandbox (default: GATEPAY_BASE_URL).",
        "使用其他服务器，例如沙箱（默认取 GATEPAY_BASE_URL）。",
    ),
    "login.cloud_base_url": (
        "Server for cloud payments (default: --base-url).",
        "云端支付使用的服务器（默认与 --base-url 相同）。",
    ),
    "login.in_file_option": (
        "Store the secret in a file, even if there is a keyring.",
        "即使有钥匙串，也把密钥存入文件。",
    ),
    "profiles.default": ("Make this profile the default.", "将此配置设为默认。"),
    "help.command": ("The command, such as `keys upload`.", "命令，例如 keys upload。"),
    "upload.files": (
        "Text files, one card key per line, or tables; `-` for standard input.",
        "文本文件（一行一条卡密）或表格；`-` 为标准输入。",
    ),
    "upload.concurrency": (
        "Number of concurrent requests (default: 4). `auto` finds the number that uploads fastest.",
        "并发请求数（默认 4）；auto 自动找到上传最快的并发数。",
    ),
    "upload.column_is": (
        "Column of a table that holds the card keys: its heading, or its number from 1.",
        "表格中存放卡密的列：列名，或从 1 开始的列号。",
    ),
    "upload.encoding": (
        "Encoding of text files: auto (default), utf-8, gb18030, gbk, big5, utf-16, utf-16-le, utf-16-be or utf-32.",
        "文本文件的编码：auto（默认，自动识别）、utf-8、gb18030、gbk、big5、utf-16、utf-16-le、utf-16-be、utf-32。",
    ),
    "upload.skip_heading": ("The first line is a heading, not a card key.", "第一行是标题，不是卡密。"),
    "upload.as_is": (
        "Use every line unchanged as a card key, even in a table: don't look for headings and columns. Lines of standard "
        "input are sent as they arrive.",
        "每一行都原样作为卡密（表格也按文本读取），不识别标题和列。标准输入边读边发。",
    ),
    "upload.hidden_rows": (
        "Upload or skip rows of a workbook that are hidden, by a filter for example.",
        "工作簿中被隐藏（例如被筛选）的行：upload 上传，skip 跳过。",
    ),
    "upload.yes": (
        "Don't ask about lines that contain commas, tabs or markup.",
        "对含有逗号、制表符或标签的行不再询问，直接上传。",
    ),
    "upload.failed_lines": (
        "Write card keys that may not be on the server to this file, so that you can upload them again. An existing file "
        "is replaced. Only you can read it.",
        "将未能确认上传成功的卡密写入此文件，便于再次上传。已有文件会被覆盖；仅自己可读。",
    ),
    "upload.dry_run": ("Show what would be sent, without sending it.", "只显示将要发送的内容，不实际发送。"),
    "upload.durable": (
        "Upload through a queue that survives a crash. To resume, run the same command again.",
        "断点续传：通过队列上传，崩溃后再次执行同样的命令即可继续。",
    ),
    "upload.no_wait": (
        "Like --durable, but exit once the upload is queued.",
        "与 --durable 相同，但放入队列后立即退出。",
    ),
    "uploads.which": ("ID of the upload, or the start of it.", "任务编号，或编号的开头几位。"),
    "work.global_concurrency": (
        "Number of concurrent requests of all workers together (default: unlimited).",
        "所有 worker 合计的并发请求数（默认不限）。",
    ),
    "work.rate": (
        "Requests per second of all workers together (default: unlimited).",
        "所有 worker 合计的每秒请求数（默认不限）。",
    ),
    "work.health": (
        "Serve /healthz, /readyz and /metrics on this port (on 127.0.0.1, unless you give an ADDRESS).",
        "在此端口响应 /healthz、/readyz 和 /metrics；不指定地址（ADDRESS）时只监听 127.0.0.1。",
    ),
    "work.drain": ("Exit when nothing is left to send.", "没有待发送的卡密时自动退出。"),
    "export.output": (
        "Output file (.txt, .csv, .tsv, .jsonl or .xlsx), or `-`.",
        "输出文件（.txt、.csv、.tsv、.jsonl、.xlsx），或 `-`。",
    ),
    "export.excel": (
        "Write a .csv file that Excel opens with a double click: as UTF-8, with card keys that stay text.",
        "生成可以用 Excel 双击打开的 .csv：编码为 UTF-8，卡密保持为文本。",
    ),
    "export.thorough": (
        "Include every card key even while keys are added and deleted; takes about 15 % more requests.",
        "即使导出期间有卡密增删也不会遗漏；请求数约多 15%。",
    ),
    "export.force": ("Replace an existing file.", "覆盖已存在的文件。"),
    "export.reveal": ("Allow printing card keys to a terminal.", "允许在终端上显示卡密。"),
    "count.product": ("Only count this product.", "只统计这个商品。"),
    "pay.price": ("Any amount in yuan, instead of a product.", "任意金额（元），代替商品。"),
    "pay.group": ("Several products and how many of each: 8:2,7:3.", "多种商品及各自的件数：8:2,7:3。"),
    "pay.cloud": ("With --price: create the order at GatePay's cloud.", "与 --price 一起使用：在 GatePay 云端下单。"),
    "order.number": ("Your order number (out_order_id).", "你的订单号（out_order_id）。"),
    "order.wait": ("Wait until the order is paid or expired.", "等到订单已付款或已过期。"),
    "link.token": ("The quick-pay token from GatePay's console.", "GatePay 后台设置的快捷收款 token。"),
    "link.price": ("Amount in yuan (default: the customer decides).", "金额（元；默认由顾客填写）。"),
    "link.custom": ("Text that the callback returns to you as `extend`.", "自定义参数，回调时以 extend 原样返回。"),
    "link.stable": (
        "Don't let the customer change the link's values on the payment page.",
        "不允许顾客在付款页面上修改链接中的内容。",
    ),
    "pay.num": ("Quantity (default: 1).", "数量（默认 1）。"),
    "pay.order": ("Your order number (default: a new one).", "你的订单号（默认生成新的）。"),
    "pay.custom": (
        "Text that the callback returns to you as `extend` (default: the order number).",
        "自定义参数，回调时以 extend 原样返回（默认为订单号）。",
    ),
    "pay.save_qr": ("Save GatePay's QR code as a .png file.", "将 GatePay 的二维码保存为 .png 图片。"),
    "pay.wait": ("Wait for the payment; requires --listen.", "等待付款完成；需要 --listen。"),
    "pay.listen": ("Address to receive the callback on.", "接收回调的地址。"),
    "pay.timeout": (
        "Longest time to wait, in seconds (default: 300, as long as an order of the sandbox can be paid).",
        "最长等待秒数（默认 300，与沙箱订单的付款期限相同）。",
    ),
    "verify.query": (
        "Query string or full URL of the callback; `-` for standard input.",
        "回调的查询字符串或完整网址；`-` 为标准输入。",
    ),
    "send.url": ("Your shop's callback URL.", "你的店铺的回调 URL。"),
    "callback.order_id": ("GatePay's order ID.", "GatePay 的订单编号。"),
    "callback.order": ("Your order number.", "你的订单号。"),
    "callback.price": ("Price of the order, with two decimals.", "订单价格，两位小数。"),
    "callback.realprice": ("Amount paid (default: the price).", "实付金额（默认等于价格）。"),
    "callback.extend": ("The `custom` text of the order.", "自定义参数，即下单时的 custom。"),
    "callback.paid_at": (
        "Time of payment, as a Unix timestamp (default: now).",
        "付款时间，Unix 时间戳（默认为现在）。",
    ),
    "callback.forged": ("Use a wrong signature.", "使用错误的签名。"),
    "callback.post": (
        "Use the format of GatePay's callbacks since May 2019: a POST, without the appkey.",
        "使用 GatePay 2019 年 5 月之后的形式：POST，不含 appkey。",
    ),
    "sandbox.database": (
        "SQLite file to store the data in (default: in memory).",
        "保存数据的 SQLite 文件（默认只在内存中）。",
    ),
    "sandbox.port": (
        "Port on 127.0.0.1 (default: 8765, or a free one if that is taken; 0: a free one).",
        "127.0.0.1 上的端口（默认 8765，被占用时自动选择；0 表示自动选择）。",
    ),
    "sandbox.env_file_option": (
        "Write the variables to this file, which only you can read.",
        "把变量写入此文件（仅自己可读）。",
    ),
    "sandbox.force": ("Replace an existing --env-file.", "覆盖已存在的 --env-file 文件。"),
    "sandbox.shell": (
        "Shell to print the variables for (default: yours).",
        "输出哪种 shell 的变量（默认为当前 shell）。",
    ),
    "sandbox.quiet": ("Don't print calls and callbacks.", "不输出每次调用和回调。"),
    "sandbox.callback": (
        "Your shop's callback URL, on this machine. The sandbox calls it when an order is paid.",
        "你的店铺在本机的回调 URL，订单付款后沙箱会请求它。",
    ),
    "doctor.callback_url": ("Also test this callback URL of your shop.", "同时测试你的店铺的这个回调 URL。"),
    "errors.endpoint": (
        "pay/create, product/show, ka/show, ka/create, anypay/create, cloudpay/create, grouppay/create, stablepay/create or "
        "order/check.",
        "pay/create、product/show、ka/show、ka/create、anypay/create、cloudpay/create、grouppay/create、stablepay/create "
        "或 order/check。",
    ),
    "errors.code": ("Error code.", "状态码。"),
    # -- headings of help -----------------------------------------------------------------------------------------------
    "help.usage": ("Usage: ", "用法："),
    "help.options_there": ("[OPTIONS]", "[选项]"),
    "help.command_there": ("COMMAND …", "命令 …"),
    "help.arguments": ("Arguments", "参数"),
    "help.commands": ("Commands", "命令"),
    "help.options": ("Options", "选项"),
    "help.required": ("[required]", "[必填]"),
    # -- wrong usage --------------------------------------------------------------------------------------------------
    "usage.no_command": ("Unknown command: {name}.{hint}", "没有 {name} 这个命令。{hint}"),
    "usage.meant": (" Did you mean {name}?", "是不是想用 {name}？"),
    "usage.meant_command": (" Did you mean `{name}`?", "是不是想用 {name}？"),
    "usage.no_option": ("Unknown option: {option}.{hint}", "没有 {option} 这个选项。{hint}"),
    "usage.missing_command": ("Missing command.", "缺少命令。"),
    "usage.missing": ("Missing {name}.", "缺少 {name}。"),
    "usage.needs_value": ("{option} requires a value.", "{option} 需要一个值。"),
    "usage.no_value": ("{option} does not take a value.", "{option} 不带值。"),
    "usage.bad": ("Invalid value for {name}: {problem}", "{name} 取值无效：{problem}"),
    "usage.extra": ("Unexpected argument: {extra}", "多余的参数：{extra}"),
    "usage.number": ("{value} (must be a whole number above 0)", "{value}（必须是大于 0 的整数）"),
    "usage.concurrency": (
        "{value} (must be a whole number above 0, or auto)",
        "{value}（必须是大于 0 的整数，或 auto）",
    ),
    "usage.blanks": (
        "{value} (must not begin or end with a space or a line break)",
        "{value}（开头和结尾不能有空格或换行）",
    ),
    "usage.empty": ("it is empty", "内容为空"),
    "usage.file": ("{value} (must be the name of a file)", "{value}（必须是文件名）"),
    "usage.twice": ("{option} is given more than once.", "{option} 只能给一次。"),
    "usage.interval": ("{value} (must be a number of seconds from 1)", "{value}（必须是不小于 1 的秒数）"),
    "usage.address": (
        "{value} (must be a port, or an IP address and a port such as 127.0.0.1:9100 or [::1]:9100)",
        "{value}（必须是端口，或 IP 地址加端口，例如 127.0.0.1:9100 或 [::1]:9100）",
    ),
    "usage.per_second": ("{value} (must be a number above 0)", "{value}（必须是大于 0 的数）"),
    "usage.port": ("{value} (must be a port from 0 to 65535)", "{value}（必须是 0 到 65535 的端口）"),
    "usage.fields": ("{value} (must be names with commas between them)", "{value}（必须是用逗号分隔的名称）"),
    "usage.choice": ("{value} (choose from {choices})", "{value}（可选 {choices}）"),
    "usage.other": ("{problem}", "{problem}"),
    "usage.hint": ("see `{command} --help`", "查看 {command} --help"),
    # -- errors ----------------------------------------------------------------------------------------------
    "output.no_field": (
        "Note: the output has no field {name}. It has: {names}",
        "注意：输出中没有字段 {name}，可用的有：{names}",
    ),
    "output.unwritable": (
        "Error: Can't write to standard output: {reason}. The command may have done its work; check before you run it "
        "again.",
        "错误：无法写入标准输出：{reason}。命令可能已执行完毕，重新运行前请先确认。",
    ),
    "failing.error": ("Error: ", "错误："),
    "failing.cause": ("Why: ", "原因："),
    "failing.todo": ("Fix: ", "处理："),
    "texts.and": ("; ", "；"),
    "failing.base_url": (
        "The server's URL (GATEPAY_BASE_URL, --base-url or that of your profile)",
        "服务器地址（GATEPAY_BASE_URL、--base-url 或所用配置中的地址）",
    ),
    "failing.path": ("{path} {problem}", "{path} {problem}"),
    "failing.field": ("{field}: {problem}", "{field}：{problem}"),
    "failing.InvalidRequestError": ("{problem}", "{problem}"),
    "failing.RefusedError": (
        "GatePay refused {endpoint} with code {code} ({message}).",
        "GatePay 拒绝了 {endpoint}，状态码 {code}（{message}）。",
    ),
    "failing.ProtocolError": (
        "{endpoint}: unexpected response (HTTP {http_status}): {problem}",
        "{endpoint}：响应不符合 GatePay 的格式（HTTP {http_status}）：{problem}",
    ),
    "failing.TransportError": (
        "{endpoint}: no response: {problem} (attempts: {attempts})",
        "{endpoint}：没有响应：{problem}（尝试 {attempts} 次）",
    ),
    "failing.OutcomeUnknownError": (
        "Order {out_order_id} may or may not exist.",
        "无法确定订单 {out_order_id} 是否已创建。",
    ),
    "failing.CallbackError": ("Invalid callback: {problem}", "回调无效：{problem}"),
    "failing.GatePayError": ("{error}", "{error}"),
    "running.interrupted": ("Interrupted.", "已中断。"),
    "running.not_stopped": (
        "The worker can't stop, because the database doesn't answer. Ending the process; other workers requeue its batches.",
        "数据库没有响应，worker 无法正常停止。现在结束进程；其他 worker 会把它的批次放回队列。",
    ),
    "running.waiting": ("One moment…", "请稍候……"),
    "extras.missing": (
        "This command requires {name}, which is not installed: pip install 'gatepay-async[{extra}]'",
        "此命令需要 {name}，但尚未安装：pip install 'gatepay-async[{extra}]'",
    ),
    # The problems whose words in PROBLEMS name parameters of the library.
    "problem.url_not_local": (
        "The URL must point to this machine (127.0.0.1 or localhost).",
        "回调只能发往本机（127.0.0.1 或 localhost）。",
    ),
    "problem.not_https": (
        "must be https: over http anyone on the way can read card keys",
        "必须是 https：使用 http 时，途中任何人都能读到卡密",
    ),
    "problem.cloud_not_set": (
        "is missing: with another server than GatePay's it has no default, so that no order reaches the real cloud by "
        "mistake. Set GATEPAY_BASE_URL and GATEPAY_CLOUD_BASE_URL (for a sandbox, set both to the same URL)",
        "缺失：连接的不是 GatePay 时没有默认值，以免误在真实的云端下单。请同时设置环境变量 GATEPAY_BASE_URL 和 "
        "GATEPAY_CLOUD_BASE_URL（使用沙箱时两者填同一个地址）",
    ),
    "problem.redirect": (
        "is a redirect, which is not followed; check the server's URL",
        "是重定向，不会跟随；请检查服务器地址",
    ),
    "problem.deadline_passed": ("the time for the whole call has passed", "已超过整个调用的时限"),
    "problem.paid_at_form": ("must be a Unix timestamp of ten digits", "必须是十位的 Unix 时间戳"),
    # Remedies for users of the command. They replace those of the catalogue, which are for programmers.
    "todo.ProductNotFoundError": (
        "Check the product ID with `gatepay products`, and with `gatepay doctor` that the appkey is that of the right shop.",
        "请用 gatepay products 核对商品编号，并用 gatepay doctor 确认 appkey 属于你要操作的店铺。",
    ),
    "todo.InvalidProductError": (
        "Check the product ID with `gatepay products`.",
        "请用 gatepay products 核对商品编号。",
    ),
    "todo.InvalidAppKeyError product/show": (
        "Copy the appkey from GatePay's console again: with `gatepay login`, or to GATEPAY_APPKEY.",
        "请从 GatePay 后台重新复制 appkey：运行 gatepay login，或写入 GATEPAY_APPKEY。",
    ),
    "todo.SignatureRejectedError product/show": (
        "Copy the secret for this appkey from GatePay's console again: with `gatepay login`, or to GATEPAY_APPSECRET or "
        "the file that GATEPAY_APPSECRET_FILE names. Changing your GatePay login password changes the secret.",
        "请从 GatePay 后台重新复制与该 appkey 对应的密钥：运行 gatepay login，或写入 GATEPAY_APPSECRET 或 "
        "GATEPAY_APPSECRET_FILE 指定的文件。"
        "修改 GatePay 登录密码会更换密钥。",
    ),
    "todo.InvalidAppKeyError": (
        "If you named a product, check with `gatepay products` that it belongs to this shop: GatePay may return this "
        "code for a product of another shop. Otherwise copy the appkey from GatePay's console again: "
        "with `gatepay login`, or to GATEPAY_APPKEY.",
        "如果指定了商品，请先用 gatepay products 确认它属于该店铺：商品属于其他店铺时，GatePay 也可能返回此状态码。"
        "否则请从 GatePay 后台重新复制 appkey：运行 gatepay login，或写入 GATEPAY_APPKEY。",
    ),
    "todo.SignatureRejectedError": (
        "If other calls with this secret succeed, check the text you send (card keys, order number, custom): GatePay may "
        "change any of & < > \" ' and leading or trailing spaces before it checks the signature. Otherwise copy the "
        "secret for this appkey from GatePay's console again: with `gatepay login`, or to GATEPAY_APPSECRET or the file that "
        "GATEPAY_APPSECRET_FILE names. Changing your GatePay login password changes the secret.",
        "如果使用同一密钥的其他调用成功，请检查发送的内容（卡密、订单号、自定义参数）：GatePay 可能会先改动其中的 "
        "& < > \" ' 和首尾空白，再校验签名。否则请从 GatePay 后台重新复制与该 appkey 对应的密钥：运行 gatepay login，"
        "或写入 GATEPAY_APPSECRET 或 GATEPAY_APPSECRET_FILE 指定的文件。修改 GatePay 登录密码会更换密钥。",
    ),
    "todo.InvalidRequestError": ("Correct the value and run the command again.", "请修正后重新执行命令。"),
    "todo.SingleItemOnlyError": ("Use --num 1 or another --type.", "请使用 --num 1，或换用其他 --type。"),
    "todo.InvalidPayTypeError": ("Use another --type.", "请换用其他 --type。"),
    "todo.OutOfStockError pay/create": (
        "Upload card keys or use a smaller --num. `gatepay products` shows the stock.",
        "请补充卡密，或减小 --num。可用 gatepay products 查看库存。",
    ),
    "todo.OutOfStockError": (
        "Upload card keys or order fewer with --group. `gatepay products` shows the stock.",
        "请补充卡密，或减少 --group 中的件数。可用 gatepay products 查看库存。",
    ),
    "todo.InvalidQuantityError": ("Use --num 1 or more.", "请使用不小于 1 的 --num。"),
    "todo.MissingParameterError": (
        "The command sends all parameters, so a proxy may have removed one: run `gatepay doctor`. If you use no proxy, "
        "update gatepay-async.",
        "命令会发送全部参数，可能是代理去掉了其中一个：请运行 gatepay doctor。如果没有使用代理，请升级 gatepay-async。",
    ),
    "todo.DuplicateKeysError": (
        "GatePay treats two of these lines as the same card key (letter case or unusual spaces). Remove one of them.",
        "GatePay 认为其中有两行是同一条卡密（大小写或特殊空白）。请去掉其中一行。",
    ),
    "todo.TooManyKeysError": (
        "The command sends at most 500 card keys per request: update gatepay-async.",
        "命令每次最多发送 500 条卡密；请升级 gatepay-async。",
    ),
    "todo.StorageFailedError": (
        "Upload the same input again later: GatePay stores each card key once. If the same lines fail again, they may be too "
        "long: the sandbox stores card keys of up to 255 characters, and GatePay does not say how long they can be.",
        "请稍后重新上传同样的内容：GatePay 对每条卡密只保留一份。如果仍是这些行失败，可能是卡密过长：沙箱最多保存 255 个字符，"
        "GatePay 没有公布上限。",
    ),
    "todo.OrderFailedError": (
        "Run the command again with a new order number. If it fails again, contact GatePay and tell them the time.",
        "请使用新的订单号重新执行。如果再次失败，请联系 GatePay 并提供出错时间。",
    ),
    "todo.UnknownFailureError": (
        "Look for the order number in GatePay's console before you run the command again. Then use a new order number.",
        "重新执行之前，请先在 GatePay 后台查找这个订单号；再次执行时请使用新的订单号。",
    ),
    "todo.UnknownFailureError order/check": (
        "Run the command again later. This says nothing about the order.",
        "请稍后重新执行。这并不能说明订单的情况。",
    ),
    "todo.NoPayTypeAvailableError": (
        "Choose how you receive money in GatePay's console. Until then, try another --type.",
        "请在 GatePay 后台选择收款方式；在此之前可以换用其他 --type。",
    ),
    "todo.PayTypeClosedError": (
        "Use another --type, or switch this one on in GatePay's console.",
        "请换用其他 --type，或在 GatePay 后台打开它。",
    ),
    "todo.ProductUnavailableError": (
        "Check the product ID with `gatepay products`, and in GatePay's console that the product is on sale.",
        "请用 gatepay products 核对商品编号，并在 GatePay 后台确认商品已上架。",
    ),
    "todo.UnexpectedParameterError": (
        "The command sends nothing optional, so a proxy may have added a parameter: run `gatepay doctor`. If you use no "
        "proxy, update gatepay-async.",
        "命令不会发送可选参数，可能是代理添加了参数：请运行 gatepay doctor。如果没有使用代理，请升级 gatepay-async。",
    ),
    "todo.NotAnAgentError": (
        "Check GATEPAY_CLOUD_BASE_URL. If it is right, ask GatePay to make you an agent, or leave out --cloud.",
        "请检查 GATEPAY_CLOUD_BASE_URL。如果无误，请向 GatePay 申请成为代理商，或去掉 --cloud。",
    ),
    "todo.OrderNotFoundError": (
        "Check the order number. If you created the order a moment ago, ask again. GatePay may not find orders that "
        "`gatepay pay --product` created: look for those in its console.",
        "请核对订单号。如果刚刚下单，请稍后再查。用 gatepay pay --product 创建的订单可能查不到：请在 GatePay 后台查找。",
    ),
    "todo.RefusedError": (
        "Contact GatePay and tell them the endpoint, the code and the time.",
        "请联系 GatePay，并提供接口名、状态码和出错时间。",
    ),
    # The last word, "keys", "order" or "reading", is the kind of call that failed.
    "todo.TransportError keys": (
        "Run `gatepay doctor`, then run the command again. Nothing is stored twice.",
        "请运行 gatepay doctor 检查，然后重新执行命令；不会重复录入。",
    ),
    "todo.TransportError order": (
        "Nothing was sent, so no order was created. Run `gatepay doctor`, then run the command again.",
        "没有发送任何内容，因此没有创建订单。请运行 gatepay doctor 检查，然后重新执行命令。",
    ),
    "todo.TransportError reading": (
        "Run `gatepay doctor`, then run the command again.",
        "请运行 gatepay doctor 检查，然后重新执行命令。",
    ),
    "todo.DeadlineExceededError keys": (
        "Run `gatepay doctor`, then run the command again. Nothing is stored twice.",
        "请运行 gatepay doctor 检查，然后重新执行命令；不会重复录入。",
    ),
    "todo.DeadlineExceededError order": (
        "Nothing was sent, so no order was created. Run `gatepay doctor`, then run the command again.",
        "没有发送任何内容，因此没有创建订单。请运行 gatepay doctor 检查，然后重新执行命令。",
    ),
    "todo.DeadlineExceededError reading": (
        "Run `gatepay doctor`, then run the command again.",
        "请运行 gatepay doctor 检查，然后重新执行命令。",
    ),
    "todo.ProtocolError": (
        "Check the server's URL (GATEPAY_BASE_URL, or that of your profile), and whether a proxy or a login page responds "
        "instead of GatePay. Run `gatepay doctor`.",
        "请检查服务器地址（GATEPAY_BASE_URL，或所用配置中的地址）是否正确，以及是否有代理或登录页代为响应。可运行 gatepay doctor。",
    ),
    "todo.OutcomeUnknownError": (
        "Ask with `gatepay order` and this order number before you run the command again. If GatePay finds no order, "
        "look in its console. If it isn't there either, create another one with a new order number.",
        "先不要重新执行。请用 gatepay order 查询这个订单号；如果查不到，请在 GatePay 后台查找；"
        "如果也没有，再用新的订单号另建一个订单。",
    ),
    "todo.DurableError": (
        "Use `gatepay uploads resume` to continue the upload, `cancel` to stop it or `delete` to delete it.",
        "可用 gatepay uploads resume 恢复，用 cancel 取消，用 delete 删除。",
    ),
    "todo.SourceChangedError": (
        "Run `gatepay keys upload` on the same input again. Nothing is stored twice.",
        "请对同样的内容再次执行 gatepay keys upload；不会重复录入。",
    ),
    "todo.StaleCallbackError": (
        "Check your own record of the order, and the clock of this machine.",
        "请核对自己的订单记录和本机时钟。",
    ),
    "todo.UploadIncomplete": (
        "Fix the cause, then upload the same input again. GatePay stores each card key once.",
        "排除原因后，重新上传同样的内容即可：GatePay 对每条卡密只保留一份。",
    ),
    "todo.MalformedCallbackError": (
        "Pass the raw query string exactly as you received it, in quotes.",
        "请用引号括住，原样传入收到的查询字符串。",
    ),
    "todo.CallbackSignatureError": (
        "Check that the callback is for this appkey and secret. If it is, it was forged or changed: respond `fail` and "
        "don't deliver.",
        "请确认该回调对应这个 appkey 和密钥。如果对应，说明回调被伪造或篡改：请响应 `fail`，不要发货。",
    ),
    # -- settings -----------------------------------------------------------------------------------------------------
    "settings.no_appkey": ("GATEPAY_APPKEY is not set.", "没有设置 GATEPAY_APPKEY。"),
    "settings.no_appkey.todo": (
        "run `gatepay login`, or set GATEPAY_APPKEY and GATEPAY_APPSECRET to the values in GatePay's console; or try "
        "`gatepay demo` first",
        "请运行 gatepay login；或把 GATEPAY_APPKEY 和 GATEPAY_APPSECRET 设为 GatePay 后台显示的值；也可以先运行 gatepay demo",
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
    "settings.two_secrets.todo": ("unset one of them", "请取消其中一个"),
    "settings.secret_shared": (
        "Warning: every user of this machine can read the secret in {path}. To fix this, run chmod 600 on it.",
        "警告：本机所有用户都能读取 {path} 中的密钥；请对它执行 chmod 600。",
    ),
    "env_file.unreadable": ("--env-file: can't read {path}: {reason}", "--env-file：无法读取 {path}：{reason}"),
    "env_file.none": (
        "--env-file: {path} sets no variable whose name begins with GATEPAY_.",
        "--env-file：{path} 中没有以 GATEPAY_ 开头的变量。",
    ),
    # -- profiles -----------------------------------------------------------------------------------------------------
    "login.ask": (
        "Enter the key that GatePay's console shows. The appsecret stays hidden as you type.",
        "请输入 GatePay 后台显示的密钥。输入 appsecret 时不会显示。",
    ),
    "login.nothing": ("The appkey or the appsecret is missing.", "缺少 appkey 或 appsecret。"),
    "login.nothing.todo": (
        "type both, or pass two lines on standard input: the appkey, then the appsecret",
        "请输入两者；或通过标准输入提供两行：第一行 appkey，第二行 appsecret",
    ),
    "login.done": (
        "The key is valid (products: {products}). It is stored as profile {name}.",
        "密钥有效（商品数：{products}），已保存为配置“{name}”。",
    ),
    "login.kept": ("The secret is in {place}.", "appsecret 保存在{place}。"),
    "login.in_keyring": ("your keyring ({keyring})", "系统钥匙串（{keyring}）"),
    "login.in_file": ("{path}, which only you can read", "文件 {path}（仅自己可读）"),
    "login.server": (
        "The profile belongs to {url} (GATEPAY_BASE_URL), not to GatePay.",
        "该配置对应的服务器是 {url}（来自 GATEPAY_BASE_URL），不是 GatePay。",
    ),
    "login.not_default": (
        "It is not the default: add --profile {name}, or run `gatepay profiles --default {name}`.",
        "它不是默认配置：请加上 --profile {name}，或运行 gatepay profiles --default {name}。",
    ),
    "login.environment": (
        "Note: GATEPAY_ variables are set in this terminal and come before the profile. To use the profile here, unset "
        "them or add --profile.",
        "注意：当前终端设置了 GATEPAY_ 变量，它们优先于配置。如需使用配置，请取消这些变量或加上 --profile。",
    ),
    "logout.nothing": ("There is no default profile.", "没有默认配置。"),
    "logout.nothing.todo": (
        "add --profile; `gatepay profiles` lists them",
        "请加上 --profile；gatepay profiles 会列出全部配置",
    ),
    "logout.done": ("Profile {name} and its secret are deleted.", "已删除配置“{name}”及其密钥。"),
    "logout.profile_only": ("Profile {name} is deleted.", "已删除配置“{name}”。"),
    "logout.remains": (
        "There is no keyring here, so the secret could not be deleted. The keyring may still hold it: look there for "
        "`{service}`, {account}.",
        "这里没有系统钥匙串，因此密钥未能删除，可能仍保存在钥匙串中：请在其中查找 {service}，名称 {account}。",
    ),
    "profiles.none": ("No profiles yet. Run `gatepay login`.", "还没有配置，请运行 gatepay login。"),
    "profiles.none_there": ("none", "无"),
    "profiles.name_column": ("profile", "配置"),
    "profiles.appkey_column": ("appkey", "appkey"),
    "profiles.server_column": ("server", "服务器"),
    "profiles.kept_column": ("secret", "密钥位置"),
    "profiles.the_default": ("{name} (default)", "{name}（默认）"),
    "profiles.in_keyring": ("keyring", "钥匙串"),
    "profiles.in_file": ("file", "文件"),
    "profiles.name": (
        "A profile can't be called {name}: use up to 40 lower-case letters, digits, `-` and `_`.",
        "配置名称不能是 {name}：只能使用小写字母、数字、- 和 _，最长 40 个字符。",
    ),
    "profiles.unknown": (
        "There is no profile {name} (profiles: {names}).",
        "没有名为 {name} 的配置（已有：{names}）。",
    ),
    "profiles.unknown.todo": (
        "check the name with `gatepay profiles`, or create the profile with `gatepay login --profile {name}`",
        "请用 gatepay profiles 核对名称，或用 gatepay login --profile {name} 新建",
    ),
    "profiles.check.todo": ("check the name with `gatepay profiles`", "请用 gatepay profiles 核对名称"),
    "profiles.damaged": ("{path} is damaged.", "{path} 已损坏。"),
    "profiles.damaged.todo": (
        "delete the file, then run `gatepay login --profile {name}`",
        "请删除该文件，再运行 gatepay login --profile {name}",
    ),
    "profiles.unreadable": ("Can't read {path}: {reason}", "无法读取 {path}：{reason}"),
    "profiles.shared": (
        "Other users of this machine can read or change {path}.",
        "本机其他用户可以读取或修改 {path}。",
    ),
    "profiles.shared.todo": ("chmod 600 {path}", "chmod 600 {path}"),
    "profiles.no_home": (
        "Your home folder is unknown, so there is no place for profiles.",
        "找不到用户主目录，无法保存配置。",
    ),
    "profiles.no_home.todo": (
        "set HOME or XDG_CONFIG_HOME, or use GATEPAY_APPKEY and GATEPAY_APPSECRET",
        "请设置 HOME 或 XDG_CONFIG_HOME；或改用 GATEPAY_APPKEY 和 GATEPAY_APPSECRET",
    ),
    "profiles.no_secret": ("The secret of profile {name} is gone.", "配置 {name} 的密钥已不存在。"),
    "profiles.no_secret.todo": (
        "run `gatepay login --profile {name}` again",
        "请重新运行 gatepay login --profile {name}",
    ),
    "keyring.waiting": (
        "Waiting for your keyring, which may be asking for its password…",
        "正在等待系统钥匙串，它可能需要你输入密码……",
    ),
    "keyring.locked": ("Your keyring is locked.", "系统钥匙串已锁定。"),
    "keyring.missing": (
        "The secret of this profile is in a keyring, but no keyring is available here.",
        "此配置的密钥保存在系统钥匙串中，但这里没有可用的钥匙串。",
    ),
    "keyring.missing.todo": (
        "start the keyring, or run `gatepay login --in-file` to keep the secret in a file that only you can read",
        "请启动钥匙串；或运行 gatepay login --in-file，把密钥存入仅自己可读的文件",
    ),
    "keyring.refuses": ("Your keyring refused ({reason}).", "系统钥匙串拒绝了请求（{reason}）。"),
    "keyring.forgets": ("Your keyring did not keep the secret.", "系统钥匙串没有保存密钥。"),
    "keyring.hangs": ("Your keyring did not respond within {seconds} s.", "系统钥匙串在 {seconds} 秒内没有响应。"),
    "keyring.todo": (
        "unlock it, or run `gatepay login --in-file` to keep the secret in a file that only you can read",
        "请解锁钥匙串；或运行 gatepay login --in-file，把密钥存入仅自己可读的文件",
    ),
    # -- files --------------------------------------------------------------------------------------------------------
    "files.there": ("{path} already exists.", "{path} 已存在。"),
    "files.there.todo": ("use --force to replace it, or choose another name", "用 --force 覆盖，或换一个文件名"),
    "files.no_folder": ("{path}: no such folder.", "{path}：文件夹不存在。"),
    "files.no_file": ("{path} is not a regular file.", "{path} 不是普通文件。"),
    "files.is_output": (
        "{path} is where this command's output goes. Name another file.",
        "{path} 正用来保存本命令的输出，请换一个文件。",
    ),
    "files.unwritable": ("Can't write {path}: {reason}", "无法写入 {path}：{reason}"),
    "sources.stdin": ("standard input", "标准输入"),
    "sources.closed": ("Standard input is closed; there is nothing to read.", "标准输入已关闭，没有可读取的内容。"),
    "sources.directory": ("{name} is a folder, not a file.", "{name} 是文件夹，不是文件。"),
    "sources.twice": ("{name} is listed twice; it is read once.", "{name} 重复给出，只读取一次。"),
    "sources.missing": ("File not found: {name}", "找不到文件：{name}"),
    "sources.bad": ("{name}: {problem}", "{name}：{problem}"),
    "sources.several": ("{problems}", "{problems}"),
    "sources.unreadable": ("Can't read {name}: {reason}", "无法读取 {name}：{reason}"),
    "sources.line": ("line {line} {problem}", "第 {line} 行{problem}"),
    "sources.row": ("row {line} {problem}", "第 {line} 行{problem}"),
    "sources.reading": ("Reading", "正在读取"),
    "sources.guessed": (
        "Note: {name} is not UTF-8; it is read as {encoding}. To change that, use --encoding.",
        "注意：{name} 不是 UTF-8，按 {encoding} 读取（可用 --encoding 指定）。",
    ),
    "sources.no_encoding": (
        "is not UTF-8, and the encoding can't be recognized",
        "不是 UTF-8，也无法识别是哪种编码",
    ),
    "sources.not_in": ("the file is not {encoding}", "文件不是 {encoding} 编码"),
    "sources.no_encoding.todo": (
        "save the file as UTF-8, or set its encoding, such as --encoding gb18030 or --encoding big5",
        "请另存为 UTF-8，或用 --encoding 指定编码，如 --encoding gb18030、--encoding big5",
    ),
    "sources.heading": ("looks like a heading, not a card key", "看起来是标题，不是卡密"),
    "sources.heading.todo": (
        "add --skip-heading to leave this line out, or --as-is if it is a card key",
        "如果是标题，请加 --skip-heading 跳过；如果确实是卡密，请加 --as-is",
    ),
    "sources.title": (
        "looks like a heading, but there are other rows above it",
        "看起来是标题行，但上面还有其他行",
    ),
    "sources.title.todo": (
        "delete the rows above the first card key",
        "请删除第一条卡密上方的各行",
    ),
    "sources.which_column": (
        "several columns; which one holds the card keys? Columns: {columns}",
        "有多列，无法确定哪一列是卡密。各列：{columns}",
    ),
    "sources.no_column": (
        "--column {column} matches no column, or more than one. Columns: {columns}",
        "--column {column} 没有匹配的列，或匹配了多列。各列：{columns}",
    ),
    "sources.which_column.todo": (
        "name the column or its number: --column {likely}. Other columns are not uploaded: if a customer needs a card number "
        "and a password, join them in one column first",
        "请指定列名或列号：--column {likely}。其他列不会上传：如果客户同时需要卡号和密码，请先合并为一列（如 卡号----密码）",
    ),
    "sources.no_table": ("--column: none of the files is a table.", "--column：没有文件是表格。"),
    "sources.no_table.todo": (
        "remove --column, or name the file .csv, .tsv, .jsonl or .xlsx",
        "请去掉 --column，或将文件改名为 .csv、.tsv、.jsonl、.xlsx",
    ),
    "sources.is_workbook": ("this is an Excel file", "这是 Excel 文件"),
    "sources.no_workbook": (
        "this is not an Excel file, or a password protects it",
        "不是 Excel 文件，或设有密码",
    ),
    "sources.is_workbook.todo": (
        "save it as .xlsx, without a password",
        "请另存为 .xlsx，不要设置密码",
    ),
    "sources.workbook_as_is": ("an Excel file has no lines for --as-is", "Excel 文件没有可供 --as-is 读取的行"),
    "sources.workbook_as_is.todo": ("remove --as-is", "请去掉 --as-is"),
    "sources.empty": ("the file contains no card keys", "文件中没有卡密"),
    "sources.empty.todo": ("check that this is the right file", "请确认文件是否正确"),
    "sources.exponent": (
        "holds a number that a spreadsheet shortened, such as 1.23E+15; digits are lost",
        "是被表格软件缩写的数字（如 1.23E+15），已丢失位数",
    ),
    "sources.float": ("holds a number with decimals, not a card key", "是小数，不是卡密"),
    "sources.rounded": (
        "holds a number of more than 15 digits; Excel has replaced the others with zeros",
        "是超过 15 位的数字，后面的位数已被 Excel 改成 0",
    ),
    "sources.formatted": (
        "is shown differently from what the file stores, because of its number format",
        "因设置了数字格式，显示的内容与文件中保存的不同",
    ),
    "sources.formatted.todo": (
        "copy the column in Excel or WPS, paste it into a text file as it is shown, and upload that file",
        "请在 Excel 或 WPS 中复制该列，按显示的样子粘贴到文本文件中，再上传该文本文件",
    ),
    "sources.hidden_rows": (
        "hidden rows with content: {count:,} (hidden by a filter, perhaps)",
        "有 {count:,} 行被隐藏（例如被筛选），其中有内容",
    ),
    "sources.hidden_rows.todo": (
        "add --hidden-rows skip to leave them out, or --hidden-rows upload to upload them, too",
        "不上传这些行请加 --hidden-rows skip；也要上传请加 --hidden-rows upload",
    ),
    "sources.long_table": (
        "is a table from a pipe with more than {most} MiB; only the start of such a pipe is checked before the upload",
        "是来自管道、超过 {most} MiB 的表格；这样的管道在上传前只能检查开头",
    ),
    "sources.long_table.todo": ("save the table as a file, and upload that", "请先存成文件再上传"),
    "sources.too_large": ("the texts of the workbook take more than {most} MiB", "工作簿中的文字超过 {most} MiB"),
    "sources.too_large.todo": (
        "save the sheet with the card keys as a CSV file, and upload that",
        "请将卡密所在的工作表另存为 CSV 文件后上传",
    ),
    "sources.merged": (
        "merged cells hide content in the column of the card keys (hidden cells: {count:,})",
        "卡密所在的列中，合并单元格遮住了 {count:,} 个有内容的单元格",
    ),
    "sources.merged.todo": (
        "split the merged cells in Excel or WPS, and delete what is not a card key",
        "请在 Excel 或 WPS 中取消合并单元格，并删除不是卡密的内容",
    ),
    "sources.hidden_column": ("the column of the card keys is hidden", "卡密所在的列被隐藏"),
    "sources.hidden_column.todo": (
        "if it is the right column, name it with --column; otherwise show the hidden columns and check",
        "如果确实是这一列，请用 --column 指定；否则请取消隐藏后核对",
    ),
    "sources.hidden_skip": (
        "Note: {name}: hidden rows left out: {count}.",
        "注意：{name} 中有 {count} 个隐藏行，已跳过。",
    ),
    "sources.hidden_upload": (
        "Note: {name}: hidden rows included: {count}.",
        "注意：{name} 中有 {count} 个隐藏行，也会上传。",
    ),
    "sources.hidden_sheets": (
        "Note: {name}: hidden sheets are not read ({count}).",
        "注意：{name} 中的隐藏工作表不会读取（{count} 个）。",
    ),
    "sources.no_text": (
        "holds a date, a truth value or something else that is not text",
        "是日期、逻辑值或其他非文本内容",
    ),
    "sources.no_json_text": (
        "has no card key, or one that is not text",
        "没有卡密，或卡密不是文本",
    ),
    "sources.no_value": (
        "holds a formula without a result, or with an error such as #N/A",
        "的公式没有结果，或结果是错误值（如 #N/A）",
    ),
    "sources.no_value.todo": (
        "open the file in Excel or WPS, correct the formula and save the file",
        "请用 Excel 或 WPS 打开文件，修正公式后重新保存",
    ),
    "sources.as_text.todo": (
        "format the column as text, then paste the card keys again from their original source",
        "请先将该列设为文本格式，再从原始来源重新填入卡密",
    ),
    "sources.more_cells": ("has more than one column, but the first row has only one", "不止一列，而首行只有一列"),
    "sources.no_csv": ("is not valid CSV, for example a quote is not closed", "不是有效的 CSV，例如引号没有成对"),
    "sources.no_json": ("is not valid JSON", "不是有效的 JSON"),
    "sources.table.todo": (
        "correct the file, or name a column with --column, or use --as-is to take each line as a card key",
        "请修正文件，或用 --column 指定列；若每一行整行都是卡密，请加 --as-is",
    ),
    "sources.lf": ("contains a line break within the card key", "的卡密中含有换行"),
    "odd.these": (
        "Lines that don't look like a single card key: {count:,}.",
        "有 {count:,} 行看起来不是单独一条卡密。",
    ),
    "odd.found": (
        "Lines that don't look like a single card key: {count:,}. {lines}",
        "有 {count:,} 行看起来不是单独一条卡密。{lines}",
    ),
    "odd.line": ("{name}:{line}  {shown}  {reason}", "{name}:{line}  {shown}  {reason}"),
    "odd.comma": ("(contains a comma)", "（含有逗号）"),
    "odd.tab": ("(contains a tab)", "（含有制表符）"),
    "odd.markup": ("(contains markup)", "（含有标签）"),
    "odd.quotes": ("(in quotes, as in a .csv file)", "（带引号，像 .csv 文件那样）"),
    "odd.sign": (
        "(begins with a sign that spreadsheets don't show: ' or =)",
        "（开头有表格软件不显示的符号：' 或 =）",
    ),
    "odd.exponent": ("(a number that a spreadsheet shortened)", "（被表格软件缩写的数字）"),
    "odd.rounded": (
        "(digits may be lost: spreadsheets replace those after the 15th with zeros)",
        "（位数可能已丢失：表格软件会把第 15 位之后的数字变成 0）",
    ),
    "odd.zeros": (
        "(a number of another length; leading zeros may be lost)",
        "（位数与其他数字不同，可能丢失了前导零）",
    ),
    "odd.ask": ("Upload each whole line as one card key? [y/N] ", "每一整行作为一条卡密上传吗？[y/N] "),
    "odd.no": ("Nothing was sent.", "没有发送任何内容。"),
    "odd.todo": (
        "add --yes if each whole line is one card key; if the file is a table, name it .csv or .tsv and use --column",
        "如果每一整行就是一条卡密，请加 --yes；如果文件是表格，请改名为 .csv 或 .tsv，并用 --column 指定列",
    ),
    "sources.utf8_mark": (
        "starts with the byte-order mark of UTF-8, so the file is not {encoding}",
        "以 UTF-8 的 BOM 开头，文件不是 {encoding} 编码",
    ),
    "sources.utf8_mark.todo": ("remove --encoding", "请去掉 --encoding 选项"),
    "sources.nul": ("contains a NUL character; the file may be UTF-16", "含有 NUL 字符，文件可能是 UTF-16 编码"),
    "sources.cr": (
        "contains a carriage return that is not a line end (old Mac format)",
        "含有单独的回车符（旧式 Mac 换行）",
    ),
    "sources.encoding": ("is not valid text in this encoding", "在所用编码下不是有效的文本"),
    "sources.long": ("is longer than {most} bytes", "超过 {most} 字节"),
    "sources.todo": (
        "save the file as UTF-8 text, one card key per line, or set --encoding (such as gb18030, big5 or utf-16)",
        "请另存为 UTF-8 文本，一行一条卡密；或用 --encoding 指定编码（如 gb18030、big5、utf-16）",
    ),
    "uploads.keys_gone": (
        "The card keys of {count} lines are no longer stored, so they can't be written to {path}.",
        "{count} 行的卡密已不在暂存区，无法写入 {path}。",
    ),
    "uploads.kept": ("{path} is unchanged.", "{path} 未作改动。"),
    "sources.nothing_sent": ("; nothing was sent", "；没有发送任何内容"),
    "sources.changed": ("{name} changed while it was being read.", "{name} 在读取过程中被改动了。"),
    "sources.changed.todo": (
        "run the command again when the file is complete; nothing is stored twice",
        "等文件写完后再执行一次；不会重复录入",
    ),
    # -- products and counts ------------------------------------------------------------------------------------------
    "products.id": ("product", "商品编号"),
    "products.category": ("category", "分类"),
    "products.name": ("name", "名称"),
    "products.price": ("price (¥)", "价格（元）"),
    "products.stock": ("in stock", "可售库存"),
    "products.total": ("on the server", "卡密总数"),
    "products.below": ("Show only products with a stock below N.", "只显示库存少于 N 的商品。"),
    "products.watch": (
        "Watch the stock until Ctrl-C (with --below).",
        "持续查看库存，直到按下 Ctrl-C（需要 --below）。",
    ),
    "products.every": (
        "With --watch: seconds between two checks of the stock (default: 60).",
        "使用 --watch 时，每隔多少秒检查一次库存（默认 60）。",
    ),
    "products.below_missing": (
        "--watch requires --below: the stock to warn at.",
        "--watch 需要 --below：库存低于多少时提醒。",
    ),
    "products.watching": (
        "Watching for a stock below {below}. Press Ctrl-C to stop.",
        "库存低于 {below} 时提醒。按 Ctrl-C 结束。",
    ),
    "products.low": ("product {product_id} ({name}): {stock} left", "商品 {product_id}（{name}）：还剩 {stock}"),
    "products.none_low": ("No product has so little stock.", "没有库存这么少的商品。"),
    "products.none": ("Your shop has no products yet.", "店铺还没有商品。"),
    # -- the upload ---------------------------------------------------------------------------------------------------
    "screens.rate": ("{rate}/s", "{rate} 条/秒"),
    "screens.left": ("{time} left", "剩余 {time}"),
    "upload.doing": ("Uploading", "正在上传"),
    "upload.target": ("Product {product} on {url}", "商品 {product}，服务器 {url}"),
    "upload.column": ("result", "结果"),
    "upload.lines": ("lines", "行数"),
    "upload.read": ("read", "读取"),
    "upload.blank": ("blank", "空行"),
    "upload.duplicates": ("duplicates", "重复"),
    "upload.stored": ("newly stored", "新录入"),
    "upload.already_there": ("already stored", "服务器上已有"),
    "upload.refused": ("refused", "被拒绝"),
    "upload.unknown": ("unknown", "结果未知"),
    "upload.not_sent": ("not sent", "未发送"),
    "upload.to_come": ("pending", "待处理"),
    "upload.not_read": ("not read yet", "尚未读取"),
    "upload.samples": ("For example: {samples}", "例如：{samples}"),
    "upload.would_send": ("would be sent", "将要发送"),
    "upload.chunks": ("requests", "请求次数"),
    "upload.where": ("where", "位置"),
    "upload.fate": ("result", "结果"),
    "upload.why": ("why", "原因"),
    "upload.more": ("… and {count} more", "……还有 {count} 项"),
    "upload.ok": ("All card keys are on the server.", "全部卡密都已在服务器上。"),
    "upload.empty": ("The input contains no card keys; there was nothing to upload.", "输入中没有卡密，无需上传。"),
    "upload.stopped": (
        "The upload stopped early, because every further request would have failed the same way.",
        "已提前停止：后面的请求也会因同样的原因失败。",
    ),
    "upload.failed_lines_at": (
        "The card keys that may not be on the server are in {path}. You can upload that file as it is.",
        "未能确认上传成功的卡密已写入 {path}，可直接再次上传。",
    ),
    "upload.failed_lines_as_is": (
        "The card keys that may not be on the server are in {path}, one on each line. Upload that file with --as-is, too.",
        "未能确认上传成功的卡密已写入 {path}，一行一条；再次上传该文件时同样要加 --as-is。",
    ),
    "upload.failed_lines_lost": (
        "The card keys that may not be on the server could not be saved: {reason}",
        "未能确认上传成功的卡密没有保存成功：{reason}",
    ),
    "upload.failed_lines_lost.todo": (
        "upload the same input again, and let --failed-lines name a file that can be written; GatePay stores each card key "
        "once",
        "请重新上传同样的内容，并让 --failed-lines 指向可以写入的文件；GatePay 对每条卡密只保留一份",
    ),
    "uploads.failed_lines_lost.todo": (
        "run `gatepay uploads show {job} --failed-lines FILE` with a file that can be written; the card keys are still in "
        "the queue",
        "请换一个可以写入的文件，执行 gatepay uploads show {job} --failed-lines 文件；卡密仍在队列中",
    ),
    "upload.failed_lines_read": (
        "--failed-lines: {path} is one of the files to upload, and would be replaced.",
        "--failed-lines：{path} 是要上传的文件，会被覆盖。",
    ),
    "upload.failed_lines_read.todo": ("choose another name", "请换一个文件名"),
    "upload.left_out": (
        "(Input that was not read yet is not in this file.)",
        "（其中不含尚未读取的输入。）",
    ),
    "upload.again": (
        "You can upload the same input again: GatePay stores each card key once.",
        "可以放心地重新上传同样的内容：GatePay 对每条卡密只保留一份。",
    ),
    "upload.cut_off": ("the upload was interrupted", "上传被中断"),
    "upload.repeats": ("{line} is a duplicate of {first}", "{line} 与 {first} 重复"),
    "upload.cant_be": ("{line} is not a valid card key", "{line} 不是有效的卡密"),
    "upload.invisible": (
        "{line} contains an invisible character, such as a zero-width space. Is it part of the card key?",
        "{line} 含有不可见字符（如零宽空格），请确认它是否属于卡密",
    ),
    "upload.nothing_sent": ("Nothing was sent.", "没有发送任何内容。"),
    # -- durable uploads ----------------------------------------------------------------------------------------------
    "queue.away.todo": (
        "Check GATEPAY_UPLOADS, that the database is running, and that its disk isn't full. Uploads already submitted are safe there.",
        "请检查 GATEPAY_UPLOADS、数据库是否在运行，以及磁盘是否已满。已提交的任务仍保存在其中。",
    ),
    "queue.file": ("Can't use {path}: {reason}.", "无法使用 {path}：{reason}。"),
    "queue.unwritable": ("Can't write the queue or its card keys: {reason}.", "无法写入上传队列或其卡密：{reason}。"),
    "queue.folder": ("Can't create {path}: {reason}", "无法创建 {path}：{reason}"),
    "queue.none": ("There is no upload {prefix}.", "没有编号为 {prefix} 的任务。"),
    "queue.several": ("Several uploads have an ID that starts with {prefix}.", "有多个任务的编号以 {prefix} 开头。"),
    "queue.todo": ("`gatepay uploads list` shows the IDs", "用 gatepay uploads list 查看编号"),
    "queue.several_files": ("{name} + {more} more", "{name} 和另外 {more} 个文件"),
    "queue.submitted": (
        "Upload {job} is queued: {count} card keys. From now on it survives a crash.",
        "任务 {job} 已进入队列：{count} 条卡密。从现在起，即使崩溃也不会丢失。",
    ),
    "queue.was_done": (
        "Upload {job} was done on {when}. Nothing was sent this time; this is its result:",
        "任务 {job} 已于 {when} 完成，这次没有发送任何内容。结果如下：",
    ),
    "queue.worked_at": (
        "To send it, run `gatepay uploads work`. To follow it, run `gatepay uploads watch`.",
        "用 gatepay uploads work 发送，用 gatepay uploads watch 跟踪。",
    ),
    "queue.goes_on": (
        "The rest stays in the queue. To resume, run the same command again, or `gatepay uploads work`. ({job})",
        "其余卡密留在队列中：再次执行同样的命令，或运行 gatepay uploads work 即可继续。（{job}）",
    ),
    "uploads.none": ("There are no durable uploads.", "没有断点续传任务。"),
    "uploads.job": ("upload", "任务"),
    "uploads.name": ("input", "输入"),
    "uploads.product": ("product", "商品"),
    "uploads.state": ("state", "状态"),
    "uploads.keys": ("card keys", "卡密"),
    "uploads.there": ("on the server", "已在服务器上"),
    "uploads.created": ("submitted", "提交时间"),
    "uploads.ended": ("ended", "结束时间"),
    "uploads.working": ("working", "进行中"),
    "uploads.done": ("done", "已完成"),
    "uploads.stopped": ("stopped", "已停止"),
    "uploads.cancelled": ("cancelled", "已取消"),
    "uploads.is": ("Upload {job} is {state}.", "任务 {job}：{state}。"),
    "uploads.deleted": ("Upload {job} was deleted.", "任务 {job} 已删除。"),
    "working.open": (
        "Running this shop's durable uploads. Press Ctrl-C to stop; nothing is lost.",
        "正在执行本店铺的断点续传任务；按 Ctrl-C 结束，不会丢失任何卡密。",
    ),
    "health.open": ("Health and metrics: http://{address}/metrics", "健康检查与指标：http://{address}/metrics"),
    "health.not_loopback": (
        "Anyone who can reach this address can read the metrics: there is no password and no TLS.",
        "能访问这个地址的人都能读取指标：没有密码，也没有 TLS。",
    ),
    "health.taken": ("Can't listen on port {port}: {reason}", "无法监听端口 {port}：{reason}"),
    "health.taken.todo": (
        "Choose another --health port; each worker on a machine needs its own.",
        "请换一个 --health 端口；同一台机器上的每个 worker 需要各自的端口。",
    ),
    "working.drained": ("Nothing is left to send.", "没有待发送的卡密了。"),
    # -- the export ---------------------------------------------------------------------------------------------------
    "export.doing": ("Fetching", "正在获取"),
    "export.terminal": ("Not printing card keys to a terminal.", "默认不在终端上显示卡密。"),
    "export.terminal.todo": (
        "use --reveal, or write to a file: --output keys.txt",
        "请加上 --reveal，或输出到文件：--output keys.txt",
    ),
    "export.closed": ("Standard output is closed, so the card keys would be lost.", "标准输出已关闭，卡密无处可写。"),
    "export.closed.todo": ("set a file with --output", "用 --output 指定文件"),
    "export.ending": ("{path}: the extension must be one of {endings}", "{path}：扩展名只能是 {endings}"),
    "export.line_break": (
        "A card key contains a line break, which a text file can't hold.",
        "有卡密含有换行，文本文件无法保存。",
    ),
    "export.long_cell": (
        "A card key is longer than {most} characters, the limit of an Excel cell.",
        "有卡密超过 {most} 个字符，超出 Excel 单元格的上限。",
    ),
    "export.other_format": ("export to .csv or .jsonl", "请导出为 .csv 或 .jsonl"),
    "export.excel_ending": ("--excel is for .csv and .xlsx files.", "--excel 只用于 .csv 和 .xlsx 文件。"),
    "export.excel_ending.todo": ("use --output keys.csv", "请使用 --output keys.csv"),
    "export.written": ("{count} card keys written to {path}.", "已将 {count} 条卡密写入 {path}。"),
    "export.drifted": (
        "Note: the stock changed during the export. Card keys that existed the whole time are all included.",
        "注意：导出期间库存有变动。一直存在的卡密都已包含在内。",
    ),
    # -- payments -----------------------------------------------------------------------------------------------------
    "pay.order_is": ("order", "订单号"),
    "pay.price_is": ("price (¥)", "金额（元）"),
    "pay.type_is": ("pay with", "支付方式"),
    "pay.bad_group": ("Invalid value for --group: {group}", "--group 取值无效：{group}"),
    "pay.bad_group.todo": (
        "Write product IDs and quantities, for example --group 8:2,7:3",
        "请写商品编号和件数，例如 --group 8:2,7:3",
    ),
    "pay.one_kind": (
        "An order needs exactly one of --product, --price and --group.",
        "--product、--price、--group 必须且只能给一个。",
    ),
    "pay.one_kind.todo": (
        "--num goes with --product only, and --cloud with --price only",
        "--num 只能与 --product 一起使用，--cloud 只能与 --price 一起使用",
    ),
    "pay.no_picture": (
        "The order was created, but GatePay sent no QR code to save.",
        "订单已创建，但 GatePay 没有返回可保存的二维码。",
    ),
    "pay.picture_name": (
        "{path}: the name of the QR code's file must end with .png",
        "{path}：二维码的文件名必须以 .png 结尾",
    ),
    "pay.picture_type": (
        "Note: {path} is not a PNG image: GatePay sent {media_type}.",
        "注意：{path} 不是 PNG 图片，GatePay 发来的是 {media_type}。",
    ),
    "order.id_is": ("GatePay's number", "GatePay 订单编号"),
    "order.name_is": ("name", "名称"),
    "order.price_is": ("price (¥)", "金额（元）"),
    "order.type_is": ("pay with", "支付方式"),
    "order.status_is": ("status", "状态"),
    "order.unchanged": ("The order's status is still {status}.", "订单状态仍为 {status}。"),
    "order.unchanged.todo": (
        "ask again later, or wait for the callback, which is the only proof of payment",
        "请稍后再查，或等待回调：只有回调才是付款依据",
    ),
    "link.unsigned": (
        "Note: the link is not signed, so the customer can change the price in it. Compare the amount in the callback.",
        "注意：链接没有签名，顾客可以修改其中的金额。请核对回调中的金额。",
    ),
    "pay.link_is": ("Pay here: ", "付款链接："),
    "pay.wait_and_listen": ("--wait and --listen must be used together.", "--wait 和 --listen 必须一起使用。"),
    "pay.wait_and_listen.todo": (
        "for example: --wait --listen 0.0.0.0:8000",
        "例如：--wait --listen 0.0.0.0:8000",
    ),
    "pay.address": (
        "Invalid value for --listen: {address} (must be HOST:PORT)",
        "--listen 取值无效：{address}（格式为 主机:端口）",
    ),
    "pay.cant_listen": ("Can't listen on {address}: {reason}", "无法监听 {address}：{reason}"),
    "pay.waiting": (
        "Waiting up to {time} for the callback at {address} …",
        "正在 {address} 等待回调，最多 {time}……",
    ),
    "time.hours": ("{count} h", "{count} 小时"),
    "time.minutes": ("{count} min", "{count} 分钟"),
    "time.seconds": ("{count} s", "{count} 秒"),
    "pay.not_paid": ("No callback for order {order} arrived in time.", "在规定时间内没有收到订单 {order} 的回调。"),
    "pay.not_paid.todo": (
        "the customer may still be able to pay the order (in the sandbox until {until}): ask with `gatepay order {order}`, "
        "and check the callback URL in GatePay's console",
        "订单仍可能被支付（沙箱中的期限为 {until}）：请用 gatepay order {order} 查询，并在 GatePay 后台检查回调 URL",
    ),
    "pay.still_open": (
        "Order {order} can still be paid: in the sandbox until {until}; GatePay does not say how long. To see its status, "
        "run `gatepay order {order}`.",
        "订单 {order} 仍可付款：沙箱中的期限为 {until}，GatePay 没有公布期限。可用 gatepay order {order} 查询状态。",
    ),
    "pay.perhaps": (
        "Order {order} may or may not exist. Before you create another one, run `gatepay order {order}`, or look in "
        "GatePay's console.",
        "无法确定订单 {order} 是否已创建。另建订单之前，请用 gatepay order {order} 查询，或在 GatePay 后台查看。",
    ),
    "pay.asking": (
        "The response was lost. Asking GatePay for order {order}: up to 15 seconds …",
        "响应丢失，正在向 GatePay 查询订单 {order}，最多 15 秒……",
    ),
    "pay.found": (
        "Order {order} exists (status: {status}). Don't create it again.",
        "订单 {order} 已存在（状态：{status}），请不要重复创建。",
    ),
    "pay.link_lost": (
        "Its payment link was lost with the response. If the customer has no link, run the command again with another "
        "order number, and let this order expire.",
        "付款链接随响应一起丢失。如果顾客没有链接，请换一个订单号重新执行，并让这个订单自行过期。",
    ),
    "pay.not_found": (
        "Order {order} may or may not exist: the response was lost, and GatePay finds no such order. That proves nothing: "
        "GatePay may not find orders of this kind.",
        "无法确定订单 {order} 是否已创建：响应丢失，GatePay 也查不到它。但这不能说明什么：这类订单 GatePay 可能查不到。",
    ),
    "pay.not_found.todo": (
        "look for the order in GatePay's console. If it isn't there, run the command again with another order number",
        "请在 GatePay 后台查找这个订单；如果没有，再换一个订单号重新执行",
    ),
    "pay.probably_not": (
        "Order {order} was probably not created: the response was lost, and GatePay finds no such order.",
        "订单 {order} 很可能没有创建：响应丢失，GatePay 也查不到它。",
    ),
    "pay.probably_not.todo": (
        "run the command again with another order number. If the first request arrives late after all, its order expires",
        "请换一个订单号重新执行。即使第一个请求稍后才到达，那个订单也会自行过期",
    ),
    "pay.not_asked": (
        "Order {order} may or may not exist: the response was lost, and GatePay could not be asked. {reason}",
        "无法确定订单 {order} 是否已创建：响应丢失，也无法向 GatePay 查询。{reason}",
    ),
    "pay.digits": (
        "Note: order number {order} begins or ends with a digit. GatePay signs its callback without separators, so digits "
        "can be moved between the order number and the fields next to it. Without --order you get a safe number.",
        "注意：订单号 {order} 以数字开头或结尾。GatePay 的回调签名没有分隔符，订单号首尾的数字可以移到相邻的字段。"
        "不加 --order 会生成安全的订单号。",
    ),
    "pay.paid": (
        "Paid: ¥{realprice} with {type} (GatePay order {order_id}).",
        "已付款：￥{realprice}，支付方式 {type}（GatePay 订单 {order_id}）。",
    ),
    # -- callbacks ----------------------------------------------------------------------------------------------------
    "callback.genuine": ("Genuine: signed with your secret.", "验签通过：由你的密钥签名。"),
    "callback.compare": (
        "Before you deliver, compare out_order_id and price with your own record, and realprice with price.",
        "发货前，请与自己的订单记录核对 out_order_id 和 price，并确认 realprice 不低于 price。",
    ),
    "callback.underpaid": (
        "Underpaid: the order costs ¥{price}, but only ¥{realprice} was paid.",
        "付款不足：订单金额 ￥{price}，实付 ￥{realprice}。",
    ),
    "callback.answered": ("Your shop responded: {answer} (HTTP {status})", "店铺响应：{answer}（HTTP {status}）"),
    "callback.nothing": ("nothing", "空"),
    "callback.neither": (
        "The response must be exactly `success` or `fail`.",
        "响应只能是 `success` 或 `fail`，不能有其他内容。",
    ),
    "callback.neither.todo": (
        "check the URL, and that your shop responds with one of the two words and nothing else",
        "请检查地址是否正确，并确认店铺只响应这两个词之一",
    ),
    "callback.money": (
        "A price needs two decimals, such as 0.99; got {value}.",
        "价格必须带两位小数，例如 0.99；{value} 不符合。",
    ),
    "callback.status": (
        "`success` with HTTP {status} does not count as success: the sandbox treats it as an error page, and GatePay may "
        "do the same.",
        "HTTP {status} 的 `success` 不算成功：沙箱会把它当作错误页面，GatePay 也可能如此。",
    ),
    "callback.status.todo": (
        "respond with HTTP 200; check whether an error occurred after `success` was written",
        "请以 HTTP 200 响应，并检查写出 `success` 之后是否发生了错误",
    ),
    "callback.late": ("no response within {seconds:g} s", "{seconds:g} 秒内没有响应"),
    "callback.fragment": ("must not contain #", "不能含有 #"),
    "callback.address": ("{url}: {reason}", "{url}：{reason}"),
    "callback.unreachable": ("{url} does not respond: {reason}", "{url} 没有响应：{reason}"),
    "callback.unreachable.todo": (
        "check that your shop is running and that the URL is right",
        "请确认店铺正在运行，且 URL 正确",
    ),
    # -- the sandbox --------------------------------------------------------------------------------------------------
    "sandbox.console": ("console", "控制台"),
    "sandbox.database_at": ("database", "数据库"),
    "sandbox.memory": ("in memory", "仅在内存中"),
    "sandbox.other_port": (
        "Port {port} is in use, so the sandbox uses another one.",
        "端口 {port} 已被占用，因此使用其他端口。",
    ),
    "sandbox.env_file": (
        "The variables are in {path}. In another terminal, use --env-file {path}.",
        "变量已写入 {path}。在另一个终端中使用 --env-file {path}。",
    ),
    "sandbox.set": ("Set these variables in another terminal:", "在另一个终端中设置："),
    "sandbox.until": ("The sandbox is running. Press Ctrl-C to stop.", "沙箱正在运行，按 Ctrl-C 结束。"),
    "sandbox.port_taken": ("Can't use port {port}: {reason}", "无法使用端口 {port}：{reason}"),
    "sandbox.port_taken.todo": (
        "choose another --port, or leave it out to use a free one",
        "换一个 --port，或不指定（自动选择）",
    ),
    "sandbox.later": (
        "{path} was created by a newer version of gatepay-async.",
        "{path} 由更新版本的 gatepay-async 创建。",
    ),
    "sandbox.later.todo": (
        "update gatepay-async, or choose another --database",
        "升级 gatepay-async，或换一个 --database",
    ),
    "sandbox.callback_bad": ("--callback: {reason}", "--callback：{reason}"),
    "sandbox.database_bad": ("Can't use {path} as a database: {reason}", "{path} 不能用作数据库：{reason}"),
    # -- events of the sandbox ----------------------------------------------------------------------------------------
    "seen.no_answer": ("no response", "无响应"),
    "seen.key": ("1 key", "1 条卡密"),
    "seen.keys": ("{count} keys", "{count} 条卡密"),
    "seen.ms": ("{ms} ms", "{ms} 毫秒"),
    "seen.order": ("order {number}", "订单 {number}"),
    "seen.attempt": ("attempt {number}", "第 {number} 次"),
    "seen.fault": ("fault: {kind}", "故障：{kind}"),
    "seen.missing": ("missing or empty: {field}", "缺少参数或参数为空：{field}"),
    "seen.malformed": ("can't be read: {field}", "无法读取：{field}"),
    "seen.pay_type": ("unknown payment method", "没有这种支付方式"),
    "seen.single_only": ("WeChat Pay takes one item", "微信支付只能单件购买"),
    "seen.product_id": ("product_id is not a number above 0", "product_id 不是大于 0 的整数"),
    "seen.quantity": ("product_num is not a number above 0", "product_num 不是大于 0 的整数"),
    "seen.no_product": ("the shop has no such product", "店铺没有这个商品"),
    "seen.no_shop": ("the shop was deleted", "店铺已删除"),
    "seen.appkey": ("unknown appkey", "appkey 无效"),
    "seen.signature": ("wrong signature; signed, in order: {field}", "签名错误；签名顺序：{field}"),
    "seen.stock": ("not enough stock", "库存不足"),
    "seen.quota": ("the quota is used up", "额度已用完"),
    "seen.licence": ("the licence has expired", "授权已过期"),
    "seen.closed": ("the shop's API is closed", "店铺的接口已关闭"),
    "seen.page": ("page is not a number above 0, or is past the last page", "page 不是大于 0 的整数，或超过最后一页"),
    "seen.repeated": ("a card key appears twice", "卡密有重复"),
    "seen.empty": ("no card keys", "没有卡密"),
    "seen.too_many": ("more than 500 card keys", "卡密超过 500 条"),
    "seen.all_known": ("all card keys are already stored", "卡密均已存在"),
    "seen.storage": ("a card key is too long", "有卡密过长"),
    "seen.no_appkey": ("missing or empty: appkey", "缺少 appkey"),
    "seen.no_sign": ("missing or empty: sign", "缺少 sign"),
    "seen.key_expired": ("the licence has expired", "授权已过期"),
    "seen.not_allowed": ("not allowed: {field}", "不允许的参数：{field}"),
    "seen.no_callback_url": ("no return URL, here or in the shop", "请求和店铺都没有同步返回地址"),
    "seen.no_notify_url": ("no callback URL, here or in the shop", "请求和店铺都没有回调 URL"),
    "seen.price": ("price is not an amount such as 1.88", "price 不是金额（例如 1.88）"),
    "seen.pay_type_closed": ("the payment method is closed", "该支付方式已关闭"),
    "seen.no_pay_type": ("all payment methods are closed", "所有支付方式都已关闭"),
    "seen.no_agent": ("the shop is not an agent", "店铺不是代理商"),
    "seen.no_order": ("no such order", "没有这个订单"),
    # -- the doctor ---------------------------------------------------------------------------------------------------
    "doctor.ok": ("[ok]  ", "[正常]"),
    "doctor.warn": ("[note]", "[注意]"),
    "doctor.bad": ("[bad] ", "[问题]"),
    "doctor.finding": ("{about}: {text}", "{about}：{text}"),
    "doctor.versions": ("Versions", "版本"),
    "doctor.versions_are": ("{versions}", "{versions}"),
    "doctor.without": ("{package} not installed", "未安装 {package}"),
    "doctor.tls": ("Certificates", "证书"),
    "doctor.tls_ok": ("{count} authorities trusted ({version})", "信任 {count} 个证书颁发机构（{version}）"),
    "doctor.tls_empty": ("no trusted certificate authorities", "没有任何受信任的证书颁发机构"),
    "doctor.tls_bad": ("can't be read: {reason}", "无法读取：{reason}"),
    "doctor.tls_bad.todo": (
        "unset SSL_CERT_FILE and SSL_CERT_DIR, or set them to valid certificates; then run pip install --upgrade certifi",
        "取消 SSL_CERT_FILE 和 SSL_CERT_DIR，或让它们指向有效的证书；然后运行 pip install --upgrade certifi",
    ),
    "doctor.proxy": ("Proxy", "代理"),
    "doctor.through": ("requests go through {proxy}", "请求将经过 {proxy}"),
    "doctor.through.todo": (
        "if you don't want this, unset HTTPS_PROXY or add GatePay's host to NO_PROXY",
        "如非本意，请取消 HTTPS_PROXY，或把 GatePay 的主机加入 NO_PROXY",
    ),
    "doctor.no_proxy": ("none", "无"),
    "doctor.proxy_bypassed": ("none for {host}", "访问 {host} 不经过代理"),
    "doctor.credentials": ("Key and secret", "密钥"),
    "doctor.credentials_ok": ("appkey {appkey}, secret from {where}", "appkey 为 {appkey}，密钥来自 {where}"),
    "doctor.secret_in_file": ("the file {path}", "文件 {path}"),
    "doctor.secret_in_profile": ("the profile {name} ({place})", "配置 {name}（{place}）"),
    "doctor.secret_in_variable": ("GATEPAY_APPSECRET", "GATEPAY_APPSECRET"),
    "doctor.secret_shared.todo": ("chmod 600 {path}", "chmod 600 {path}"),
    "doctor.server": ("GatePay", "GatePay"),
    "doctor.server_ok": (
        "{url} is reachable and accepts your signature: {products} products ({ms} ms)",
        "{url} 可以访问，签名有效：{products} 个商品（{ms} 毫秒）",
    ),
    "doctor.failed": ("{headline}. {cause}", "{headline}。{cause}"),
    "doctor.failed.todo": (
        "check that {url} is right and that this machine can reach it: network, DNS, proxy, firewall. Try: curl -v {url}",
        "请确认 {url} 正确且本机能够访问：检查网络、DNS、代理和防火墙；可以试试 curl -v {url}",
    ),
    "doctor.refused.todo": (
        "A proxy may have changed the request: check HTTPS_PROXY. If you use no proxy, update gatepay-async.",
        "可能是代理改动了请求：请检查 HTTPS_PROXY。如果没有使用代理，请升级 gatepay-async。",
    ),
    "doctor.clock": ("Clock", "时钟"),
    "doctor.clock_ok": ("{skew} s from GatePay's clock", "与 GatePay 相差 {skew} 秒"),
    "doctor.clock_off": (
        "{skew} s from GatePay's clock: this machine {ours}, GatePay {theirs} (UTC)",
        "与 GatePay 相差 {skew} 秒：本机 {ours}，对方 {theirs}（UTC）",
    ),
    "doctor.clock_off.todo": (
        "turn on network time (NTP); otherwise callbacks seem too old or dated in the future",
        "请开启网络校时（NTP）；否则回调会显得过旧或来自未来",
    ),
    "doctor.no_time": ("the response contains no valid time", "响应中没有可读的时间"),
    "doctor.callback": ("Callback URL", "回调 URL"),
    "doctor.callback_ok": (
        "responds `{genuine}` to a genuine callback for an unknown order, and `fail` to a forged one",
        "对未知订单的真实回调响应 `{genuine}`，对伪造的回调响应 `fail`",
    ),
    "doctor.callback_strange": (
        "responds {genuine} to a genuine callback, and {forged} to a forged one",
        "对真实回调响应 {genuine}，对伪造回调响应 {forged}",
    ),
    "doctor.forged_believed": ("responds `success` to a FORGED callback", "对伪造的回调响应了 `success`"),
    "doctor.forged_believed.todo": (
        "verify the signature before anything else (parse_callback or CallbackApp); otherwise anyone can get your goods "
        "without paying",
        "请务必先验签（使用 parse_callback 或 CallbackApp），否则任何人都能不付款拿货",
    ),
    # -- the catalogue of errors --------------------------------------------------------------------------------------
    "errors.where": ("endpoint", "接口"),
    "errors.number": ("code", "状态码"),
    "errors.message": ("GatePay says", "GatePay 返回信息"),
    "errors.cause": ("why", "原因"),
    "errors.remedy": ("what to do", "处理办法"),
    "errors.class": ("class", "异常类"),
    "errors.any": ("any endpoint", "任何接口"),
    "errors.no_code": (
        "{code} is not a documented code of {endpoint}.",
        "GatePay 的 {endpoint} 状态码表中没有 {code}。",
    ),
    "errors.no_code.todo": ("`gatepay errors` lists all codes", "用 gatepay errors 查看全部"),
    "errors.no_endpoint": (
        "Unknown endpoint: {endpoint} (choose from {endpoints}).{hint}",
        "没有 {endpoint} 这个接口（可选 {endpoints}）。{hint}",
    ),
    # -- the demonstration --------------------------------------------------------------------------------------------
    "demo.where": ("The sandbox is running on this machine at {url}", "沙箱已在本机运行：{url}"),
    "demo.uploaded": (
        "1. Uploaded: {read} lines read, {stored} card keys stored, {duplicates} duplicates, {blank} blank lines.",
        "1. 上传：读取 {read} 行，录入 {stored} 条卡密，重复 {duplicates} 行，空行 {blank} 行。",
    ),
    "demo.walked": (
        "2. Listed: {count} card keys, the same ones as uploaded.",
        "2. 获取：{count} 条卡密，与上传的完全一致。",
    ),
    "demo.walk_differs": (
        "2. Listed: {count} card keys, NOT the same ones as uploaded.",
        "2. 获取：{count} 条卡密，与上传的不一致！",
    ),
    "demo.ordered": (
        "3. Created an order of ¥{price}. Pay at {url}",
        "3. 创建订单，金额 ￥{price}，付款链接 {url}",
    ),
    "demo.called_back": (
        "4. Received a callback: order {order}, ¥{price} paid; the signature is valid.",
        "4. 收到回调：订单 {order} 已支付 ￥{price}，验签通过。",
    ),
    "demo.forged": ("5. Rejected a forged callback.", "5. 伪造的回调已被拒绝。"),
    "demo.ok": ("Everything works.", "一切正常。"),
    "demo.failed": ("Something does NOT work; see above.", "有步骤不正常，见上文。"),
    "demo.next": (
        "Next: run `gatepay sandbox` to try it yourself, or `gatepay doctor` with your own account.",
        "接下来：运行 gatepay sandbox 亲自试试，或用自己的账号运行 gatepay doctor。",
    ),
}
