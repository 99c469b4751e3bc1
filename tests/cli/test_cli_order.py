"""``gatepay pay`` for orders of any amount and of several products, ``gatepay order`` and ``gatepay link``."""

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
    """The sandbox is the cloud, too."""
    import os  # noqa: PLC0415 -- the fixture before this one has set it

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
def test_pay(gatepay: Any, shop: Sandbox, options: list[str], price: str | None) -> None:
    """The order is made, and where it is paid is printed; for programs, too."""
    run = gatepay("pay", "--type", "alipay", *options, "--order", "T-1001-X", "--json")
    assert (run.status, run.err) == (0, "")
    assert (run.json["out_order_id"], run.json["order_price"], run.json["order_type"]) == ("T-1001-X", price, "alipay")
    assert run.json["order_url"].startswith("http")
    [made] = shop.orders()
    assert (made.out_order_id, made.custom) == ("T-1001-X", "T-1001-X")
    assert price is not None or dict(made.items) == {8: 2, 4: 1}
    said = gatepay("pay", "--type", "alipay", *options)
    assert "Pay here: http" in said.out
    assert ("price" in said.out) == (price is not None)


@pytest.mark.parametrize(
    "options",
    [
        [], ["--price", "1", "--group", "8:1"], ["--product", 8, "--price", "1"], ["--group", "8:1", "--cloud"],
        ["--price", "1", "--num", 2], ["--group", "8"], ["--group", "8:0"], ["--price", "1.001"],
    ],
)  # fmt: skip
def test_pay_for_nothing_in_particular(gatepay: Any, shop: Sandbox, options: list[Any]) -> None:
    """What is ordered is said once and in its form, or nothing is sent."""
    run = gatepay("pay", "--type", "alipay", *options)
    assert (run.status, shop.orders()) == (2, [])
    assert "Fix: " in run.err


def test_no_picture(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Where GatePay gives no picture the order is made, and the status says that a part is missing."""
    from gatepay_async import PaymentLink  # noqa: PLC0415 -- used here only

    async def create(_: AsyncGatePay, *, out_order_id: str, **__: object) -> PaymentLink:
        await anyio.lowlevel.checkpoint()
        return PaymentLink("https://h/1", "", None, out_order_id)

    monkeypatch.setattr(AsyncGatePay, "create_anypay", create)
    run = gatepay("pay", "--type", "alipay", "--price", 1, "--save-qr", tmp_path / "qr.png")
    assert run.status == 1
    assert "sent no QR code" in run.err


def test_order(gatepay: Any, shop: Sandbox) -> None:
    """What GatePay knows of an order is printed; one that it doesn't find is explained."""
    gatepay("pay", "--type", "alipay", "--price", "1.88", "--order", "T-1001-X")
    run = gatepay("order", "T-1001-X", "--json")
    assert (run.json["out_order_id"], run.json["order_price"], run.json["order_type"]) == ("T-1001-X", "1.88", "alipay")
    assert {"order_id", "order_name", "order_status"} <= set(run.json)
    assert run.json["order_status"] in gatepay("order", "T-1001-X").out
    missing = gatepay("order", "T-1002-X")
    assert missing.status == 3
    assert "Check the order number" in missing.err


STATES = {"wait": ["wait", "other"], "unpaid": ["unpaid", "", "expired"], "paid": ["paid"], "expired": ["expired"]}


@pytest.mark.parametrize("first", STATES)
def test_waiting(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    """The wait ends with the first word that is another one, or with one that is an end; trouble is passed over."""
    left = list(STATES[first])
    monkeypatch.setattr(order, "_POLL_SECONDS", 0)

    async def check(_: AsyncGatePay, __: str) -> OrderStatus:
        await anyio.lowlevel.checkpoint()
        state = left.pop(0)
        if not state:
            raise ProtocolError(endpoint="order/check", http_status=502, problem="is no complete JSON")
        return OrderStatus(1, "x", parse_amount("price", "1"), "alipay", state)

    monkeypatch.setattr(AsyncGatePay, "check_order", check)
    run = gatepay("order", "T-1001-X", "--wait", "--json")
    assert (run.json["order_status"], left) == (STATES[first][-1], [])


def test_waiting_in_vain(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait has an end."""
    gatepay("pay", "--type", "alipay", "--price", "1.88", "--order", "T-1001-X")
    monkeypatch.setattr(order, "_POLL_SECONDS", 0.01)
    run = gatepay("order", "T-1001-X", "--wait", "--timeout", 1)
    assert run.status == 4
    assert "is still" in run.err


def test_link(gatepay: Any, shop: Sandbox) -> None:
    """The link holds what was given; a person is told that it isn't signed."""
    run = gatepay("link", "qflknfokn", "--price", "1.88", "--custom", "terry", "--stable")
    assert run.out.strip().endswith(f"/pay/any?appkey={shop.appkey}&token=qflknfokn&price=1.88&custom=terry&stable=1")
    assert "not signed" in run.err
    assert gatepay("link", "t", "--json").json["url"].endswith("&token=t")
    assert gatepay("link", "t", "--price", "0").status == 2


def test_waiting_for_a_group(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The price of a group isn't known: its callback ends the wait all the same, and that of another order doesn't."""
    port = free_port()
    answers: list[str] = []

    def call_back() -> None:
        queries = [shop.callback_query(each) for each in shop.orders()]
        answers.extend(httpx.get(f"http://127.0.0.1:{port}/?{query}").text for query in queries)

    gatepay("pay", "--type", "alipay", "--group", "8:1")
    shown = pay._print_payment

    def then_call_back(payment: Any) -> None:
        shown(payment)
        thread.start()

    thread = Thread(target=call_back)
    monkeypatch.setattr(pay, "_print_payment", then_call_back)
    run = gatepay("pay", "--type", "alipay", "--group", "8:2", "--wait", "--listen", f"127.0.0.1:{port}")
    thread.join()
    assert (run.status, answers) == (0, ["fail", "success"])
