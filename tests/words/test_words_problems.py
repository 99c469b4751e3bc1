"""
``Problem``, the text of an error in two languages: each row of its table is used correctly.

A problem also keeps its name (of the row) and its facts (the values in the text) when it is copied or stored.
"""

import ast
import copy
import errno
import pickle
import re
import string
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from tables import rows

import gatepay_async
from gatepay_async.protocol.catalogue import explain
from gatepay_async.protocol.errors import InvalidRequestError, OutcomeUnknownError
from gatepay_async.protocol.masking import hide_keys, mask
from gatepay_async.words import LANGUAGES
from gatepay_async.words.problem import Problem, message_of
from gatepay_async.words.problems import HTTPX_ERRORS, OS_ERRORS, PROBLEMS

pytestmark = pytest.mark.fast

PACKAGE = Path(gatepay_async.__file__).parent
LINE = Problem("line", line=7, problem=Problem("nul"))


def problem_calls() -> Iterator[tuple[str, set[str], str]]:
    """Yield each ``Problem("name", …)`` in the code: its name, its facts, and where it is."""
    for path in sorted(PACKAGE.rglob("*.py")):
        code = path.read_text("utf-8")
        for node in ast.walk(ast.parse(code)) if "Problem(" in code else ():
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "Problem"
                and isinstance(node.args[0], ast.Constant)
            ):
                yield (
                    str(node.args[0].value),
                    {str(keyword.arg) for keyword in node.keywords},
                    f"{path.name}:{node.lineno}",
                )


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_problem_call_matches_a_row() -> None:
    """Each ``Problem("name", …)`` names a row of the table and passes exactly its facts. Each row is used."""
    calls = list(problem_calls())
    assert [(name, where) for name, facts, where in calls if facts != placeholders(PROBLEMS[name][0])] == []
    assert set(PROBLEMS) - {name for name, _, _ in calls} == set(HTTPX_ERRORS) | set(OS_ERRORS)


def test_os_errors_are_named_as_in_errno() -> None:
    assert OS_ERRORS.keys() <= set(errno.errorcode.values())


def test_httpx_errors_have_rows() -> None:
    """Each error of httpx has a row with the name of its class."""
    classes = [value for value in vars(httpx).values() if isinstance(value, type)]
    errors = {cls.__name__ for cls in classes if issubclass(cls, httpx.HTTPError | httpx.InvalidURL)}
    assert set(HTTPX_ERRORS) == errors - {"HTTPError"}


@rows(("name", "text"), PROBLEMS.items())
def test_both_languages_have_the_same_placeholders(name: str, text: tuple[str, str]) -> None:
    """Each row has an English and a Chinese sentence. The Chinese one contains no English words except names."""
    english, chinese = text
    assert placeholders(english) == placeholders(chinese)
    assert english.replace("…", "").isascii()
    without_names = re.sub("pip install '[^']*'|httpx_aiohttp[.]AiohttpTransport|aiohttp|[{][^}]*[}]", "", chinese)
    assert re.search("[\u4e00-\u9fff]", chinese) or not re.search("[A-Za-z]", without_names)
    assert not re.search("[\u4e00-\u9fff] ?[a-z]+ [a-z]+", without_names), chinese
    assert not re.search("[\u4e00-\u9fff][,;:?!]|[,;:?!][\u4e00-\u9fff]", chinese)


def test_problem_equals_its_english_text() -> None:
    """A problem compares and formats as its English text. It can be shown in each language, including its facts."""
    assert LINE == "line 7 contains a NUL character; the file may be UTF-16"
    assert f"keys: {LINE}" == f"keys: {LINE.in_('en')}"
    assert (LINE.name, dict(LINE.facts)) == (
        "line",
        {"line": 7, "problem": "contains a NUL character; the file may be UTF-16"},
    )
    assert LINE.in_("zh") == "第 7 行含有 NUL 字符，文件可能是 UTF-16 编码"
    kind = Problem("wrong_kind", expected=Problem("kind_whole"), found=Problem("kind_text"))
    assert [kind.in_(lang) for lang in LANGUAGES] == ["should be a whole number, is text", "应为整数，实为文本"]


def test_foreign_text_is_not_translated() -> None:
    """A fact isn't translated, even if it equals the name of a row (a file called ``text``)."""
    assert Problem("not_regular_file", path="text").in_("zh") == "text 不是普通文件"
    assert Problem.of("null").in_("zh") == "null"
    assert Problem.of(LINE) is LINE


@rows("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_copies_keep_name_and_facts(protocol: int) -> None:
    """Pickles and copies keep the name and the facts, including those of nested problems."""
    for restored in (pickle.loads(pickle.dumps(LINE, protocol)), copy.copy(LINE), copy.deepcopy(LINE)):  # noqa: S301 -- pickled in this test
        assert (restored, restored.name, restored.facts, restored.in_("zh")) == (
            LINE,
            "line",
            LINE.facts,
            LINE.in_("zh"),
        )


def test_masking_changes_the_facts() -> None:
    """Masking changes text facts at any depth. Numbers, names and our own words stay."""
    problem = Problem(
        "error_says", kind=Problem("ReadError"), reason=Problem("source_lost", source="KEY-1", problem="x")
    )
    masked = problem.with_facts(partial(hide_keys, keys=["KEY-1", "ReadError"]))
    assert (masked.name, masked) == ("error_says", problem.replace("KEY-1", "***"))
    assert Problem("other", text="sign=0123abc").with_facts(mask).facts == {"text": "***"}
    assert Problem("repeats_line", line=12345).with_facts(lambda _: "?") == "repeats line 12345"


def test_problem_survives_json() -> None:
    """A problem keeps its name and facts. One of a newer version, or a plain string, keeps only its text."""
    assert LINE.as_json("zh") == {
        "name": "line",
        "text": "第 7 行含有 NUL 字符，文件可能是 UTF-16 编码",
        "facts": {"line": 7, "problem": {"name": "nul", "text": "含有 NUL 字符，文件可能是 UTF-16 编码", "facts": {}}},
    }
    restored = Problem.of_json(LINE.as_json())
    assert (restored, restored.name, restored.facts) == (LINE, "line", LINE.facts)
    assert restored.in_("zh") == LINE.in_("zh")
    for other in ({"name": "later", "text": "new", "facts": {}}, {"name": "line", "text": "new", "facts": {}}, "new"):
        assert (Problem.of_json(other), Problem.of_json(other).name) == ("new", "other")


def test_message_of_an_error_is_its_problem_or_its_text() -> None:
    """``message_of`` returns the problem of an error, or its text."""
    assert message_of(ValueError(LINE)) is LINE
    assert [message_of(error) for error in (ValueError("x"), ValueError(), OSError(2, "gone"))] == [
        "x", "", "[Errno 2] gone",
    ]  # fmt: skip


def test_problem_of_an_error_can_be_shown_in_both_languages() -> None:
    """``.problem`` of an error is always a ``Problem``. ``explain`` shows it in either language."""
    error = InvalidRequestError(field="page", problem=Problem("not_whole", kind="str"))
    assert [explain(error, lang).problem for lang in LANGUAGES] == [
        "must be a whole number, not str", "必须是整数，而不是 str",
    ]  # fmt: skip
    assert vars(InvalidRequestError(field="page", problem="plain"))["problem"].name == "other"
    assert (
        explain(OutcomeUnknownError(endpoint="pay/create", out_order_id="T-1-X"), "zh").problem
        == "无法确定订单 T-1-X 是否已创建"
    )
    assert pickle.loads(pickle.dumps(error)).problem.name == "not_whole"  # noqa: S301 -- pickled in this test
    # An older version pickled the attributes as an argument, and the problem as a plain text.
    rebuild = error.__reduce__()[0]
    assert callable(rebuild)
    assert rebuild(InvalidRequestError, error.args, {"field": "page", "problem": "plain"}).problem.name == "other"
