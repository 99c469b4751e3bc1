"""What a terminal shows: lines that fit it, words and numbers whole; and a sign of life before anything else."""

import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from tables import rows
from typer.main import get_command

from gatepay_async.cli import output, screens, usage
from gatepay_async.cli.app import app
from gatepay_async.cli.commands import pay
from gatepay_async.cli.wrapping import columns_of, fold, longest_piece

pytestmark = pytest.mark.fast

URL = "http://127.0.0.1:8765/pay/index?id=e3f50f3d7d8c97ef&type=alipay"


class Shown(io.StringIO):
    """A terminal, and what it was given."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[\d;]*m", "", self.getvalue())


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Shown]:
    """Both streams are a terminal of so many columns."""

    def make(columns: int) -> Shown:
        terminal = Shown()
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("NO_COLOR", "1")
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, terminal)
        return terminal

    return make


def test_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's word counts; then the terminal; what is none is 80 columns wide, and so is one that doesn't know."""
    monkeypatch.setenv("COLUMNS", "57")
    assert columns_of(sys.stdout) == 57
    monkeypatch.setenv("COLUMNS", "0")
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        assert columns_of(nothing) == 80
        for columns, found in ((40, 40), (0, 80)):
            monkeypatch.setattr(os, "get_terminal_size", lambda _, c=columns: os.terminal_size((c, 24)))
            assert columns_of(nothing) == found


def test_lines_that_fit(shown: Callable[[int], Shown]) -> None:
    """Sentences, and warnings, are wrapped; an address stays whole, and so does what is copied."""
    sentence = f"  Fix: the customer may still pay order-2026-1128-0017 at {URL}"
    assert longest_piece("") == 0
    for write in (screens.print_line, output.warn):
        terminal = shown(40)
        write(sentence)
        lines = terminal.getvalue().splitlines()
        assert lines[0] == "  Fix: the customer may still pay"
        assert f"  {URL}" in lines
        assert all(cell_len(line) <= 40 for line in lines if URL not in line)
        terminal = shown(40)
        write(sentence, whole=True)
        assert terminal.getvalue() == f"{sentence}\n"
    assert fold("一 二\n  三四五", 6) == "一 二\n  三四\n  五"


def test_brackets_and_amounts() -> None:
    """In Chinese text, too, a line never ends with an opening bracket or a currency sign, or starts with a bracket."""
    for message, width, lines in (
        ("各列：1 (序号), 2 (备注)", 17, "各列：1 (序号), 2\n(备注)"),
        ("各列：1 (价格)", 13, "各列：1 (价\n格)"),
        ("机构（OpenSSL）", 12, "机构\n（OpenSSL）"),
        ("已支付 ￥0.99，验签", 11, "已支付\n￥0.99，验\n签"),
        ("称为“卡密”", 6, "称为\n“卡密”"),
    ):
        assert fold(message, width) == lines, message


def test_facts(shown: Callable[[int], Shown]) -> None:
    """A value whose words don't fit beside its name stands whole below it."""
    terminal = shown(30)
    screens.print_table(
        screens.facts([("order", "a sentence of several words"), ("  paid_at", "2026-11-28T17:49:13+00:00")])
    )
    assert terminal.text.splitlines() == [
        "order     a sentence of",
        "          several words",
        "  paid_at",
        "    2026-11-28T17:49:13+00:00",
    ]


def test_names_in_cells(shown: Callable[[int], Shown]) -> None:
    """A Chinese sentence in a table is broken between its letters, and no name in it; too narrow, it is no table."""
    for columns, is_table in ((44, True), (24, False)):
        terminal = shown(columns)
        rows = screens.table("接口", "状态码", "原因", right=(1,), whole=(0,))
        rows.add_row("pay/create", "101", "缺少参数。该接口需要appkey和product_id以及out_order_id。")
        screens.print_table(rows)
        text = terminal.text
        assert ("─" in text) == is_table, text
        assert all(name in text for name in ("appkey", "product_id", "out_order_id", "101", "pay/create")), text
        assert all(cell_len(line) <= columns for line in text.splitlines()), text


def test_examples_of_the_help() -> None:
    """On a narrow terminal an example can still be copied, and what it does stands below."""
    line = "  gatepay keys upload keys.txt --product 8        upload card keys, one per line"
    assert usage._wrap_example(line, 80) == [line]
    assert usage._wrap_example(line, 39) == [
        "  gatepay keys upload keys.txt \\",
        "      --product 8",
        "      upload card keys, one per line",
    ]
    assert usage._wrap_example("  gatepay pay --product 8 --type alipay", 30) == [
        "  gatepay pay --product 8 \\",
        "      --type alipay",
    ]


def test_a_qr_code_that_does_not_fit(shown: Callable[[int], Shown]) -> None:
    """It isn't shown: broken lines can't be scanned."""
    for columns, fits in ((80, True), (30, False)):
        terminal = shown(columns)
        pay._print_qr_code(URL)
        assert bool(terminal.getvalue()) == fits


def test_a_sign_of_life(shown: Callable[[int], Shown], monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal is told at once that an answer will come; nothing of it is left. A file isn't told, nor a program."""
    terminal = shown(20)
    output.show_waiting()
    assert terminal.getvalue() == "One moment…"
    output.warn("Done.")
    output.clear_waiting()
    assert terminal.getvalue() == f"One moment…\r{' ' * 19}\rDone.\n"
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    output.show_waiting()
    assert terminal.getvalue().count("One moment") == 1

    def fail(_: str) -> Any:
        raise OSError

    terminal = shown(20)
    monkeypatch.setattr(terminal, "write", fail)
    output.show_waiting()
    output.clear_waiting()


def test_after_ctrl_c(shown: Callable[[int], Shown]) -> None:
    """What is said replaces the terminal's ^C, or begins a line if that is behind a question."""
    terminal = shown(20)
    with output.question("Name? "):
        pass
    output.warn_interrupted("Done.")
    assert terminal.getvalue() == "Name? \r  \rDone.\n"
    terminal = shown(20)
    with pytest.raises(KeyboardInterrupt), output.question("Name? "):
        raise KeyboardInterrupt
    output.warn_interrupted("Done.")
    assert terminal.getvalue() == "Name? \nDone.\n"


@rows(
    ("line", "said"),
    [
        ("products", True),
        ("--profile shop pay --product 8", True),
        ("keys upload errors", True),
        ("keys upload --help", False),
        ("keys", False),
        ("errors pay/create", False),
        ("nonsense", False),
    ],
)
def test_which_commands_say_so(shown: Callable[[int], Shown], line: str, *, said: bool) -> None:
    """Those that wait, as soon as they are named; help comes at once."""
    terminal = shown(20)
    usage.announce(get_command(app), line.split())
    output.clear_waiting()
    assert ("One moment" in terminal.getvalue()) == said
