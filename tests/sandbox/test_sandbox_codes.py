"""Every code in GatePay's documentation, each produced by its real cause."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from tables import Tally, rows

from gatepay_async.sandbox import Sandbox

pytestmark = pytest.mark.sockets

# 状态码表: the codes and messages, copied by hand from GatePay's documentation.
DOCUMENTED_CODES = {
    "pay/create": {
        100: "请求成功",
        101: "参数不完整",
        102: "无效的支付类型",
        103: "微信支付只能单件购买",
        104: "产品编号不合法",
        105: "购买数量需要大于0",
        106: "产品信息不存在",
        107: "商铺信息不存在",
        108: "无效的秘钥",
        109: "签名失败",
        110: "有效库存不足",
        111: "商铺当日额度已用完",
        112: "商铺授权已过期",
    },
    "product/show": {100: "请求成功", 101: "参数不完整", 102: "无效的秘钥", 103: "签名失败"},
    "ka/show": {
        100: "请求成功",
        101: "参数不完整",
        102: "产品编号不合法",
        103: "产品不存在",
        104: "商铺不存在",
        105: "秘钥错误",
        106: "签名失败",
        107: "接口已关闭",
        108: "页数不合法",
    },
    "ka/create": {
        100: "请求成功",
        101: "参数不完整",
        102: "产品编号不合法",
        103: "产品不存在",
        104: "商铺不存在",
        105: "秘钥错误",
        106: "签名失败",
        107: "接口已关闭",
        109: "卡密内容本身有重复",
        110: "卡密内容为空",
        111: "最多支持批量上传500条记录",
        112: "未能录入有效内容，新卡密在数据库中均已存在",
        113: "未能录入有效内容，批量插入数据库失败",
    },
}

NOW = 1555750250  # the time of the fixture `clock`, in whole seconds


def unchanged(_sandbox: Sandbox) -> None:
    """Leave the example shop as it is."""


def remove_shop(sandbox: Sandbox) -> None:
    sandbox.remove_shop()


def close_endpoints(sandbox: Sandbox) -> None:
    sandbox.change_shop(closed=True)


def set_no_quota(sandbox: Sandbox) -> None:
    sandbox.change_shop(quota=Decimal(0))


def expire_licence(sandbox: Sandbox) -> None:
    sandbox.change_shop(licence_until=datetime.fromtimestamp(NOW, UTC))


def add_stored_keys(sandbox: Sandbox) -> None:
    sandbox.add_keys(8, ["AAA", "BBB"])


LINES_501 = "\n".join(f"K{number}" for number in range(501))

# An endpoint, the code of its reply, what prepares the shop for it, and the changes to the fields of a valid call.
Cause = tuple[str, int, Callable[[Sandbox], None], Mapping[str, str | None]]
CAUSES: list[Cause] = [
    ("pay/create", 100, unchanged, {}),
    *[
        ("pay/create", 101, unchanged, {name: empty})
        for name in ("appkey", "sign", "product_id", "out_order_id", "product_num", "pay_type", "custom")
        for empty in (None, "")
    ],
    ("pay/create", 102, unchanged, {"pay_type": "paypal"}),
    ("pay/create", 102, unchanged, {"pay_type": "WECHAT"}),
    ("pay/create", 103, unchanged, {"product_num": "2"}),
    # "٨" is an Arabic digit, which int() would accept. "9" * 19 is more than SQLite's largest integer.
    *[
        ("pay/create", 104, unchanged, {"product_id": invalid})
        for invalid in ("0", "-8", "8.0", "x", "八", "٨", "9" * 19)
    ],
    *[("pay/create", 105, unchanged, {"product_num": invalid}) for invalid in ("0", "-1", "1.5", "one", "9" * 19)],
    ("pay/create", 106, unchanged, {"product_id": "7"}),
    ("pay/create", 106, unchanged, {"product_id": "3"}),
    ("pay/create", 107, remove_shop, {}),
    ("pay/create", 108, unchanged, {"appkey": "nobody"}),
    ("pay/create", 109, unchanged, {"sign": "0" * 32}),
    ("pay/create", 110, unchanged, {"product_id": "5", "product_num": "2", "pay_type": "alipay"}),
    ("pay/create", 111, set_no_quota, {}),
    ("pay/create", 112, expire_licence, {}),
    ("product/show", 100, unchanged, {}),
    *[("product/show", 101, unchanged, {name: empty}) for name in ("appkey", "sign") for empty in (None, "")],
    ("product/show", 102, unchanged, {"appkey": "nobody"}),
    ("product/show", 103, unchanged, {"sign": "0" * 32}),
    ("ka/show", 100, unchanged, {}),
    *[
        ("ka/show", 101, unchanged, {name: empty})
        for name in ("appkey", "sign", "product_id", "page")
        for empty in (None, "")
    ],
    ("ka/show", 102, unchanged, {"product_id": "eight"}),
    ("ka/show", 103, unchanged, {"product_id": "7"}),
    ("ka/show", 103, unchanged, {"product_id": "3"}),
    ("ka/show", 104, remove_shop, {}),
    ("ka/show", 105, unchanged, {"appkey": "nobody"}),
    ("ka/show", 106, unchanged, {"sign": "签名"}),
    ("ka/show", 107, close_endpoints, {}),
    *[("ka/show", 108, unchanged, {"page": invalid}) for invalid in ("0", "-1", "1.0", "last", "9" * 19)],
    ("ka/create", 100, unchanged, {}),
    ("ka/create", 101, unchanged, {"content": None}),
    *[
        ("ka/create", 101, unchanged, {name: empty})
        for name in ("appkey", "sign", "product_id")
        for empty in (None, "")
    ],
    ("ka/create", 102, unchanged, {"product_id": "0"}),
    ("ka/create", 103, unchanged, {"product_id": "3"}),
    ("ka/create", 104, remove_shop, {}),
    ("ka/create", 105, unchanged, {"appkey": "nobody"}),
    ("ka/create", 106, unchanged, {"sign": "0" * 32}),
    ("ka/create", 107, close_endpoints, {}),
    ("ka/create", 109, unchanged, {"content": "AAA\nBBB\n AAA \n"}),
    *[("ka/create", 110, unchanged, {"content": empty}) for empty in ("", "\n\n", " \r\n\t\n\x0b\0")],
    ("ka/create", 111, unchanged, {"content": LINES_501}),
    ("ka/create", 112, add_stored_keys, {"content": "BBB\r\nAAA"}),
    ("ka/create", 113, unchanged, {"content": "CCC\n" + "x" * 256}),
]


@pytest.mark.parametrize(
    "prepare_shop", [unchanged, remove_shop, close_endpoints, set_no_quota, expire_licence, add_stored_keys]
)
def test_each_cause_has_its_code_and_message(prepare_shop: Callable[[Sandbox], None], api: Any) -> None:
    """A reply has HTTP 200, the endpoint's code and message, and null as data if it is a refusal."""
    prepare_shop(api.sandbox)
    tally = Tally()  # collects the failures of all causes until end()
    for path, code, preparation, changes in CAUSES:
        if preparation is prepare_shop:
            with tally.row({"path": path, "code": code, "changes": changes}):
                reply: dict[str, Any] = api.reply(path, **changes)
                assert (reply["code"], reply["msg"]) == (code, DOCUMENTED_CODES[path][code])
                assert reply["time"] == str(NOW)
                assert (reply["data"] is None) == (code != 100)
    tally.end()
    assert tally.tried


def test_causes_cover_the_documentation() -> None:
    """CAUSES contains each pair of endpoint and code in GatePay's documentation."""
    assert {(path, code) for path, code, _, _ in CAUSES} == {
        (path, code) for path, table in DOCUMENTED_CODES.items() for code in table
    }


def test_a_refused_order_is_not_stored(sandbox: Sandbox, api: Any) -> None:
    """A refused pay/create leaves no order behind."""
    expire_licence(sandbox)
    api.reply("pay/create")
    assert sandbox.orders() == []


def test_a_failed_insert_stores_nothing(sandbox: Sandbox, api: Any) -> None:
    """If one card key of a chunk can't be stored (113), none of them is."""
    before = sandbox.keys(8)
    assert api.reply("ka/create", content="CCC\n" + "x" * 256)["code"] == 113
    assert sandbox.keys(8) == before


def test_keys_of_255_characters_are_stored(sandbox: Sandbox, api: Any) -> None:
    """A card key may have up to 255 characters, regardless of its size in bytes."""
    assert api.reply("ka/create", content="密" * 255)["code"] == 100
    assert sandbox.keys(8)[-1] == "密" * 255


def test_500_keys_are_stored(sandbox: Sandbox, api: Any) -> None:
    """Blank lines don't count towards the 500."""
    lines = [f"K{number}" for number in range(500)]
    assert api.reply("ka/create", content="\n\n".join(lines))["data"] == "成功录入:500条卡密"
    assert sandbox.keys(8)[89:] == lines  # the example shop has 89


def test_quota_is_per_day(sandbox: Sandbox, api: Any, clock: Any) -> None:
    """Orders may use up the quota exactly. Further ones get 111 until midnight in UTC+8."""
    sandbox.change_shop(quota=Decimal("1.98"))
    codes = [api.reply("pay/create")["code"] for _ in range(3)]
    clock.now = 1555776000 - 1  # 2019-04-20 23:59:59 +08:00
    codes.append(api.reply("pay/create")["code"])
    clock.now += 1
    codes.append(api.reply("pay/create")["code"])
    assert codes == [100, 100, 111, 111, 100]


def test_licence_is_valid_until_its_end(sandbox: Sandbox, api: Any) -> None:
    """A licence is still valid one second before its end."""
    sandbox.change_shop(licence_until=datetime.fromtimestamp(NOW + 1, UTC))
    assert api.reply("pay/create")["code"] == 100


def test_case_insensitive_keys_are_duplicates(clock: Any, connect_to: Any) -> None:
    """With MySQL's comparison, abc and ABC are duplicates: 109 within one call, 112 if one is stored already."""
    with Sandbox(clock=clock, case_insensitive_keys=True) as sandbox:
        api = connect_to(sandbox)
        codes = [api.reply("ka/create", content=content)["code"] for content in ("abc\nABC", "abc", "ABC")]
    assert codes == [109, 100, 112]


def test_keys_are_case_sensitive(sandbox: Sandbox, api: Any) -> None:
    """By default, abc and ABC are two card keys."""
    assert api.reply("ka/create", content="abc\nABC")["data"] == "成功录入:2条卡密"
    assert sandbox.keys(8)[-2:] == ["abc", "ABC"]


# Calls with two wrong fields, and the code of the field that is checked first.
CHECK_ORDER = [
    ("pay/create", {"custom": "", "pay_type": "paypal"}, 101),
    ("pay/create", {"pay_type": "paypal", "product_id": "x"}, 102),
    ("pay/create", {"product_num": "2", "product_id": "x"}, 103),
    ("pay/create", {"product_num": "0", "product_id": "x"}, 104),
    ("pay/create", {"product_num": "0", "appkey": "nobody"}, 105),
    ("pay/create", {"product_id": "7", "sign": "0"}, 109),
    ("ka/show", {"product_id": "x", "page": "x"}, 102),
    ("ka/show", {"page": "x", "appkey": "nobody"}, 108),
    ("ka/show", {"product_id": "7", "sign": "0"}, 106),
    ("ka/create", {"content": "", "sign": "0"}, 106),
    ("ka/create", {"content": "", "product_id": "7"}, 103),
    ("ka/create", {"content": LINES_501 + "\nK0"}, 109),
]


@rows(("path", "changes", "code"), CHECK_ORDER)
def test_first_failed_check_determines_the_code(
    path: str, changes: Mapping[str, str | None], code: int, api: Any
) -> None:
    """Fields are checked before the appkey, the appkey before the shop. Within a step, the lower code comes first."""
    assert api.reply(path, **changes)["code"] == code


def test_a_closed_shop_still_sells(sandbox: Sandbox, api: Any) -> None:
    """``closed`` affects only ka/show and ka/create. Orders and products still work."""
    close_endpoints(sandbox)
    assert [api.reply(path)["code"] for path in ("pay/create", "product/show")] == [100, 100]


def test_a_removed_shop_has_no_products(sandbox: Sandbox, api: Any) -> None:
    """product/show has no code for a removed shop: the catalogue is empty."""
    remove_shop(sandbox)
    assert api.reply("product/show")["data"] == {"category": []}


def test_change_shop_restores_a_removed_shop(sandbox: Sandbox, api: Any) -> None:
    """change_shop() creates a removed shop again."""
    remove_shop(sandbox)
    assert sandbox.shop() is None
    sandbox.change_shop()
    assert api.reply("pay/create")["code"] == 100


def test_unknown_appkey_has_no_shop(sandbox: Sandbox) -> None:
    """Reading the shop of an unknown appkey raises LookupError."""
    with pytest.raises(LookupError, match="no shop has the appkey 'nobody'"):
        sandbox.shop("nobody")


def test_change_shop_keeps_other_settings(sandbox: Sandbox) -> None:
    """``change_shop`` changes only the settings that are passed, and only of the named shop."""
    until = datetime(2030, 1, 1, tzinfo=UTC)
    second = sandbox.shops[1].appkey
    sandbox.change_shop(second, quota=Decimal("10.23"), licence_until=until)
    state = sandbox.change_shop(second, closed=True)
    assert sandbox.shop(second) == state
    assert (state.admin_id, state.closed, state.quota, state.licence_until) == (
        3,
        True,
        Decimal("10.23"),
        until,
    )
    assert sandbox.change_shop(second, quota=None).quota is None
    first = sandbox.shop()
    assert first is not None
    assert (first.admin_id, first.closed, first.quota, first.licence_until) == (6, False, None, None)
