"""`gatepay login` in a real terminal: what is typed, and what is seen of it."""

import os
from pathlib import Path

import pytest
from cli_terminal import Open, run

from gatepay_async.sandbox import Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.uncounted]


def test_login_in_a_terminal(shop: Sandbox, terminal: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret is asked for, and hidden; it stands in one file, and nowhere in the terminal. Ctrl-C keeps nothing."""
    url = os.environ["GATEPAY_BASE_URL"]
    for name in ("GATEPAY_APPKEY", "GATEPAY_APPSECRET", "GATEPAY_BASE_URL"):
        monkeypatch.delenv(name)
    given_up = terminal("login", "--base-url", url)
    given_up.read(lambda text: "appkey: " in text)
    os.write(given_up.fd, f"{shop.appkey}\n".encode())
    given_up.read(lambda text: "appsecret: " in text)
    os.write(given_up.fd, b"\x03")
    assert given_up.end() == 130
    assert list(tmp_path.rglob("*")) == []
    it = terminal("login", "--base-url", url, columns=40)
    it.read(lambda text: "appkey: " in text)
    os.write(it.fd, f"{shop.appkey}\n".encode())
    it.read(lambda text: "appsecret: " in text)
    os.write(it.fd, f"{shop.appsecret}\n".encode())
    assert it.end() == 0, it.text
    assert shop.appsecret not in it.text
    assert "Traceback" not in it.text
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and shop.appsecret in path.read_text("utf-8")]
    assert [path.name for path in holding] == ["profile-default.json"]
    assert run("products", "--json").returncode == 0
