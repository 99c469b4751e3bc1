"""
Translates the reference: on Chinese pages, a sentence replaces the first paragraph of each public docstring.

The sentences are in docs/zh/reference/sentences.toml; tests/docs/test_docs_reference.py checks that none is missing.
"""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

SENTENCES = Path(__file__).parent / "zh" / "reference" / "sentences.toml"
PACKAGE = "gatepay_async."


@cache
def sentences() -> dict[str, str]:
    """Return the sentence for each public name. The names don't start with ``gatepay_async.``."""
    return tomllib.loads(SENTENCES.read_text("utf-8"))


def use_chinese(app: Sphinx, _what: str, name: str, _thing: object, _options: object, lines: list[str]) -> None:
    """Replace the docstring's first paragraph by the Chinese sentence, if there is one."""
    sentence = sentences().get(name.removeprefix(PACKAGE))
    if sentence is None or not str(app.config.language).startswith("zh"):
        return
    end = lines.index("") if "" in lines else len(lines)
    lines[:end] = [sentence]


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect this extension. Sphinx calls it."""
    app.connect("autodoc-process-docstring", use_chinese, priority=300)  # before napoleon reads the docstring
    return {"parallel_read_safe": True, "parallel_write_safe": True}
