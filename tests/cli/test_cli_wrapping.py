"""Tests of terminal output: wrapped lines, unbroken words and numbers, and the immediate `One moment…`."""

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

from gatepay_async.cli import help_texts, output, screens, usage
from gatepay_async.cli.app import app
from gatepay_async.cli.commands import pay
from gatepay_async.cli.wrapping import columns_of, longest_piece, wrap, wrap_lines

pytestmark = pytest.mark.fast

URL = "http://127.0.0.1:8765/pay/index?id=e3f50f3d7d8c97ef&type=alipay"


class FakeTerminal(io.StringIO):
    """A terminal that stores its output."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[\d;]*m", "", self.getvalue())


@pytest.fixture
def set_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], FakeTerminal]:
    """Makes both output streams a terminal with this number of columns."""

    def make(columns: int) -> FakeTerminal:
        terminal = FakeTerminal()
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("NO_COLOR", "1")
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, terminal)
        return terminal

    return make


def test_full_stop_after_a_chinese_name_stays_with_it() -> None:
    """At any width, no line starts with a full stop. The dot in a file name may start a line."""
    for width in range(4, 40):
        for sentence in ("There is no profile 我的店铺.", "There is no profile (店铺)."):
            assert "." not in wrap(sentence, width), (sentence, width)
    assert wrap("Can't write 卡密.txt", 16) == ["Can't write 卡密", ".txt"]


def test_width_comes_from_columns_else_the_terminal_else_80(monkeypatch: pytest.MonkeyPatch) -> None:
    """COLUMNS takes precedence over the terminal. Without a known width it is 80."""
    monkeypatch.setenv("COLUMNS", "57")
    assert columns_of(sys.stdout) == 57
    monkeypatch.setenv("COLUMNS", "0")
    with Path(os.devnull).open(encoding="utf-8") as null_device:
        assert columns_of(null_device) == 80
        for columns, expected in ((40, 40), (0, 80)):
            monkeypatch.setattr(os, "get_terminal_size", lambda _, c=columns: os.terminal_size((c, 24)))
            assert columns_of(null_device) == expected


def test_lines_are_wrapped_without_breaking_urls(set_terminal: Callable[[int], FakeTerminal]) -> None:
    """Sentences and warnings are wrapped. URLs, and lines for copying, are not."""
    sentence = f"  Fix: the customer may still pay order-2026-1128-0017 at {URL}"
    assert longest_piece("") == 0
    for write in (screens.print_line, output.warn):
        terminal = set_terminal(40)
        write(sentence)
        lines = terminal.getvalue().splitlines()
        assert lines[0] == "  Fix: the customer may still pay"
        assert f"  {URL}" in lines
        assert all(cell_len(line) <= 40 for line in lines if URL not in line)
        terminal = set_terminal(40)
        write(sentence, unwrapped=True)
        assert terminal.getvalue() == f"{sentence}\n"
    assert wrap_lines("一 二\n  三四五", 6) == "一 二\n  三四\n  五"


def test_chinese_lines_break_before_opening_brackets_and_currency_signs() -> None:
    for message, width, lines in (
        ("各列：1 (序号), 2 (备注)", 17, "各列：1 (序号), 2\n(备注)"),
        ("各列：1 (价格)", 13, "各列：1 (价\n格)"),
        ("机构（OpenSSL）", 12, "机构\n（OpenSSL）"),
        ("已支付 ￥0.99，验签", 11, "已支付\n￥0.99，验\n签"),
        ("称为“卡密”", 6, "称为\n“卡密”"),
    ):
        assert wrap_lines(message, width) == lines, message


def test_long_value_is_printed_below_its_name(set_terminal: Callable[[int], FakeTerminal]) -> None:
    terminal = set_terminal(30)
    screens.print_table(
        screens.name_value_table([("order", "a sentence of several words"), ("  paid_at", "2026-11-28T17:49:13+00:00")])
    )
    assert terminal.text.splitlines() == [
        "order     a sentence of",
        "          several words",
        "  paid_at",
        "    2026-11-28T17:49:13+00:00",
    ]


def test_chinese_cells_are_wrapped_without_breaking_names(set_terminal: Callable[[int], FakeTerminal]) -> None:
    """On a terminal that is too narrow for the columns, no table is drawn."""
    for columns, is_table in ((44, True), (24, False)):
        terminal = set_terminal(columns)
        table = screens.table("接口", "状态码", "原因", number_columns=(1,), unbroken_columns=(0,))
        table.add_row("pay/create", "101", "缺少参数。该接口需要appkey和product_id以及out_order_id。")
        screens.print_table(table)
        text = terminal.text
        assert ("─" in text) == is_table, text
        assert all(name in text for name in ("appkey", "product_id", "out_order_id", "101", "pay/create")), text
        assert all(cell_len(line) <= columns for line in text.splitlines()), text


def test_help_examples_are_wrapped_with_backslashes() -> None:
    """An example on a narrow terminal can still be copied, and its explanation follows below."""
    line = "  gatepay keys upload keys.txt --product 8        upload card keys, one per line"
    assert help_texts._wrap_example(line, 80) == [line]
    assert help_texts._wrap_example(line, 39) == [
        "  gatepay keys upload keys.txt \\",
        "      --product 8",
        "      upload card keys, one per line",
    ]
    assert help_texts._wrap_example("  gatepay pay --product 8 --type alipay", 30) == [
        "  gatepay pay --product 8 \\",
        "      --type alipay",
    ]


def test_qr_code_that_doesnt_fit_is_not_printed(set_terminal: Callable[[int], FakeTerminal]) -> None:
    """A wrapped QR code couldn't be scanned."""
    for columns, fits in ((80, True), (30, False)):
        terminal = set_terminal(columns)
        pay._print_qr_code(URL)
        assert bool(terminal.getvalue()) == fits


def test_waiting_message_is_printed_and_erased(
    set_terminal: Callable[[int], FakeTerminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal shows `One moment…` until the first output. Without a terminal it isn't printed."""
    terminal = set_terminal(20)
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

    terminal = set_terminal(20)
    monkeypatch.setattr(terminal, "write", fail)
    output.show_waiting()
    output.clear_waiting()


def test_interrupted_message_replaces_ctrl_c_or_starts_a_line(set_terminal: Callable[[int], FakeTerminal]) -> None:
    """The message replaces the terminal's ``^C`` or, after an unanswered question, starts a new line."""
    terminal = set_terminal(20)
    with output.question("Name? "):
        pass
    output.warn_interrupted("Done.")
    assert terminal.getvalue() == "Name? \r  \rDone.\n"
    terminal = set_terminal(20)
    with pytest.raises(KeyboardInterrupt), output.question("Name? "):
        raise KeyboardInterrupt
    output.warn_interrupted("Done.")
    assert terminal.getvalue() == "Name? \nDone.\n"


@rows(
    ("line", "expected"),
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
def test_commands_that_wait_print_the_waiting_message(
    set_terminal: Callable[[int], FakeTerminal], line: str, *, expected: bool
) -> None:
    """Commands that call a server print `One moment…`; help and local commands don't."""
    terminal = set_terminal(20)
    usage.announce_waiting(get_command(app), line.split())
    output.clear_waiting()
    assert ("One moment" in terminal.getvalue()) == expected


def test_table_of_any_width_breaks_no_id_number_or_time(set_terminal: Callable[[int], FakeTerminal]) -> None:
    """If the table doesn't fit, each value is printed below or beside its name."""
    terminal = set_terminal(120)
    created = "2026-11-28 21:05:10 +0800"
    for length in range(1, 121):
        terminal.truncate(0)
        table = screens.table(
            "job", "file", "state", "card keys", "created", number_columns=(3,), unbroken_columns=(0, 2, 4)
        )
        table.add_row("e09f252e", "x" * length, "ended", "2,500", created)
        screens.print_table(table)
        assert all(value in terminal.text for value in ("e09f252e", "x" * length, "ended", "2,500", created)), length
        # A value below its name is indented by 2, so a longer one doesn't fit.
        assert max(map(cell_len, terminal.text.splitlines())) <= 120 or length > 118
