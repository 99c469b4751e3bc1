"""Every number of the later pages' tables: each by its cause, or by a fault where it is the server's own failure."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from tables import Tally, rows

from gatepay_async.sandbox import Fault, FaultKind, Sandbox

pytestmark = pytest.mark.sockets

CREATIONS = ("anypay/create", "cloudpay/create", "grouppay/create", "stablepay/create")
# The page's tables, typed off by hand: the numbers that there are.
SHARED = (101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 199)
PAGE = {
    "anypay/create": (*SHARED, *range(201, 209)),
    "cloudpay/create": (*SHARED, *range(201, 210)),
    "grouppay/create": (*SHARED, *range(201, 209)),
    "stablepay/create": (*SHARED, *range(201, 207)),
    "order/check": (*SHARED, 201),
}
NOW = 1555750250
HERE = "http://127.0.0.1:1/"


def untouched(sandbox: Sandbox) -> None:
    """The example shop as it opens, with an order to ask for."""
    sandbox.change_shop(callback_url=HERE, return_url=HERE)


def gone(sandbox: Sandbox) -> None:
    sandbox.remove_shop()


def expired(sandbox: Sandbox) -> None:
    sandbox.change_shop(licence_until=datetime.fromtimestamp(NOW, UTC))


def closed(sandbox: Sandbox) -> None:
    sandbox.change_shop(closed=True)


def no_return_url(sandbox: Sandbox) -> None:
    sandbox.change_shop(callback_url=HERE)


def no_callback_url(sandbox: Sandbox) -> None:
    sandbox.change_shop(return_url=HERE)


def no_quota(sandbox: Sandbox) -> None:
    sandbox.change_shop(callback_url=HERE, return_url=HERE, quota=Decimal("0.01"))


def one_type(sandbox: Sandbox) -> None:
    sandbox.change_shop(callback_url=HERE, return_url=HERE, closed_pay_types=["alipay"])


def no_type(sandbox: Sandbox) -> None:
    sandbox.change_shop(callback_url=HERE, return_url=HERE, closed_pay_types=["alipay", "wechat"])


def no_agent(sandbox: Sandbox) -> None:
    sandbox.change_shop(callback_url=HERE, return_url=HERE, agent=False)


Cause = tuple[str, int, Callable[[Sandbox], None], Mapping[str, str | None]]


def causes() -> list[Cause]:
    """What each number comes of, where it comes of what a shop sends or is."""
    listed: list[Cause] = []
    for path in PAGE:
        named = {"order/check": ["out_order_id"], "grouppay/create": ["fields"], "stablepay/create": ["product_id"]}
        fields = [*named.get(path, ["price"]), *(() if path == "order/check" else ("type", "out_order_id", "custom"))]
        listed += [(path, 101, untouched, {"appkey": nothing}) for nothing in (None, "")]
        listed += [(path, 102, untouched, {"appkey": "nobody"}), (path, 102, gone, {})]
        listed += [(path, 103, untouched, {"sign": nothing}) for nothing in (None, "")] + [(path, 103, expired, {})]
        listed += [(path, 104, untouched, {"sign": wrong}) for wrong in ("0" * 32, "签名")]
        listed += [(path, 105, untouched, {name: nothing}) for name in fields for nothing in (None, "")]
        listed += [(path, 106, untouched, {"page": "1"}), (path, 107, closed, {})]
        listed += [(path, 108, no_return_url, {}), (path, 109, no_callback_url, {})]
    for path in ("cloudpay/create", "order/check"):
        listed += [(path, 106, untouched, {name: HERE}) for name in ("notify_url", "return_url")]
    for path in ("anypay/create", "grouppay/create", "stablepay/create"):
        listed += [(path, 100, no_return_url, {"return_url": HERE}), (path, 100, no_callback_url, {"notify_url": HERE})]
        for wrong in (
            "",
            "shop",
            "ftp://127.0.0.1/",
            "javascript:alert(1)",
            HERE + "?sign=1",
            HERE + "?x=" + "x" * 700,
        ):
            listed += [(path, 106, untouched, {name: wrong}) for name in ("notify_url", "return_url")]
    for path in CREATIONS:
        listed += [(path, 100, untouched, {}), (path, 110, no_quota, {})]
    for path, first in (
        ("anypay/create", 202),
        ("cloudpay/create", 202),
        ("grouppay/create", 201),
        ("stablepay/create", 201),
    ):
        listed += [(path, first, untouched, {"type": wrong}) for wrong in ("paypal", "ALIPAY", "onecode")]
        listed += [(path, first + 1, one_type, {"type": "alipay"}), (path, 100, one_type, {"type": "wechat"})]
        listed += [(path, first + 2, no_type, {})]
    for path in ("anypay/create", "cloudpay/create"):
        wrongs = ("0.00", "1", "1.0", "1.000", "01.00", "-1.00", "1,00", "١.00", "1.00 ", "1000000000000.00", "free")
        listed += [(path, 201, untouched, {"price": wrong}) for wrong in wrongs]
        listed += [(path, 100, untouched, {"price": right}) for right in ("0.01", "999999999999.99")]
    listed += [("cloudpay/create", 209, no_agent, {}), ("anypay/create", 100, no_agent, {})]
    for wrong in ("8", "8:", ":1", "8:0", "0:1", "8:1,", "8:1,8:2", "8:1;4:1", "8:1:1", "a:b", "8:1.5", "8: 1"):
        listed.append(("grouppay/create", 106, untouched, {"fields": wrong}))
    for wrong in ("8:90", "8:1,5:2", "7:1", "3:1"):
        listed.append(("grouppay/create", 204, untouched, {"fields": wrong}))
    listed += [("stablepay/create", 205, untouched, {"product_id": wrong}) for wrong in ("7", "3", "0", "x", "9" * 19)]
    listed.append(("order/check", 201, untouched, {"out_order_id": "T-1"}))
    return listed


CAUSES = causes()
ARRANGED = (untouched, gone, expired, closed, no_return_url, no_callback_url, no_quota, one_type, no_type, no_agent)
# The server's own failures: only a fault makes them.
FAILURES = {
    "anypay/create": (199, 205, 206, 207, 208),
    "cloudpay/create": (199, 205, 206, 207, 208),
    "grouppay/create": (199, 205, 206, 207, 208),
    "stablepay/create": (199, 204),
    "order/check": (199,),
}
# Arranged by tests of their own, below.
ELSEWHERE = {("order/check", 110), ("stablepay/create", 206)}


@pytest.mark.parametrize("arrange", ARRANGED)
def test_each_cause_has_its_number(arrange: Callable[[Sandbox], None], visit: Any, clock: Any) -> None:
    """A cause is answered with the endpoint's number and a Chinese sentence, and null data if it is a refusal."""
    tally = Tally()
    with Sandbox(clock=clock, urls_required=True) as sandbox:
        call = visit(sandbox)
        arrange(sandbox)
        for path, code, arranged, changes in CAUSES:
            if arranged is arrange:
                with tally.row({"path": path, "code": code, "changes": changes}):
                    reply: dict[str, Any] = call.reply(path, **changes)
                    assert (reply["code"], reply["time"]) == (code, str(NOW))
                    assert (reply["data"] is None) == (code != 100)
                    assert not reply["msg"].isascii()
        orders = sandbox.orders()
    tally.end()
    assert tally.tried
    assert len(orders) == sum(code == 100 and arranged is arrange for _, code, arranged, _ in CAUSES)


def test_the_servers_own_failures(sandbox: Sandbox, call: Any) -> None:
    """A fault makes the numbers that tell of what the server can't do; the texts are the endpoint's."""
    for path, codes in FAILURES.items():
        for code in codes:
            sandbox.fault(Fault(FaultKind.CODE, endpoint=path, code=code))
            reply = call.reply(path)
            assert (reply["code"], reply["data"]) == (code, None)
            assert (reply["msg"] == "未知错误") == (code == 199)
    assert sandbox.orders() == []
    assert [each.endpoint for each in sandbox.requests] == [path for path, codes in FAILURES.items() for _ in codes]


def test_the_causes_cover_the_page() -> None:
    """No (endpoint, code) pair of the page is left without a cause above."""
    tried = {(path, code) for path, code, _, _ in CAUSES if code != 100} | ELSEWHERE
    tried |= {(path, code) for path, codes in FAILURES.items() for code in codes}
    assert tried == {(path, code) for path, codes in PAGE.items() for code in codes}


def test_out_of_stock(sandbox: Sandbox, call: Any) -> None:
    """A product without a card key left is 206 at stablepay/create."""
    sandbox.delete_keys(8, sandbox.key_ids(8))
    assert call.reply("stablepay/create")["code"] == 206


def test_a_quota_that_is_used_up(sandbox: Sandbox, call: Any) -> None:
    """What was ordered today counts, of every kind; beyond the quota nothing is answered, not even a question."""
    sandbox.change_shop(quota=Decimal("2.87"))
    codes = [call.reply(path)["code"] for path in ("anypay/create", "stablepay/create", "pay/create", "order/check")]
    assert codes == [100, 100, 111, 100]
    sandbox.change_shop(quota=Decimal("2.86"))
    assert call.reply("order/check")["code"] == 110


ORDER = [
    ("anypay/create", {"appkey": "nobody", "sign": None}, 102),
    ("anypay/create", {"sign": "0", "price": None}, 104),
    ("anypay/create", {"price": None, "page": "1"}, 105),
    ("anypay/create", {"price": "x", "page": "1"}, 106),
    ("anypay/create", {"price": "x", "type": "x"}, 201),
    ("stablepay/create", {"product_id": "x", "type": "x"}, 201),
    ("grouppay/create", {"fields": "7:1", "type": "x"}, 201),
    ("cloudpay/create", {"price": "x", "type": "x"}, 201),
]


@rows(("path", "changes", "code"), ORDER)
def test_of_two_causes_the_first_wins(path: str, changes: Mapping[str, str | None], code: int, call: Any) -> None:
    """The checks go in the order of their numbers."""
    assert call.reply(path, **changes)["code"] == code


def test_a_stranger_learns_nothing(sandbox: Sandbox, call: Any) -> None:
    """Without a right signature a call says nothing of the shop: not that it is closed, or its key expired."""
    expired(sandbox)
    closed(sandbox)
    assert call.reply("order/check", sign="0")["code"] == 104


def test_a_form_that_is_none(call: Any) -> None:
    """A body or a query that can't be read is a call whose fields are missing."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert call.client.post("anypay/create", content=b"a=%", headers=form).json()["code"] == 105
    assert call.client.get("order/check?a=1&a=1").json()["code"] == 105


def test_the_method_of_each(call: Any) -> None:
    """The creations are POSTs, and the question is a GET."""
    assert call.client.post("order/check", data=call.form("order/check")).status_code == 405
    assert call.client.get("anypay/create", params=call.form("anypay/create")).status_code == 405


def test_pay_types_that_there_are(sandbox: Sandbox) -> None:
    """Only the two ways to pay of the later pages can be closed."""
    with pytest.raises(ValueError, match="closed_pay_types is some of wechat, alipay"):
        sandbox.change_shop(closed_pay_types=["onecode"])
