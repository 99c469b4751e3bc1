"""The Chinese reference has a whole docstring for each name, and an introduction in each section."""

import re
import tomllib
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from importlib.util import find_spec
from inspect import cleandoc, getattr_static
from pathlib import Path

import pytest
from tables import rows

from gatepay_async.sandbox import FaultKind

pytestmark = [pytest.mark.sockets, pytest.mark.without_coverage]  # importing DBOS takes too long for the fast lane

REFERENCE = Path(__file__).parents[2] / "docs" / "zh" / "reference"
DOCSTRINGS = {
    name: cleandoc(docstring)
    for file in sorted((REFERENCE / "docstrings").glob("*.toml"))
    for name, docstring in tomllib.loads(file.read_text("utf-8")).items()
}
SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example|Examples|Note):\n", re.MULTILINE)
LITERAL_BLOCK = re.compile(r"(?<!\S)::\n(?:\n+ {4}.*)+")
AUTODOC = re.compile(r"^ *\.\. auto(class|function|method):: (\S+)\n((?: +:\S+:.*\n)*)", re.MULTILINE)
PAGES = [page for language in ("en", "zh") for page in (REFERENCE.parents[1] / language / "reference").glob("*.md")]


def documented_names() -> Iterator[str]:
    """Yield the names that the reference shows, and their members with a docstring."""
    for page in sorted(REFERENCE.glob("*.md")):
        for kind, name, options in AUTODOC.findall(page.read_text("utf-8")):
            yield name
            if kind != "method" and ":no-members:" not in options:
                yield from (f"{name}.{member}" for member in members(name, inherited=":inherited-members:" in options))
    yield from (f"gatepay_async.sandbox.FaultKind.{kind.name}" for kind in FaultKind)  # each has a docstring


def members(name: str, *, inherited: bool) -> Iterator[str]:
    """Yield the public methods and properties of a class that have a docstring."""
    module, _, attribute = name.rpartition(".")
    documented = getattr(import_module(module), attribute)
    if isinstance(documented, type) and not issubclass(documented, Enum):
        classes = documented.__mro__[:-1] if inherited else (documented,)
        for member, value in (item for class_ in classes for item in vars(class_).items()):
            function = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if not member.startswith("_") and callable(function) and function.__doc__:
                yield member


def test_each_name_has_a_chinese_docstring() -> None:
    """The TOML files have a docstring for every name in the reference, and for no others."""
    pytest.importorskip("dbos", reason="some pages document the extra `durable`, which is not installed")
    names = {name.removeprefix("gatepay_async.") for name in documented_names()}
    assert {"missing": names - DOCSTRINGS.keys(), "unused": DOCSTRINGS.keys() - names} == {
        "missing": set(),
        "unused": set(),
    }


def test_the_reference_lists_all_methods_of_the_client() -> None:
    """The client's page lists every method explicitly, because Sphinx would sort inherited methods by name."""
    shown = {f"gatepay_async.AsyncGatePay.{name}" for name in members("gatepay_async.AsyncGatePay", inherited=True)}
    assert shown <= set(documented_names())


@rows(("name", "docstring"), DOCSTRINGS.items)
def test_docstrings_are_chinese(name: str, docstring: str) -> None:
    """Each paragraph and each entry is Chinese and ends like a Chinese sentence. Double backticks come in pairs."""
    prose = SECTION.sub("", LITERAL_BLOCK.sub("", docstring))
    for paragraph in re.split(r"\n\n|\n(?= {4}\S)", prose):
        text = paragraph.strip()
        if text and not text.startswith(">>>"):
            assert re.search("[\u4e00-\u9fff]", text), text
            assert text.endswith(("。", "：", "）", "``", "::")), text
    assert docstring.count("``") % 2 == 0, name


@rows(("name", "docstring"), DOCSTRINGS.items)
def test_docstrings_have_the_sections_and_entries_of_the_english_ones(name: str, docstring: str) -> None:
    """Each docstring has as many paragraphs as the English one, the same sections, and in each the same entries."""
    pytest.importorskip("dbos", reason="some pages document the extra `durable`, which is not installed")
    pytest.importorskip("redis", reason="some pages document the extra `redis`, which is not installed")
    english = english_docstring(name)
    if english is not None:
        assert sections(docstring) == sections(english), name


def english_docstring(name: str) -> str | None:
    """Return the docstring of a public name, or None for a member of an enum, which has no `__doc__` of its own."""
    parts = f"gatepay_async.{name}".split(".")
    length = next(length for length in range(len(parts), 0, -1) if is_module(".".join(parts[:length])))
    documented: object = import_module(".".join(parts[:length]))
    for part in parts[length:]:
        documented = getattr_static(documented, part) if isinstance(documented, type) else getattr(documented, part)
    function = getattr(documented, "fget", None) or getattr(documented, "__func__", documented)
    return None if isinstance(documented, Enum) else cleandoc(function.__doc__ or "")


def is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # a part of the name is not a package
        return False


def sections(docstring: str) -> dict[str, list[str] | int]:
    """Return the number of paragraphs above the sections, and the names of the entries in each (``Args``, …)."""
    above, *parts = SECTION.split(docstring)
    entries = [re.findall(r"^ {4}(?! )([\w.*, ]+?)(?: \(.*?\))?:", part, re.MULTILINE) for part in parts[1::2]]
    return {"paragraphs": len(re.split(r"\n\n+", above.strip()))} | {
        name: entry_names if name not in ("Returns", "Yields", "Example", "Examples") else []
        for name, entry_names in zip(parts[::2], entries, strict=True)
    }


@rows("page", PAGES)
def test_each_section_has_an_introduction(page: Path) -> None:
    """Each heading is followed by a sentence before the first name."""
    for heading, below in re.findall(r"^#+ (.*)\n\n(.*)$", page.read_text("utf-8"), re.MULTILINE):
        assert not below.startswith(("```", "#")), f"{page.parent.parent.name}/{page.name}: {heading}"
