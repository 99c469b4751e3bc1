"""``order/check``: what became of an order."""

from typing import Any

import pytest

from gatepay_async.sandbox import Sandbox

pytestmark = [pytest.mark.sockets, pytest.mark.uncounted]


def test_the_example(call: Any, sandbox: Sandbox) -> None:
    """An expired order of 1.88 yuan is answered as on the page, name for name and in its order."""
    call.reply("anypay/create")
    sandbox.expire(1)
    data = call.reply("order/check")["data"]
    assert list(data.items()) == [
        ("order_id", 1),
        ("order_name", "任意金额支付:1.88元"),
        ("order_price", "1.88"),
        ("order_type", "alipay"),
        ("order_status", "expired"),
    ]


def test_each_state(sandbox: Sandbox, call: Any, clock: Any) -> None:
    """Pending, paid, expired by the clock, and expired still when it was paid too late."""

    def status() -> str:
        return str(call.reply("order/check")["data"]["order_status"])

    call.reply("anypay/create")
    assert status() == "pending"
    sandbox.pay(1)
    assert status() == "paid"
    call.reply("anypay/create")
    clock.now += 299.9
    assert status() == "pending"
    clock.now += 0.1
    assert status() == "expired"
    sandbox.pay(2)
    assert status() == "expired"


def test_statuses_by_other_names(visit: Any, clock: Any) -> None:
    """Which words the states have is a switch; one that isn't given keeps its own."""
    with Sandbox(clock=clock, order_statuses={"paid": "success"}) as sandbox:
        call = visit(sandbox)
        call.reply("anypay/create")
        assert call.reply("order/check")["data"]["order_status"] == "pending"
        sandbox.pay(1)
        assert call.reply("order/check")["data"]["order_status"] == "success"


def test_the_newest_of_two(sandbox: Sandbox, call: Any) -> None:
    """Of two orders with one number the newest is told of, and another shop's is not found at all."""
    call.reply("anypay/create")
    call.reply("anypay/create", price="0.01")
    data = call.reply("order/check")["data"]
    assert (data["order_id"], data["order_price"]) == (2, "0.01")
    assert call.reply("order/check", sandbox.shops[1])["code"] == 201


@pytest.mark.parametrize("finds_all", [True, False])
def test_an_order_of_the_first_page(finds_all: bool, visit: Any, clock: Any) -> None:  # noqa: FBT001 -- a parameter of pytest
    """Whether the orders of pay/create are found is a switch; each later kind of order is found either way."""
    with Sandbox(clock=clock, check_finds_all=finds_all) as sandbox:
        call = visit(sandbox)
        for path in ("anypay/create", "cloudpay/create", "grouppay/create", "stablepay/create", "pay/create"):
            call.reply(path, out_order_id=path)
        codes = [call.reply("order/check", out_order_id=order.out_order_id)["code"] for order in sandbox.orders()]
    assert codes == [100, 100, 100, 100, 100 if finds_all else 201]
