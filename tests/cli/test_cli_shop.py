"""Tests of `products`, `doctor`, `errors`, `demo`, `sandbox` and of the settings that all commands read."""

import json
import os
import re
import signal
import socket
import sqlite3
import ssl
import time
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from threading import Thread
from typing import Any

import anyio
import httpx
import pytest
from httpx import ConnectError

from gatepay_async import (
    Callback,
    CallbackError,
    DeadlineExceededError,
    GatePayError,
    InvalidRequestError,
    MalformedCallbackError,
    OutcomeUnknownError,
    ProtocolError,
    StockWatch,
    TransportError,
)
from gatepay_async.cli import failures, language, output
from gatepay_async.cli.commands import demo, doctor
from gatepay_async.exchange import trust
from gatepay_async.exchange.failures import describe_error
from gatepay_async.protocol.catalogue import REFUSALS
from gatepay_async.sandbox import Fault, FaultKind, Sandbox
from gatepay_async.words import LANGUAGES, say
from gatepay_async.words.command import COMMAND
from gatepay_async.words.problem import Problem
from gatepay_async.words.problems import PROBLEMS
from gatepay_async.words.refusals import ENDPOINTS

NOT_WHOLE = Problem("wrong_kind", expected=Problem("kind_whole"), found=Problem("kind_text"))

pytestmark = pytest.mark.sockets

# -- products ---------------------------------------------------------------------------------------------------------


def test_products_are_listed(gatepay: Any, shop: Sandbox) -> None:
    shown = gatepay("products", "--lang", "zh")
    assert (shown.status, shown.err) == (0, "")
    assert "可售库存" in shown.out
    assert "腾讯视频SVIP账号" in shown.out
    assert not [line for line in shown.out.splitlines() if line != line.rstrip()]
    products = gatepay("products", "--json").json["products"]
    assert [(product["id"], product["price"], product["stock"]) for product in products] == [
        (4, "1.00", 4), (5, "1.90", 1), (8, "0.99", 89),
    ]  # fmt: skip
    assert shop.requests


def test_below_lists_and_watches_low_stock(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--below` lists products with a low stock; `--watch` prints a line when a stock becomes low, until Ctrl-C."""
    stocks = {product["id"]: product["stock"] for product in gatepay("products", "--json").json["products"]}
    lowest_id = min(stocks, key=lambda product_id: stocks[product_id])
    below = stocks[lowest_id] + 1
    assert [product["id"] for product in gatepay("products", "--below", below, "--json").json["products"]] == [
        lowest_id
    ]
    assert "No product has so little stock." in gatepay("products", "--below", 1, "--lang", "en").out
    assert gatepay("products", "--watch").status == 2

    async def interrupt(_: StockWatch) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep_forever()

    monkeypatch.setattr(StockWatch, "_wait_for_next_fetch", interrupt)
    watched = gatepay("products", "--watch", "--below", below)
    assert watched.status == 0
    assert f"product {lowest_id} (" in watched.out
    alert = gatepay("products", "--watch", "--below", below, "--every", 1, "--json").json
    assert (alert["id"], alert["stock"]) == (lowest_id, stocks[lowest_id])


def test_shop_without_products_prints_a_message(gatepay: Any, shop: Sandbox) -> None:
    with shop._database.transaction() as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for table in ("card_key", "product", "category"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608 -- three constant names
    assert "has no products yet" in gatepay("products").out


def test_product_names_are_escaped(gatepay: Any, shop: Sandbox) -> None:
    """Markup and control characters in a product's name are printed as text."""
    with shop._database.transaction() as connection:
        connection.execute("UPDATE product SET name = ? WHERE id = 8", ("[red]\x1b[2J\u202ex[/red]",))
    assert r"[red]\x1b[2J\u202ex[/red]" in gatepay("products").out


# -- the doctor -------------------------------------------------------------------------------------------------------


def findings_by_topic(run: Any) -> dict[str, dict[str, str]]:
    """Return the findings by topic. If a topic has several, the last one counts."""
    return {finding["about"]: finding for finding in run.json["findings"]}


def test_doctor_finds_a_healthy_setup(gatepay: Any, shop: Sandbox) -> None:
    run = gatepay("doctor", "--json")
    assert run.status == 0
    assert {finding["mark"] for finding in run.json["findings"]} == {"ok"}
    assert list(findings_by_topic(run)) == ["versions", "tls", "proxy", "credentials", "server", "clock"]
    shown = gatepay("doctor", "--lang", "zh")
    assert "[正常] GatePay：" in shown.out
    assert shop.appsecret not in shown.out + run.out


def test_doctor_without_a_key_advises_login(gatepay: Any) -> None:
    """Without a key the doctor sends no request, says how to set one, and exits with 2."""
    run = gatepay("doctor")
    assert run.status == 2
    assert "[bad]  Key and secret: GATEPAY_APPKEY is not set." in run.out
    assert "Fix: run `gatepay login`, or set GATEPAY_APPKEY" in run.out


def test_doctor_reports_a_refused_secret(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEPAY_APPSECRET", "of-another-shop")
    run = gatepay("doctor", "--json")
    assert run.status == 3
    assert "GATEPAY_APPSECRET" in findings_by_topic(run)["server"]["todo"]
    assert findings_by_topic(run)["clock"]["mark"] == "ok"
    assert shop.requests


def test_doctor_reports_an_unreachable_server(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the server is unreachable, the doctor shows the cause, doesn't judge the clock, and exits with 4."""
    monkeypatch.setenv("GATEPAY_BASE_URL", "http://127.0.0.1:9/api/")
    run = gatepay("doctor", "--json")
    assert (run.status, "clock" in findings_by_topic(run)) == (4, False)
    server = findings_by_topic(run)["server"]
    assert "Connection refused" in server["text"]  # the system's message, not only that all attempts failed
    assert "curl -v http://127.0.0.1:9/api/" in server["todo"]
    assert "doctor" not in server["todo"]
    shown = gatepay("doctor", "--lang", "zh").out
    assert "（尝试 4 次）。无法连接 GatePay" in shown


def test_doctor_reports_a_reply_that_is_not_gatepays(gatepay: Any, shop: Sandbox) -> None:
    """A reply such as a proxy's error page is reported, and the clock can't be checked."""
    shop.fault(Fault(FaultKind.BAD_GATEWAY, times=None))
    run = gatepay("doctor", "--json")
    assert run.status == 4
    assert "HTTP 502" in findings_by_topic(run)["server"]["text"]
    assert findings_by_topic(run)["clock"]["mark"] == "warn"


def test_doctor_warns_of_a_wrong_clock(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is an hour off is a warning that recommends NTP."""
    check_clock = doctor._check_clock
    monkeypatch.setattr(doctor, "_check_clock", lambda body, our_time: check_clock(body, our_time + 3600))
    run = gatepay("doctor")
    assert run.status == 0
    assert re.search(r"\[note\] Clock: \+3,(599|60\d) s from GatePay's", run.out)
    assert "NTP" in run.out
    assert shop.requests


def test_doctor_rounds_a_small_clock_difference_to_plus_zero(
    gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is 0.3 s slow is shown as +0 s, not as -0 s."""
    check_clock = doctor._check_clock
    server_time = int(time.time())

    def check(body: bytes, _: float) -> object:
        reply = json.loads(body)
        reply["time"] = server_time
        return check_clock(json.dumps(reply).encode(), server_time - 0.3)

    monkeypatch.setattr(doctor, "_check_clock", check)
    assert "Clock: +0 s from GatePay's" in gatepay("doctor").out


@pytest.mark.parametrize(
    ("environ", "mark", "text"),
    [
        ({"HTTPS_PROXY": "http://me:secret@proxy.example:3128"}, "warn", "requests go through proxy.example:3128"),
        ({"ALL_PROXY": "proxy.example"}, "warn", "requests go through proxy.example"),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "gatepay.io"}, "ok", "none for gatepay.io"),
        ({}, "ok", "none"),
    ],
)
def test_doctor_names_the_proxy(environ: dict[str, str], mark: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor names the proxy without its password, and says if NO_PROXY bypasses it."""
    for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    finding = doctor._check_proxy()
    assert (finding.mark, finding.text) == (mark, text)


def test_doctor_reports_an_unreachable_callback_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unsupported proxy for the callback URL is reported, and so is a URL where no server listens."""
    for name, value in {"HTTP_PROXY": "ftp://proxy.example", "GATEPAY_APPKEY": "k", "GATEPAY_APPSECRET": "s"}.items():
        monkeypatch.setenv(name, value)
    (finding,) = anyio.run(doctor._check_callback, "http://shop.example/callback")
    assert (finding.mark, finding.status) == (doctor.Mark.BAD, 2)
    assert "HTTP_PROXY" in finding.text
    monkeypatch.delenv("HTTP_PROXY")
    (finding,) = anyio.run(doctor._check_callback, "http://127.0.0.1:1/callback")
    assert (finding.mark, finding.status) == (doctor.Mark.BAD, 4)


def test_doctor_reports_missing_certificates(monkeypatch: pytest.MonkeyPatch, gatepay: Any, tmp_path: Path) -> None:
    """Certificates that can't be read, or an empty set of them, are reported without a request."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert gatepay("doctor", "--json").status == 2
    assert findings_by_topic(gatepay("doctor", "--json"))["tls"]["mark"] == "bad"
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setattr(httpx, "create_ssl_context", lambda **_: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    trust._context.cache_clear()
    assert "no trusted certificate authorities" in gatepay("doctor").out
    trust._context.cache_clear()


def test_doctor_names_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", ("no-such-package",))
    assert "no-such-package not installed" in doctor._check_versions().text


@pytest.mark.parametrize(
    ("replies", "status", "expected"),
    [
        (["success", "fail"], 0, "responds `success` to a genuine callback"),
        (["fail", "fail"], 0, "responds `fail` to a genuine callback"),
        (["success", "success"], 3, "FORGED"),
        (["<html>", "<html>"], 4, "responds '<html>'"),
        (["success", "<html>" + 94 * "x"], 4, f"'<html>{34 * 'x'}…' (HTTP 200) to a forged one"),
    ],
)
def test_doctor_sends_callbacks_to_the_callback_url(
    gatepay: Any, shop: Sandbox, replies: list[str], status: int, expected: str
) -> None:
    """The doctor sends a genuine and a forged callback to the shop's URL. Accepting the forged one is an error."""
    with serve_replies(replies) as url:
        run = gatepay("doctor", "--callback", url, "--json")
    assert run.status == status
    assert expected in findings_by_topic(run)["callback"]["text"]


@pytest.mark.parametrize("code", [101, 102, 103])
def test_doctor_advice_doesnt_suggest_the_doctor(gatepay: Any, shop: Sandbox, code: int) -> None:
    """The advice for a refused call suggests neither `gatepay doctor` nor options that it doesn't have."""
    shop.fault(Fault(FaultKind.CODE, endpoint="product/show", code=code))
    todo = findings_by_topic(gatepay("doctor", "--json"))["server"]["todo"]
    assert not re.search("gatepay doctor|order number|--", todo)


def test_doctor_labels_the_callback_finding(gatepay: Any, shop: Sandbox) -> None:
    """The finding about the callback URL has its own label, not the help text of the option."""
    for lang, expected in (("en", "[ok]   Callback URL: responds"), ("zh", "[正常] 回调 URL：")):
        with serve_replies(["success", "fail"]) as url:
            assert expected in gatepay("--lang", lang, "doctor", "--callback", url).out


class serve_replies:  # noqa: N801 -- a context manager, named like a function
    """A server that sends these replies, one for each connection."""

    def __init__(self, replies: list[str]) -> None:
        self._replies = iter(replies)
        self._listener = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> str:
        Thread(target=self._serve, daemon=True).start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/callback?mine=1"

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        for reply in self._replies:
            connection, _ = self._listener.accept()
            with connection:
                connection.recv(65_536)
                body = reply.encode()
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
                )


def test_fields_selects_fields_of_json(gatepay: Any, shop: Sandbox) -> None:
    """--fields prints only these fields, for each item of a list. An unknown name is null, with a warning."""
    run = gatepay("products", "--fields", "id,stock")
    assert run.json["products"][0].keys() == {"id", "stock"}
    assert run.err == ""
    missing = gatepay("order", "T-1-X", "--fields=order_status")
    assert missing.json["error"]["code"] == 201  # errors are printed completely
    gatepay("pay", "--price", "1", "--type", "alipay", "--order", "T-1-X")
    order = gatepay("order", "T-1-X", "--fields=order_status,nope,nope")
    assert (order.status, order.json) == (0, {"order_status": "pending", "nope": None})
    assert order.err.count("no field nope. It has: out_order_id, ") == 1
    dry = gatepay("keys", "upload", "-", "-p", 8, "--dry-run", "--fields", "read,nope", input="A\nB\n")
    assert dry.json == {"read": 2}
    assert "no field nope" in dry.err
    lists = gatepay(
        "keys", "upload", "-", "-p", 8, "--dry-run", "--fields", "repetitions,refused_lines", input="A\nB\nA\n"
    )
    assert [len(lists.json[name]) for name in ("repetitions", "refused_lines")] == [1, 0]
    assert gatepay("products", "--fields", "a b").status == 2
    exported = gatepay("keys", "export", "-p", 4, "-o", "-", "--fields", "content,nope")
    assert [json.loads(line) for line in exported.out.splitlines()] == [
        {"content": key, "nope": None} for key in shop.keys(4)
    ]
    assert "nope" in exported.err
    assert json.loads(exported.err.splitlines()[-1])["written"] == len(shop.keys(4))


# -- errors -----------------------------------------------------------------------------------------------------------


def test_help_of_errors_names_every_endpoint(gatepay: Any) -> None:
    shown = " ".join(gatepay("errors", "--help").out.split())
    assert all(endpoint in shown for endpoint in ENDPOINTS)


def test_errors_lists_the_catalogue_by_endpoint_and_code(gatepay: Any) -> None:
    """Without arguments `gatepay errors` lists the catalogue; an endpoint, a code or both select entries."""
    assert len(gatepay("errors", "--json").json["errors"]) == len(REFUSALS)
    assert {entry["endpoint"] for entry in gatepay("errors", "/ka/show", "--json").json["errors"]} == {"ka/show"}
    assert {entry["code"] for entry in gatepay("errors", "112", "--json").json["errors"]} == {112}
    entry = gatepay("errors", "pay/create", "109", "--lang", "zh")
    assert "签名失败" in entry.out
    assert "SignatureRejectedError" in entry.out
    assert "ka/create" in gatepay("errors").out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["pay/crate"], "Did you mean pay/create?"),
        (["x"], "Unknown endpoint: x"),
        (["ka/show", "999"], "999 is not a documented code of ka/show"),
        (["999"], "of any endpoint"),
        (["ka/show", "x"], "must be a whole number"),
    ],
)
def test_errors_of_an_unknown_endpoint_or_code_is_a_usage_error(
    gatepay: Any, arguments: list[str], expected: str
) -> None:
    run = gatepay("errors", *arguments)
    assert run.status == 2
    assert expected in run.err


def test_any_error_has_headline_cause_remedy_and_status(
    gatepay: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome_unknown = OutcomeUnknownError(endpoint="pay/create", out_order_id="T-1-X\x1b")
    protocol_error = ProtocolError(endpoint="ka/show", http_status=200, problem="is no JSON")
    for error in (outcome_unknown, protocol_error, CallbackError(problem="is odd"), GatePayError("odd")):
        assert failures.show_error(error) in (3, 4)
        printed = capsys.readouterr().err
        assert "Error: " in printed
        assert "Fix: " in printed
        assert "\x1b" not in printed
    protocol_error.problem = NOT_WHOLE
    output.configure(as_json=True)
    try:
        failures.show_error(outcome_unknown)
        failures.show_error(protocol_error)
    finally:
        output.configure(as_json=False)
    shown = [json.loads(line)["error"] for line in capsys.readouterr().out.splitlines()]
    assert (shown[0]["out_order_id"], shown[0]["problem"]) == (
        "T-1-X\x1b",
        {
            "name": "order_unknown",
            "text": "the order T-1-X\\x1b may or may not exist",
            "facts": {"out_order_id": "T-1-X\\x1b"},
        },
    )
    problem = shown[1]["problem"]
    assert (problem["name"], problem["text"]) == ("wrong_kind", "should be a whole number, is text")
    assert problem["facts"]["found"]["name"] == "kind_text"


@pytest.mark.parametrize(
    ("error", "headline"),
    [
        (
            InvalidRequestError(field="product_num", problem=Problem("out_of_range")),
            "--num：必须在 1 到 9223372036854775807 之间",
        ),
        (
            ProtocolError(endpoint="ka/show", http_status=200, path="data.ka.total", problem=NOT_WHOLE),
            "ka/show：响应不符合 GatePay 的格式（HTTP 200）：data.ka.total 应为整数，实为文本",
        ),
        (
            TransportError(
                endpoint="ka/show", sent=False, problem=describe_error(ConnectError("[Errno 111] Connection refused"))
            ),
            "ka/show：没有响应：无法建立连接：[Errno 111] Connection refused（尝试 1 次）",
        ),
        (
            DeadlineExceededError(endpoint="ka/show", sent=True, problem=Problem("deadline_passed"), attempts=3),
            "ka/show：没有响应：已超过整个调用的时限（尝试 3 次）",
        ),
        (MalformedCallbackError(field="paytime", problem=Problem("missing")), "回调无效：paytime：缺失"),
        (MalformedCallbackError(problem=Problem("name_twice")), "回调无效：同一个参数名出现了两次"),
        (OutcomeUnknownError(endpoint="pay/create", out_order_id="T-1-X"), "无法确定订单 T-1-X 是否已创建。"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_headlines_of_errors_are_chinese(error: GatePayError, headline: str) -> None:
    """The whole headline is Chinese, except for messages of the operating system."""
    language.set_language("zh")
    try:
        assert failures.headline(error) == headline
    finally:
        language.set_language("en")


# -- demo and sandbox -------------------------------------------------------------------------------------------------


def test_demo_succeeds_without_an_account(gatepay: Any) -> None:
    run = gatepay("demo")
    assert run.status == 0
    assert "12,000 card keys stored" in run.out
    assert "Everything works." in run.out


def test_demo_reports_failures(gatepay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If an upload is incomplete or a forged callback is accepted, the demo fails with status 1."""
    files = iter([["AAAA"], ["BBBB"]] * 2)  # each of two runs reads the sample twice, with different card keys
    monkeypatch.setattr(demo, "_sample_lines", lambda: iter(next(files)))
    accepted = Callback(
        order_id=1, out_order_id="", price=Decimal(1), realprice=Decimal(1), pay_type="alipay",
        paid_at=datetime.now(UTC), extend="",
    )  # fmt: skip
    monkeypatch.setattr("gatepay_async.client.AsyncGatePay.parse_callback", lambda *_: accepted)
    run = gatepay("demo", "--json")
    assert (run.status, run.json) == (1, {"ok": False, "uploaded": False, "listed": False, "paid": False})
    shown = gatepay("demo")
    assert "Something does NOT work" in shown.out


def test_demo_without_the_sandbox_extra_says_how_to_install_it(gatepay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gatepay_async.sandbox", None)
    run = gatepay("demo")
    assert run.status == 2
    assert "pip install 'gatepay-async[sandbox]'" in run.err


def test_sandbox_reports_a_bad_port_or_database(gatepay: Any, tmp_path: Path) -> None:
    """A port in use, an invalid port, a file that is no database, and a database of a newer version are errors."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run = gatepay("sandbox", "--port", taken.getsockname()[1])
        assert (run.status, "Can't use port" in run.err) == (2, True)
    assert gatepay("sandbox", "--port", 99_999).status == 2
    (tmp_path / "no.sqlite3").write_text("not a database, but long enough to be looked at" * 100)
    run = gatepay("sandbox", "--database", tmp_path / "no.sqlite3")
    assert (run.status, "as a database" in run.err) == (2, True)
    with closing(sqlite3.connect(tmp_path / "later.sqlite3")) as later:
        later.execute("PRAGMA user_version = 99")
    run = gatepay("sandbox", "--database", tmp_path / "later.sqlite3", "--lang", "zh")
    assert (run.status, "由更新版本的 gatepay-async 创建" in run.err) == (2, True)


@pytest.mark.parametrize(
    ("url", "problem"),
    [("ftp://x", "url_form"), ("http://a:b@127.0.0.1/", "url_user"), ("http://127.0.0.1/?sign=1", "url_taken"),
     ("http://127.0.0.1/?%73ign=1", "url_taken"),
     ("http://127.0.0.1/?" + "x" * 701, "url_query"), ("http://example.com/", "url_not_local")],
)  # fmt: skip
def test_sandbox_explains_an_invalid_callback_url(gatepay: Any, url: str, problem: str) -> None:
    """The reason is printed in both languages."""
    for lang in LANGUAGES:
        run = gatepay("sandbox", "--callback", url, "--lang", lang)
        assert (run.status, say(COMMAND.get(f"problem.{problem}") or PROBLEMS[problem], lang) in run.err) == (2, True)


# -- settings ---------------------------------------------------------------------------------------------------------


def test_secret_is_read_from_a_file(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file may have a byte-order mark and a line end. A file that others can read causes a warning."""
    secret = tmp_path / "secret"
    secret.write_text(f"\ufeff{shop.appsecret}\n", "utf-8")
    secret.chmod(0o600)
    monkeypatch.delenv("GATEPAY_APPSECRET")
    monkeypatch.setenv("GATEPAY_APPSECRET_FILE", str(secret))
    run = gatepay("products")
    assert (run.status, run.err) == (0, "")
    for encoding in ("utf-16", "utf-16-be"):  # as PowerShell and Notepad write it
        mark = "" if encoding == "utf-16" else "\ufeff"
        secret.write_text(f"{mark}{shop.appsecret}\r\n", encoding)
        assert gatepay("products").status == 0
    assert f"secret from the file {secret}" in gatepay("doctor").out
    secret.chmod(0o644)
    assert "every user of this machine can read the secret" in gatepay("products").err
    doctor = gatepay("doctor")
    assert doctor.status == 0
    assert f"chmod 600 {secret}" in doctor.out


@pytest.mark.parametrize(
    ("content", "expected"),
    [("", "nothing else"), ("two words", "nothing else"), ("x" * 5000, "nothing else"), (None, "can't be read")],
)
def test_invalid_secret_file_is_named_without_its_content(
    gatepay: Any, tmp_path: Path, content: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_text(content)
    monkeypatch.setenv("GATEPAY_APPKEY", "a")
    monkeypatch.setenv("GATEPAY_APPSECRET_FILE", str(secret))
    run = gatepay("products")
    assert run.status == 2
    assert expected in run.err
    assert "xxx" not in run.err


def test_missing_or_ambiguous_secret_is_an_error(gatepay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret must be in exactly one of the two variables."""
    monkeypatch.setenv("GATEPAY_APPKEY", "a")
    assert "Neither GATEPAY_APPSECRET nor" in gatepay("products").err
    monkeypatch.setenv("GATEPAY_APPSECRET", "b")
    monkeypatch.setenv("GATEPAY_APPSECRET_FILE", "c")
    assert "Both" in gatepay("products").err


def test_base_url_without_tls_is_a_usage_error(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEPAY_BASE_URL", "http://gatepay.io/api/")
    run = gatepay("products")
    assert run.status == 2
    assert "GATEPAY_BASE_URL: must be https" in run.err
