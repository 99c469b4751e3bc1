"""Tests of proxies, certificates and URLs for `doctor` and `callback send`, and of how they judge a response."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from gatepay_async.cli.commands import callback
from gatepay_async.exchange import trust
from gatepay_async.sandbox import Sandbox

pytestmark = pytest.mark.sockets

SEND = ("callback", "send")
ORDER = ("--order-id", 7, "--order", "T-1-X", "--price", "0.99")


class Listener:
    """Responds to each connection with the next of *replies*, or the last one, and stores the requests."""

    def __init__(self, *replies: bytes) -> None:
        self._replies = replies
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.requests: list[bytes] = []
        Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.requests.append(connection.recv(65_536))
                connection.sendall(self._replies[min(len(self.requests), len(self._replies)) - 1])

    def close(self) -> None:
        with suppress(OSError):  # shutdown() wakes accept() on Linux; close() does on other systems
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def make_response(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


@pytest.fixture
def listen() -> Iterator[Any]:
    """Starts listeners and closes them after the test."""
    opened: list[Listener] = []

    def start(*replies: bytes) -> Listener:
        opened.append(Listener(*replies))
        return opened[-1]

    yield start
    for listener in opened:
        listener.close()


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the key and secret of a shop, and no proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("GATEPAY_APPKEY", "my-key")
    monkeypatch.setenv("GATEPAY_APPSECRET", "my-secret")


def test_callback_to_this_machine_bypasses_the_proxy(
    gatepay: Any, listen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A callback for a server on this machine is sent directly, under any name of this machine."""
    shop, proxy = listen(make_response(b"success")), listen(make_response(b"success"))
    for variable in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", "example.com")
    hosts = ("127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]", "0.0.0.0", "LOCALHOST")  # noqa: S104 -- a client's address
    for count, host in enumerate(hosts, 1):
        run = gatepay(*SEND, f"http://{host}:{shop.port}/cb?mine=1", *ORDER)
        assert (run.status, len(shop.requests)) == (0, count), (host, run.err)
        assert shop.requests[-1].startswith(b"GET /cb?mine=1&appkey=my-key&"), host
    monkeypatch.setenv("GATEPAY_BASE_URL", f"http://127.0.0.1:{shop.port}/api/")
    gatepay("doctor", "--callback", f"http://127.0.0.1:{shop.port}/cb")
    assert proxy.requests == []


def test_callback_to_another_machine_uses_the_proxy(gatepay: Any, listen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = listen(make_response(b"fail"))
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
    run = gatepay(*SEND, "http://shop.example/cb", *ORDER)
    assert run.status == 3
    assert proxy.requests[0].startswith(b"GET http://shop.example/cb?appkey=my-key&")


def test_doctor_uses_the_proxy_of_the_environment(gatepay: Any, listen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = listen(make_response(b"", "403 Forbidden"))
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("GATEPAY_BASE_URL", "https://gatepay.example/api/")
    run = gatepay("doctor")
    assert run.status == 4
    assert proxy.requests[0].startswith(b"CONNECT gatepay.example:443")


def test_send_accepts_exact_success_and_fail_only(gatepay: Any, listen: Any) -> None:
    """`success` counts with HTTP 2xx and exactly this body, as in the sandbox; `fail` counts with any status."""
    cases = [
        (make_response(b"success"), 0, ""),
        (make_response(b"success", "201 Created"), 0, ""),
        (
            make_response(b"success", "500 Internal Server Error"),
            4,
            "`success` with HTTP 500 does not count as success",
        ),
        (make_response(b"success", "302 Found"), 4, "`success` with HTTP 302 does not count as success"),
        (make_response(b"success\n"), 4, "must be exactly `success` or `fail`"),
        (make_response(b"fail"), 3, ""),
        (make_response(b"fail", "400 Bad Request"), 3, ""),
        (make_response(b"SUCCESS"), 4, "exactly"),
        (b"this is no HTTP 0123456789abcdef0123456789abcdef\r\n\r\n", 4, "does not respond: RemoteProtocolError"),
    ]
    for reply, status, expected in cases:
        run = gatepay(*SEND, f"http://127.0.0.1:{listen(reply).port}/", *ORDER)
        assert run.status == status, (reply, run.err)
        assert expected in run.err, reply
        assert "0123456789abcdef" not in run.err


def test_doctor_shows_both_replies(gatepay: Any, listen: Any, shop: Sandbox) -> None:
    """If one of the two callbacks gets an invalid reply, the doctor shows both replies."""
    listener = listen(make_response(b"hello"), make_response(b"fail"))
    run = gatepay("doctor", "--callback", f"http://127.0.0.1:{listener.port}/", "--json")
    [finding] = [finding for finding in run.json["findings"] if finding["about"] == "callback"]
    assert (run.status, finding["mark"]) == (4, "bad")
    assert "'hello' (HTTP 200)" in finding["text"]
    assert "`fail`" in finding["text"]


def test_doctor_doesnt_accept_success_with_http_500(gatepay: Any, listen: Any, shop: Sandbox) -> None:
    listener = listen(make_response(b"success", "500 Internal Server Error"))
    run = gatepay("doctor", "--callback", f"http://127.0.0.1:{listener.port}/", "--json")
    [finding] = [finding for finding in run.json["findings"] if finding["about"] == "callback"]
    assert (run.status, finding["mark"]) == (4, "bad")
    assert "responds 'success' (HTTP 500) to a genuine callback" in finding["text"]
    assert shop.requests


def test_invalid_callback_url_is_refused_before_sending(gatepay: Any) -> None:
    errors = {
        "gatepay": "must begin with http:// or https://",
        "ftp://x/": "must begin with http://",
        "http://127.0.0.1:99999/": "has an invalid port: 99999",
        "http://127.0.0.1:0/": "has an invalid port: 0",
        "http://xn--/": "is not a valid URL",
        "http://a..b/": "has an invalid host name",
        f"http://{'a' * 64}.example/": "has an invalid host name",
        "http://[::1/": "is not a valid URL",
        "http://127.0.0.1/a\u200bb": "contains a space or an invisible character (U+200B)",
        "http://127.0.0.1/#top": "must not contain #",
    }
    for url, expected in errors.items():
        run = gatepay(*SEND, url, *ORDER)
        assert (run.status, expected in run.err) == (2, True), (url, run.err)


def test_error_names_the_wrong_variable(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`products` and `doctor` name the variable whose proxy, certificates or URL is invalid."""
    empty, invalid = tmp_path / "empty", tmp_path / "rubbish.pem"
    empty.mkdir()
    invalid.write_text("no certificate", "utf-8")
    missing = tmp_path / "missing.pem"
    cases = [
        ({"SSL_CERT_FILE": str(missing)}, f"SSL_CERT_FILE: names {missing}, which can't be read: No such file"),
        ({"SSL_CERT_FILE": str(invalid)}, f"SSL_CERT_FILE: names {invalid}, which holds no certificate"),
        ({"SSL_CERT_DIR": str(missing)}, f"SSL_CERT_DIR: names {missing}, which is not a folder"),
        ({"SSL_CERT_DIR": str(empty)}, f"SSL_CERT_DIR: names {empty}, which holds no certificate under its hash"),
        (
            {"HTTPS_PROXY": "http://me:PASSWORD@proxy.example:99999"},
            "HTTPS_PROXY: names a proxy, which has an invalid port",
        ),
        ({"https_proxy": "http://[::1"}, "https_proxy: names a proxy, which is not a valid URL"),
        ({"ALL_PROXY": "ftp://proxy.example"}, "ALL_PROXY: names a proxy, which must begin with"),
        ({"HTTPS_PROXY": "http://"}, "HTTPS_PROXY: names a proxy, which must begin with"),
        ({"GATEPAY_BASE_URL": "https://gatepay.io:99999/api/"}, "GATEPAY_BASE_URL: "),
        ({"GATEPAY_BASE_URL": "https://xn--/api/"}, "GATEPAY_BASE_URL: "),
        ({"GATEPAY_BASE_URL": "https://gatepay.io/a pi/"}, "GATEPAY_BASE_URL: "),
    ]
    for variables, expected in cases:
        with monkeypatch.context() as patch:
            patch.setenv("GATEPAY_BASE_URL", "https://gatepay.example/api/")
            for name, value in variables.items():
                patch.setenv(name, value)
            products, doctor = gatepay("products"), gatepay("doctor")
        message = " ".join(products.err.split())
        assert (products.status, expected.split(", which")[0] in message) == (2, True), (variables, products.err)
        assert (doctor.status, expected.split(":")[0] in doctor.out) == (2, True), (variables, doctor.out)
        assert "PASSWORD" not in products.err + doctor.out


def test_process_prints_an_error_instead_of_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gatepay_async.cli", "products", "--json"],
        env={"GATEPAY_APPKEY": "a", "GATEPAY_APPSECRET": "b", "SSL_CERT_FILE": str(tmp_path / "none"), "LANG": "C"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert json.loads(done.stdout)["error"]["field"] == "SSL_CERT_FILE"


def test_send_times_out_if_the_shop_doesnt_respond(gatepay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback, "_REPLY_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        run = gatepay(*SEND, f"http://127.0.0.1:{silent.getsockname()[1]}/", *ORDER)
    assert run.status == 4
    assert "does not respond: no response within 0.2 s" in run.err


def test_doctor_checks_the_proxy_of_the_callback_url(
    gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy for the callback URL is invalid, while that for GatePay is valid."""
    monkeypatch.setenv("https_proxy", "http://proxy.example:99999")
    run = gatepay("doctor", "--callback", "https://shop.example/", "--json")
    [finding] = [finding for finding in run.json["findings"] if finding["about"] == "callback"]
    assert (run.status, finding["mark"]) == (2, "bad")
    assert finding["text"].startswith("https_proxy: names a proxy, which has an invalid port")
    assert shop.requests


def test_doctor_reports_missing_certificates_of_certifi(gatepay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a variable, the certificates are those of the package certifi."""

    def fail_to_read() -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(trust, "trusted", fail_to_read)
    run = gatepay("doctor")
    assert run.status == 2
    assert "can't be read: FileNotFoundError" in run.out
