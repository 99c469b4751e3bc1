"""``Problem``: each sentence is used with the right facts, and a problem keeps its name and facts."""

import ast
import copy
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
from gatepay_async.words.problems import HTTPX_ERRORS, PROBLEMS

pytestmark = pytest.mark.fast

PACKAGE = Path(gatepay_async.__file__).parent
LINE = Problem("line", line=7, problem=Problem("nul"))


def uses() -> Iterator[tuple[str, set[str], str]]:
    """Yield each ``Problem("name", …)`` in the code: its name, its facts, and its file and line."""
    for path in sorted(PACKAGE.rglob("*.py")):
        code = path.read_text("utf-8")
        for node in ast.walk(ast.parse(code)) if "Problem(" in code else ():
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "Problem"
                and isinstance(node.args[0], ast.Constant)
            ):
                yield str(node.args[0].value), {str(each.arg) for each in node.keywords}, f"{path.name}:{node.lineno}"


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_problem_has_a_sentence_and_the_right_facts() -> None:
    """The code passes each sentence exactly the facts that it has placeholders for, and uses every sentence."""
    used = list(uses())
    assert [(name, where) for name, facts, where in used if facts != placeholders(PROBLEMS[name][0])] == []
    assert set(PROBLEMS) - {name for name, _, _ in used} == set(HTTPX_ERRORS)


def test_every_httpx_error_has_a_sentence() -> None:
    """There is a sentence for each exception class of httpx, under the name of the class."""
    classes = [each for each in vars(httpx).values() if isinstance(each, type)]
    errors = {each.__name__ for each in classes if issubclass(each, httpx.HTTPError | httpx.InvalidURL)}
    assert set(HTTPX_ERRORS) == errors - {"HTTPError"}


@rows(("name", "text"), PROBLEMS.items())
def test_both_languages_say_the_same(name: str, text: tuple[str, str]) -> None:
    """Both languages have the same placeholders, and the Chinese has no English words except names."""
    english, chinese = text
    assert placeholders(english) == placeholders(chinese)
    assert english.replace("…", "").isascii()
    bare = re.sub("pip install '[^']*'|httpx_aiohttp[.]AiohttpTransport|aiohttp|[{][^}]*[}]", "", chinese)
    assert re.search("[\u4e00-\u9fff]", chinese) or not re.search("[A-Za-z]", bare)
    assert not re.search("[\u4e00-\u9fff] ?[a-z]+ [a-z]+", bare), chinese
    assert not re.search("[\u4e00-\u9fff][,;:?!]|[,;:?!][\u4e00-\u9fff]", chinese)


def test_a_problem_is_a_string() -> None:
    """A problem behaves like its English sentence, and can be translated together with the problems among its facts."""
    assert LINE == "line 7 contains a NUL character; the file may be UTF-16"
    assert f"keys: {LINE}" == f"keys: {LINE.in_('en')}"
    assert (LINE.name, dict(LINE.facts)) == (
        "line",
        {"line": 7, "problem": "contains a NUL character; the file may be UTF-16"},
    )
    assert LINE.in_("zh") == "第 7 行含有 NUL 字符，文件可能是 UTF-16 编码"
    kind = Problem("wrong_kind", expected=Problem("kind_whole"), found=Problem("kind_text"))
    assert [kind.in_(lang) for lang in LANGUAGES] == ["should be a whole number, is text", "应为整数，实为文本"]


def test_a_text_from_elsewhere_is_not_translated() -> None:
    """A fact from outside isn't translated, even if it equals a text of ours, such as a file named ``text``."""
    assert Problem("not_regular_file", path="text").in_("zh") == "text 不是普通文件"
    assert Problem.of("null").in_("zh") == "null"
    assert Problem.of(LINE) is LINE


@rows("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_and_copies(protocol: int) -> None:
    """Pickles and copies keep the name and the facts, also of nested problems."""
    for restored in (pickle.loads(pickle.dumps(LINE, protocol)), copy.copy(LINE), copy.deepcopy(LINE)):  # noqa: S301 -- our own
        assert (restored, restored.name, restored.facts) == (LINE, "line", LINE.facts)
        assert restored.in_("zh") == LINE.in_("zh")


def test_masking_changes_the_facts() -> None:
    """Masking changes facts that are strings, also in nested problems. Numbers, the name and our own words stay."""
    problem = Problem(
        "error_says", kind=Problem("ReadError"), reason=Problem("source_lost", source="KEY-1", problem="x")
    )
    masked = problem.with_facts(partial(hide_keys, keys=["KEY-1", "ReadError"]))
    assert (masked.name, masked) == ("error_says", problem.replace("KEY-1", "***"))
    assert Problem("other", text="sign=0123abc").with_facts(mask).facts == {"text": "***"}
    assert Problem("repeats_line", line=12345).with_facts(lambda _: "?") == "repeats line 12345"


def test_a_problem_as_json() -> None:
    """JSON restores the same problem. If this version doesn't know the problem, only its text is kept."""
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


def test_message_of() -> None:
    """``message_of`` returns the problem that an exception was raised with, or else the exception's text."""
    assert message_of(ValueError(LINE)) is LINE
    assert [message_of(each) for each in (ValueError("x"), ValueError(), OSError(2, "gone"))] == [
        "x", "", "[Errno 2] gone",
    ]  # fmt: skip


def test_the_problem_of_an_error() -> None:
    """``.problem`` is a ``Problem`` even if the error was created with a string, and ``explain`` translates it."""
    error = InvalidRequestError(field="page", problem=Problem("not_whole", kind="str"))
    assert [explain(error, lang).problem for lang in LANGUAGES] == [
        "must be a whole number, not str", "必须是整数，而不是 str",
    ]  # fmt: skip
    assert vars(InvalidRequestError(field="page", problem="plain"))["problem"].name == "other"
    assert explain(OutcomeUnknownError(endpoint="pay/create", out_order_id="T-1-X"), "zh").problem == ""
    old = pickle.dumps(error)
    vars(error)["problem"] = "plain"  # as an older version pickled it
    assert [pickle.loads(each).problem.name for each in (old, pickle.dumps(error))] == ["not_whole", "other"]  # noqa: S301 -- our own
