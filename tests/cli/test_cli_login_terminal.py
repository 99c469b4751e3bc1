"""Tests of `gatepay login` in a terminal."""

import os
from pathlib import Path

import pytest
from cli_terminal import Open, run

from gatepay_async.sandbox import Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.without_coverage]


def test_login_hides_the_secret_and_stores_it_in_one_file(
    shop: Sandbox, terminal: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal never shows the secret, and Ctrl-C at the prompt stores nothing."""
    url = os.environ["GATEPAY_BASE_URL"]
    for name in ("GATEPAY_APPKEY", "GATEPAY_APPSECRET", "GATEPAY_BASE_URL"):
        monkeypatch.delenv(name)
    interrupted = terminal("login", "--base-url", url)
    interrupted.read(lambda text: "appkey: " in text)
    os.write(interrupted.fd, f"{shop.appkey}\n".encode())
    interrupted.read(lambda text: "appsecret: " in text)
    os.write(interrupted.fd, b"\x03")
    assert interrupted.end() == 130
    assert list(tmp_path.rglob("*")) == []
    process = terminal("login", "--base-url", url, columns=40)
    process.read(lambda text: "appkey: " in text)
    os.write(process.fd, f"{shop.appkey}\n".encode())
    process.read(lambda text: "appsecret: " in text)
    os.write(process.fd, f"{shop.appsecret}\n".encode())
    assert process.end() == 0, process.text
    assert shop.appsecret not in process.text
    assert "Traceback" not in process.text
    files_with_secret = [
        path for path in tmp_path.rglob("*") if path.is_file() and shop.appsecret in path.read_text("utf-8")
    ]
    assert [path.name for path in files_with_secret] == ["profile-default.json"]
    assert run("products", "--json").returncode == 0
