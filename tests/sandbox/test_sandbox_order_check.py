"""``order/check``, which returns the state of an order."""

from typing import Any

import pytest

from gatepay_async.sandbox import Sandbox

pytestmark = [pytest.mark.sockets, pytest.mark.without_coverage]


def test_reply_is_the_documented_example(api: Any, sandbox: Sandbox) -> None:
    """The reply for an expired order of 1.88 yuan has the fields and values of GatePay's example, in the same order."""
    api.reply("anypay/create")
    sandbox.expire(1)
    data = api.reply("order/check")["data"]
    assert list(data.items()) == [
        ("order_id", 1),
        ("order_name", "任意金额支付:1.88元"),
        ("order_price", "1.88"),
        ("order_type", "alipay"),
        ("order_status", "expired"),
    ]


def test_status_is_pending_paid_or_expired(sandbox: Sandbox, api: Any, clock: Any) -> None:
    """An order is pending, paid or expired. An order that was paid after its expiry stays expired."""

    def status() -> str:
        return str(api.reply("order/check")["data"]["order_status"])

    api.reply("anypay/create")
    assert status() == "pending"
    sandbox.pay(1)
    assert status() == "paid"
    api.reply("anypay/create")
    clock.now += 299.9
    assert status() == "pending"
    clock.now += 0.1
    assert status() == "expired"
    sandbox.pay(2)
    assert status() == "expired"


def test_status_names_can_be_changed(connect_to: Any, clock: Any) -> None:
    """`order_statuses` renames the statuses that it contains; the others keep their names."""
    with Sandbox(clock=clock, order_statuses={"paid": "success"}) as sandbox:
        api = connect_to(sandbox)
        api.reply("anypay/create")
        assert api.reply("order/check")["data"]["order_status"] == "pending"
        sandbox.pay(1)
        assert api.reply("order/check")["data"]["order_status"] == "success"


def test_newest_order_with_the_number_is_returned(sandbox: Sandbox, api: Any) -> None:
    """If two orders have the same number, the newest is returned. Orders of other shops aren't found."""
    api.reply("anypay/create")
    api.reply("anypay/create", price="0.01")
    data = api.reply("order/check")["data"]
    assert (data["order_id"], data["order_price"]) == (2, "0.01")
    assert api.reply("order/check", sandbox.shops[1])["code"] == 201


@pytest.mark.parametrize("finds_all", [True, False])
def test_check_finds_all_decides_about_pay_create(finds_all: bool, connect_to: Any, clock: Any) -> None:  # noqa: FBT001 -- a parameter of pytest
    """`check_finds_all` decides whether order/check finds orders of pay/create. It finds all others either way."""
    with Sandbox(clock=clock, check_finds_all=finds_all) as sandbox:
        api = connect_to(sandbox)
        for path in ("anypay/create", "cloudpay/create", "grouppay/create", "stablepay/create", "pay/create"):
            api.reply(path, out_order_id=path)
        codes = [api.reply("order/check", out_order_id=order.out_order_id)["code"] for order in sandbox.orders()]
    assert codes == [100, 100, 100, 100, 100 if finds_all else 201]
