"""The README's first program and its application for callbacks are run; its two commands are checked for their form."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from delivering import word

from gatepay_async.callbacks import CallbackApp, SQLiteStore
from gatepay_async.testing import signed_callback

pytestmark = [pytest.mark.sockets, pytest.mark.uncounted]

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_first_program(tmp_path: Path) -> None:
    """It prints what is shown below it."""
    program = tmp_path / "first.py"
    program.write_text(blocks("python")[0], "utf-8")
    printed = subprocess.run([sys.executable, program], capture_output=True, check=True, text=True).stdout
    [shown] = blocks("text")
    assert re.fullmatch(re.escape(shown).replace("…", "[0-9a-f]+"), printed), printed


@pytest.mark.anyio
async def test_callbacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The application delivers once for what was paid in full, and rejects the rest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEPAY_APPKEY", "K")
    monkeypatch.setenv("GATEPAY_APPSECRET", "S")
    names: dict[str, Any] = {}
    exec(blocks("python")[1], names)  # noqa: S102 -- our own README
    queries = [
        signed_callback(appkey="K", appsecret="S", out_order_id="T-1001-X", price="0.99", realprice=paid)
        for paid in ("0.01", "0.99", "0.99")
    ]
    assert [await word(names["app"], query.encode()) for query in queries] == ["fail", "success", "success"]
    assert capsys.readouterr().out == "deliver T-1001-X\n"
    await cast("SQLiteStore", cast("CallbackApp", names["app"])._store).aclose()


def test_two_commands() -> None:
    """The first two `sh` blocks are the two commands, one line each: the quickstart, and the tests."""
    first, second = blocks("sh")
    assert (first.count("\n"), second.count("\n")) == (1, 1)
    assert first.endswith("examples/quickstart.py\n")
    assert second.endswith("nox -s tests\n")
    for command in (first, second):
        assert command.startswith("python3 -m venv ")


def test_length() -> None:
    """It stays short: what needs more room has a page of its own."""
    assert README.count("\n") <= 120


def test_links() -> None:
    """Every file that the README points at is there."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
