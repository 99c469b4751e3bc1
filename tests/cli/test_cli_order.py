"""Tests of ``gatepay pay`` with --price and --group, and of ``gatepay order`` and ``gatepay link``."""

import os
from threading import Thread
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from servers import free_port

from gatepay_async import AsyncGatePay, OrderStatus, ProtocolError
from gatepay_async.cli.commands import order, pay
from gatepay_async.protocol.money import parse_amount
from gatepay_async.sandbox import Sandbox

pytestmark = pytest.mark.sockets


@pytest.fixture(autouse=True)
def cloud(shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the sandbox as the cloud server, too."""
    monkeypatch.setenv("GATEPAY_CLOUD_BASE_URL", os.environ["GATEPAY_BASE_URL"])


@pytest.mark.parametrize(
    ("options", "price"),
    [
        (["--price", "10.23"], "10.23"),
        (["--price", "10.2", "--cloud"], "10.20"),
        (["--group", "8:2,4:1"], None),
        (["--group", "8:2", "--group", "4:1"], None),
    ],
)
def test_pay_with_a_price_or_a_group_creates_the_order(
    gatepay: Any, shop: Sandbox, options: list[str], price: str | None
) -> None:
    run = gatepay("pay", "--type", "alipay", *options, "--order", "T-1001-X", "--json")
    assert (run.status, run.err) == (0, "")
    assert (run.json["out_order_id"], run.json["order_price"], run.json["order_type"]) == ("T-1001-X", price, "alipay")
    assert run.json["order_url"].startswith("http")
    [order] = shop.orders()
    assert (order.out_order_id, order.custom) == ("T-1001-X", "T-1001-X")
    assert price is not None or dict(order.items) == {8: 2, 4: 1}
    printed = gatepay("pay", "--type", "alipay", *options)
    assert "Pay here: http" in printed.out
    assert ("price" in printed.out) == (price is not None)


@pytest.mark.parametrize(
    "options",
    [
        [], ["--price", "1", "--group", "8:1"], ["--product", 8, "--price", "1"], ["--group", "8:1", "--cloud"],
        ["--price", "1", "--num", 2], ["--group", "8"], ["--group", "8:0"], ["--price", "1.001"],
    ],
)  # fmt: skip
def test_pay_requires_exactly_one_valid_product_price_or_group(gatepay: Any, shop: Sandbox, options: list[Any]) -> None:
    run = gatepay("pay", "--type", "alipay", *options)
    assert (run.status, shop.orders()) == (2, [])
    assert "Fix: " in run.err


def test_missing_qr_code_exits_with_1(
    gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """If the reply has no QR code to save, the order is created and the command exits with 1."""
    from gatepay_async import PaymentLink  # noqa: PLC0415 -- used in this test only

    async def create(_: AsyncGatePay, *, out_order_id: str, **__: object) -> PaymentLink:
        await anyio.lowlevel.checkpoint()
        return PaymentLink("https://h/1", qrcode_url="", qrcode=None, out_order_id=out_order_id)

    monkeypatch.setattr(AsyncGatePay, "create_anypay", create)
    run = gatepay("pay", "--type", "alipay", "--price", 1, "--save-qr", tmp_path / "qr.png")
    assert run.status == 1
    assert "sent no QR code" in run.err


def test_order_prints_the_status_or_explains_a_missing_order(gatepay: Any, shop: Sandbox) -> None:
    gatepay("pay", "--type", "alipay", "--price", "1.88", "--order", "T-1001-X")
    run = gatepay("order", "T-1001-X", "--json")
    assert (run.json["out_order_id"], run.json["order_price"], run.json["order_type"]) == ("T-1001-X", "1.88", "alipay")
    assert {"order_id", "order_name", "order_status"} <= set(run.json)
    assert run.json["order_status"] in gatepay("order", "T-1001-X").out
    missing = gatepay("order", "T-1002-X")
    assert missing.status == 3
    assert "Check the order number" in missing.err


# For each first state: the states that consecutive polls return, starting with it. An empty state: the poll fails.
POLLED_STATES = {
    "wait": ["wait", "other"],
    "unpaid": ["unpaid", "", "expired"],
    "paid": ["paid"],
    "expired": ["expired"],
}


def make_order_status(state: str) -> OrderStatus:
    price = parse_amount("price", "1")
    return OrderStatus(order_id=1, order_name="x", order_price=price, order_type="alipay", order_status=state)


@pytest.mark.parametrize("first", POLLED_STATES)
def test_order_wait_ends_when_the_status_changes(
    gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """
    --wait ends when the status differs from the first one, or is final. Errors of single polls are ignored.

    The exit status is 3 if the order has expired.
    """
    remaining = list(POLLED_STATES[first])
    monkeypatch.setattr(order, "_POLL_SECONDS", 0)

    async def check(_: AsyncGatePay, __: str) -> OrderStatus:
        await anyio.lowlevel.checkpoint()
        state = remaining.pop(0)
        if not state:
            raise ProtocolError(endpoint="order/check", http_status=502, problem="is no complete JSON")
        return make_order_status(state)

    monkeypatch.setattr(AsyncGatePay, "check_order", check)
    run = gatepay("order", "T-1001-X", "--wait", "--json")
    last = POLLED_STATES[first][-1]
    assert (run.json["order_status"], remaining) == (last, [])
    assert run.status == (3 if last == "expired" else 0)


def test_expired_order_has_status_0_without_wait(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --wait, the command only reports the status, so it succeeds."""

    async def check(_: AsyncGatePay, __: str) -> OrderStatus:
        await anyio.lowlevel.checkpoint()
        return make_order_status("expired")

    monkeypatch.setattr(AsyncGatePay, "check_order", check)
    run = gatepay("order", "T-1001-X")
    assert (run.status, "expired" in run.out) == (0, True)


def test_order_wait_times_out(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    gatepay("pay", "--type", "alipay", "--price", "1.88", "--order", "T-1001-X")
    monkeypatch.setattr(order, "_POLL_SECONDS", 0.01)
    run = gatepay("order", "T-1001-X", "--wait", "--timeout", 1, "--json")
    assert (run.status, run.json["out_order_id"]) == (4, "T-1001-X")
    assert run.json["error"]["problem"]["facts"] == {"status": run.json["order_status"]}


def test_link_contains_the_options_and_warns_that_it_is_unsigned(gatepay: Any, shop: Sandbox) -> None:
    run = gatepay("link", "qflknfokn", "--price", "1.88", "--custom", "terry", "--stable")
    assert run.out.strip().endswith(f"/pay/any?appkey={shop.appkey}&token=qflknfokn&price=1.88&custom=terry&stable=1")
    assert "not signed" in run.err
    assert gatepay("link", "t", "--json").json["url"].endswith("&token=t")
    assert gatepay("link", "t", "--price", "0").status == 2


def test_wait_for_a_group_accepts_any_price(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The price of a group is unknown, so its callback may have any price. A callback of another order is refused."""
    port = free_port()
    replies: list[str] = []

    def call_back() -> None:
        queries = [shop.callback_query(order) for order in shop.orders()]
        replies.extend(httpx.get(f"http://127.0.0.1:{port}/?{query}").text for query in queries)

    gatepay("pay", "--type", "alipay", "--group", "8:1")
    print_payment = pay._print_payment

    def print_and_call_back(payment: Any) -> None:
        print_payment(payment)
        thread.start()

    thread = Thread(target=call_back)
    monkeypatch.setattr(pay, "_print_payment", print_and_call_back)
    run = gatepay("pay", "--type", "alipay", "--group", "8:2", "--wait", "--listen", f"127.0.0.1:{port}")
    thread.join()
    assert (run.status, replies) == (0, ["fail", "success"])
