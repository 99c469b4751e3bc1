"""What the command says of a shop: products, its health, errors; the demonstration and the sandbox; settings."""

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

import gatepay_async
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
from gatepay_async.protocol.catalogue import FAULTS, REFUSALS
from gatepay_async.sandbox import Fault, FaultKind, Sandbox
from gatepay_async.words import LANGUAGES, say
from gatepay_async.words.pages import PAGES
from gatepay_async.words.problem import Problem
from gatepay_async.words.refusals import ENDPOINTS

NOT_WHOLE = Problem("wrong_kind", expected=Problem("kind_whole"), found=Problem("kind_text"))

pytestmark = pytest.mark.sockets

# -- products ---------------------------------------------------------------------------------------------------------


def test_products(gatepay: Any, shop: Sandbox) -> None:
    """The products are listed, for people and for programs."""
    shown = gatepay("products", "--lang", "zh")
    assert (shown.status, shown.err) == (0, "")
    assert "可售库存" in shown.out
    assert "腾讯视频SVIP账号" in shown.out
    assert not [line for line in shown.out.splitlines() if line != line.rstrip()]
    products = gatepay("products", "--json").json["products"]
    assert [(each["id"], each["price"], each["stock"]) for each in products] == [
        (4, "1.00", 4), (5, "1.90", 1), (8, "0.99", 89),
    ]  # fmt: skip
    assert shop.requests


def test_low_stock(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--below` lists what is low; with `--watch` each gives a line as it becomes low, until Ctrl-C."""
    stocks = {each["id"]: each["stock"] for each in gatepay("products", "--json").json["products"]}
    low = min(stocks, key=lambda number: stocks[number])
    below = stocks[low] + 1
    assert [each["id"] for each in gatepay("products", "--below", below, "--json").json["products"]] == [low]
    assert "No product has so little stock." in gatepay("products", "--below", 1, "--lang", "en").out
    assert gatepay("products", "--watch").status == 2

    async def interrupt(_: StockWatch) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep_forever()

    monkeypatch.setattr(StockWatch, "_rest", interrupt)
    watched = gatepay("products", "--watch", "--below", below)
    assert watched.status == 0
    assert f"product {low} (" in watched.out
    alert = gatepay("products", "--watch", "--below", below, "--every", 1, "--json").json
    assert (alert["id"], alert["stock"]) == (low, stocks[low])


def test_a_shop_that_sells_nothing(gatepay: Any, shop: Sandbox) -> None:
    """A shop without products is told of, not an empty table."""
    with shop._database.transaction() as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for table in ("card_key", "product", "category"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608 -- three names of our own
    assert "has no products yet" in gatepay("products").out


def test_names_that_are_hostile(gatepay: Any, shop: Sandbox) -> None:
    """A product's name is shown as it is: no colour, no cursor movement, no markup comes of it."""
    with shop._database.transaction() as connection:
        connection.execute("UPDATE product SET name = ? WHERE id = 8", ("[red]\x1b[2J\u202ex[/red]",))
    assert r"[red]\x1b[2J\u202ex[/red]" in gatepay("products").out


# -- the doctor -------------------------------------------------------------------------------------------------------


def findings(run: Any) -> dict[str, dict[str, str]]:
    """By what they are about; of several, the last."""
    return {each["about"]: each for each in run.json["findings"]}


def test_doctor(gatepay: Any, shop: Sandbox) -> None:
    """Of a healthy set-up everything is found to be well."""
    run = gatepay("doctor", "--json")
    assert run.status == 0
    assert {each["mark"] for each in run.json["findings"]} == {"ok"}
    assert list(findings(run)) == ["versions", "tls", "proxy", "credentials", "server", "clock"]
    shown = gatepay("doctor", "--lang", "zh")
    assert "[正常] GatePay：" in shown.out
    assert shop.appsecret not in shown.out + run.out


def test_doctor_without_a_key(gatepay: Any) -> None:
    """Without a key nobody is called, and what to do is said; status 2."""
    run = gatepay("doctor")
    assert run.status == 2
    assert "[bad]  Key and secret: GATEPAY_APPKEY is not set." in run.out
    assert "Fix: run `gatepay login`, or set GATEPAY_APPKEY" in run.out


def test_doctor_with_a_wrong_secret(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that GatePay doesn't believe is found by its refusal; status 3."""
    monkeypatch.setenv("GATEPAY_APPSECRET", "of-another-shop")
    run = gatepay("doctor", "--json")
    assert run.status == 3
    assert "GATEPAY_APPSECRET" in findings(run)["server"]["todo"]
    assert findings(run)["clock"]["mark"] == "ok"
    assert shop.requests


def test_doctor_where_nobody_answers(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody there: status 4, and no word about a clock that nobody has shown."""
    monkeypatch.setenv("GATEPAY_BASE_URL", "http://127.0.0.1:9/api/")
    run = gatepay("doctor", "--json")
    assert (run.status, "clock" in findings(run)) == (4, False)
    server = findings(run)["server"]
    assert "Connect call failed" in server["text"]  # the system's words, not only that all attempts failed
    assert "curl -v http://127.0.0.1:9/api/" in server["todo"]
    assert "doctor" not in server["todo"]
    shown = gatepay("doctor", "--lang", "zh").out
    assert "（尝试 4 次）。无法连接 GatePay" in shown


def test_doctor_behind_a_login_page(gatepay: Any, shop: Sandbox) -> None:
    """An answer that is not GatePay's is told of, and shows no time."""
    shop.fault(Fault(FaultKind.BAD_GATEWAY, times=None))
    run = gatepay("doctor", "--json")
    assert run.status == 4
    assert "HTTP 502" in findings(run)["server"]["text"]
    assert findings(run)["clock"]["mark"] == "warn"


def test_doctor_finds_a_wrong_clock(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is an hour off is a note, with the cure."""
    real = doctor._check_clock
    monkeypatch.setattr(doctor, "_check_clock", lambda body, ours: real(body, ours + 3600))
    run = gatepay("doctor")
    assert run.status == 0
    assert re.search(r"\[note\] Clock: \+3,(599|60\d) s from GatePay's", run.out)
    assert "NTP" in run.out
    assert shop.requests


def test_doctor_and_a_clock_that_is_nearly_right(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than half a second behind is zero, and zero has no minus."""
    real = doctor._check_clock
    theirs = int(time.time())

    def check(body: bytes, _: float) -> object:
        answer = json.loads(body)
        answer["time"] = theirs
        return real(json.dumps(answer).encode(), theirs - 0.3)

    monkeypatch.setattr(doctor, "_check_clock", check)
    assert "Clock: +0 s from GatePay's" in gatepay("doctor").out


@pytest.mark.parametrize(
    ("environ", "mark", "said"),
    [
        ({"HTTPS_PROXY": "http://me:secret@proxy.example:3128"}, "warn", "requests go through proxy.example:3128"),
        ({"ALL_PROXY": "proxy.example"}, "warn", "requests go through proxy.example"),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "gatepay.io"}, "ok", "none for gatepay.io"),
        ({}, "ok", "none"),
    ],
)
def test_doctor_and_proxies(environ: dict[str, str], mark: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy is named, without its password; so is that it is passed by."""
    for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found = doctor._check_proxy()
    assert (found.mark, found.text) == (mark, said)


def test_doctor_and_the_way_to_the_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is none is found where the callback's address needs it; so is that nobody answers there."""
    for name, value in {"HTTP_PROXY": "ftp://proxy.example", "GATEPAY_APPKEY": "k", "GATEPAY_APPSECRET": "s"}.items():
        monkeypatch.setenv(name, value)
    (found,) = anyio.run(doctor._check_callback, "http://shop.example/callback")
    assert (found.mark, found.status) == (doctor.Mark.BAD, 2)
    assert "HTTP_PROXY" in found.text
    monkeypatch.delenv("HTTP_PROXY")
    (found,) = anyio.run(doctor._check_callback, "http://127.0.0.1:1/callback")
    assert (found.mark, found.status) == (doctor.Mark.BAD, 4)


def test_doctor_and_certificates(monkeypatch: pytest.MonkeyPatch, gatepay: Any, tmp_path: Path) -> None:
    """Certificates that can't be read, or none at all, are found before anybody is called."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert gatepay("doctor", "--json").status == 2
    assert findings(gatepay("doctor", "--json"))["tls"]["mark"] == "bad"
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setattr(httpx, "create_ssl_context", lambda **_: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    trust._context.cache_clear()
    assert "no trusted certificate authorities" in gatepay("doctor").out
    trust._context.cache_clear()


def test_doctor_without_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is not installed is named among the versions."""
    monkeypatch.setattr(doctor, "_PACKAGES", ("no-such-package",))
    assert "no-such-package not installed" in doctor._check_versions().text


@pytest.mark.parametrize(
    ("answers", "status", "said"),
    [
        (["success", "fail"], 0, "responds `success` to a genuine callback"),
        (["fail", "fail"], 0, "responds `fail` to a genuine callback"),
        (["success", "success"], 3, "FORGED"),
        (["<html>", "<html>"], 4, "responds '<html>'"),
        (["success", "<html>" + 94 * "x"], 4, f"'<html>{34 * 'x'}…' (HTTP 200) to a forged one"),
    ],
)
def test_doctor_tests_the_callback(gatepay: Any, shop: Sandbox, answers: list[str], status: int, said: str) -> None:
    """The shop's own address is sent a genuine callback and a forged one; believing the forged one is the worst."""
    with answering(answers) as url:
        run = gatepay("doctor", "--callback", url, "--json")
    assert run.status == status
    assert said in findings(run)["callback"]["text"]


@pytest.mark.parametrize("code", [101, 102, 103])
def test_doctor_gives_advice_that_it_can_follow(gatepay: Any, shop: Sandbox, code: int) -> None:
    """What a refused call of the doctor advises is not to run the doctor, and not about text that it doesn't send."""
    shop.fault(Fault(FaultKind.CODE, endpoint="product/show", code=code))
    todo = findings(gatepay("doctor", "--json"))["server"]["todo"]
    assert not re.search("gatepay doctor|order number|--", todo)


def test_doctor_names_the_callback_url(gatepay: Any, shop: Sandbox) -> None:
    """The finding about the shop's callback URL has a name of its own, not the help of the option."""
    for lang, named in (("en", "[ok]   Callback URL: responds"), ("zh", "[正常] 回调 URL：")):
        with answering(["success", "fail"]) as url:
            assert named in gatepay("--lang", lang, "doctor", "--callback", url).out


class answering:  # noqa: N801 -- a context manager, read as a verb
    """A server that gives these answers, one after the other, each with a body of its own."""

    def __init__(self, answers: list[str]) -> None:
        self._answers = iter(answers)
        self._listener = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> str:
        Thread(target=self._serve, daemon=True).start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/callback?mine=1"

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        for answer in self._answers:
            connection, _ = self._listener.accept()
            with connection:
                connection.recv(65_536)
                body = answer.encode()
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
                )


def test_fields(gatepay: Any, shop: Sandbox) -> None:
    """--fields prints some fields as JSON, of each item of a list; a name that is none is told of, and null."""
    run = gatepay("products", "--fields", "id,stock")
    assert run.json["products"][0].keys() == {"id", "stock"}
    assert run.err == ""
    one = gatepay("order", "T-1-X", "--fields=order_status")
    assert one.json["error"]["code"] == 201  # an error is whole
    gatepay("pay", "--price", "1", "--type", "alipay", "--order", "T-1-X")
    one = gatepay("order", "T-1-X", "--fields=order_status,nope,nope")
    assert (one.status, one.json) == (0, {"order_status": "pending", "nope": None})
    assert one.err.count("no field nope. It has: out_order_id, ") == 1
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


def test_help_names_every_endpoint(gatepay: Any) -> None:
    """The help of `gatepay errors` names each endpoint that it knows."""
    shown = " ".join(gatepay("errors", "--help").out.split())
    assert all(endpoint in shown for endpoint in ENDPOINTS)


def test_errors(gatepay: Any) -> None:
    """The whole catalogue, that of an endpoint, a code wherever it is, and one entry; for programs, too."""
    assert len(gatepay("errors", "--json").json["errors"]) == len(REFUSALS)
    assert {each["endpoint"] for each in gatepay("errors", "/ka/show", "--json").json["errors"]} == {"ka/show"}
    assert {each["code"] for each in gatepay("errors", "112", "--json").json["errors"]} == {112}
    one = gatepay("errors", "pay/create", "109", "--lang", "zh")
    assert "签名失败" in one.out
    assert "SignatureRejectedError" in one.out
    assert "ka/create" in gatepay("errors").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pay/crate"], "Did you mean pay/create?"),
        (["x"], "Unknown endpoint: x"),
        (["ka/show", "999"], "999 is not a documented code of ka/show"),
        (["999"], "of any endpoint"),
        (["ka/show", "x"], "must be a whole number"),
    ],
)
def test_errors_that_there_are_not(gatepay: Any, arguments: list[str], said: str) -> None:
    """What the catalogue doesn't have is a usage error that helps on."""
    run = gatepay("errors", *arguments)
    assert run.status == 2
    assert said in run.err


@pytest.mark.uncounted
@pytest.mark.parametrize(
    "kind", sorted({each.error.__name__ for each in REFUSALS.values()} | {each.error for each in FAULTS})
)
def test_what_to_do_is_for_people(kind: str) -> None:
    """Of each error that a command can meet the remedy speaks of commands and options, never of Python."""
    errors: list[GatePayError] = [
        each.error(code=each.code, message="", endpoint=each.endpoint) for each in REFUSALS.values()
    ]
    for fault in FAULTS:
        kind_of_error = getattr(gatepay_async, fault.error)
        error = kind_of_error.__new__(kind_of_error)
        vars(error).update(sent=fault.sent, endpoint="ka/show", code=999)
        errors.append(error)
    for lang in LANGUAGES:
        language.set_language(lang)
        remedies = [failures.explain(error).remedy for error in errors if type(error).__name__ == kind]
        assert remedies
        for remedy in remedies:
            assert not re.search(r"\w\(\)|(^|\s)\.[a-z]|[a-z_]+=|\b[a-z]+_[a-z_]+", remedy), remedy
    language.set_language("en")


def test_every_error_is_told(gatepay: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Any error of the library has a headline, a cause, something to do, and a status."""
    unknown = OutcomeUnknownError(endpoint="pay/create", out_order_id="T-1-X\x1b")
    strange = ProtocolError(endpoint="ka/show", http_status=200, problem="is no JSON")
    for error in (unknown, strange, CallbackError(problem="is odd"), GatePayError("odd")):
        assert failures.show_error(error) in (3, 4)
        told = capsys.readouterr().err
        assert "Error: " in told
        assert "Fix: " in told
        assert "\x1b" not in told
    strange.problem = NOT_WHOLE
    output.configure(as_json=True)
    try:
        failures.show_error(unknown)
        failures.show_error(strange)
    finally:
        output.configure(as_json=False)
    shown = [json.loads(line)["error"] for line in capsys.readouterr().out.splitlines()]
    assert (shown[0]["out_order_id"], "problem" in shown[0]) == ("T-1-X\x1b", False)
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
            "ka/show：没有响应：已超过整个调用的时限（deadline）（尝试 3 次）",
        ),
        (MalformedCallbackError(field="paytime", problem=Problem("missing")), "回调无效：paytime：缺失"),
        (MalformedCallbackError(problem=Problem("name_twice")), "回调无效：同一个参数名出现了两次"),
        (OutcomeUnknownError(endpoint="pay/create", out_order_id="T-1-X"), "无法确定订单 T-1-X 是否已创建。"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_error_is_told_in_chinese(error: GatePayError, headline: str) -> None:
    """What the library says is wrong is Chinese, too; the system's own words stay as they came."""
    language.set_language("zh")
    try:
        assert failures.headline(error) == headline
    finally:
        language.set_language("en")


# -- the demonstration and the sandbox --------------------------------------------------------------------------------


def test_demo(gatepay: Any) -> None:
    """The demonstration does its job without an account, and all of it holds."""
    run = gatepay("demo")
    assert run.status == 0
    assert "12,000 card keys stored" in run.out
    assert "Everything works." in run.out


def test_demo_that_does_not_hold(gatepay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not hold is not passed over: status 1."""
    files = iter([["AAAA"], ["BBBB"]] * 2)
    monkeypatch.setattr(demo, "_sample_lines", lambda: iter(next(files)))
    believed = Callback(1, "", Decimal(1), Decimal(1), "alipay", datetime.now(UTC), "")
    monkeypatch.setattr("gatepay_async.client.AsyncGatePay.parse_callback", lambda *_: believed)
    run = gatepay("demo", "--json")
    assert (run.status, run.json) == (1, {"ok": False, "uploaded": False, "listed": False, "paid": False})
    shown = gatepay("demo")
    assert "Something does NOT work" in shown.out


def test_without_the_sandbox(gatepay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a part is not installed, the command says how to install it."""
    monkeypatch.setitem(__import__("sys").modules, "gatepay_async.sandbox", None)
    run = gatepay("demo")
    assert run.status == 2
    assert "pip install 'gatepay-async[sandbox]'" in run.err


def test_sandbox_that_cant_be(gatepay: Any, tmp_path: Path) -> None:
    """A port that is taken, one that is none, and a file that is no database: said, not traced back."""
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
     ("http://127.0.0.1/?" + "x" * 701, "url_query"), ("http://example.com/", "url_host")],
)  # fmt: skip
def test_a_callback_address_that_cant_be(gatepay: Any, url: str, problem: str) -> None:
    """Why an address can't be called back is said in either language."""
    for lang in LANGUAGES:
        run = gatepay("sandbox", "--callback", url, "--lang", lang)
        assert (run.status, say(PAGES[problem], lang) in run.err) == (2, True)


# -- settings ---------------------------------------------------------------------------------------------------------


def test_a_secret_from_a_file(gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret may stand in a file, with a line end; one that others can read is warned of."""
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
    ("content", "said"),
    [("", "nothing else"), ("two words", "nothing else"), ("x" * 5000, "nothing else"), (None, "can't read")],
)
def test_a_secret_that_is_none(
    gatepay: Any, tmp_path: Path, content: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that can't hold a secret is named, and what it holds is not shown."""
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_text(content)
    monkeypatch.setenv("GATEPAY_APPKEY", "a")
    monkeypatch.setenv("GATEPAY_APPSECRET_FILE", str(secret))
    run = gatepay("products")
    assert run.status == 2
    assert said in run.err
    assert "xxx" not in run.err


def test_secrets_that_are_missing(gatepay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret, or two of them: the command doesn't guess."""
    monkeypatch.setenv("GATEPAY_APPKEY", "a")
    assert "Neither GATEPAY_APPSECRET nor" in gatepay("products").err
    monkeypatch.setenv("GATEPAY_APPSECRET", "b")
    monkeypatch.setenv("GATEPAY_APPSECRET_FILE", "c")
    assert "Both" in gatepay("products").err


def test_a_base_url_without_tls(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the library refuses to begin with is wrong usage, too."""
    monkeypatch.setenv("GATEPAY_BASE_URL", "http://gatepay.io/api/")
    run = gatepay("products")
    assert run.status == 2
    assert "GATEPAY_BASE_URL: must be https" in run.err
