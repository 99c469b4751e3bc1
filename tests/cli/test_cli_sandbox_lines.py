"""Tests of the lines that `gatepay sandbox` prints for calls, callbacks and shells."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatepay_async.cli import language, output
from gatepay_async.cli.commands import sandbox as command
from gatepay_async.sandbox import CallEvent, DeliveryEvent
from gatepay_async.sandbox.refusals import Cause
from gatepay_async.sandbox.shells import SHELLS, setting_lines
from gatepay_async.words.command import COMMAND

pytestmark = pytest.mark.fast

# The part of PowerShell's grammar that the documentation uses: pipelines of commands with plain words and verbatim
# strings, and assignments to environment variables or static members. In a verbatim string, '' is a quote.
_TEXT = r"'(?:[^']|'')*'"
_WORD = rf"(?:[\w.\\/:=…-]+|{_TEXT})"
_COMMAND = rf"{_WORD}(?: {_WORD})*"
_MEMBER = r"\[[\w.]+\]::\w+"
POWERSHELL = re.compile(rf"(?:\$env:\w+|{_MEMBER}) = (?:{_TEXT}|{_MEMBER})|{_COMMAND}(?: \| {_COMMAND})*")

# Characters with a meaning in some shell.
AWKWARD = 'it\'s $HOME; `x` \\ "quoted"'


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    """Print English text; earlier tests in this process may have set another language or JSON."""
    output.configure(as_json=False)
    language.set_language("en")
    yield
    language.set_language("en")


def printed_line(event: Any, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the line that is printed for *event*, without the time at its start."""
    command._print_event(event)
    out = capsys.readouterr().out
    assert re.match(r"\d\d:\d\d:\d\d ", out)
    return out[9:].rstrip("\n")


def test_event_lines_show_result_subject_and_duration(capsys: pytest.CaptureFixture[str]) -> None:
    """A call's line has its code, its subject and its duration; a callback's line has the shop's response."""

    def call(**fields: Any) -> CallEvent:
        return CallEvent(at=1e9, endpoint="ka/create", milliseconds=12.4, **fields)

    def delivery(**changes: Any) -> DeliveryEvent:
        fields: dict[str, Any] = {"attempt": 1, "status": 200, "answer": "success", "problem": None}
        return DeliveryEvent(at=1e9, order_id=12, **(fields | changes))

    cases = {
        "ka/create 100 · 1,500 keys · 12 ms": call(code=100, card_keys=1500),
        "ka/create 100 · 1 key · 12 ms": call(code=100, card_keys=1),
        "ka/create no response · fault: cut_before · 12 ms": call(fault="cut_before"),
        "ka/create 101 · A\\x1bB · missing or empty: page · 12 ms": call(
            code=101, reason="missing", field="page", out_order_id="A\x1bB"
        ),
        f"ka/create 106 · not allowed: {'x' * 57}... · 12 ms": call(code=106, reason="not_allowed", field="x" * 99),
        "→ order 12 · 200 success": delivery(),
        "→ order 12 · attempt 2 · 500 · The response was not success.": delivery(
            attempt=2, status=500, answer="", problem="not_success"
        ),
        "→ order 12 · Could not connect, or the connection was lost.": delivery(
            status=None, answer=None, problem="connection"
        ),
    }
    assert [printed_line(event, capsys) for event in cases.values()] == list(cases)


def test_each_refusal_cause_has_texts_in_both_languages(capsys: pytest.CaptureFixture[str]) -> None:
    # Only injected faults have these causes. "malformed" is a reason in events, but no Cause.
    injected = {"unknown", "category_failed", "product_failed", "stock_failed", "queue_failed"}
    causes = {cause.value for cause in Cause} - injected | {"malformed"}
    assert {name for name in COMMAND if name.startswith("seen.")} >= {f"seen.{cause}" for cause in causes}
    for lang in ("en", "zh"):
        language.set_language(lang)
        for cause in causes:
            event = CallEvent(at=0, endpoint="x", milliseconds=1, code=1, message="原话", reason=cause, field="f")
            assert "{" not in printed_line(event, capsys)


def test_ascii_output_gets_plain_signs(monkeypatch: pytest.MonkeyPatch) -> None:

    class AsciiStream:
        encoding = "ascii"

    monkeypatch.setattr("sys.stdout", AsciiStream())
    assert command._dot_and_arrow() == ("-", "->")


def test_setting_lines_are_read_back_by_each_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each shell reads the value from its line. The user's shell is guessed from the environment."""
    lines = {shell: setting_lines(shell, {"GATEPAY_APPKEY": AWKWARD})[0] for shell in SHELLS}
    assert shlex.split(lines["sh"]) == ["export", f"GATEPAY_APPKEY={AWKWARD}"]
    fish = lines["fish"].removeprefix("set -gx GATEPAY_APPKEY '").removesuffix("'")
    assert re.sub(r"\\(['\\])", r"\1", fish) == AWKWARD
    assert POWERSHELL.fullmatch(lines["powershell"])
    verbatim = lines["powershell"].removeprefix("$env:GATEPAY_APPKEY = '").removesuffix("'")
    assert verbatim.replace("''", "'") == AWKWARD
    assert lines["cmd"] == f'set "GATEPAY_APPKEY={AWKWARD}"'
    for shell, expected in (("/usr/bin/fish", "fish"), ("/opt/pwsh", "powershell"), ("/bin/zsh", "sh"), ("", "sh")):
        monkeypatch.setenv("SHELL", shell)
        assert command.guess_shell() == expected
    monkeypatch.setattr("os.name", "nt")
    monkeypatch.delenv("PROMPT", raising=False)
    assert command.guess_shell() == "powershell"
    monkeypatch.setenv("PROMPT", "$P$G")
    assert command.guess_shell() == "cmd"


def test_powershell_lines_of_the_documentation_are_valid() -> None:
    pages = [
        page
        for page in (Path(__file__).parents[2] / "docs").rglob("*.md")
        if "```powershell" in page.read_text("utf-8")
    ]
    assert len(pages) > 1
    blocks = [
        block for page in pages for block in re.findall(r"```powershell\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    ]
    assert [line for block in blocks for line in block.splitlines() if not POWERSHELL.fullmatch(line)] == []
    # The pattern itself refuses lines of other shells, invalid quoting, and forms that the documentation avoids.
    assert not any(map(POWERSHELL.fullmatch, ("set A=1 & b", "$env:A = 'it's'", 'echo "$A"', "$env:A=b")))
