"""
Every code of the five endpoints that GatePay documented later: `DOCUMENTED_CODES` lists them.

A test produces each code by its cause or, if it is a server error, by a fault.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from tables import Tally, rows

from gatepay_async.sandbox import Fault, FaultKind, Sandbox

pytestmark = pytest.mark.sockets

CREATING_ENDPOINTS = ("anypay/create", "cloudpay/create", "grouppay/create", "stablepay/create")
# The codes in GatePay's documentation, copied by hand.
SHARED_CODES = (101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 199)
DOCUMENTED_CODES = {
    "anypay/create": (*SHARED_CODES, *range(201, 209)),
    "cloudpay/create": (*SHARED_CODES, *range(201, 210)),
    "grouppay/create": (*SHARED_CODES, *range(201, 209)),
    "stablepay/create": (*SHARED_CODES, *range(201, 207)),
    "order/check": (*SHARED_CODES, 201),
}
NOW = 1555750250  # the time of the fixture `clock`, in whole seconds
LOOPBACK_URL = "http://127.0.0.1:1/"


def set_urls(sandbox: Sandbox) -> None:
    """Set the shop's URLs, so that calls needn't contain any."""
    sandbox.change_shop(callback_url=LOOPBACK_URL, return_url=LOOPBACK_URL)


def remove_shop(sandbox: Sandbox) -> None:
    sandbox.remove_shop()


def expire_licence(sandbox: Sandbox) -> None:
    sandbox.change_shop(licence_until=datetime.fromtimestamp(NOW, UTC))


def close_endpoints(sandbox: Sandbox) -> None:
    sandbox.change_shop(closed=True)


def set_only_callback_url(sandbox: Sandbox) -> None:
    sandbox.change_shop(callback_url=LOOPBACK_URL)


def set_only_return_url(sandbox: Sandbox) -> None:
    sandbox.change_shop(return_url=LOOPBACK_URL)


def set_small_quota(sandbox: Sandbox) -> None:
    sandbox.change_shop(callback_url=LOOPBACK_URL, return_url=LOOPBACK_URL, quota=Decimal("0.01"))


def close_one_pay_type(sandbox: Sandbox) -> None:
    sandbox.change_shop(callback_url=LOOPBACK_URL, return_url=LOOPBACK_URL, closed_pay_types=["alipay"])


def close_all_pay_types(sandbox: Sandbox) -> None:
    sandbox.change_shop(callback_url=LOOPBACK_URL, return_url=LOOPBACK_URL, closed_pay_types=["alipay", "wechat"])


def set_no_agent(sandbox: Sandbox) -> None:
    sandbox.change_shop(callback_url=LOOPBACK_URL, return_url=LOOPBACK_URL, agent=False)


# An endpoint, the code of its reply, what prepares the shop for it, and the changes to the fields of a valid call.
Cause = tuple[str, int, Callable[[Sandbox], None], Mapping[str, str | None]]


def make_causes() -> list[Cause]:
    """Return the causes of all codes that result from the fields of a call or from the settings of the shop."""
    causes: list[Cause] = []
    for path in DOCUMENTED_CODES:
        own_fields = {
            "order/check": ["out_order_id"],
            "grouppay/create": ["fields"],
            "stablepay/create": ["product_id"],
        }
        fields = [
            *own_fields.get(path, ["price"]),
            *(() if path == "order/check" else ("type", "out_order_id", "custom")),
        ]
        causes += [(path, 101, set_urls, {"appkey": empty}) for empty in (None, "")]
        causes += [(path, 102, set_urls, {"appkey": "nobody"}), (path, 102, remove_shop, {})]
        causes += [(path, 103, set_urls, {"sign": empty}) for empty in (None, "")] + [(path, 103, expire_licence, {})]
        causes += [(path, 104, set_urls, {"sign": invalid}) for invalid in ("0" * 32, "签名")]
        causes += [(path, 105, set_urls, {name: empty}) for name in fields for empty in (None, "")]
        causes += [(path, 106, set_urls, {"page": "1"}), (path, 107, close_endpoints, {})]
        causes += [(path, 108, set_only_callback_url, {}), (path, 109, set_only_return_url, {})]
    for path in ("cloudpay/create", "order/check"):
        causes += [(path, 106, set_urls, {name: LOOPBACK_URL}) for name in ("notify_url", "return_url")]
    for path in ("anypay/create", "grouppay/create", "stablepay/create"):
        causes += [
            (path, 100, set_only_callback_url, {"return_url": LOOPBACK_URL}),
            (path, 100, set_only_return_url, {"notify_url": LOOPBACK_URL}),
        ]
        for invalid in (
            "",
            "shop",
            "ftp://127.0.0.1/",
            "javascript:alert(1)",
            LOOPBACK_URL + "?sign=1",
            LOOPBACK_URL + "?x=" + "x" * 700,
        ):
            causes += [(path, 106, set_urls, {name: invalid}) for name in ("notify_url", "return_url")]
    for path in CREATING_ENDPOINTS:
        causes += [(path, 100, set_urls, {}), (path, 110, set_small_quota, {})]
    for path, unknown_type_code in (  # the next two codes are also about pay types
        ("anypay/create", 202),
        ("cloudpay/create", 202),
        ("grouppay/create", 201),
        ("stablepay/create", 201),
    ):
        causes += [
            (path, unknown_type_code, set_urls, {"type": invalid}) for invalid in ("paypal", "ALIPAY", "onecode")
        ]
        causes += [
            (path, unknown_type_code + 1, close_one_pay_type, {"type": "alipay"}),
            (path, 100, close_one_pay_type, {"type": "wechat"}),
        ]
        causes += [(path, unknown_type_code + 2, close_all_pay_types, {})]
    for path in ("anypay/create", "cloudpay/create"):
        invalid_prices = (
            "0.00",
            "1",
            "1.0",
            "1.000",
            "01.00",
            "-1.00",
            "1,00",
            "١.00",
            "1.00 ",
            "1000000000000.00",
            "free",
        )
        causes += [(path, 201, set_urls, {"price": invalid}) for invalid in invalid_prices]
        causes += [(path, 100, set_urls, {"price": valid}) for valid in ("0.01", "999999999999.99")]
    causes += [("cloudpay/create", 209, set_no_agent, {}), ("anypay/create", 100, set_no_agent, {})]
    for invalid in ("8", "8:", ":1", "8:0", "0:1", "8:1,", "8:1,8:2", "8:1;4:1", "8:1:1", "a:b", "8:1.5", "8: 1"):
        causes.append(("grouppay/create", 106, set_urls, {"fields": invalid}))
    for invalid in ("8:90", "8:1,5:2", "7:1", "3:1"):
        causes.append(("grouppay/create", 204, set_urls, {"fields": invalid}))
    causes += [
        ("stablepay/create", 205, set_urls, {"product_id": invalid}) for invalid in ("7", "3", "0", "x", "9" * 19)
    ]
    causes.append(("order/check", 201, set_urls, {"out_order_id": "T-1"}))
    return causes


CAUSES = make_causes()
PREPARATIONS = (
    set_urls,
    remove_shop,
    expire_licence,
    close_endpoints,
    set_only_callback_url,
    set_only_return_url,
    set_small_quota,
    close_one_pay_type,
    close_all_pay_types,
    set_no_agent,
)
# Codes of server errors. Only a fault produces them.
SERVER_ERRORS = {
    "anypay/create": (199, 205, 206, 207, 208),
    "cloudpay/create": (199, 205, 206, 207, 208),
    "grouppay/create": (199, 205, 206, 207, 208),
    "stablepay/create": (199, 204),
    "order/check": (199,),
}
# These have their own tests below.
TESTED_SEPARATELY = {("order/check", 110), ("stablepay/create", 206)}


@pytest.mark.parametrize("prepare_shop", PREPARATIONS)
def test_each_cause_has_its_code(prepare_shop: Callable[[Sandbox], None], connect_to: Any, clock: Any) -> None:
    """The reply to each cause has the endpoint's code, a Chinese message, and null data if it is a refusal."""
    tally = Tally()  # collects the failures of all causes until end()
    with Sandbox(clock=clock, urls_required=True) as sandbox:
        api = connect_to(sandbox)
        prepare_shop(sandbox)
        for path, code, preparation, changes in CAUSES:
            if preparation is prepare_shop:
                with tally.row({"path": path, "code": code, "changes": changes}):
                    reply: dict[str, Any] = api.reply(path, **changes)
                    assert (reply["code"], reply["time"]) == (code, str(NOW))
                    assert (reply["data"] is None) == (code != 100)
                    assert not reply["msg"].isascii()
        orders = sandbox.orders()
    tally.end()
    assert tally.tried
    assert len(orders) == sum(code == 100 and preparation is prepare_shop for _, code, preparation, _ in CAUSES)


def test_server_errors_come_from_faults(sandbox: Sandbox, api: Any) -> None:
    """A CODE fault produces the code of a server error, with the endpoint's message."""
    for path, codes in SERVER_ERRORS.items():
        for code in codes:
            sandbox.fault(Fault(FaultKind.CODE, endpoint=path, code=code))
            reply = api.reply(path)
            assert (reply["code"], reply["data"]) == (code, None)
            assert (reply["msg"] == "未知错误") == (code == 199)
    assert sandbox.orders() == []
    assert [request.endpoint for request in sandbox.requests] == [
        path for path, codes in SERVER_ERRORS.items() for _ in codes
    ]


def test_causes_cover_the_documentation() -> None:
    """Every documented pair of endpoint and code is tested."""
    tried = {(path, code) for path, code, _, _ in CAUSES if code != 100} | TESTED_SEPARATELY
    tried |= {(path, code) for path, codes in SERVER_ERRORS.items() for code in codes}
    assert tried == {(path, code) for path, codes in DOCUMENTED_CODES.items() for code in codes}


def test_product_without_stock_is_refused_with_206(sandbox: Sandbox, api: Any) -> None:
    """For a product without unsold card keys, stablepay/create replies 206."""
    sandbox.delete_keys(8, sandbox.key_ids(8))
    assert api.reply("stablepay/create")["code"] == 206


def test_quota_counts_orders_of_all_kinds(sandbox: Sandbox, api: Any) -> None:
    """All of today's orders count towards the quota. Once it is exceeded, order/check is refused, too."""
    sandbox.change_shop(quota=Decimal("2.87"))  # 1.88 for anypay/create and 0.99 for stablepay/create
    codes = [api.reply(path)["code"] for path in ("anypay/create", "stablepay/create", "pay/create", "order/check")]
    assert codes == [100, 100, 111, 100]
    sandbox.change_shop(quota=Decimal("2.86"))
    assert api.reply("order/check")["code"] == 110


CALLS_WITH_TWO_CAUSES = [
    ("anypay/create", {"appkey": "nobody", "sign": None}, 102),
    ("anypay/create", {"sign": "0", "price": None}, 104),
    ("anypay/create", {"price": None, "page": "1"}, 105),
    ("anypay/create", {"price": "x", "page": "1"}, 106),
    ("anypay/create", {"price": "x", "type": "x"}, 201),
    ("stablepay/create", {"product_id": "x", "type": "x"}, 201),
    ("grouppay/create", {"fields": "7:1", "type": "x"}, 201),
    ("cloudpay/create", {"price": "x", "type": "x"}, 201),
]


@rows(("path", "changes", "code"), CALLS_WITH_TWO_CAUSES)
def test_lower_code_of_two_causes_is_returned(
    path: str, changes: Mapping[str, str | None], code: int, api: Any
) -> None:
    """If a call has two causes, the lower code is returned, as the checks are made in that order."""
    assert api.reply(path, **changes)["code"] == code


def test_wrong_signature_hides_the_shops_state(sandbox: Sandbox, api: Any) -> None:
    """With a wrong signature, a call doesn't reveal that the shop is closed or its licence expired."""
    expire_licence(sandbox)
    close_endpoints(sandbox)
    assert api.reply("order/check", sign="0")["code"] == 104


def test_malformed_form_gets_105(api: Any) -> None:
    """A malformed body or query is treated as a call with missing fields."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert api.client.post("anypay/create", content=b"a=%", headers=form).json()["code"] == 105
    assert api.client.get("order/check?a=1&a=1").json()["code"] == 105


def test_wrong_method_gets_405(api: Any) -> None:
    """Creating endpoints accept only POST, and order/check only GET."""
    assert api.client.post("order/check", data=api.form("order/check")).status_code == 405
    assert api.client.get("anypay/create", params=api.form("anypay/create")).status_code == 405
