"""The Chinese reference has a sentence for each name, and an introduction in each section."""

import re
import tomllib
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path

import pytest
from tables import rows

from gatepay_async.sandbox import FaultKind

pytestmark = [pytest.mark.sockets, pytest.mark.without_coverage]  # importing DBOS takes too long for the fast lane

REFERENCE = Path(__file__).parents[2] / "docs" / "zh" / "reference"
SENTENCES = tomllib.loads((REFERENCE / "sentences.toml").read_text("utf-8"))
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
        shown = documented.__mro__[:-1] if inherited else (documented,)
        for member, value in (item for class_ in shown for item in vars(class_).items()):
            function = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if not member.startswith("_") and callable(function) and function.__doc__:
                yield member


def test_each_name_has_a_sentence() -> None:
    """The table has a sentence for every name in the reference, and for no others."""
    pytest.importorskip("dbos", reason="some pages document the extra `durable`, which is not installed")
    names = {name.removeprefix("gatepay_async.") for name in documented_names()}
    assert {"missing": names - SENTENCES.keys(), "unused": SENTENCES.keys() - names} == {
        "missing": set(),
        "unused": set(),
    }


def test_the_reference_lists_all_methods_of_the_client() -> None:
    """The client's page lists every method explicitly, because Sphinx would sort inherited methods by name."""
    shown = {f"gatepay_async.AsyncGatePay.{name}" for name in members("gatepay_async.AsyncGatePay", inherited=True)}
    assert shown <= set(documented_names())


@rows(("name", "sentence"), SENTENCES.items)
def test_sentences_are_chinese(name: str, sentence: str) -> None:
    """Each sentence is Chinese and ends like a Chinese sentence. Python names are formatted as code."""
    assert re.search("[\u4e00-\u9fff]", sentence), name
    assert sentence.endswith(("。", "：")), name
    assert sentence.count("``") % 2 == 0, name


@rows("page", PAGES)
def test_each_section_has_an_introduction(page: Path) -> None:
    """Each heading is followed by a sentence before the first name."""
    for heading, below in re.findall(r"^#+ (.*)\n\n(.*)$", page.read_text("utf-8"), re.MULTILINE):
        assert not below.startswith(("```", "#")), f"{page.parent.parent.name}/{page.name}: {heading}"
