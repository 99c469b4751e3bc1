"""
The reference in Chinese: a sentence for each public name takes the place of its docstring's first paragraph.

The sentences are in docs/zh/reference/sentences.toml; tests/docs/test_docs_reference.py keeps them complete.
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
    """A sentence for each name, which is written without the package's own."""
    return tomllib.loads(SENTENCES.read_text("utf-8"))


def use_chinese(app: Sphinx, _what: str, name: str, _thing: object, _options: object, lines: list[str]) -> None:
    """Put the sentence where the docstring's first paragraph is; what is missing is left as it is."""
    sentence = sentences().get(name.removeprefix(PACKAGE))
    if sentence is None or not str(app.config.language).startswith("zh"):
        return
    end = lines.index("") if "" in lines else len(lines)
    lines[:end] = [sentence]


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls it."""
    app.connect("autodoc-process-docstring", use_chinese, priority=300)  # before napoleon reads the docstring
    return {"parallel_read_safe": True, "parallel_write_safe": True}
