"""Tests of ``gatepay pay``, also with --wait, and of ``gatepay callback``."""

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


def test_pay_prints_the_link_and_saves_the_qr_code(gatepay: Any, shop: Sandbox, tmp_path: Path) -> None:
    """Without --order the command generates an order number."""
    picture = tmp_path / "qr.png"
    run = gatepay(*PAY, "--save-qr", picture)
    assert (run.status, run.err) == (0, "")
    [order] = shop.orders()
    assert re.fullmatch(r"T[0-9A-Z]{26}X", order.out_order_id)
    assert order.custom == order.out_order_id
    assert f"Pay here: {httpx.URL(run.out.split('Pay here: ')[1].strip())}" in run.out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_pay_prints_json_with_the_given_values(gatepay: Any, shop: Sandbox) -> None:
    run = gatepay(*PAY, "--json", "--num", 2, "--order", "T-1001-X", "--custom", "terry")
    assert run.json["order_price"] == "1.98"
    assert run.json["out_order_id"] == "T-1001-X"
    assert (shop.orders()[0].product_num, shop.orders()[0].custom) == (2, "terry")


def test_qr_code_is_printed_square_on_a_terminal(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the link is printed as a QR code, unless the terminal's encoding can't show it."""
    monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    lines = [line for line in gatepay(*PAY).out.splitlines() if set(line) <= set("█▀▄ ") and line]
    assert len(lines) * 2 >= len(lines[0]) >= 25
    assert len({len(line) for line in lines}) == 1
    monkeypatch.setattr("gatepay_async.cli.commands.pay._can_print_qr_code", lambda: False)
    assert "█" not in gatepay(*PAY).out


def test_refused_payment_is_explained(gatepay: Any, shop: Sandbox) -> None:
    run = gatepay("pay", "-p", 8, "--type", "wechat", "--num", 2)
    assert run.status in (2, 3)
    assert "--num: WeChat pays for one item only" in run.err
    refused = gatepay("pay", "-p", 8, "--type", "alipay", "--num", 1000, "--lang", "zh")
    assert refused.status == 3
    assert "处理：" in refused.err
    assert not shop.orders()


# A command for each kind of order. The key is the first part of the endpoint.
PAY_COMMANDS = {"pay": PAY, "anypay": ("pay", "--price", "1", "--type", "alipay")}


@pytest.mark.parametrize("kind", PAY_COMMANDS)
def test_lost_response_of_an_existing_order_exits_with_1(gatepay: Any, shop: Sandbox, kind: str) -> None:
    """If the response is lost, the command asks GatePay for the order instead of retrying, and prints its status."""
    shop.fault(Fault(FaultKind.CUT_AFTER, endpoint=f"{kind}/create"))
    run = gatepay(*PAY_COMMANDS[kind], "--order", "T-1-X", "--save-qr", "never.png")
    assert run.status == 1
    assert "Order T-1-X exists (status: pending)" in run.err
    assert "payment link was lost" in run.out
    shop.fault(Fault(FaultKind.CUT_AFTER, endpoint=f"{kind}/create"))
    json_run = gatepay(*PAY_COMMANDS[kind], "--json")
    assert (json_run.status, json_run.json["order_url"]) == (1, None)
    assert [order.out_order_id for order in shop.orders()] == ["T-1-X", json_run.json["out_order_id"]]


@pytest.mark.parametrize(
    ("kind", "expected"), [("pay", "may or may not exist: the response was lost, and GatePay finds no such order"),
                       ("anypay", "was probably not created")],
)  # fmt: skip
def test_lost_response_of_an_order_that_is_not_found_exits_with_4(
    gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch, kind: str, expected: str
) -> None:
    """The message says that the order may exist (``pay/create``) or probably doesn't (``anypay/create``)."""
    monkeypatch.setattr("gatepay_async.client.payments._SETTLE_DELAYS_S", (0.0,))
    shop.fault(Fault(FaultKind.CUT_BEFORE, endpoint=f"{kind}/create", times=None))
    run = gatepay(*PAY_COMMANDS[kind], "--order", "T-1-X")
    assert run.status == 4
    assert f"Order T-1-X {expected}" in run.err
    assert "another order number" in run.err
    error = gatepay(*PAY_COMMANDS[kind], "--json").json["error"]
    assert (error["type"], error["settled"], error["endpoint"]) == (
        "OutcomeUnknownError",
        "not_found",
        f"{kind}/create",
    )


def test_lost_response_without_a_reply_to_the_check_exits_with_4(
    gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If GatePay doesn't respond to the check either, the order may or may not exist."""
    monkeypatch.setattr("gatepay_async.client.payments._SETTLE_DELAYS_S", (0.0,))
    shop.fault(Fault(FaultKind.CUT_AFTER, endpoint="pay/create"))
    shop.fault(Fault(FaultKind.CUT_BEFORE, endpoint="order/check", times=None))
    run = gatepay(*PAY, "--order", "T-1-X", "--json")
    assert (run.status, run.json["error"]["settled"]) == (4, "not_asked")
    assert "T-1-X may or may not exist" in run.json["error"]["headline"]
    assert "order/check: no response" in run.json["error"]["headline"]


def test_unreachable_server_advice_is_about_the_order(
    gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The advice says that no order was created; it doesn't mention card keys."""
    monkeypatch.setenv("GATEPAY_BASE_URL", "http://127.0.0.1:9/api/")
    run = gatepay(*PAY)
    assert run.status == 4
    assert "no order was created" in run.err
    assert "stored" not in run.err
    assert "stored" not in gatepay("products").err


def test_order_number_with_spaces_is_refused(gatepay: Any, shop: Sandbox) -> None:
    """A line break or a space at either end of an order number, or an empty number, is a usage error."""
    for number in ("T-1-X\n", " T-1-X", ""):
        run = gatepay(*PAY, "--order", number)
        assert (run.status, "--order" in run.err) == (2, True), number
    assert shop.orders() == []


def test_order_number_that_begins_or_ends_with_a_digit_causes_a_warning(gatepay: Any, shop: Sandbox) -> None:
    """A full-width digit, as in the last order number, causes no warning."""
    for number, warned in (("12345", True), ("T-1", True), ("1-X", True), ("T-1-X", False), ("１-X", False)):
        run = gatepay(*PAY, "--order", number)
        assert (run.status, "begins or ends with a digit" in run.err) == (0, warned), number


@pytest.mark.parametrize("target", ["existing.png", "no/qr.png"])
def test_existing_or_unwritable_qr_code_file_is_refused_before_the_order_is_created(
    gatepay: Any, shop: Sandbox, tmp_path: Path, target: str
) -> None:
    (tmp_path / "existing.png").touch()
    run = gatepay(*PAY, "--save-qr", tmp_path / target)
    assert (run.status, shop.orders()) == (2, [])


def test_qr_code_of_another_format_causes_a_note(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GatePay might send a JPEG: it is saved as it is, and a note says so."""
    monkeypatch.setattr("gatepay_async.protocol.models.QrCode.media_type", "image/jpeg")
    run = gatepay(*PAY, "--save-qr", tmp_path / "qr.png")
    assert (run.status, "not a PNG image: GatePay sent image/jpeg" in run.err) == (0, True)
    assert (tmp_path / "qr.png").exists()
    assert shop.orders()


def test_qr_code_that_cant_be_written_doesnt_hide_the_link(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk fills up while the QR code is saved, the link is printed and the status is 1."""

    def fail_with_full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gatepay_async.protocol.models.QrCode.save", fail_with_full_disk)
    run = gatepay(*PAY, "--save-qr", tmp_path / "qr.png")
    assert run.status == 1
    assert "Pay here: " in run.out
    assert shop.orders()


# -- pay --wait -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [["--json"], []], ids=["json", "text"])
def test_wait_ends_with_the_callback_of_the_order(
    gatepay: Any,
    shop: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    options: list[str],
) -> None:
    """
    --wait ends when the callback of its order arrives; a callback of another order is refused.

    uvicorn's access log must stay empty, because it would contain the signatures.
    """
    caplog.set_level("DEBUG")
    port = free_port()
    replies: list[str] = []

    def call_back() -> None:
        of_other_order = shop.callback_query(shop.orders()[0])
        genuine = shop.callback_query(shop.orders()[1])
        replies.extend(httpx.get(f"http://127.0.0.1:{port}/?{query}").text for query in (of_other_order, genuine))

    gatepay(*PAY)
    print_payment = pay._print_payment

    def print_and_call_back(payment: Any) -> None:
        print_payment(payment)
        thread.start()

    thread = Thread(target=call_back)
    monkeypatch.setattr(pay, "_print_payment", print_and_call_back)
    run = gatepay(*PAY, "--wait", "--listen", f"127.0.0.1:{port}", *options)
    thread.join()
    assert (run.status, replies) == (0, ["fail", "success"])
    assert [record for record in caplog.records if record.name == "uvicorn.access"] == []
    if options:
        order, paid = map(json.loads, run.out.splitlines())
        assert (paid["paid"], paid["out_order_id"]) == (True, order["out_order_id"])
    else:
        assert f"for the callback at http://127.0.0.1:{port}/" in run.err
        assert "Paid: ¥0.99 with alipay" in run.out


def test_wait_without_a_callback_times_out(gatepay: Any, shop: Sandbox) -> None:
    run = gatepay(*PAY, "--wait", "--listen", f"localhost:{free_port()}", "--timeout", 1)
    assert run.status == 4
    assert "Waiting up to 1 s" in run.err
    assert "may still be able to pay" in run.err
    assert shop.orders()


def test_wait_continues_after_a_lost_response(gatepay: Any, shop: Sandbox) -> None:
    """--wait continues after a lost response if the order exists."""
    shop.fault(Fault(FaultKind.CUT_AFTER, endpoint="pay/create"))
    run = gatepay(*PAY, "--wait", "--listen", f"127.0.0.1:{free_port()}", "--timeout", 1)
    assert run.status == 4
    assert "exists" in run.err
    assert "No callback for order" in run.err


def test_default_timeout_is_the_lifetime_of_a_sandbox_order() -> None:
    [default] = {
        param.default
        for name in ("pay", "order")
        for param in get_command(app).commands[name].params  # type: ignore[attr-defined]  # a group has commands
        if param.name == "timeout"
    }
    assert default == pay_waiting.ORDER_SECONDS == Options().expires_after


def test_ctrl_c_during_the_wait_says_that_the_order_can_be_paid(
    shop: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C during the wait says until when the order can be paid; during its creation, that it may exist."""

    async def interrupt_both() -> None:
        with anyio.CancelScope() as scope, pay_waiting.open_listener("127.0.0.1", 0) as listener:

            async def create_order() -> Decimal:
                scope.cancel()
                return Decimal(1)

            await pay_waiting.wait_for_payment(create_order, "T-1-X", listener, timeout=300, knows_price=True)
        request = pay.OrderRequest(
            product=8, price="", items=(), cloud=False, num=1, pay_type="alipay", order="", custom=""
        )
        async with settings.client() as gatepay:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await pay._create_order(gatepay, request, "T-2-X", save_qr=None)

    anyio.run(interrupt_both)
    waiting, still_open, uncertain = capsys.readouterr().err.splitlines()
    assert "Waiting up to 5 min " in waiting
    assert re.search(r"Order T-1-X can still be paid: in the sandbox until 20[-0-9]+ [:0-9]+ [+-][0-9]{4};", still_open)
    assert "Order T-2-X may or may not exist" in uncertain


def test_wait_on_an_unusable_address_creates_no_order(gatepay: Any, shop: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run = gatepay(*PAY, "--wait", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert (run.status, shop.orders()) == (2, [])
    assert "Can't listen" in run.err
    assert gatepay(*PAY, "--wait", "--listen", "[::1]:99999").status == 2


# -- callbacks --------------------------------------------------------------------------------------------------------

FIELDS = ("--order-id", 7, "--order", "T-1001-X", "--price", "0.99")
SIGN = ("callback", "sign", *FIELDS)


def test_signed_callback_is_genuine(gatepay: Any, shop: Sandbox) -> None:
    """`verify` accepts a signed query as an argument, in a URL and from standard input."""
    query = gatepay(*SIGN, "--extend", "密 &=", "--paid-at", 1_700_000_000).out.strip()
    assert gatepay(*SIGN, "--json").json["query"].startswith("appkey=")
    for argument in (query, f"https://shop.example/cb?{query}#x"):
        run = gatepay("callback", "verify", argument, "--json")
        assert run.json["genuine"] is True
        assert run.json["extend"] == "密 &="
    shown = gatepay("callback", "verify", "-", input=query + "\n")
    assert shown.status == 0
    assert "Genuine" in shown.out
    assert "2023-11-14T22:13:20+00:00" in shown.out


def test_verify_refuses_forged_and_malformed_callbacks(gatepay: Any, shop: Sandbox) -> None:
    """A forged callback and a query that is no callback exit with 3; the signature is not printed."""
    forged = gatepay(*SIGN, "--forged").out.strip()
    run = gatepay("callback", "verify", forged)
    assert run.status == 3
    assert "Invalid callback" in run.err
    assert forged[-32:] not in run.err
    assert gatepay("callback", "verify", "x=1").status == 3


def test_sign_refuses_a_price_without_two_decimals(gatepay: Any, shop: Sandbox) -> None:
    """GatePay sends prices with two decimals only."""
    assert "0.99; got 1" in gatepay(*SIGN, "--realprice", "1").err


class ShopServer:
    """A shop's server that responds with *word* and stores the request."""

    def __init__(self, word: str) -> None:
        self.word = word.encode()
        self.request = b""
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
            self.request = connection.recv(65_536)
            length = re.search(rb"(?i)content-length: ([0-9]+)", self.request)
            while length and len(self.request.partition(b"\r\n\r\n")[2]) < int(length[1]):
                self.request += connection.recv(65_536)
            head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            connection.sendall(head % len(self.word) + self.word)


@pytest.mark.parametrize(
    ("word", "status"),
    [("success", 0), ("fail", 3), ("", 4), ("<html>" * 1000, 4)],
    ids=["success", "fail", "empty", "long"],
)
def test_exit_status_of_send_depends_on_the_reply(gatepay: Any, shop: Sandbox, word: str, status: int) -> None:
    """`callback send` sends a genuine callback, and exits with 0 only if the shop responds `success`."""
    with ShopServer(word) as server:
        run = gatepay("callback", "send", server.url, *FIELDS)
    assert run.status == status
    assert b"GET /cb?appkey=" in server.request
    assert len(run.out) < 400
    query = server.request.split(b"?", 1)[1].split(b" ")[0].decode()
    assert gatepay("callback", "verify", query).status == 0


def test_send_prints_the_reply_as_json(gatepay: Any, shop: Sandbox) -> None:
    with ShopServer("success") as server:
        run = gatepay("callback", "send", server.url + "?a=b", *FIELDS, "--json")
    assert run.json == {"http_status": 200, "answer": "success"}
    assert b"/cb?a=b&appkey=" in server.request


def test_callback_by_post_has_no_appkey_and_is_verified(gatepay: Any, shop: Sandbox) -> None:
    """--post sends the fields in the body of a POST, without the appkey: the second of GatePay's two formats."""
    query = gatepay(*SIGN, "--post").out.strip()
    assert "appkey" not in query
    assert gatepay("callback", "verify", query).status == 0
    with ShopServer("success") as server:
        assert gatepay("callback", "send", server.url, *FIELDS, "--post").status == 0
    head, body = server.request.split(b"\r\n\r\n")
    assert head.startswith(b"POST /cb HTTP/1.1\r\n")
    assert b"content-type: application/x-www-form-urlencoded" in head.lower()
    assert gatepay("callback", "verify", body.decode()).status == 0


@pytest.mark.parametrize(
    ("url", "status"), [("ftp://x/", 2), ("nowhere", 2), ("http://127.0.0.1:9/", 4), ("http://[x/", 4)]
)
def test_send_distinguishes_an_invalid_url_from_an_unreachable_server(
    gatepay: Any, shop: Sandbox, url: str, status: int
) -> None:
    """Neither error message contains the signature."""
    run = gatepay("callback", "send", url, *FIELDS)
    assert run.status == status
    assert not re.search(r"[0-9a-f]{32}", run.err)


def test_unreachable_server_is_explained_in_chinese(gatepay: Any, shop: Sandbox) -> None:
    """The description of httpx's ConnectError is Chinese."""
    run = gatepay("--lang", "zh", "callback", "send", "http://127.0.0.1:9/", *FIELDS)
    assert "没有响应：无法建立连接：" in run.err
