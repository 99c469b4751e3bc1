"""The causes and remedies of errors: the texts of :mod:`gatepay_async.protocol.catalogue`."""

from gatepay_async.words import Text

# What each endpoint does.
ENDPOINTS: dict[str, Text] = {
    "pay/create": ("Create a payment order", "创建支付订单"),
    "product/show": ("List the products", "获取产品信息"),
    "ka/show": ("List a product's card keys", "获取产品卡密"),
    "ka/create": ("Store a product's card keys", "创建产品卡密"),
    "anypay/create": ("Create an order of any amount", "创建任意金额订单"),
    "cloudpay/create": ("Create a cloud order of any amount", "创建云端支付订单"),
    "grouppay/create": ("Create an order of several products", "创建组合商品订单"),
    "stablepay/create": ("Create an order of one product", "创建固定商品订单"),
    "order/check": ("Check the status of an order", "查询付款结果"),
}

# The causes. The key is the class of the error; the class and the endpoint if the text is specific to one endpoint; or
# the class and "later" if the text is for all endpoints that GatePay added later.
CAUSES: dict[str, Text] = {
    "MissingParameterError pay/create": (
        "A parameter is missing. This endpoint requires appkey, product_id, out_order_id, product_num, pay_type, "
        "custom, sign.",
        "缺少参数。该接口需要 appkey、product_id、out_order_id、product_num、pay_type、custom、sign。",
    ),
    "MissingParameterError product/show": (
        "A parameter is missing. This endpoint requires appkey, sign.",
        "缺少参数。该接口需要 appkey、sign。",
    ),
    "MissingParameterError ka/show": (
        "A parameter is missing. This endpoint requires appkey, product_id, page, sign.",
        "缺少参数。该接口需要 appkey、product_id、page、sign。",
    ),
    "MissingParameterError ka/create": (
        "A parameter is missing. This endpoint requires appkey, product_id, content, sign.",
        "缺少参数。该接口需要 appkey、product_id、content、sign。",
    ),
    "InvalidPayTypeError": ("GatePay does not know this pay_type.", "GatePay 不认识这个 pay_type。"),
    "SingleItemOnlyError": ("WeChat pays for one item only.", "微信支付只能单件购买。"),
    "InvalidProductError": ("product_id is not a valid product ID.", "product_id 不是合法的商品编号。"),
    "InvalidQuantityError": ("product_num must be above 0.", "product_num 必须大于 0。"),
    "ProductNotFoundError": ("This shop has no product with this ID.", "该店铺没有这个编号的商品。"),
    "ShopNotFoundError": ("GatePay found no shop for this appkey.", "GatePay 找不到该 appkey 对应的店铺。"),
    "InvalidAppKeyError": ("GatePay does not accept this appkey.", "GatePay 不接受这个 appkey。"),
    "SignatureRejectedError": (
        "The signature you sent differs from the one that GatePay computed.",
        "GatePay 算出的签名与发送的签名不一致。",
    ),
    "OutOfStockError": ("The order asks for more card keys than are in stock.", "剩余卡密少于订单所需的数量。"),
    "QuotaExceededError": ("The shop's quota for today is used up.", "店铺当日额度已用完。"),
    "LicenceExpiredError": ("The shop's licence with GatePay has expired.", "店铺在 GatePay 的授权已过期。"),
    "OrderFailedError": ("GatePay could not create the order.", "GatePay 未能创建订单。"),
    "UnknownFailureError": (
        "GatePay failed without giving a reason; the order may or may not exist.",
        "GatePay 出错但没有说明原因；订单可能已创建，也可能没有。",
    ),
    "NoPayTypeAvailableError": (
        "No payment method is selected for the shop in GatePay's console.",
        "店铺没有在 GatePay 后台选择收款方式。",
    ),
    "EndpointClosedError": ("This endpoint is closed for the shop.", "该接口未对店铺开放。"),
    "InvalidPageError": ("page is not a valid page number.", "page 不是合法的页码。"),
    "DuplicateKeysError": (
        "The content contains a duplicate card key; none of it was stored.",
        "提交的内容里有重复的卡密；整批都未录入。",
    ),
    "EmptyContentError": ("GatePay found no card key in the content.", "GatePay 在提交的内容里没有找到卡密。"),
    "TooManyKeysError": ("More than 500 card keys in one call.", "一次提交的卡密超过 500 条。"),
    "AlreadyStoredError": (
        "All of these card keys are already stored; none was added.",
        "这些卡密在数据库中均已存在，没有新增。",
    ),
    "StorageFailedError": (
        "GatePay's database could not store the card keys; none was added.",
        "GatePay 批量写入数据库失败，没有新增卡密。",
    ),
    "MissingParameterError anypay/create": (
        "A parameter is missing. This endpoint requires appkey, price, type, out_order_id, custom, sign.",
        "缺少参数。该接口需要 appkey、price、type、out_order_id、custom、sign。",
    ),
    "MissingParameterError cloudpay/create": (
        "A parameter is missing. This endpoint requires appkey, price, type, out_order_id, custom, sign.",
        "缺少参数。该接口需要 appkey、price、type、out_order_id、custom、sign。",
    ),
    "MissingParameterError grouppay/create": (
        "A parameter is missing. This endpoint requires appkey, fields, type, out_order_id, custom, sign.",
        "缺少参数。该接口需要 appkey、fields、type、out_order_id、custom、sign。",
    ),
    "MissingParameterError stablepay/create": (
        "A parameter is missing. This endpoint requires appkey, product_id, type, out_order_id, custom, sign.",
        "缺少参数。该接口需要 appkey、product_id、type、out_order_id、custom、sign。",
    ),
    "MissingParameterError order/check": (
        "A parameter is missing. This endpoint requires appkey, out_order_id, sign.",
        "缺少参数。该接口需要 appkey、out_order_id、sign。",
    ),
    "InvalidPayTypeError later": ("GatePay does not accept this pay_type here.", "该接口不接受这个 pay_type。"),
    "NoPayTypeAvailableError later": (
        "None of the shop's payment methods is available at the moment.",
        "店铺当前没有可用的收款方式。",
    ),
    "QuotaExceededError later": ("The quota of the shop's plan is used up.", "店铺套餐的额度已用完。"),
    "UnknownFailureError order/check": (
        "GatePay could not look up the order, and gave no reason.",
        "GatePay 查询订单出错，但没有说明原因。",
    ),
    "OutOfStockError grouppay/create": ("No product of the group is in stock.", "组合内没有可售的库存。"),
    "OutOfStockError stablepay/create": ("The product is out of stock.", "该商品已无库存。"),
    "AppKeyExpiredError": ("This appkey has expired.", "该 appkey 已过期。"),
    "UnexpectedParameterError": (
        "GatePay does not allow one of the parameters, and does not say which.",
        "存在不允许传递的参数，GatePay 没有说明是哪一个。",
    ),
    "CallbackUrlMissingError": (
        "The shop has not entered its callback URL or its return URL in GatePay's console.",
        "店铺没有在 GatePay 后台填写回调地址或跳转地址。",
    ),
    "InvalidPriceError": ("GatePay does not accept this price.", "GatePay 不接受这个金额。"),
    "PayTypeClosedError": ("The shop has switched off this pay_type.", "店铺已关闭这个 pay_type。"),
    "ProductUnavailableError": ("This product is not for sale.", "该商品不可购买。"),
    "NotAnAgentError": (
        "The shop's owner is not an agent, so this host does not serve the shop.",
        "该用户不是代理商，此地址不为其服务。",
    ),
    "OrderNotFoundError": (
        "GatePay finds no order with this out_order_id.",
        "GatePay 没有找到这个 out_order_id 的订单。",
    ),
    "InvalidRequestError": ("The call is invalid, so nothing was sent.", "调用本身有误，因此什么都没有发送。"),
    "RefusedError": (
        "GatePay's documentation does not list this code for this endpoint.",
        "GatePay 的文档没有列出该接口的这个状态码。",
    ),
    "ProtocolError": (
        "The response is not in GatePay's format: it may be a gateway's page, a redirect or a truncated response.",
        "返回内容不是 GatePay 的响应格式：可能是网关页面、重定向，或者残缺的响应。",
    ),
    "DeadlineExceededError": (
        "The call's deadline has passed, waits and retries included.",
        "整个调用超过了 deadline（包括等待和重试）。",
    ),
    "TransportError unsent": (
        "GatePay could not be reached; nothing was sent.",
        "无法连接 GatePay；没有发送任何内容。",
    ),
    "TransportError sent": (
        "The connection was lost, or no complete response arrived within timeout; GatePay may have received the "
        "request.",
        "连接中断，或在 timeout 内没有收到完整响应；请求可能已经送达。",
    ),
    "OutcomeUnknownError": (
        "The response to the call that creates the order was lost: the order may or may not exist.",
        "下单调用的响应丢失：订单可能已创建，也可能没有。",
    ),
    "MalformedCallbackError": (
        "A field of the callback is missing, duplicated or malformed.",
        "回调的某个字段缺失、重复，或格式不符。",
    ),
    "CallbackSignatureError": (
        "The callback is for another appkey, or was not signed with your secret.",
        "回调属于另一个 appkey，或者不是用你的 appsecret 签名的。",
    ),
    "StaleCallbackError": (
        "The callback is genuine but too old: someone may be replaying a captured one.",
        "回调是真的，但早于你接受的时限：可能有人在重放截获的回调。",
    ),
    "CallbackError": ("The callback is invalid.", "该回调无效。"),
    "UploadIncomplete": ("Some card keys of the upload may not be on the server.", "部分卡密未能确认上传成功。"),
    "GatePayError": ("Something went wrong in gatepay-async.", "gatepay-async 出错。"),
}

# The remedies, with the same keys.
REMEDIES: dict[str, Text] = {
    "MissingParameterError": (
        "This client sends all of them, so check base_url, a proxy or your own HTTP client. If they are right, "
        "GatePay may require a new parameter: update gatepay-async.",
        "本客户端会发送全部参数，请检查中间环节：base_url、代理、自备的 HTTP 客户端。若均无问题，可能是 GatePay "
        "新增了参数：请升级 gatepay-async。",
    ),
    "InvalidPayTypeError": ("Use wechat, alipay or onecode.", "请使用 wechat、alipay 或 onecode。"),
    "SingleItemOnlyError": ("Send product_num=1, or another pay_type.", "请改用 product_num=1，或换用其他 pay_type。"),
    "InvalidProductError": (
        "Use an ID from list_products() or from GatePay's console.",
        "请使用 list_products() 返回的编号，或在 GatePay 后台查看。",
    ),
    "InvalidQuantityError": ("Send the number of items, 1 or more.", "请填写顾客购买的件数，至少为 1。"),
    "ProductNotFoundError": (
        "Check the ID with list_products(), and that the appkey is the one of the right shop.",
        "用 list_products() 查看已有的商品，并确认 appkey 属于你要操作的店铺。",
    ),
    "ShopNotFoundError": (
        "Check in GatePay's console that the shop exists and is open; if so, contact GatePay.",
        "请在 GatePay 后台确认店铺已创建并处于开启状态；若无异常，请联系 GatePay。",
    ),
    # The vendor's tables list the codes in the order product, shop, appkey, signature. If GatePay checks in that order,
    # it finds the product of another shop first, and then refuses the appkey because it isn't that of the owner.
    "InvalidAppKeyError": (
        "Check product_id first: GatePay may answer this for a product of another shop (list_products() lists "
        "yours). If the product is yours, copy the appkey again from GatePay's console, without spaces.",
        "请先检查 product_id：如果商品属于其他店铺，GatePay 也可能返回此状态码（list_products() "
        "会列出你的商品）。如果商品无误，请从 GatePay 后台重新复制 appkey，注意不要带空格。",
    ),
    "InvalidAppKeyError product/show": (
        "Copy the appkey again from GatePay's console, without spaces.",
        "请从 GatePay 后台重新复制 appkey，注意不要带空格。",
    ),
    "SignatureRejectedError": (
        "Please copy appkey and appsecret again from GatePay's console: they must belong together, and a new "
        "login password there changes the appsecret.",
        "请从 GatePay 后台重新复制 appkey 和 appsecret：两者必须是一对，在后台修改登录密码会更换 appsecret。",
    ),
    # The vendor's framework very likely filters its input (trim, strip_tags, htmlspecialchars) before it computes the
    # signature.
    "SignatureRejectedError pay/create": (
        "If other calls with the same appsecret succeed, check out_order_id and custom: GatePay may change any "
        "of & < > \" ' and leading or trailing spaces before it checks the signature. Remove them. If no call "
        "succeeds, copy appkey and appsecret again from GatePay's console: they must belong together, and a new "
        "login password there changes the appsecret.",
        "如果使用同一 appsecret 的其他调用成功，请检查 out_order_id 和 custom：GatePay 可能会先改动其中的 & < > "
        "\" ' 和首尾空白，再校验签名，请去掉这些字符后再发送。如果所有调用都失败，请从 GatePay 后台重新复制 "
        "appkey 和 appsecret：两者必须是一对，在后台修改登录密码会更换 appsecret。",
    ),
    "SignatureRejectedError ka/create": (
        "If other calls with the same appsecret succeed, check the text of the card keys: GatePay may change any "
        "of & < > \" ' and leading or trailing spaces before it checks the signature. Remove them. If no call "
        "succeeds, copy appkey and appsecret again from GatePay's console: they must belong together, and a new "
        "login password there changes the appsecret.",
        "如果使用同一 appsecret 的其他调用成功，请检查卡密的内容：GatePay 可能会先改动其中的 & < > \" ' "
        "和首尾空白，再校验签名，请去掉这些字符后再发送。如果所有调用都失败，请从 GatePay 后台重新复制 appkey 和 "
        "appsecret：两者必须是一对，在后台修改登录密码会更换 appsecret。",
    ),
    "OutOfStockError": (
        "Upload card keys, or order fewer. product.stock in list_products() is the number in stock.",
        "请补充卡密，或减少购买数量。list_products() 中的 product.stock 是剩余数量。",
    ),
    "QuotaExceededError": (
        "Try again tomorrow, or ask GatePay to raise the quota.",
        "请次日再试，或联系 GatePay 提高额度。",
    ),
    "LicenceExpiredError": ("Renew it with GatePay.", "请在 GatePay 续期。"),
    "OrderFailedError": (
        "Create the order again with a new out_order_id. If it fails again, contact GatePay and tell them the time.",
        "请使用新的 out_order_id 重新下单。如果再次出现，请带上时间联系 GatePay。",
    ),
    "UnknownFailureError": (
        "Look for out_order_id in GatePay's console before you create the order again. Then use a new out_order_id.",
        "重新下单之前，请先在 GatePay 后台查找 out_order_id；再次下单时请使用新的订单号。",
    ),
    "NoPayTypeAvailableError": (
        "Select one in GatePay's console; until then, try another pay_type.",
        "请在 GatePay 后台选择收款方式；在此之前可以换用其他 pay_type。",
    ),
    "EndpointClosedError": ("Ask GatePay to open it.", "请联系 GatePay 开通。"),
    "InvalidPageError": ("Send a whole number, 1 or more.", "请填写从 1 开始的整数。"),
    "DuplicateKeysError": (
        "Remove the duplicate. upload_card_keys() does this for you.",
        "请去掉重复的卡密。upload_card_keys() 会自动去重。",
    ),
    "EmptyContentError": ("Send at least one card key, one per line.", "请至少提交一条卡密，一行一条。"),
    "TooManyKeysError": (
        "Send at most 500. upload_card_keys() splits any number for you.",
        "每次最多提交 500 条。upload_card_keys() 会自动分批，数量不限。",
    ),
    "AlreadyStoredError": (
        "Nothing is lost, and you need do nothing. If the card keys should be new, check that this is the right file.",
        "没有丢失任何卡密，无需处理；如果本想录入新卡密，请检查文件是否选错。",
    ),
    "StorageFailedError": (
        "Send the same content again later: GatePay stores each card key once.",
        "请稍后重新提交同样的内容：GatePay 对每条卡密只保留一份。",
    ),
    "InvalidAppKeyError later": (
        "Copy the appkey again from GatePay's console, without spaces.",
        "请从 GatePay 后台重新复制 appkey，注意不要带空格。",
    ),
    "SignatureRejectedError later": (
        "If other calls with the same appsecret succeed, check out_order_id and custom: GatePay may change any "
        "of & < > \" ' and leading or trailing spaces before it checks the signature. Remove them. If no call "
        "succeeds, copy appkey and appsecret again from GatePay's console: they must belong together, and a new "
        "login password there changes the appsecret.",
        "如果使用同一 appsecret 的其他调用成功，请检查 out_order_id 和 custom：GatePay 可能会先改动其中的 & < > "
        "\" ' 和首尾空白，再校验签名，请去掉这些字符后再发送。如果所有调用都失败，请从 GatePay 后台重新复制 "
        "appkey 和 appsecret：两者必须是一对，在后台修改登录密码会更换 appsecret。",
    ),
    "InvalidPayTypeError later": ("Use alipay or wechat.", "请使用 alipay 或 wechat。"),
    "NoPayTypeAvailableError later": (
        "Check in GatePay's console that a payment method is switched on and has QR codes, and that the app on your "
        "phone is online.",
        "请在 GatePay 后台确认收款方式已打开、收款码已上传，并确认手机上的 App 在线。",
    ),
    "QuotaExceededError later": (
        "Upgrade the plan in GatePay's console, or ask GatePay.",
        "请在 GatePay 后台升级套餐，或联系 GatePay。",
    ),
    "UnknownFailureError later": (
        "Query the order with check_order(out_order_id), and look in GatePay's console, before you create it again. Then use a "
        "new out_order_id.",
        "重新下单之前，请先用 check_order(out_order_id) 查询，并在 GatePay 后台查找；再次下单时请使用新的 out_order_id。",
    ),
    "UnknownFailureError order/check": (
        "Ask again later. This says nothing about the order.",
        "请稍后再次查询。这并不能说明订单的情况。",
    ),
    "OutOfStockError grouppay/create": (
        "Upload card keys, or order other products. product.stock in list_products() is the number in stock.",
        "请补充卡密，或换用其他商品。list_products() 中的 product.stock 是剩余数量。",
    ),
    "OutOfStockError stablepay/create": (
        "Upload card keys, or order another product. product.stock in list_products() is the number in stock.",
        "请补充卡密，或换用其他商品。list_products() 中的 product.stock 是剩余数量。",
    ),
    "AppKeyExpiredError": (
        "Renew the plan in GatePay's console, or copy the current appkey from there. If GatePay's message says that the "
        "signature is missing, a proxy or your own HTTP client has removed it.",
        "请在 GatePay 后台续费，或重新复制当前的 appkey。如果返回信息是“签名必须”，"
        "则是代理或自备的 HTTP 客户端去掉了签名。",
    ),
    "UnexpectedParameterError": (
        "Leave out notify_url and return_url: they are the only optional parameters. If GatePay still refuses, check "
        "that no proxy and no HTTP client of yours adds a parameter.",
        "请去掉 notify_url 和 return_url：可选参数只有这两个。"
        "如果仍被拒绝，请检查代理或自备的 HTTP 客户端是否添加了参数。",
    ),
    "UnexpectedParameterError cloudpay/create": (
        "This client sends required parameters only. Check that no proxy and no HTTP client of yours adds another one.",
        "本客户端只发送必填参数。请检查代理或自备的 HTTP 客户端是否添加了参数。",
    ),
    "UnexpectedParameterError order/check": (
        "This client sends required parameters only. Check that no proxy and no HTTP client of yours adds another one.",
        "本客户端只发送必填参数。请检查代理或自备的 HTTP 客户端是否添加了参数。",
    ),
    "SignatureRejectedError order/check": (
        "If other calls with the same appsecret succeed, check out_order_id: GatePay may change any of & < > \" ' and "
        "leading or trailing spaces before it checks the signature. Remove them. If no call succeeds, copy appkey and "
        "appsecret again from GatePay's console: they must belong together, and a new login password there changes the "
        "appsecret.",
        "如果使用同一 appsecret 的其他调用成功，请检查 out_order_id：GatePay 可能会先改动其中的 & < > \" ' "
        "和首尾空白，再校验签名，请去掉这些字符后再发送。如果所有调用都失败，请从 GatePay 后台重新复制 appkey 和 "
        "appsecret：两者必须是一对，在后台修改登录密码会更换 appsecret。",
    ),
    "CallbackUrlMissingError": (
        "Enter both in the account settings of GatePay's console: the URL that GatePay calls after a payment, and the "
        "one that the customer is sent back to.",
        "请在 GatePay 后台的账户配置里填写两个地址：支付成功后的异步回调地址，以及顾客付款后跳转的地址。",
    ),
    "InvalidPriceError": (
        "Send an amount in yuan above 0 with at most two decimals. GatePay does not document its limits: try a smaller "
        "amount, or ask GatePay.",
        "请填写大于 0、最多两位小数的金额（元）。GatePay 没有公布上限：可以换用较小的金额，或联系 GatePay。",
    ),
    "PayTypeClosedError": (
        "Use the other pay_type, or switch this one on in GatePay's console.",
        "请换用另一个 pay_type，或在 GatePay 后台打开它。",
    ),
    "ProductUnavailableError": (
        "Check the ID with list_products(), and in GatePay's console that the product is on sale.",
        "请用 list_products() 核对商品编号，并在 GatePay 后台确认商品已上架。",
    ),
    "NotAnAgentError": (
        "Check cloud_base_url. If it is right, ask GatePay to make you an agent, or use create_anypay().",
        "请检查 cloud_base_url。如果无误，请向 GatePay 申请成为代理商，或改用 create_anypay()。",
    ),
    "OrderNotFoundError": (
        "Check the number. If the order was created a moment ago, ask again. GatePay does not say whether it finds "
        "orders of create_payment(): for those, look in its console.",
        "请核对订单号。如果刚刚下单，请稍后再查。GatePay 没有说明能否查到 create_payment() 的订单：这类订单请在后台查找。",
    ),
    "InvalidRequestError": (
        "Correct the parameter that .field names; .problem says what is wrong with it.",
        "请修正 .field 指出的参数；.problem 说明了问题所在。",
    ),
    "RefusedError": (
        "Read GatePay's message in .message, and contact GatePay with the endpoint, the code and the time.",
        "请查看 .message 中 GatePay 的返回信息，并带上接口名、状态码和时间联系 GatePay。",
    ),
    "ProtocolError": (
        "Check .http_status and .excerpt, base_url, and whether a proxy responds instead of GatePay. A 5xx or "
        "429 is usually temporary: try again later.",
        "请查看 .http_status 和 .excerpt，并检查 base_url，以及是否有代理代为响应。5xx 和 429 通常是暂时的，"
        "稍后再试即可。",
    ),
    "DeadlineExceededError": (
        "Call it again: any call that raises this error is safe to retry. If it happens often, increase deadline=.",
        "重新调用即可：抛出该错误的调用都可以安全重试。如果经常发生，请调大 deadline=。",
    ),
    "TransportError unsent": (
        "It is safe to retry. Check the network, DNS, the proxy settings and base_url.",
        "可以安全重试。请检查网络、DNS、代理设置和 base_url。",
    ),
    "TransportError sent": (
        "Call it again: any call that raises this error is safe to retry.",
        "重新调用即可：抛出该错误的调用都可以安全重试。",
    ),
    "OutcomeUnknownError": (
        "Don't retry. Ask with check_order(error.out_order_id), or settle(error), which asks several times. If GatePay "
        "finds no order, look for .out_order_id in its console, or wait for its callback. If you can't wait, create "
        "another order with a new out_order_id.",
        "不要重发。请用 check_order(error.out_order_id) 查询，或用 settle(error) 多查几次；如果查不到，请在 GatePay "
        "后台查找 .out_order_id，或等待它的回调；如果等不及，请用新的 out_order_id 另建一个订单。",
    ),
    "MalformedCallbackError": (
        "Respond fail and don't deliver. If GatePay sent it, check that nothing on the way rewrites the query "
        "string, and pass the raw query string.",
        "请响应 fail，不要发货。如果确实是 GatePay 发来的，请确认途中没有改写查询字符串，并传入原始的查询字符串。",
    ),
    "CallbackSignatureError": (
        "Respond fail and don't deliver: anyone can call this URL. If genuine callbacks fail, copy appkey and "
        "appsecret again from GatePay's console.",
        "请响应 fail，不要发货：任何人都能访问这个地址。如果真实的回调也失败，请从 GatePay 后台重新复制 appkey "
        "和 appsecret。",
    ),
    "StaleCallbackError": (
        "Check your own record of the order, and the clock of this machine. GatePay retries for some minutes, so "
        "a max_age of less than ten minutes may lose real payments.",
        "请核对自己的订单记录和本机时钟。GatePay 会在几分钟内重试，max_age 小于十分钟可能丢失真实的付款。",
    ),
    "CallbackError": ("Respond fail and don't deliver.", "请响应 fail，不要发货。"),
    "UploadIncomplete": (
        "report.chunks lists the lines and the reasons. Fix the cause, then upload the same input again: GatePay "
        "stores each card key once.",
        "report.chunks 说明是哪些行、什么原因。排除原因后重新上传同样的内容即可：GatePay 对每条卡密只保留一份。",
    ),
    "GatePayError": ("See the error's own text.", "请查看错误本身的文字。"),
}
