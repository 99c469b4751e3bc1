"""Tests of `gatepay sandbox`: its address, the variables that it prints, and a line for each event."""

import json
import signal
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from gatepay_async.cli.commands import sandbox as command
from gatepay_async.sandbox import Sandbox

pytestmark = pytest.mark.sockets

INVALID_SIGN = "5" * 32


@pytest.fixture
def interrupt_after_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send SIGINT as soon as the settings are printed."""
    print_settings = command._print_settings

    def print_and_end(*arguments: Any) -> None:
        print_settings(*arguments)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(command, "_print_settings", print_and_end)


@pytest.mark.usefixtures("interrupt_after_settings")
def test_sandbox_prints_variables_and_ends_silently(
    gatepay: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The sandbox uses another port if its default port is in use, and exits with 0 on Ctrl-C."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(command, "DEFAULT_PORT", port)
        run = gatepay("sandbox", "--database", tmp_path / "shop.sqlite3", "--shell", "fish")
        assert (run.status, run.err) == (0, "")
        assert f"Port {port} is in use" in run.out
        assert run.out.endswith("Press Ctrl-C to stop.\n")
        assert run.out.count("  set -gx GATEPAY_") == 4
        assert gatepay("sandbox", "--port", port).status == 2
    run = gatepay("sandbox", "--lang", "zh", "--port", 0, "--quiet")
    assert (run.status, run.err) == (0, "")
    assert "export GATEPAY_CLOUD_BASE_URL=http://127.0.0.1:" in run.out
    assert gatepay("sandbox", "--json").json["database"] == ":memory:"
    assert gatepay("sandbox", "--callback", "nowhere").status == 2


@pytest.mark.usefixtures("interrupt_after_settings")
def test_env_file_is_written_and_replaced_only_if_it_is_ours(
    gatepay: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--env-file` writes the variables to a private file. A file of another program is replaced only with --force."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".env"
    run = gatepay("sandbox", "--env-file", "~/.env", "--port", 0)
    assert f"The variables are in {path}." in run.out
    assert "GATEPAY_APPSECRET" not in run.out
    assert path.stat().st_mode & 0o777 == 0o600
    first = path.read_text("utf-8")
    assert [line.partition("=")[0] for line in first.splitlines()[1:]] == [
        "GATEPAY_APPKEY", "GATEPAY_APPSECRET", "GATEPAY_BASE_URL", "GATEPAY_CLOUD_BASE_URL",
    ]  # fmt: skip
    assert gatepay("sandbox", "--env-file", path, "--port", 0).status == 0
    assert path.read_text("utf-8") != first
    assert gatepay("sandbox", "--env-file", tmp_path).status == 2
    for content in (b"MINE=1\n", b"\xff" * 300_000):
        path.write_bytes(content)
        assert f"{path} already exists." in gatepay("sandbox", "--env-file", path, "--port", 0).err
        assert path.read_bytes() == content
    assert gatepay("sandbox", "--env-file", path, "--port", 0, "--force").status == 0
    assert "is not a regular file" in gatepay("sandbox", "--env-file", tmp_path, "--force").err


def test_each_event_is_printed_without_secrets(gatepay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call is one line of text, or with --json one JSON object."""
    print_event = command._print_event
    count = 0

    def print_and_end(event: Any) -> None:
        nonlocal count
        print_event(event)
        count += 1
        if count == 2:
            signal.raise_signal(signal.SIGINT)

    def send_invalid_calls(sandbox: Sandbox, base_url: str, _settings: object) -> None:
        secrets.append(sandbox.appsecret)
        post_invalid_calls(base_url)

    secrets: list[str] = []
    monkeypatch.setattr(command, "_print_event", print_and_end)
    monkeypatch.setattr(command, "_print_settings", send_invalid_calls)
    for options in ((), ("--json",)):
        count = 0
        run = gatepay("sandbox", "--port", 0, *options)
        assert run.status == 0
        assert secrets[-1] not in run.out
        assert INVALID_SIGN not in run.out
        assert len(run.out.splitlines()) == 2
        if options:
            [first, second] = map(json.loads, run.out.splitlines())
            assert (first["event"], first["endpoint"], first["code"], first["field"]) == (
                "call", "product/show", 101, "appkey",
            )  # fmt: skip
            assert second["reason"] == "appkey"
        else:
            assert "product/show 101 · missing or empty: appkey · " in run.out
            assert "product/show 102 · unknown appkey · " in run.out


def post_invalid_calls(base_url: str) -> None:
    for form in ({"sign": INVALID_SIGN}, {"appkey": "x", "sign": INVALID_SIGN}):
        httpx.post(f"{base_url}product/show", data=form, trust_env=False)
