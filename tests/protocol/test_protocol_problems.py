"""The Chinese of what is wrong: held against every sentence that the code can raise."""

import ast
import re
import string
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path

import httpx
import pytest
from tables import rows

import gatepay_async
from gatepay_async.protocol import callback, codec, errors, payment_return
from gatepay_async.protocol.catalogue import explain
from gatepay_async.protocol.problems import CHINESE, _forms, in_chinese

pytestmark = pytest.mark.fast

PACKAGE = Path(gatepay_async.__file__).parent
# The vendor's side and the command speak for themselves.
OTHER_ROOMS = {"sandbox", "cli"}
# What is called with a sentence that becomes a ``.problem``.
TOLD = re.compile(r"MisreadError|BadUrlError|_wrong|_misuse_error|(httpx|httpcore)\.\w+(Error|Timeout|Protocol)")


@cache
def sentences() -> dict[str, str]:
    """Each English sentence that can become a ``.problem``, with an X in its holes -> where it stands."""
    found: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] not in OTHER_ROOMS:
            for node in told(ast.parse(path.read_text("utf-8")), path.stem):
                found |= dict.fromkeys(spelled(node), f"{path.name}:{node.lineno}")
    for form in (callback._FORM, payment_return._FORM):
        found |= {problem: form.source for _, problem in form.fields.values() if problem}
    kinds: tuple[object, ...] = ({}, [], "", True, 1, Decimal(1), None)
    return found | {codec._kind(value): "codec._kind" for value in kinds} | dict.fromkeys(httpx_errors(), "httpx")


def told(tree: ast.Module, module: str) -> Iterator[ast.expr]:
    """The expressions that become a problem, or a part of one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from (each.value for each in node.keywords if each.arg == "problem")
            name = ast.unparse(node.func)
            if TOLD.fullmatch(name.removeprefix("codec.")) or (module == "codec" and name == "ValueError"):
                yield from node.args[:1]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("problem", "too_many"):
            yield node.value
        elif isinstance(node, ast.FunctionDef) and node.name.endswith("_problem"):
            yield from (each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value)


def spelled(node: ast.expr) -> Iterator[str]:
    """The texts that an expression may be, as far as they are written in it."""
    if isinstance(node, ast.IfExp):
        yield from (*spelled(node.body), *spelled(node.orelse))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(each.value) if isinstance(each, ast.Constant) else "X" for each in node.values)
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".removesuffix"):
        yield from ()  # the name of an error, and its own words: see httpx_errors()


def httpx_errors() -> Iterator[str]:
    """What a transport may raise, without words and with some."""
    for name in httpx.__all__:
        thing = getattr(httpx, name)
        if (
            isinstance(thing, type)
            and issubclass(thing, httpx.HTTPError | httpx.InvalidURL)
            and thing is not httpx.HTTPError
        ):
            yield from (name, f"{name}: X")


def fitting(sentence: str) -> str | None:
    """The row of the table that *sentence* is translated with."""
    rows = zip(CHINESE, _forms(), strict=True)
    return next((english for english, (form, _) in rows if form.fullmatch(sentence)), None)


@rows(("sentence", "where"), lambda: sentences().items())
def test_every_sentence_has_its_chinese(sentence: str, where: str) -> None:
    """Whatever an error of ours says is wrong is in the table."""
    assert fitting(sentence) is not None, where


def test_no_sentence_is_left_over() -> None:
    """Each row of the table is what some line of the code says."""
    assert set(CHINESE) - {fitting(sentence) for sentence in sentences()} == set()


@rows(("english", "chinese"), CHINESE.items())
def test_both_have_the_same_holes(english: str, chinese: str) -> None:
    """A row is English, then Chinese, with the same holes and nothing English but names."""
    holes = [sorted(name for _, name, _, _ in string.Formatter().parse(text) if name) for text in (english, chinese)]
    assert holes[0] == holes[1]
    assert english.replace("…", "").isascii()
    assert re.search("[\u4e00-\u9fff]", chinese) or english in ("aiohttp {problem}", "{problem}:\n{example}")
    assert not re.search("[\u4e00-\u9fff] ?[a-z]+ [a-z]+", re.sub("pip install '[^']*'", "", chinese)), chinese
    assert not re.search("[\u4e00-\u9fff][,;:?!]|[,;:?!][\u4e00-\u9fff]", chinese)


@rows(
    ("english", "chinese"),
    [
        ("line 7 holds a NUL; is the file UTF-16?", "第 7 行含有 NUL，文件是不是 UTF-16 编码？"),
        ("lines 7 to 9: each is blank", "第 7 至 9 行每行都是空行"),
        ("should be a whole number, is true or false", "应为整数，实为布尔值"),
        ('should be money, such as 1.5 or "1.50", is a list', '应为金额（例如 1.5 或 "1.50"），实为列表'),
        ("name is the vendor's own; tampered={…} changes it", "name 是 GatePay 自己的字段；请用 tampered={…} 修改"),
        ("ConnectError: [Errno 111] Connection refused", "无法建立连接：[Errno 111] Connection refused"),
        ("ConnectTimeout: not connected within 5 s", "建立连接超时：5 秒内没有连上"),
        ("is not open yet:\n    async with", "尚未打开：\n    async with"),
        ("what nobody of us says", "what nobody of us says"),
    ],
)
def test_in_chinese(english: str, chinese: str) -> None:
    """What is in a hole is translated, too, where it is ours; all else stays as it came."""
    assert in_chinese(english) == chinese


def test_an_error_is_explained() -> None:
    """``explain`` gives what exactly is wrong, in either language; nothing, where an error has no such detail."""
    error = errors.InvalidRequestError(field="page", problem="must be a whole number, not str")
    assert explain(error).problem == "must be a whole number, not str"
    assert explain(error, "zh").problem == "必须是整数，而不是 str"
    assert explain(errors.OutcomeUnknownError(endpoint="pay/create", out_order_id="T-1-X"), "zh").problem == ""
