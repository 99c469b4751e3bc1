"""Runs the README's first program and its callback application, and checks its commands, links and length."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from delivering import reply_to

from gatepay_async.callbacks import CallbackApp, SQLiteStore
from gatepay_async.testing import signed_callback

pytestmark = [pytest.mark.sockets, pytest.mark.without_coverage]

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def code_blocks(language: str) -> list[str]:
    """Return the README's code blocks in one language."""
    return re.findall(rf"^```{language}(?: [^\n]*)?\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_first_program_prints_the_shown_output(tmp_path: Path) -> None:
    """The first Python program prints the output that the README shows below it."""
    program = tmp_path / "first.py"
    program.write_text(code_blocks("python")[0], "utf-8")
    output = subprocess.run([sys.executable, program], capture_output=True, check=True, text=True).stdout
    [shown] = code_blocks("text")
    assert re.fullmatch(re.escape(shown).replace("…", "[0-9a-f]+"), output), output


@pytest.mark.anyio
async def test_the_callback_application_delivers_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The callback application delivers a fully paid order once, and rejects other callbacks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEPAY_APPKEY", "K")
    monkeypatch.setenv("GATEPAY_APPSECRET", "S")
    names: dict[str, Any] = {}
    exec(code_blocks("python")[1], names)  # noqa: S102 -- our own README
    queries = [
        signed_callback(appkey="K", appsecret="S", out_order_id="T-1001-X", price="0.99", realprice=paid)
        for paid in ("0.01", "0.99", "0.99")
    ]
    assert [await reply_to(names["app"], query.encode()) for query in queries] == ["fail", "success", "success"]
    assert capsys.readouterr().out == "deliver T-1001-X\n"
    await cast("SQLiteStore", cast("CallbackApp", names["app"])._store).aclose()


def test_the_two_shell_commands_are_one_line_each() -> None:
    """The first two `sh` blocks are single lines: the quickstart and the tests."""
    first, second = code_blocks("sh")
    assert (first.count("\n"), second.count("\n")) == (1, 1)
    assert first.endswith("examples/quickstart.py\n")
    assert second.endswith("nox -s tests\n")
    for command in (first, second):
        assert command.startswith("python3 -m venv ")


def test_the_readme_is_short() -> None:
    """The README has at most 120 lines; longer texts belong on pages of the documentation."""
    assert README.count("\n") <= 120


def test_linked_files_exist() -> None:
    """Every file to which the README links exists."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
