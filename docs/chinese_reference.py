"""
Translates the reference: on Chinese pages, each public name has a Chinese docstring instead of the English one.

The docstrings are in docs/zh/reference/docstrings, in the same format as the English ones, with the same English
names of sections (``Args:``). tests/docs/test_docs_reference.py checks that none lacks a section or a parameter.
"""

import tomllib
from functools import cache
from inspect import cleandoc
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

FOLDER = Path(__file__).parent / "zh" / "reference" / "docstrings"
PACKAGE = "gatepay_async."


@cache
def chinese_docstrings() -> dict[str, str]:
    """Return the docstring for each public name. The names don't start with ``gatepay_async.``."""
    tables = [tomllib.loads(file.read_text("utf-8")) for file in sorted(FOLDER.glob("*.toml"))]
    return {name: cleandoc(docstring) for table in tables for name, docstring in table.items()}


def use_chinese(app: Sphinx, _what: str, name: str, _thing: object, _options: object, lines: list[str]) -> None:
    """Replace the docstring by the Chinese one, if there is one."""
    docstring = chinese_docstrings().get(name.removeprefix(PACKAGE))
    if docstring is not None and str(app.config.language).startswith("zh"):
        lines[:] = docstring.splitlines()


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect this extension. Sphinx calls it."""
    app.connect("autodoc-process-docstring", use_chinese, priority=300)  # before napoleon reads the docstring
    return {"parallel_read_safe": True, "parallel_write_safe": True}
