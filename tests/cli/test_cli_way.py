"""How `doctor` and `callback send` reach the network, and judge an answer; an environment that is wrong."""

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
    """A server that answers each connection with the next of *replies*, or the last, and keeps what it was asked."""

    def __init__(self, *replies: bytes) -> None:
        self._replies = replies
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.heads: list[bytes] = []
        Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.heads.append(connection.recv(65_536))
                connection.sendall(self._replies[min(len(self.heads), len(self._replies)) - 1])

    def close(self) -> None:
        with suppress(OSError):  # Linux wakes the thread that accepts; other systems do so when it is closed
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def answer(body: bytes, status: str = "200 OK") -> bytes:
    """A whole response."""
    return b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


@pytest.fixture
def listen() -> Iterator[Any]:
    """Opens listeners, and closes them."""
    opened: list[Listener] = []

    def start(*replies: bytes) -> Listener:
        opened.append(Listener(*replies))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shop's key and secret, and no proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("GATEPAY_APPKEY", "my-key")
    monkeypatch.setenv("GATEPAY_APPSECRET", "my-secret")


def test_a_shop_on_this_machine_is_reached_directly(gatepay: Any, listen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A genuine callback for a shop on this machine goes to no proxy, however this machine is called."""
    shop, proxy = listen(answer(b"success")), listen(answer(b"success"))
    for variable in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", "example.com")
    hosts = ("127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]", "0.0.0.0", "LOCALHOST")  # noqa: S104 -- to call
    for count, host in enumerate(hosts, 1):
        run = gatepay(*SEND, f"http://{host}:{shop.port}/cb?mine=1", *ORDER)
        assert (run.status, len(shop.heads)) == (0, count), (host, run.err)
        assert shop.heads[-1].startswith(b"GET /cb?mine=1&appkey=my-key&"), host
    monkeypatch.setenv("GATEPAY_BASE_URL", f"http://127.0.0.1:{shop.port}/api/")
    gatepay("doctor", "--callback", f"http://127.0.0.1:{shop.port}/cb")
    assert proxy.heads == []


def test_elsewhere_the_proxy_is_used(gatepay: Any, listen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shop elsewhere is reached through the proxy of the environment, as GatePay is by the client."""
    proxy = listen(answer(b"fail"))
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
    run = gatepay(*SEND, "http://shop.example/cb", *ORDER)
    assert run.status == 3
    assert proxy.heads[0].startswith(b"GET http://shop.example/cb?appkey=my-key&")


def test_the_doctor_uses_the_proxy(gatepay: Any, listen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor calls GatePay by the way that the client would take, here through a proxy."""
    proxy = listen(answer(b"", "403 Forbidden"))
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("GATEPAY_BASE_URL", "https://gatepay.example/api/")
    run = gatepay("doctor")
    assert run.status == 4
    assert proxy.heads[0].startswith(b"CONNECT gatepay.example:443")


def test_what_counts_as_an_answer(gatepay: Any, listen: Any) -> None:
    """`success` counts as in the sandbox: the bare word, with HTTP 2xx; `fail` counts with any status."""
    rows = [
        (answer(b"success"), 0, ""),
        (answer(b"success", "201 Created"), 0, ""),
        (answer(b"success", "500 Internal Server Error"), 4, "`success` with HTTP 500 does not count as success"),
        (answer(b"success", "302 Found"), 4, "`success` with HTTP 302 does not count as success"),
        (answer(b"success\n"), 4, "must be exactly `success` or `fail`"),
        (answer(b"fail"), 3, ""),
        (answer(b"fail", "400 Bad Request"), 3, ""),
        (answer(b"SUCCESS"), 4, "exactly"),
        (b"this is no HTTP 0123456789abcdef0123456789abcdef\r\n\r\n", 4, "does not respond: RemoteProtocolError"),
    ]
    for reply, status, said in rows:
        run = gatepay(*SEND, f"http://127.0.0.1:{listen(reply).port}/", *ORDER)
        assert run.status == status, (reply, run.err)
        assert said in run.err, reply
        assert "0123456789abcdef" not in run.err


def test_the_doctor_shows_both_answers(gatepay: Any, listen: Any, shop: Sandbox) -> None:
    """Where one of its two callbacks is answered with neither word, the doctor shows both answers."""
    listener = listen(answer(b"hello"), answer(b"fail"))
    run = gatepay("doctor", "--callback", f"http://127.0.0.1:{listener.port}/", "--json")
    [found] = [each for each in run.json["findings"] if each["about"] == "callback"]
    assert (run.status, found["mark"]) == (4, "bad")
    assert "'hello' (HTTP 200)" in found["text"]
    assert "`fail`" in found["text"]


def test_the_doctor_judges_an_answer_likewise(gatepay: Any, listen: Any, shop: Sandbox) -> None:
    """To the doctor, too, `success` on an error page is neither belief nor success."""
    listener = listen(answer(b"success", "500 Internal Server Error"))
    run = gatepay("doctor", "--callback", f"http://127.0.0.1:{listener.port}/", "--json")
    [found] = [each for each in run.json["findings"] if each["about"] == "callback"]
    assert (run.status, found["mark"]) == (4, "bad")
    assert "responds 'success' (HTTP 500) to a genuine callback" in found["text"]
    assert shop.requests


def test_addresses_that_cant_be(gatepay: Any) -> None:
    """An address that nobody can connect to is refused in a sentence, before anything is sent."""
    rows = {
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
    for url, said in rows.items():
        run = gatepay(*SEND, url, *ORDER)
        assert (run.status, said in run.err) == (2, True), (url, run.err)


def test_an_environment_that_is_wrong(
    gatepay: Any, shop: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the environment has wrong is said in a sentence that names the variable; by the doctor, too."""
    empty, rubbish = tmp_path / "empty", tmp_path / "rubbish.pem"
    empty.mkdir()
    rubbish.write_text("no certificate", "utf-8")
    missing = tmp_path / "missing.pem"
    rows = [
        ({"SSL_CERT_FILE": str(missing)}, f"SSL_CERT_FILE: names {missing}, which can't be read: No such file"),
        ({"SSL_CERT_FILE": str(rubbish)}, f"SSL_CERT_FILE: names {rubbish}, which holds no certificate"),
        ({"SSL_CERT_DIR": str(missing)}, f"SSL_CERT_DIR: names {missing}, which is no folder"),
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
    for variables, said in rows:
        with monkeypatch.context() as patch:
            patch.setenv("GATEPAY_BASE_URL", "https://gatepay.example/api/")
            for name, value in variables.items():
                patch.setenv(name, value)
            products, doctor = gatepay("products"), gatepay("doctor")
        flat = " ".join(products.err.split())
        assert (products.status, said.split(", which")[0] in flat) == (2, True), (variables, products.err)
        assert (doctor.status, said.split(":")[0] in doctor.out) == (2, True), (variables, doctor.out)
        assert "PASSWORD" not in products.err + doctor.out


def test_no_traceback(tmp_path: Path) -> None:
    """Run as a program, too: a sentence on standard error, and JSON for programs."""
    done = subprocess.run(
        [sys.executable, "-m", "gatepay_async.cli", "products", "--json"],
        env={"GATEPAY_APPKEY": "a", "GATEPAY_APPSECRET": "b", "SSL_CERT_FILE": str(tmp_path / "none"), "LANG": "C"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert json.loads(done.stdout)["error"]["field"] == "SSL_CERT_FILE"


def test_a_shop_that_says_nothing(gatepay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shop that takes the callback and says nothing is given up in time, as one that doesn't answer."""
    monkeypatch.setattr(callback, "_REPLY_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        run = gatepay(*SEND, f"http://127.0.0.1:{silent.getsockname()[1]}/", *ORDER)
    assert run.status == 4
    assert "does not respond: no response within 0.2 s" in run.err


def test_the_way_to_a_shop_is_another_one(gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor finds what is wrong on the way to the shop, where the way to GatePay is right."""
    monkeypatch.setenv("https_proxy", "http://proxy.example:99999")
    run = gatepay("doctor", "--callback", "https://shop.example/", "--json")
    [found] = [each for each in run.json["findings"] if each["about"] == "callback"]
    assert (run.status, found["mark"]) == (2, "bad")
    assert found["text"].startswith("https_proxy: names a proxy, which has an invalid port")
    assert shop.requests


def test_certificates_that_certifi_has_lost(gatepay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any variable, a file of certifi's that can't be read is found as well."""

    def lost() -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(trust, "trusted", lost)
    run = gatepay("doctor")
    assert run.status == 2
    assert "can't be read: FileNotFoundError" in run.out
