"""What the command says, in both languages: its table of texts, its help, its usage errors."""

import ast
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

pytestmark = pytest.mark.fast

ROOM = Path(gatepay_async.cli.__file__).parent
UPLOADS = ("list", "show", "watch", "cancel", "resume", "delete", "work")
COMMANDS: list[tuple[str, ...]] = [
    (), ("demo",), ("doctor",), ("products",), ("keys",), ("keys", "upload"), ("keys", "export"), ("keys", "count"),
    ("pay",), ("order",), ("login",), ("profiles",), ("logout",), ("help",),
    ("link",), ("callback",), ("callback", "verify"), ("callback", "sign"), ("callback", "send"), ("errors",),
    ("sandbox",), ("uploads",), *(("uploads", name) for name in UPLOADS),
]  # fmt: skip


def asked_for() -> set[str]:
    """The names of all texts that the code asks for; of a name that is put together, a pattern."""
    names: set[str] = set()
    for path in ROOM.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                asked = [each.value for each in node.keywords if each.arg == "help"]
                asked += node.args[:1] if ast.unparse(node.func) == "text" else []
                names |= {pattern(each) for each in asked} - {""}
            if isinstance(node, ast.Constant) and node.value in COMMAND:
                names.add(re.escape(str(node.value)))
    return names


def pattern(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(re.escape(str(p.value)) if isinstance(p, ast.Constant) else r"\w+" for p in node.values)
    return ""


def test_no_text_is_missing() -> None:
    """Every text that the code asks for is in the table."""
    for name in asked_for():
        assert any(re.fullmatch(name, known) for known in COMMAND), name


def test_no_value_is_missing() -> None:
    """A text that is asked for by its name is given all that it has holes for."""
    calls = [node for path in ROOM.rglob("*.py") for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    for call in calls:
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "text" and isinstance(call.args[0], ast.Constant):
            given = {each.arg for each in call.keywords}
            holes = {name for _, name, _, _ in string.Formatter().parse(COMMAND[str(call.args[0].value)][0]) if name}
            assert None in given or holes <= given, ast.unparse(call)


def test_no_text_is_left_over() -> None:
    """Every text in the table is asked for somewhere; the remedies by the names of errors."""
    durable = pytest.importorskip(
        "gatepay_async.durable", reason="the extra that some texts are about is not installed"
    )
    names = asked_for()
    for known in COMMAND:
        kind = known.removeprefix("todo.").removeprefix("failing.").partition(" ")[0]
        errors = (gatepay_async, durable)
        assert any(re.fullmatch(name, known) for name in names) or any(hasattr(each, kind) for each in errors), known


@rows("name", COMMAND)
def test_both_languages_say_the_same(name: str) -> None:
    """Both texts are there, the second is Chinese, and both hold the same values and commands."""
    english, chinese = COMMAND[name]
    assert re.sub("[…–¥]", "", english).isascii()
    assert all(text.strip() for text in (english, chinese))
    places = [
        {(field, conversion) for _, field, _, conversion in string.Formatter().parse(text) if field}
        for text in (english, chinese)
    ]
    assert places[0] == places[1]
    examples = [[line for line in text.splitlines() if line.startswith("  gatepay")] for text in (english, chinese)]
    assert len(examples[0]) == len(examples[1])
    if re.search(r"[a-z]{3} [a-z]{2}", re.sub(r"`[^`]*`|\{[^}]*\}", "", english)):
        assert re.search(r"[\u4e00-\u9fff]", chinese), chinese


@rows("command", COMMANDS)
@rows("lang", LANGUAGES)
def test_help(gatepay: Any, command: tuple[str, ...], lang: str) -> None:
    """Every command has help in both languages, in which no key, no foreign word and no wide line is left."""
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


def test_help_on_a_narrow_terminal(gatepay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long options have lines of their own, so that half of the width is left for what they do."""
    monkeypatch.setenv("COLUMNS", "40")
    for lang in LANGUAGES:
        help_text = gatepay("keys", "upload", "--help", "--lang", lang).out
        assert max(len(line) - len(line.lstrip()) for line in help_text.splitlines()) < 20
        assert not re.search(r"^ *[\]）]", help_text, re.MULTILINE)


def test_help_lists_every_command(gatepay: Any) -> None:
    """What this module knows of commands is all there are."""
    root: Any = typer.main.get_command(app)
    found: dict[tuple[str, ...], Any] = {(): root}
    for name, command in root.commands.items():
        found[name,] = command
        found |= {(name, inner): each for inner, each in getattr(command, "commands", {}).items()}
    assert set(found) == set(COMMANDS)
    assert gatepay("-h").out == gatepay("--help").out


def test_without_a_command(gatepay: Any) -> None:
    """Called with nothing, the command shows its help, and says by its status that nothing was done."""
    run = gatepay()
    assert (run.status, run.out) == (2, "")
    assert run.err.startswith("Usage: gatepay [OPTIONS] COMMAND")


def test_version(gatepay: Any) -> None:
    """--version says it, and does nothing else."""
    assert gatepay("--version").out == f"gatepay-async {__version__}\n"


@rows(
    ("arguments", "en", "zh"),
    [
        (["prducts"], "Unknown command: prducts. Did you mean `gatepay products`?", "没有 prducts 这个命令。"),
        (["keys", "uplaod"], "Did you mean `gatepay keys upload`?", "是不是想用 `gatepay keys upload`？"),
        (["keys", "x"], "Unknown command: x.", "没有 x 这个命令。"),
        (["upload"], "Unknown command: upload. Did you mean `gatepay keys", "是不是想用 `gatepay keys upload`？"),
        (["export"], "Did you mean `gatepay keys export`?", "是不是想用 `gatepay keys export`？"),
        (["verfy"], "Did you mean `gatepay callback verify`?", "是不是想用 `gatepay callback verify`？"),
        (["order", "x" * 256], "ORDER_NUMBER: takes 256 bytes", "ORDER_NUMBER：以 UTF-8 编码占 256 字节"),
        (["keys", "upload", "k"], "Missing --product.", "缺少 --product。"),
        (["keys", "upload", "-p", "8"], "Missing FILE.", "缺少 FILE。"),
        (["keys", "count", "--nope"], "Unknown option: --nope.", "没有 --nope 这个选项。"),
        (["keys", "count", "--prduct", "8"], "--prduct. Did you mean --product?", "是不是想用 --product？"),
        (["keys", "count", "--product"], "--product requires a value.", "--product 需要一个值。"),
        (["demo", "--json=1"], "--json does not take a value.", "--json 不带值。"),
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
def test_wrong_usage(gatepay: Any, arguments: list[str], en: str, zh: str) -> None:
    """What is wrong with a command line is said in either language, on standard error, with status 2."""
    for lang, text in (("en", en), ("zh", zh)):
        run = gatepay("--lang", lang, *arguments)
        assert (run.status, run.out) == (2, "")
        assert text in run.err


def test_wrong_usage_for_programs(gatepay: Any) -> None:
    """With --json what is wrong is JSON, too."""
    run = gatepay("nope", "--json")
    assert run.status == 2
    assert run.json["error"]["headline"] == "Unknown command: nope."
    for arguments in (["--json"], ["--json", "keys"], ["keys", "--json"]):
        run = gatepay(*arguments)
        assert (run.status, run.json["error"]["headline"], run.err) == (2, "Missing command.", "")


def test_a_strange_language(gatepay: Any) -> None:
    """A language that the command doesn't speak is refused, in one that it does."""
    assert "Invalid value for --lang: fr (choose from en, zh)" in gatepay("--lang", "fr", "products").err


@rows(
    ("arguments", "environ", "encoding", "chosen"),
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
def test_the_language_is_chosen(
    arguments: list[str], environ: dict[str, str], encoding: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--lang, or else the locale; Chinese unasked only where it can be shown."""
    monkeypatch.setattr("locale.getlocale", lambda: (None, None))
    assert language.choose_language(arguments, environ, encoding=encoding) == chosen


def test_the_language_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no variable says it, the system is asked."""
    monkeypatch.setattr("locale.getlocale", lambda: ("Chinese (Simplified)_China", "936"))
    assert language.choose_language([], {}, encoding="gbk") == "zh"


def test_wrapping() -> None:
    """Lines are broken at blanks and between Chinese letters, never before what closes a phrase."""
    assert wrap("one two three", 7) == ["one two", "three"]
    assert wrap("一二三四五六", 8) == ["一二三四", "五六"]
    assert wrap("一二三四。五", 8) == ["一二三", "四。五"]
    assert wrap("averylongword", 5) == ["averylongword"]
    assert wrap("", 5) == [""]


def test_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long text goes on below its beginning on a terminal; elsewhere it is one line."""
    text = "one two three, http://127.0.0.1:8765/api/ and four"
    assert screens.wrap_indented(text, indent=7) == text
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "24")
    indented = "\n       "
    assert screens.wrap_indented(text, indent=7) == indented.join(
        ["one two three,", "http://127.0.0.1:8765/api/", "and four"]
    )
    monkeypatch.setenv("COLUMNS", "3")
    assert screens.wrap_indented("one two", indent=7) == "one two"


def test_a_table_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no terminal, COLUMNS says how wide a table may be."""
    for said, wide in (("", 160), ("60", 60), ("0", 160), ("many", 160)):
        monkeypatch.setenv("COLUMNS", said)
        assert screens.screen().width == wide, said


def test_a_table_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Forty columns hold a table of five without a heading of numbers broken within a word."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    table = screens.table("product", "category", "name", "price (¥)", "in stock", right=(0, 3, 4))
    table.add_row("8", "腾讯会员", "腾讯视频SVIP账号", "0.99", "89")
    screens.print_table(table)
    out = capsys.readouterr().out
    assert all(word in out for word in ("product", "price", "stock", "0.99"))


def test_a_table_that_would_break_an_id(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where IDs, numbers and times don't fit side by side, each row is names and values; none of them is broken."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    row = ("40253517", "a long name of a file.txt", "123456789", "2026-11-28 13:05:10")
    for columns, lines in ((90, 4), (40, 10)):
        monkeypatch.setenv("COLUMNS", str(columns))
        table = screens.table("upload", "input", "on the server", "submitted", right=(2,), whole=(0, 3))
        table.add_row(*row)
        table.add_row(*row)
        screens.print_table(table)
        out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        assert (out.count(row[0]), out.count(row[2]), out.count(row[3])) == (2, 2, 2), out
        assert len(out.splitlines()) >= lines
        assert all(len(line) <= columns for line in out.splitlines()), out


def test_a_long_list(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """On a terminal, a list that is longer than it goes through the pager; not a short one, and not elsewhere."""
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


def test_nothing_from_elsewhere_moves_the_cursor() -> None:
    """Control characters, and those that turn the direction of writing, are shown instead of obeyed."""
    assert escape("a\x1b[2Jb\nc\u202ed\u200b密[red]") == r"a\x1b[2Jb\nc\u202ed\u200b密[red]"
