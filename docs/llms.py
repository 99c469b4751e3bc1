"""
Writes llms.txt, an index of the pages for language models: a line for each page, with title and first sentences.

The format is described at https://llmstxt.org: a title, a summary, and lists of links.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import toctree
from sphinx.application import Sphinx

MAX_LENGTH = 160  # characters of a line's text


def write_index(app: Sphinx, error: Exception | None) -> None:
    """Write llms.txt into the folder of the built pages."""
    if error is None and app.builder.format == "html":
        text = "\n".join(_lines(app)) + "\n"
        (Path(app.outdir) / "llms.txt").write_text(text, "utf-8")


def _lines(app: Sphinx) -> Iterator[str]:
    first = app.config.root_doc
    yield f"# {app.config.project} {app.config.release}"
    yield ""
    yield f"> {_first_paragraph(app, first)}"
    for tree in app.env.get_doctree(first).findall(toctree):
        yield ""
        yield f"## {tree['caption']}"
        yield ""
        for _, page in tree["entries"]:
            yield from _pages(app, str(page))


def _pages(app: Sphinx, page: str) -> Iterator[str]:
    """Yield the line of a page, and those of the pages below it."""
    yield f"- [{app.env.titles[page].astext()}]({page}.html): {_first_paragraph(app, page)}"
    for tree in app.env.get_doctree(page).findall(toctree):
        for _, below in tree["entries"]:
            yield from _pages(app, str(below))


def _first_paragraph(app: Sphinx, page: str) -> str:
    """Return the first sentences of a page, as many as fit."""
    paragraph = next(iter(app.env.get_doctree(page).findall(nodes.paragraph)), None)
    text = " ".join(paragraph.astext().split()) if paragraph is not None else ""
    kept = ""
    for sentence in re.findall(r".+?(?:[.!?](?=\s|$)|[。！？]|$)\s*", text):
        if kept and len(kept) + len(sentence) > MAX_LENGTH:
            break
        kept += sentence
    return kept.strip()


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect this extension. Sphinx calls it."""
    app.connect("build-finished", write_index)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
