"""``gatepay pay`` and ``gatepay callback``: orders, and hearing of their payment."""

import json
import re
import socket
from decimal import Decimal
from pathlib import Path
from threading import Thread
from typing import Any, Self

import anyio
import httpx
import pytest
from servers import free_port
from typer.main import get_command

from gatepay_async.cli import settings
from gatepay_async.cli.app import app
from gatepay_async.cli.commands import pay, pay_waiting
from gatepay_async.sandbox import Fault, FaultKind, Sandbox
from gatepay_async.sandbox.options import Options

pytestmark = pytest.mark.sockets

PAY = ("pay", "--product", 8, "--type", "alipay")


def test_pay(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """An order is made under a number of its own; its link is printed whole, its picture saved."""
    picture = tmp_path / "qr.png"
    run = gatepay(*PAY, "--save-qr", picture)
    assert (run.status, run.err) == (0, "")
    [order] = shop.orders()
    assert re.fullmatch(r"T[0-9A-Z]{26}X", order.out_order_id)
    assert order.custom == order.out_order_id
    assert f"Pay here: {httpx.URL(run.out.split('Pay here: ')[1].strip())}" in run.out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_pay_for_programs(gatepay: Any, shop: Sandbox) -> None:
    """With --json the order is an object; number, quantity and `custom` are what was asked for."""
    run = gatepay(*PAY, "--json", "--num", 2, "--order", "T-1001-X", "--custom", "terry")
    assert run.json["order_price"] == "1.98"
    assert run.json["out_order_id"] == "T-1001-X"
    assert (shop.orders()[0].product_num, shop.orders()[0].custom) == (2, "terry")


def test_the_qr_code(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the link is drawn as a QR code, and square; not where it can't be."""
    monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    lines = [line for line in gatepay(*PAY).out.splitlines() if set(line) <= set("█▀▄ ") and line]
    assert len(lines) * 2 >= len(lines[0]) >= 25
    assert len({len(line) for line in lines}) == 1
    monkeypatch.setattr("gatepay_async.cli.commands.pay._can_print_qr_code", lambda: False)
    assert "█" not in gatepay(*PAY).out


def test_pay_is_refused(gatepay: Any, shop: Sandbox) -> None:
    """A refusal is explained in the command's words; status 3."""
    run = gatepay("pay", "-p", 8, "--type", "wechat", "--num", 2)
    assert run.status in (2, 3)
    assert "--num: WeChat pays for one item only" in run.err
    refused = gatepay("pay", "-p", 8, "--type", "alipay", "--num", 1000, "--lang", "zh")
    assert refused.status == 3
    assert "处理：" in refused.err
    assert not shop.orders()


PAYMENTS = {"pay": PAY, "anypay": ("pay", "--price", "1", "--type", "alipay")}


@pytest.mark.parametrize("kind", PAYMENTS)
def test_a_lost_answer_whose_order_exists(gatepay: Any, shop: Sandbox, kind: str) -> None:
    """When the answer is lost nothing is sent again: GatePay is asked, and what it says is told; status 1."""
    shop.fault(Fault(FaultKind.CUT_AFTER, endpoint=f"{kind}/create"))
    run = gatepay(*PAYMENTS[kind], "--order", "T-1-X", "--save-qr", "never.png")
    assert run.status == 1
    assert "Order T-1-X exists (status: pending)" in run.err
    assert "payment link was lost" in run.out
    shop.fault(Fault(FaultKind.CUT_AFTER, endpoint=f"{kind}/create"))
    programs = gatepay(*PAYMENTS[kind], "--json")
    assert (programs.status, programs.json["order_url"]) == (1, None)
    assert [each.out_order_id for each in shop.orders()] == ["T-1-X", programs.json["out_order_id"]]


@pytest.mark.parametrize(
    ("kind", "said"), [("pay", "may or may not exist: the response was lost, and GatePay finds no such order"),
                       ("anypay", "was probably not created")],
)  # fmt: skip
def test_a_lost_answer_whose_order_is_not_found(
    gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch, kind: str, said: str
) -> None:
    """That GatePay doesn't find it proves nothing for the first page's endpoint, and little for a later one."""
    monkeypatch.setattr("gatepay_async.client.payments._SETTLE_WAITS", (0.0,))
    shop.fault(Fault(FaultKind.CUT_BEFORE, endpoint=f"{kind}/create", times=None))
    run = gatepay(*PAYMENTS[kind], "--order", "T-1-X")
    assert run.status == 4
    assert f"Order T-1-X {said}" in run.err
    assert "another order number" in run.err
    error = gatepay(*PAYMENTS[kind], "--json").json["error"]
    assert (error["type"], error["settled"], error["endpoint"]) == (
        "OutcomeUnknownError",
        "not_found",
        f"{kind}/create",
    )


def test_a_lost_answer_that_cant_be_asked_about(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where GatePay doesn't answer either, the order may or may not exist."""
    monkeypatch.setattr("gatepay_async.client.payments._SETTLE_WAITS", (0.0,))
    shop.fault(Fault(FaultKind.CUT_AFTER, endpoint="pay/create"))
    shop.fault(Fault(FaultKind.CUT_BEFORE, endpoint="order/check", times=None))
    run = gatepay(*PAY, "--order", "T-1-X", "--json")
    assert (run.status, run.json["error"]["settled"]) == (4, "not_asked")
    assert "T-1-X may or may not exist" in run.json["error"]["headline"]
    assert "order/check: no response" in run.json["error"]["headline"]


def test_a_payment_without_a_server(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody answers, the advice is about an order, not about card keys."""
    monkeypatch.setenv("GATEPAY_BASE_URL", "http://127.0.0.1:9/api/")
    run = gatepay(*PAY)
    assert run.status == 4
    assert "no order was created" in run.err
    assert "stored" not in run.err
    assert "stored" not in gatepay("products").err


def test_an_order_number_with_blanks(gatepay: Any, shop: Sandbox) -> None:
    """A line break or a space at the end of an order number, as a script leaves it, makes no order."""
    for number in ("T-1-X\n", " T-1-X", ""):
        run = gatepay(*PAY, "--order", number)
        assert (run.status, "--order" in run.err) == (2, True), number
    assert shop.orders() == []


def test_an_order_number_of_digits(gatepay: Any, shop: Sandbox) -> None:
    """A number that begins or ends with a digit gets a warning, and is taken."""
    for number, warned in (("12345", True), ("T-1", True), ("1-X", True), ("T-1-X", False), ("１-X", False)):
        run = gatepay(*PAY, "--order", number)
        assert (run.status, "begins or ends with a digit" in run.err) == (0, warned), number


@pytest.mark.parametrize("target", ["there.png", "no/qr.png"])
def test_a_picture_that_cant_be_saved(gatepay: Any, shop: Sandbox, tmp_path: Path, target: str) -> None:
    """A picture that can't be saved is said before the order is made."""
    (tmp_path / "there.png").touch()
    run = gatepay(*PAY, "--save-qr", tmp_path / target)
    assert (run.status, shop.orders()) == (2, [])


def test_a_picture_that_fails_late(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up costs the picture, not the link: status 1."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gatepay_async.protocol.models.QrCode.save", full)
    run = gatepay(*PAY, "--save-qr", tmp_path / "qr.png")
    assert run.status == 1
    assert "Pay here: " in run.out
    assert shop.orders()


# -- waiting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [["--json"], []], ids=["programs", "people"])
def test_wait(
    gatepay: Any,
    shop: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    options: list[str],
) -> None:
    """
    --wait listens, makes the order, and ends when its callback comes; one of another order doesn't end it.

    No callback comes up in uvicorn's access log, with its signature.
    """
    caplog.set_level("DEBUG")
    port = free_port()
    answers: list[str] = []

    def call_back() -> None:
        other = shop.callback_query(shop.orders()[0])
        genuine = shop.callback_query(shop.orders()[1])
        answers.extend(httpx.get(f"http://127.0.0.1:{port}/?{query}").text for query in (other, genuine))

    gatepay(*PAY)
    shown = pay._print_payment

    def then_call_back(payment: Any) -> None:
        shown(payment)
        thread.start()

    thread = Thread(target=call_back)
    monkeypatch.setattr(pay, "_print_payment", then_call_back)
    run = gatepay(*PAY, "--wait", "--listen", f"127.0.0.1:{port}", *options)
    thread.join()
    assert (run.status, answers) == (0, ["fail", "success"])
    assert [record for record in caplog.records if record.name == "uvicorn.access"] == []
    if options:
        order, paid = map(json.loads, run.out.splitlines())
        assert (paid["paid"], paid["out_order_id"]) == (True, order["out_order_id"])
    else:
        assert f"for the callback at http://127.0.0.1:{port}/" in run.err
        assert "Paid: ¥0.99 with alipay" in run.out


def test_wait_in_vain(gatepay: Any, shop: Sandbox) -> None:
    """When nobody calls back in time, that is said; status 4."""
    run = gatepay(*PAY, "--wait", "--listen", f"localhost:{free_port()}", "--timeout", 1)
    assert run.status == 4
    assert "Waiting up to 1 s" in run.err
    assert "may still be able to pay" in run.err
    assert shop.orders()


def test_a_lost_answer_and_a_wait(gatepay: Any, shop: Sandbox) -> None:
    """--wait goes on after a lost answer if the order exists."""
    shop.fault(Fault(FaultKind.CUT_AFTER, endpoint="pay/create"))
    run = gatepay(*PAY, "--wait", "--listen", f"127.0.0.1:{free_port()}", "--timeout", 1)
    assert run.status == 4
    assert "exists" in run.err
    assert "No callback for order" in run.err


def test_the_wait_and_the_sandbox_agree() -> None:
    """`pay --wait` waits as long as an order of the sandbox can be paid."""
    [default] = {
        param.default
        for name in ("pay", "order")
        for param in get_command(app).commands[name].params  # type: ignore[attr-defined]  # a group has some
        if param.name == "timeout"
    }
    assert default == pay_waiting.ORDER_SECONDS == Options().expires_after


def test_interrupted_while_it_waits(
    shop: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C in the wait says that the order can still be paid, and until when; before that, that it may exist."""

    async def interrupted() -> None:
        with anyio.CancelScope() as scope, pay_waiting.open_listener("127.0.0.1", 0) as listener:

            async def make() -> Decimal:
                scope.cancel()
                return Decimal(1)

            await pay_waiting.wait_for_payment(make, "T-1-X", listener, 300, knows_price=True)
        request = pay.OrderRequest(8, "", (), False, 1, "alipay", "", "")
        async with settings.client() as gatepay:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await pay._create_order(gatepay, request, "T-2-X", None)

    anyio.run(interrupted)
    waiting, still_open, perhaps = capsys.readouterr().err.splitlines()
    assert "Waiting up to 5 min " in waiting
    assert re.search(r"Order T-1-X can still be paid: in the sandbox until 20[-0-9]+ [:0-9]+ [+-][0-9]{4};", still_open)
    assert "Order T-2-X may or may not exist" in perhaps


def test_wait_where_nobody_can_listen(gatepay: Any, shop: Sandbox) -> None:
    """An address that can't be had costs no order."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run = gatepay(*PAY, "--wait", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert (run.status, shop.orders()) == (2, [])
    assert "Can't listen" in run.err
    assert gatepay(*PAY, "--wait", "--listen", "[::1]:99999").status == 2


# -- callbacks --------------------------------------------------------------------------------------------------------

SIGN = ("callback", "sign", "--order-id", 7, "--order", "T-1001-X", "--price", "0.99")


def test_sign_and_verify(gatepay: Any, shop: Sandbox) -> None:
    """What is signed is believed: as an argument, in an address, and from standard input."""
    query = gatepay(*SIGN, "--extend", "密 &=", "--paid-at", 1_700_000_000).out.strip()
    assert gatepay(*SIGN, "--json").json["query"].startswith("appkey=")
    for given in (query, f"https://shop.example/cb?{query}#x"):
        run = gatepay("callback", "verify", given, "--json")
        assert run.json["genuine"] is True
        assert run.json["extend"] == "密 &="
    shown = gatepay("callback", "verify", "-", input=query + "\n")
    assert shown.status == 0
    assert "Genuine" in shown.out
    assert "2023-11-14T22:13:20+00:00" in shown.out


def test_verify_what_is_not_genuine(gatepay: Any, shop: Sandbox) -> None:
    """A forged callback, and one that is none, are refused with status 3; no signature is shown."""
    forged = gatepay(*SIGN, "--forged").out.strip()
    run = gatepay("callback", "verify", forged)
    assert run.status == 3
    assert "Invalid callback" in run.err
    assert forged[-32:] not in run.err
    assert gatepay("callback", "verify", "x=1").status == 3


def test_prices_have_two_decimals(gatepay: Any, shop: Sandbox) -> None:
    """A price that GatePay would never send is refused."""
    assert "0.99; got 1" in gatepay(*SIGN, "--realprice", "1").err


class Answering:
    """A shop's own end that answers with this word, and keeps what it was asked."""

    def __init__(self, word: str) -> None:
        self.word = word.encode()
        self.asked = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/cb"
        self._thread = Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            self.asked = connection.recv(65_536)
            length = re.search(rb"(?i)content-length: ([0-9]+)", self.asked)
            while length and len(self.asked.partition(b"\r\n\r\n")[2]) < int(length[1]):
                self.asked += connection.recv(65_536)
            head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            connection.sendall(head % len(self.word) + self.word)


@pytest.mark.parametrize(
    ("word", "status"), [("success", 0), ("fail", 3), ("", 4), ("<html>" * 1000, 4)], ids=["yes", "no", "empty", "long"]
)
def test_send(gatepay: Any, shop: Sandbox, word: str, status: int) -> None:
    """The shop is called as GatePay would, and its word is the command's status."""
    with Answering(word) as own:
        run = gatepay("callback", "send", own.url, *SIGN[2:])
    assert run.status == status
    assert b"GET /cb?appkey=" in own.asked
    assert len(run.out) < 400
    query = own.asked.split(b"?", 1)[1].split(b" ")[0].decode()
    assert gatepay("callback", "verify", query).status == 0


def test_send_for_programs(gatepay: Any, shop: Sandbox) -> None:
    """With --json the answer is an object."""
    with Answering("success") as own:
        run = gatepay("callback", "send", own.url + "?a=b", *SIGN[2:], "--json")
    assert run.json == {"http_status": 200, "answer": "success"}
    assert b"/cb?a=b&appkey=" in own.asked


def test_a_callback_by_post(gatepay: Any, shop: Sandbox) -> None:
    """With --post it has GatePay's later form: a POST of a form without the appkey, which `verify` takes, too."""
    query = gatepay(*SIGN, "--post").out.strip()
    assert "appkey" not in query
    assert gatepay("callback", "verify", query).status == 0
    with Answering("success") as own:
        assert gatepay("callback", "send", own.url, *SIGN[2:], "--post").status == 0
    head, body = own.asked.split(b"\r\n\r\n")
    assert head.startswith(b"POST /cb HTTP/1.1\r\n")
    assert b"content-type: application/x-www-form-urlencoded" in head.lower()
    assert gatepay("callback", "verify", body.decode()).status == 0


@pytest.mark.parametrize(
    ("url", "status"), [("ftp://x/", 2), ("nowhere", 2), ("http://127.0.0.1:9/", 4), ("http://[x/", 4)]
)
def test_send_to_nowhere(gatepay: Any, shop: Sandbox, url: str, status: int) -> None:
    """An address that is none, and one where nobody is, are told apart; the signature is in neither message."""
    run = gatepay("callback", "send", url, *SIGN[2:])
    assert run.status == status
    assert not re.search(r"[0-9a-f]{32}", run.err)


def test_where_nobody_answers_in_chinese(gatepay: Any, shop: Sandbox) -> None:
    """An address where no shop is: httpx's error by its Chinese name."""
    run = gatepay("--lang", "zh", "callback", "send", "http://127.0.0.1:9/", *SIGN[2:])
    assert "没有响应：无法建立连接：" in run.err
