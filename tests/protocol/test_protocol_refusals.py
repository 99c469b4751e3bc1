"""Each code becomes the right exception at each endpoint, as GatePay's page lists it, with all facts of the refusal."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from tables import rows

from gatepay_async.protocol import errors
from gatepay_async.protocol.calls import KaCreate, KaShow, PayCreate, ProductShow
from gatepay_async.protocol.catalogue import REFUSALS
from gatepay_async.protocol.errors import ProtocolError, RefusedError
from gatepay_async.protocol.messages import Reply, decode

pytestmark = pytest.mark.fast

PAY = PayCreate(product_id=8, out_order_id="T-1-X", pay_type="wechat", product_num=1, custom="terry")
CALLS: dict[str, Any] = {
    "pay/create": PAY,
    "product/show": ProductShow(),
    "ka/show": KaShow(8),
    "ka/create": KaCreate(8, ["KEY-A", "KEY-B"]),
}
# The table of codes (状态码表) of each endpoint: code, GatePay's exact message, and the exception that we chose.
VENDOR_TABLE = [
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
]
LISTED = {(endpoint, code) for endpoint, code, _, _ in VENDOR_TABLE}
UNLISTED = [
    (endpoint, code)
    for endpoint in CALLS
    for code in (*range(99, 118), 0, -1, 200, 99_999)
    if code != 100 and (endpoint, code) not in LISTED
]
REPLY_TIME = datetime(2019, 4, 20, 8, 50, 50, tzinfo=UTC)


def refusal(endpoint: str, envelope: dict[str, Any], status: int = 200) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        decode(CALLS[endpoint], Reply(status, json.dumps(envelope).encode()))
    return caught.value


@rows(("endpoint", "code", "message", "error_type"), VENDOR_TABLE)
def test_listed_code_raises_the_exception_of_its_cause(
    endpoint: str, code: int, message: str, error_type: type[RefusedError]
) -> None:
    """Each code in GatePay's table raises exactly the exception of its cause, with GatePay's message."""
    error = refusal(endpoint, {"code": code, "msg": message, "time": "1555750250", "data": None})
    assert type(error) is error_type
    assert (error.code, error.message, error.endpoint, error.time) == (code, message, endpoint, REPLY_TIME)
    assert (error.attempts, error.in_doubt) == (1, False)
    entry = REFUSALS[endpoint, code]
    assert (error.cause, error.remedy) == (entry.cause[0], entry.remedy[0])
    assert str(error) == f"{endpoint} refused with {code} ({message}): {error.cause} {error.remedy}"


def test_every_exception_has_a_code() -> None:
    """Each subclass of RefusedError belongs to a code of the first four endpoints or of the later ones."""
    later = {refusal.error for refusal in REFUSALS.values() if refusal.endpoint not in CALLS}
    assert {error_type for *_, error_type in VENDOR_TABLE} | later == set(RefusedError.__subclasses__())
    assert len(VENDOR_TABLE) == 16 + 3 + 8 + 12  # pay/create, product/show, ka/show, ka/create


@rows(("endpoint", "code"), UNLISTED)
def test_unlisted_code_raises_plain_refused_error(endpoint: str, code: int) -> None:
    """A code that the endpoint's table doesn't list raises ``RefusedError`` itself."""
    error = refusal(endpoint, {"code": code, "msg": "?", "time": "1555750250", "data": []})
    assert type(error) is RefusedError
    assert (error.code, error.message) == (code, "?")
    assert "does not list" in str(error)


@rows("endpoint", CALLS)
@rows("data", [None, [], "", {}, 0, "x", [[]], {"ka": None}])
def test_refusal_may_have_any_data(endpoint: str, data: Any) -> None:
    """The ``data`` of a refusal is ignored."""
    assert type(refusal(endpoint, {"code": 101, "msg": "m", "data": data})) is errors.MissingParameterError


@rows("status", [200, 201, 302, 400, 403, 404, 500, 503])
@rows("endpoint", CALLS)
def test_refusal_needs_only_a_code(endpoint: str, status: int) -> None:
    """A refusal may lack msg, time and data, and may have any HTTP status."""
    error = refusal(endpoint, {"code": 101}, status)
    assert type(error) is errors.MissingParameterError
    assert (error.message, error.time) == ("", None)


@rows("message", [None, 7, [], {}, True])
def test_message_that_is_not_a_string_is_ignored(message: Any) -> None:
    """If ``msg`` is not a string, the error has an empty message."""
    assert refusal("ka/show", {"code": 107, "msg": message}).message == ""


@rows(
    ("time", "expected"),
    [
        ("1555750250", REPLY_TIME),
        (1555750250, REPLY_TIME),
        ("0", datetime(1970, 1, 1, tzinfo=UTC)),
        ("", None),
        ("soon", None),
        ("１５５５", None),
        ("1555750250.5", None),
        (1555750250.5, None),
        ("-5", None),
        (True, None),
        (None, None),
        ([], None),
        ({}, None),
        ("999999999999", None),
        (10**30, None),
    ],
)
def test_time_of_a_refusal_is_none_if_invalid(time: Any, expected: datetime | None) -> None:
    """A refusal with an invalid time is raised all the same."""
    error = refusal("pay/create", {"code": 110, "msg": "m", "time": time})
    assert (type(error), error.time) == (errors.OutOfStockError, expected)


@rows("code", [None, "100", "101", 100.0, 101.5, True, False, [], {}])
@rows("endpoint", CALLS)
def test_code_that_is_not_an_integer_raises_protocol_error(endpoint: str, code: Any) -> None:
    """The error says that ``code`` should be a whole number."""
    with pytest.raises(ProtocolError) as caught:
        decode(CALLS[endpoint], Reply(200, json.dumps({"code": code}).encode()))
    assert caught.value.path == "code"
    assert caught.value.problem.startswith("should be a whole number, ")


@rows(
    ("body", "path", "problem"),
    [
        (b"{}", "code", "is missing"),
        (b"[]", "reply", "should be an object, is a list"),
        (b"null", "reply", "should be an object, is null"),
        (b"100", "reply", "should be an object, is a whole number"),
        (b"1.5", "reply", "should be an object, is a fraction"),
        (b'"x"', "reply", "should be an object, is text"),
        (b"true", "reply", "should be an object, is true or false"),
        (b"", None, "is not complete JSON"),
    ],
)
def test_body_that_is_not_an_envelope_raises_protocol_error(body: bytes, path: str | None, problem: str) -> None:
    """The error says what the body is instead of a JSON object with a code."""
    with pytest.raises(ProtocolError) as caught:
        decode(ProductShow(), Reply(200, body))
    assert (caught.value.path, caught.value.problem) == (path, problem)
    assert (caught.value.endpoint, caught.value.http_status) == ("product/show", 200)
