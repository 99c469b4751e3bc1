"""Tests of errors with ``--json``: each has a `problem` with a name and facts, and each command prints one object."""

import errno
import io
import os
import pickle
import shlex
import socket
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gatepay_async.cli import checking, sources, usage
from gatepay_async.cli.files.reading import Reading
from gatepay_async.cli.language import CommandText, text
from gatepay_async.cli.status import HaltError
from gatepay_async.sandbox import Fault, FaultKind, Sandbox
from gatepay_async.words import LANGUAGES

pytestmark = [pytest.mark.sockets, pytest.mark.usefixtures("impatient_uploads")]

FILES = {
    "keys.txt": b"AAAA-1\nBBBB-2\n",
    "empty.txt": b"",
    "there.png": b"",
    "nul.txt": b"AA\0A\nBBBB\nCC\0C\n",
    "one_nul.txt": b"AA\0A\nBBBB\n",
    "odd.txt": b"AAAA,1\nBBBB\t2\n",
    "heading.txt": b"content\nAAAA-1\n",
    "latin.txt": "AAAA\nClé-1\n".encode("latin-1"),
    "wide.csv": "id,卡密,price\n1,DDDD-4,5\n".encode(),
    "broken.jsonl": b'{"content": "AAAA"}\n{"content"\n',
    "workbook.xlsx": b"not a workbook",
    "variables.env": b"OTHER=1\n",
    "bad.sqlite3": b"not a database" * 100,
}
KEYS = {"GATEPAY_APPKEY": "a", "GATEPAY_APPSECRET": "b"}
# In a command line, this stands for the address of a port in use. In lower case, it stands for the port alone.
LISTENING = "LISTENING"

# A command line, and the names of its problem and of the problems in its facts, from outside to inside.
WRONG_COMMANDS = (
    # the command line
    ("", "usage.missing_command"),
    ("keys", "usage.missing_command"),
    ("nope", "usage.no_command"),
    ("product", "usage.no_command usage.meant_command"),
    ("products --nope", "usage.no_option"),
    ("products --below", "usage.needs_value"),
    ("products --watch=1", "usage.no_value"),
    ("products more", "usage.extra"),
    ("help products more", "usage.extra"),
    ("products --below 0", "usage.bad usage.number"),
    ("products --every 0", "usage.bad usage.interval"),
    ("products --watch", "products.below_missing"),
    ("products --fields id,,", "usage.bad usage.fields"),
    ("products --lang fr", "usage.bad usage.choice"),
    ("keys count --product", "usage.needs_value"),
    ("keys upload --product 8", "usage.missing"),
    ("keys upload keys.txt --product 8 -p 8", "usage.twice"),
    ("products --profile a --profile b", "usage.twice"),
    ("keys upload keys.txt --product 8 --failed-lines -", "usage.bad usage.file"),
    ("keys upload keys.txt --product 8 --failed-lines ''", "usage.bad usage.empty"),
    ("version", "usage.no_command usage.meant_command"),
    ("-v", "usage.no_option usage.meant"),
    ("keys upload keys.txt", "usage.missing"),
    ("keys upload keys.txt -p 8 --concurrency no", "usage.bad usage.concurrency"),
    ("keys upload keys.txt -p 8 --encoding no", "usage.bad usage.choice"),
    ("uploads work --rate 0", "usage.bad usage.per_second"),
    ("uploads work --health no", "usage.bad usage.address"),
    ("sandbox --port no", "usage.bad usage.port"),
    ("errors pay/create no", "usage.bad usage.number"),
    ("errors pay/create 999", "errors.no_code"),
    ("errors pay", "errors.no_endpoint"),
    ("errors pay/creat", "errors.no_endpoint usage.meant"),
    # files of card keys
    ("keys upload no.txt -p 8", "sources.missing"),
    ("keys upload . -p 8", "sources.directory"),
    ("keys upload empty.txt -p 8", "sources.bad sources.empty"),
    ("keys upload one_nul.txt -p 8", "sources.bad sources.line sources.nul"),
    ("keys upload nul.txt -p 8", "sources.bad sources.several sources.line sources.nul sources.line sources.nul"),
    ("keys upload odd.txt -p 8", "odd.found odd.line odd.comma odd.line odd.tab"),
    ("keys upload odd.txt -p 8 --durable", "odd.found odd.line odd.comma odd.line odd.tab"),
    ("keys upload heading.txt -p 8", "sources.bad sources.line sources.heading"),
    ("keys upload latin.txt -p 8", "sources.bad sources.line sources.no_encoding"),
    ("keys upload latin.txt -p 8 --encoding utf-16", "sources.bad sources.not_in"),
    ("keys upload wide.csv -p 8", "sources.bad sources.which_column"),
    ("keys upload wide.csv -p 8 --column 9", "sources.bad sources.no_column"),
    ("keys upload keys.txt -p 8 --column 1", "sources.no_table"),
    ("keys upload broken.jsonl -p 8 --column content", "sources.bad sources.row sources.no_json"),
    ("keys upload workbook.xlsx -p 8", "sources.bad sources.no_workbook"),
    ("keys upload workbook.xlsx -p 8 --as-is", "sources.bad sources.workbook_as_is"),
    ("keys upload keys.txt -p 8 --failed-lines keys.txt", "upload.failed_lines_read"),
    ("keys upload keys.txt -p 8 --failed-lines no/failed.txt", "files.unwritable ENOENT"),
    ("keys upload keys.txt -p 8 --failed-lines .", "files.no_file"),
    ("keys export -p 8 -o keys.doc", "export.ending"),
    ("keys export -p 8 -o keys.txt", "files.there"),
    ("keys export -p 8 -o keys.txt --excel", "export.excel_ending"),
    ("keys export -p 8 -o no/keys.txt", "files.unwritable ENOENT"),
    # durable uploads
    ("uploads show 0", "queue.none"),
    # payments
    ("pay --type alipay", "pay.one_kind"),
    ("pay --type alipay --group 8", "pay.bad_group"),
    ("pay --type alipay --group 8:1,8:2", "item_twice"),
    ("pay --type alipay -p 8 --order ''", "usage.bad usage.empty"),
    ("pay --type alipay -p 8 --order ' T-1-X'", "usage.bad usage.blanks"),
    ("pay --type alipay -p 8 --wait", "pay.wait_and_listen"),
    ("pay --type alipay -p 8 --wait --listen no", "pay.address"),
    (f"pay --type alipay -p 8 --wait --listen {LISTENING}", "pay.cant_listen EADDRINUSE"),
    ("pay --type alipay -p 8 --save-qr there.png", "files.there"),
    ("pay --type alipay -p 8 --save-qr qr.jpg", "pay.picture_name"),
    ("pay --type alipay -p 8 --save-qr no/qr.png", "files.no_folder"),
    ("pay --type alipay --price no", "money_out_of_range"),
    ("pay --type alipay -p 8 --num 100", "refused_with_message"),
    ("pay --type wechat -p 8 --num 2", "wechat_single"),
    ("order T-1-X", "refused_with_message"),
    ("order ''", "empty"),
    ("link ''", "empty"),
    # callbacks
    ("callback verify sign=no", "missing"),
    ("callback sign --order-id 7 --order T-1-X --price 1", "callback.money"),
    ("callback sign --order-id 7 --order T-1-X --price 1.00 --paid-at 7", "paid_at_form"),
    ("callback send no --order-id 7 --order T-1-X --price 1.00", "callback.address url_scheme"),
    ("callback send http://a/#b --order-id 7 --order T-1-X --price 1.00", "callback.address callback.fragment"),
    (
        "callback send http://127.0.0.1:9/ --order-id 7 --order T-1-X --price 1.00",
        "callback.unreachable error_says ConnectError ECONNREFUSED",
    ),
    # profiles and files with variables
    ("login", "login.nothing"),
    ("logout", "logout.nothing"),
    ("products --profile NO", "profiles.name"),
    ("products --profile no", "profiles.unknown profiles.none_there"),
    ("sandbox --profile no", "profiles.unknown profiles.none_there"),
    ("demo --profile no", "profiles.unknown profiles.none_there"),
    ("--profile no errors", "profiles.unknown profiles.none_there"),
    ("keys upload keys.txt -p 8 --dry-run --profile no", "profiles.unknown profiles.none_there"),
    ("logout --profile no", "profiles.unknown profiles.none_there"),
    ("products --env-file no.env", "env_file.unreadable ENOENT"),
    ("products --env-file variables.env", "env_file.none"),
    # the sandbox
    ("sandbox --callback no", "sandbox.callback_bad url_form"),
    ("sandbox --database bad.sqlite3", "sandbox.database_bad"),
    (f"sandbox --port {LISTENING.lower()}", "sandbox.port_taken EADDRINUSE"),
    ("sandbox --env-file keys.txt", "files.there"),
)


def names_in(problem: dict[str, Any]) -> Iterator[str]:
    """Yield the names of a problem and of the problems in its facts. Each must be complete."""
    assert set(problem) == {"name", "text", "facts"}, problem
    assert problem["text"], problem
    yield problem["name"]
    for fact in problem["facts"].values():
        for item in fact if isinstance(fact, list) else [fact]:
            if isinstance(item, dict):
                yield from names_in(item)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with files that can't be uploaded."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEPAY_UPLOADS", f"sqlite:///{tmp_path}/uploads.sqlite3")
    return tmp_path


@pytest.mark.usefixtures("shop", "folder")
def test_each_wrong_command_has_a_named_problem(gatepay: Any) -> None:
    """The names are the same in both languages; the facts never hold a problem as plain text."""
    wrong: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        for line, expected in WRONG_COMMANDS:
            arguments = shlex.split(line.replace(LISTENING, f"127.0.0.1:{port}").replace(LISTENING.lower(), str(port)))
            for lang in LANGUAGES if "--lang" not in arguments else [""]:
                run = gatepay("--json", *(["--lang", lang] if lang else []), *arguments)
                names = " ".join(names_in(run.json["error"]["problem"]))
                if names != expected or run.status == 0:
                    wrong.append((line, lang, names, run.status, run.err))
    assert not wrong, "\n".join(map(str, wrong))


# The variables and the command line without a shop, and the names of the problem.
WRONG_SETTINGS: tuple[tuple[dict[str, str], str, str], ...] = (
    ({}, "products", "settings.no_appkey"),
    ({"GATEPAY_APPKEY": "a"}, "products", "settings.no_secret"),
    ({"GATEPAY_APPKEY": "a"}, "link t --price 1", "settings.no_secret"),
    ({"GATEPAY_APPKEY": "a", "GATEPAY_APPSECRET_FILE": "no.txt"}, "products", "failing.field secret_unreadable ENOENT"),
    ({"GATEPAY_APPKEY": "a", "GATEPAY_APPSECRET_FILE": "empty.txt"}, "products", "failing.field secret_form"),
    (
        {"GATEPAY_APPKEY": "a", "GATEPAY_APPSECRET": "b", "GATEPAY_APPSECRET_FILE": "empty.txt"},
        "products",
        "settings.two_secrets",
    ),
    ({**KEYS, "GATEPAY_BASE_URL": "no"}, "products", "not_base_url_because url_scheme"),
    ({**KEYS, "GATEPAY_BASE_URL": "http://127.0.0.1:9/api/"}, "products", "error_says ConnectError ECONNREFUSED"),
    ({**KEYS, "GATEPAY_UPLOADS": "no"}, "uploads list", "database_url"),
    ({**KEYS, "GATEPAY_UPLOADS": "sqlite:///no/uploads.sqlite3"}, "uploads list", "queue_unavailable"),
    ({"HOME": "no"}, "logout --profile x", "profiles.no_home"),
)


def test_each_wrong_setting_has_a_named_problem(gatepay: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each finding of `gatepay doctor` that is not ok has a problem, too."""
    wrong: list[object] = []
    for variables, line, expected in WRONG_SETTINGS:
        with monkeypatch.context() as patch:
            for name in ("GATEPAY_UPLOADS", "XDG_CONFIG_HOME"):
                patch.delenv(name)
            for name, value in {"HOME": str(folder), **variables}.items():
                patch.setenv(name, value)
            run = gatepay("--json", *line.split())
            names = " ".join(names_in(run.json["error"]["problem"]))
            findings = gatepay("--json", "doctor").json["findings"] if line == "products" else []
        if names != expected or run.status == 0:
            wrong.append((variables, line, names, run.status, run.err))
        if not all(("problem" in finding) == (finding["mark"] != "ok") for finding in findings):
            wrong.append((variables, findings))
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.usefixtures("folder")
def test_problems_of_several_lines_are_items_with_line_numbers(gatepay: Any, shop: Sandbox) -> None:
    """Each bad or odd line is an item with its line number. The text for people names all of them."""
    problem = gatepay("keys", "upload", "nul.txt", "-p", 8, "--json").json["error"]["problem"]
    several = problem["facts"]["problem"]
    assert [item["facts"]["line"] for item in several["facts"]["problems"]] == [1, 3]
    assert several["text"] == "; ".join(item["text"] for item in several["facts"]["problems"])
    odd = gatepay("keys", "upload", "odd.txt", "-p", 8, "--json", "--lang", "zh").json["error"]["problem"]
    assert odd["facts"]["count"] == 2
    assert [(item["facts"]["line"], item["facts"]["shown"]) for item in odd["facts"]["lines"]] == [
        (1, "A…1"), (2, "B…2"),
    ]  # fmt: skip
    assert odd["text"].endswith("odd.txt:1  A…1  （含有逗号）；odd.txt:2  B…2  （含有制表符）")
    assert not shop.requests


@pytest.mark.usefixtures("folder")
def test_each_trouble_of_an_upload_has_a_problem(gatepay: Any, shop: Sandbox) -> None:
    # 199 is a code that GatePay doesn't document.
    shop.fault(Fault(FaultKind.CODE, endpoint="ka/create", code=199, times=None))
    trouble = gatepay("keys", "upload", "keys.txt", "-p", 8, "--json").json["troubles"][0]
    assert trouble["problem"]["name"] == "refused_with_message"
    assert trouble["problem"]["facts"] == {"code": 199, "message": trouble["message"]}


def test_errors_and_texts_of_the_command_can_be_pickled() -> None:
    """Tools that pass errors between processes pickle them, with any protocol."""
    inner = text("usage.number", value="0")
    error = usage.CommandLineError(text("usage.bad", name="--product", problem=inner), object())
    no_arguments = usage.NoArgumentsError("Usage: …", object())
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 -- pickled in this test
        assert (type(copy), str(copy), copy.ctx) == (usage.CommandLineError, str(error), None)
        assert isinstance(copy.problem, CommandText)
        problem = copy.problem.facts["problem"]
        assert isinstance(problem, CommandText)
        assert (copy.problem.name, problem.name, problem.facts) == ("usage.bad", "usage.number", {"value": "0"})
        help_text = pickle.loads(pickle.dumps(no_arguments, protocol)).help_text  # noqa: S301 -- pickled in this test
        assert help_text == "Usage: …"


def test_facts_of_a_problem_are_only_those_in_its_text(gatepay: Any, shop: Sandbox) -> None:
    run = gatepay("pay", "--type", "alipay", "-p", 99, "--json")
    assert set(run.json["error"]["problem"]["facts"]) == {"code", "message"}
    assert shop.requests


# -- one object for each command --------------------------------------------------------------------------------------


def fail_with_full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.usefixtures("shop", "folder")
def test_upload_that_ends_early_prints_its_report_and_errors_as_one_object(
    gatepay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report has the error as `error`. If the failed lines can't be written, too, that error is its `also`."""
    check_sources = checking.check_sources

    def check_and_append(names: list[Path], reading: Reading) -> list[sources.InputSource]:
        checked = check_sources(names, reading)
        with names[0].open("a") as file:
            file.write("DDDD-4\n")
        return checked

    monkeypatch.setattr(checking, "MAX_BYTES_KEPT", 1)  # so that the file is read again during the upload
    monkeypatch.setattr(checking, "check_sources", check_and_append)
    command = ("keys", "upload", "keys.txt", "-p", 8, "--json", "--failed-lines", "failed.txt")
    run = gatepay(*command)
    assert (run.json["read"], run.json["failed_lines"], run.json["error"]["problem"]["name"]) == (
        3, "failed.txt", "sources.changed",
    )  # fmt: skip
    assert "also" not in run.json["error"]
    monkeypatch.setattr(os, "fsync", fail_with_full_disk)
    run = gatepay(*command)
    error = run.json["error"]
    assert (run.status, run.json["failed_lines"], error["problem"]["name"]) == (2, None, "sources.changed")
    assert list(names_in(error["also"]["problem"])) == [
        "upload.failed_lines_lost", "files.unwritable", "ENOSPC",
    ]  # fmt: skip
    printed = gatepay(*[argument for argument in command if argument != "--json"]).err
    assert printed.index("changed while it was being read") < printed.index("could not be saved: Can't write")


@pytest.mark.usefixtures("shop", "folder")
@pytest.mark.parametrize(
    ("options", "todo"), [((), "upload the same input again"), (("--durable",), "run `gatepay uploads show ")]
)
def test_lost_failed_lines_are_in_the_report_with_a_remedy(
    gatepay: Any, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], todo: str
) -> None:
    """The report, and the error that the failed lines were not saved, are one object. The status is 5."""

    @contextmanager
    def write_to_full_disk(*_: object) -> Generator[Any]:
        yield io.BytesIO()
        raise HaltError(text("files.unwritable", path="failed.txt", reason="No space left on device"))

    for module in ("keys_upload", "uploads"):  # not os.fsync(), which the queue needs
        monkeypatch.setattr(f"gatepay_async.cli.commands.{module}.atomic_write", write_to_full_disk)
    # Product 999 does not exist, so all card keys are refused.
    run = gatepay("keys", "upload", "keys.txt", "-p", 999, "--json", "--failed-lines", "failed.txt", *options)
    assert (run.status, run.json["refused"], run.json["failed_lines"]) == (5, 2, None)
    assert list(names_in(run.json["error"]["problem"])) == ["upload.failed_lines_lost", "files.unwritable"]
    assert run.json["error"]["todo"].startswith(todo)


@pytest.mark.usefixtures("folder")
def test_order_whose_picture_cant_be_saved_is_one_object(
    gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gatepay_async.protocol.models.QrCode.save", fail)
    command = ("pay", "--type", "alipay", "-p", 8, "--save-qr", "qr.png")
    run = gatepay(*command, "--json")
    assert (run.status, run.json["order_price"], run.json["error"]["problem"]["name"]) == (
        1, "0.99", "files.unwritable",
    )  # fmt: skip
    run = gatepay(*command)
    assert ("Pay here: " in run.out, "No space left" in run.err) == (True, True)
    assert len(shop.orders()) == 2


def test_reply_that_is_neither_success_nor_fail_is_one_object(gatepay: Any, shop: Sandbox) -> None:
    """The sandbox's console answers a callback with a web page."""
    url = os.environ["GATEPAY_BASE_URL"].removesuffix("api/")
    run = gatepay("callback", "send", url, "--order-id", 7, "--order", "T-1-X", "--price", "1.00", "--json")
    assert (run.status, run.json["http_status"], run.json["error"]["problem"]["name"]) == (4, 200, "callback.neither")
    assert shop.appkey
