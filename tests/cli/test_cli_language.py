"""Tests of the command's texts in both languages: the table of texts, help, usage errors, tables, wrapping."""

import ast
import errno
import re
import string
import sys
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

import pytest
import typer
from tables import rows

import gatepay_async.cli
from gatepay_async.cli import language, screens
from gatepay_async.cli.app import app
from gatepay_async.cli.output import escape
from gatepay_async.cli.wrapping import wrap
from gatepay_async.version import __version__
from gatepay_async.words import LANGUAGES
from gatepay_async.words.command import COMMAND
from gatepay_async.words.pages import PAGES
from gatepay_async.words.problem import os_reason
from gatepay_async.words.problems import PROBLEMS

pytestmark = pytest.mark.fast

CLI_FOLDER = Path(gatepay_async.cli.__file__).parent
UPLOADS = ("list", "show", "watch", "cancel", "resume", "delete", "work")
COMMANDS: list[tuple[str, ...]] = [
    (), ("demo",), ("doctor",), ("products",), ("keys",), ("keys", "upload"), ("keys", "export"), ("keys", "count"),
    ("pay",), ("order",), ("login",), ("profiles",), ("logout",), ("help",),
    ("link",), ("callback",), ("callback", "verify"), ("callback", "sign"), ("callback", "send"), ("errors",),
    ("sandbox",), ("uploads",), *(("uploads", name) for name in UPLOADS),
]  # fmt: skip


def requested_texts() -> set[str]:
    r"""Return the names of all texts that the code requests, as patterns; a value in an f-string becomes ``\w+``."""
    names: set[str] = set()
    for path in CLI_FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                nodes = [keyword.value for keyword in node.keywords if keyword.arg == "help"]
                nodes += node.args[:1] if ast.unparse(node.func) == "text" else []
                names |= {name_pattern(node) for node in nodes} - {""}
            if isinstance(node, ast.Constant) and node.value in COMMAND:
                names.add(re.escape(str(node.value)))
    return names


def name_pattern(node: ast.expr) -> str:
    """Return the pattern of the text name that *node* stands for; empty if *node* is no literal."""
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else r"\w+" for part in node.values)
    return ""


def test_requested_texts_exist() -> None:
    for name in requested_texts():
        assert any(re.fullmatch(name, text_name) for text_name in COMMAND), name


def test_text_calls_pass_all_placeholders() -> None:
    nodes = [node for path in CLI_FOLDER.rglob("*.py") for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    for node in nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "text" and isinstance(node.args[0], ast.Constant):
            arguments = {keyword.arg for keyword in node.keywords}
            placeholders = {
                name for _, name, _, _ in string.Formatter().parse(COMMAND[str(node.args[0].value)][0]) if name
            }
            assert None in arguments or placeholders <= arguments, ast.unparse(node)


def test_texts_of_the_table_are_used() -> None:
    """Each text is requested by the code, belongs to the remedy of an error, or replaces a problem's own words."""
    durable = pytest.importorskip(
        "gatepay_async.durable", reason="some texts belong to the extra `durable`, which is not installed"
    )
    names = requested_texts()
    for text_name in COMMAND:
        class_name = text_name.removeprefix("todo.").removeprefix("failing.").partition(" ")[0]
        modules = (gatepay_async, durable)
        prefix, _, replaced_name = text_name.partition(".")
        replaces_problem = replaced_name in {"problem": PROBLEMS, "sandbox": PAGES, "os": vars(errno)}.get(prefix, {})
        assert (
            replaces_problem
            or any(re.fullmatch(name, text_name) for name in names)
            or any(hasattr(module, class_name) for module in modules)
        ), text_name


@rows("name", COMMAND)
def test_both_languages_have_the_same_placeholders_and_examples(name: str) -> None:
    english, chinese = COMMAND[name]
    assert re.sub("[…–¥]", "", english).isascii()
    assert all(text.strip() for text in (english, chinese))
    placeholders = [
        {(field, conversion) for _, field, _, conversion in string.Formatter().parse(text) if field}
        for text in (english, chinese)
    ]
    assert placeholders[0] == placeholders[1]
    examples = [[line for line in text.splitlines() if line.startswith("  gatepay")] for text in (english, chinese)]
    assert len(examples[0]) == len(examples[1])
    # An English text with two words, not only values and names, is translated to Chinese characters.
    if re.search(r"[a-z]{3} [a-z]{2}", re.sub(r"`[^`]*`|\{[^}]*\}", "", english)):
        assert re.search(r"[\u4e00-\u9fff]", chinese), chinese


@rows("command", COMMANDS)
@rows("lang", LANGUAGES)
def test_help_is_translated_and_80_columns_wide(gatepay: Any, command: tuple[str, ...], lang: str) -> None:
    """No help contains the name of a text instead of the text, or English words in Chinese help."""
    run = gatepay(*command, "--help", "--lang", lang)
    assert (run.status, run.err) == (0, "")
    assert run.out.startswith({"en": "Usage: gatepay", "zh": "用法：gatepay"}[lang])
    assert ("显示本帮助" in run.out) == (lang == "zh")
    assert not re.search(
        r"^ .*\b(option|uploads?|work|export|pay|order|link|callback|sandbox|errors)\.\w+$", run.out, re.MULTILINE
    )
    for line in run.out.splitlines():
        assert sum(2 if east_asian_width(letter) in "WF" else 1 for letter in line) <= 80, line
        if lang == "zh":
            assert not re.search(r"\b(Show|the|Options|Commands|required)\b", line), line


def test_help_on_a_narrow_terminal_puts_long_options_on_their_own_lines(
    gatepay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An explanation isn't indented by the length of its option, and no line starts with a closing bracket."""
    monkeypatch.setenv("COLUMNS", "40")
    for lang in LANGUAGES:
        help_text = gatepay("keys", "upload", "--help", "--lang", lang).out
        assert max(len(line) - len(line.lstrip()) for line in help_text.splitlines()) < 20
        assert not re.search(r"^ *[\]）]", help_text, re.MULTILINE)


def test_commands_of_this_module_are_complete(gatepay: Any) -> None:
    root: Any = typer.main.get_command(app)
    commands: dict[tuple[str, ...], Any] = {(): root}
    for name, command in root.commands.items():
        commands[name,] = command
        commands |= {(name, subcommand): child for subcommand, child in getattr(command, "commands", {}).items()}
    assert set(commands) == set(COMMANDS)
    assert gatepay("-h").out == gatepay("--help").out


def test_running_without_a_command_prints_help_with_status_2(gatepay: Any) -> None:
    run = gatepay()
    assert (run.status, run.out) == (2, "")
    assert run.err.startswith("Usage: gatepay [OPTIONS] COMMAND")


def test_version_option_prints_the_version(gatepay: Any) -> None:
    assert gatepay("--version").out == f"gatepay-async {__version__}\n"
    assert gatepay("--version", "--json").json == {"version": __version__}


@rows(
    ("arguments", "en", "zh"),
    [
        (["prducts"], "Unknown command: prducts. Did you mean `gatepay products`?", "没有 prducts 这个命令。"),
        (["keys", "uplaod"], "Did you mean `gatepay keys upload`?", "是不是想用 gatepay keys upload？"),
        (["keys", "x"], "Unknown command: x.", "没有 x 这个命令。"),
        (["upload"], "Unknown command: upload. Did you mean `gatepay keys", "是不是想用 gatepay keys upload？"),
        (["export"], "Did you mean `gatepay keys export`?", "是不是想用 gatepay keys export？"),
        (["verfy"], "Did you mean `gatepay callback verify`?", "是不是想用 gatepay callback verify？"),
        (["order", "x" * 256], "ORDER_NUMBER: takes 256 bytes", "ORDER_NUMBER：以 UTF-8 编码占 256 字节"),
        (["keys", "upload", "k"], "Missing --product.", "缺少 --product。"),
        (["keys", "upload", "-p", "8"], "Missing FILE.", "缺少 FILE。"),
        (["keys", "count", "--nope"], "Unknown option: --nope.", "没有 --nope 这个选项。"),
        (["keys", "count", "--prduct", "8"], "--prduct. Did you mean --product?", "是不是想用 --product？"),
        (["keys", "count", "--product"], "--product requires a value.", "--product 需要一个值。"),
        (["demo", "--json=1"], "--json does not take a value.", "--json 不带值。"),
        (["keys", "--help=1"], "--help does not take a value.", "--help 不带值。"),
        (["--hlep"], "Unknown option: --hlep. Did you mean --help?", "是不是想用 --help？"),
        (["demo", "a", "b"], "Unexpected argument: a b", "多余的参数：a b"),
        (["keys", "count", "-p", "0"], "for --product: 0 (must be a whole number above 0)", "--product 取值无效：0"),
        (["keys", "count", "-p", "x\x1b"], r": x\x1b (must", r"：x\x1b（必须"),
        (["pay", "-p", "8", "--type", "cash"], "cash (choose from alipay, ", "cash（可选 alipay"),
        (["pay", "-p", "8", "--type", "alipay", "--wait"], "--wait and --listen must be used together", "必须一起使用"),
        (["pay", "-p", "8", "--type", "alipay", "--wait", "--listen", "x"], "x (must be HOST:PORT)", "主机:端口"),
        (["pay", "-p", "8", "--type", "alipay", "--order", ""], "--order: it is empty", "--order 取值无效：内容为空"),
        (["products", "--every", "x"], "--every: x (must be a number of seconds from 1)", "x（必须是不小于 1 的秒数）"),
        (["products", "--every", "0.5"], "--every: 0.5 (must be", "--every 取值无效：0.5"),
        (["errors", "ka/create", "x"], "Invalid value for CODE: x (must be", "CODE 取值无效：x（必须是"),
        ([], "Missing command.", "缺少命令。"),
        (["products"], "GATEPAY_APPKEY is not set", "没有设置 GATEPAY_APPKEY"),
    ],
)  # fmt: skip
def test_usage_error_is_printed_in_both_languages(gatepay: Any, arguments: list[str], en: str, zh: str) -> None:
    for lang, text in (("en", en), ("zh", zh)):
        run = gatepay("--lang", lang, *arguments)
        assert (run.status, run.out) == (2, "")
        assert text in run.err


def test_usage_error_as_json_has_the_name_and_values_of_its_text(gatepay: Any) -> None:
    """With --json, a usage error has a `problem`: the name of its text, and its values. A value can be a text, too."""
    error = gatepay("keys", "count", "-p", "0", "--json", "--lang", "zh").json["error"]
    assert error["problem"] == {
        "name": "usage.bad",
        "text": error["headline"],
        "facts": {
            "name": "--product",
            "problem": {"name": "usage.number", "text": "0（必须是大于 0 的整数）", "facts": {"value": "0"}},
        },
    }


def test_usage_error_with_json_is_json(gatepay: Any) -> None:
    run = gatepay("nope", "--json")
    assert run.status == 2
    assert run.json["error"]["headline"] == "Unknown command: nope."
    for arguments in (["--json"], ["--json", "keys"], ["keys", "--json"]):
        run = gatepay(*arguments)
        assert (run.status, run.json["error"]["headline"], run.err) == (2, "Missing command.", "")


def test_unknown_names_for_the_version_suggest_the_option(gatepay: Any) -> None:
    """`gatepay version` and `gatepay -v` are common in other programs."""
    assert "Did you mean `gatepay --version`?" in gatepay("version").err
    assert "Did you mean" not in gatepay("keys", "version").err
    assert "Did you mean --version?" in gatepay("-v").err


def test_common_reasons_of_the_system_are_translated() -> None:
    """A reason that isn't in the table is shown as it is."""
    language.set_language("zh")
    full = language.text("queue.unwritable", reason=os_reason(OSError(errno.ENOSPC, "No space left on device")))
    assert "磁盘空间不足" in full
    assert os_reason(OSError(errno.ENOTTY, "Inappropriate ioctl for device")) == "Inappropriate ioctl for device"
    assert os_reason(OSError("no number")) == "no number"


def test_unknown_language_is_refused_in_english(gatepay: Any) -> None:
    assert "Invalid value for --lang: fr (choose from en, zh)" in gatepay("--lang", "fr", "products").err


@rows(
    ("arguments", "environ", "encoding", "expected"),
    [
        ([], {}, "utf-8", "en"),
        ([], {"LANG": "C"}, "utf-8", "en"),
        ([], {"LANG": "zh_CN.UTF-8"}, "utf-8", "zh"),
        ([], {"LANG": "zh_TW"}, "big5", "zh"),
        ([], {"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "utf-8", "en"),
        ([], {"LANG": "en_GB", "LC_MESSAGES": "zh_CN"}, "utf-8", "zh"),
        ([], {"LANG": "zh_CN", "LC_ALL": ""}, "utf-8", "zh"),
        ([], {"LANG": "zh_CN"}, "ascii", "en"),
        ([], {"LANG": "zh_CN"}, "no such", "en"),
        (["--lang", "zh"], {}, "ascii", "zh"),
        (["x", "--lang=zh"], {}, "utf-8", "zh"),
        (["--lang", "en"], {"LANG": "zh_CN"}, "utf-8", "en"),
        (["--", "--lang", "zh"], {}, "utf-8", "en"),
        (["--lang"], {}, "utf-8", "en"),
    ],
)  # fmt: skip
def test_language_is_chosen_by_option_or_locale(
    arguments: list[str], environ: dict[str, str], encoding: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--lang takes precedence over the locale. Chinese from the locale is used only if the encoding can show it."""
    monkeypatch.setattr("locale.getlocale", lambda: (None, None))
    assert language.choose_language(arguments, environ, encoding=encoding) == expected


def test_language_without_variables_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locale.getlocale", lambda: ("Chinese (Simplified)_China", "936"))
    assert language.choose_language([], {}, encoding="gbk") == "zh"


def test_wrap_breaks_at_spaces_and_between_chinese_characters() -> None:
    """No line starts with punctuation that closes a phrase."""
    assert wrap("one two three", 7) == ["one two", "three"]
    assert wrap("一二三四五六", 8) == ["一二三四", "五六"]
    assert wrap("一二三四。五", 8) == ["一二三", "四。五"]
    assert wrap("averylongword", 5) == ["averylongword"]
    assert wrap("", 5) == [""]


def test_wrap_indented_wraps_on_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Continuation lines are indented on a terminal; elsewhere the text is one line."""
    text = "one two three, http://127.0.0.1:8765/api/ and four"
    assert screens.wrap_indented(text, indent=7) == text
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "24")
    separator = "\n       "
    assert screens.wrap_indented(text, indent=7) == separator.join(
        ["one two three,", "http://127.0.0.1:8765/api/", "and four"]
    )
    monkeypatch.setenv("COLUMNS", "3")
    assert screens.wrap_indented("one two", indent=7) == "one two"


def test_columns_sets_the_table_width_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, width in (("", 160), ("60", 60), ("0", 160), ("many", 160)):
        monkeypatch.setenv("COLUMNS", columns)
        assert screens.new_console().width == width, columns


def test_table_on_a_narrow_terminal_breaks_no_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    table = screens.table("product", "category", "name", "price (¥)", "in stock", number_columns=(0, 3, 4))
    table.add_row("8", "腾讯会员", "腾讯视频SVIP账号", "0.99", "89")
    screens.print_table(table)
    out = capsys.readouterr().out
    assert all(word in out for word in ("product", "price", "stock", "0.99"))


def test_table_that_doesnt_fit_becomes_names_and_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If IDs, numbers and times don't fit into columns, each row is printed as names and values."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    row = ("40253517", "a long name of a file.txt", "123456789", "2026-11-28 13:05:10")
    for columns, lines in ((90, 4), (40, 10)):
        monkeypatch.setenv("COLUMNS", str(columns))
        table = screens.table(
            "upload", "input", "on the server", "submitted", number_columns=(2,), unbroken_columns=(0, 3)
        )
        table.add_row(*row)
        table.add_row(*row)
        screens.print_table(table)
        out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        assert (out.count(row[0]), out.count(row[2]), out.count(row[3])) == (2, 2, 2), out
        assert len(out.splitlines()) >= lines
        assert all(len(line) <= columns for line in out.splitlines()), out


def test_long_list_uses_the_pager_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A list that is longer than the terminal goes through the pager; without a terminal it is printed."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("LINES", "10")
    table = screens.table("name")
    for number in range(20):
        table.add_row(f"row {number}")
    for pager, paged in (("sed s/row/paged/", True), ("cat", False), ("", False), ("no-such-program", False)):
        monkeypatch.setenv("PAGER", pager)
        screens.print_list(table)
        out = capfd.readouterr().out
        assert (("paged 19" if paged else "row 19") in out, out.count("19")) == (True, 1), pager
    monkeypatch.setenv("PAGER", "sed s/row/paged/")
    for lines, terminal in (("100", True), ("10", False)):
        monkeypatch.setenv("LINES", lines)
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal, raising=False)
        screens.print_list(table)
        assert "row 19" in capfd.readouterr().out


def test_escape_replaces_control_characters() -> None:
    """Control characters, and characters that change the writing direction, are printed as escapes."""
    assert escape("a\x1b[2Jb\nc\u202ed\u200b密[red]") == r"a\x1b[2Jb\nc\u202ed\u200b密[red]"
