"""
Sphinx extensions of this documentation: the catalogue of errors, file names above code, the signatures of classes, and
search in Chinese.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.search.zh import SearchChinese
from sphinx.util.docutils import SphinxDirective

from gatepay_async.protocol.catalogue import ERROR_MEANINGS, REFUSALS, ErrorMeaning, Refusal
from gatepay_async.words import Lang, say

HAN = "\u3400-\u9fff"
SENT_TEXTS = {
    "en": {True: "the request may have arrived", False: "no byte has left"},
    "zh": {True: "请求可能已经送达", False: "一个字节都没有发出"},
}


class Catalogue(SphinxDirective):
    """``{catalogue} pay/create`` lists the codes of an endpoint; ``{catalogue}`` lists the errors that have no code."""

    optional_arguments: ClassVar[int] = 1

    def run(self) -> list[nodes.Node]:
        """Return a definition list. Each item has an anchor, a title, the cause and the remedy."""
        lang: Lang = "zh" if str(self.config.language).startswith("zh") else "en"
        wanted = self.arguments[0] if self.arguments else None
        items = [_refusal(entry, lang) for entry in REFUSALS.values() if entry.endpoint == wanted]
        if wanted is None:
            items = [_error_meaning(entry, lang) for entry in ERROR_MEANINGS]
        if not items:
            raise self.error(f"no endpoint {wanted!r} in the catalogue")
        return [nodes.definition_list("", *items, classes=["catalogue"])]


def _refusal(entry: Refusal, lang: Lang) -> nodes.Node:
    title = [nodes.strong(text=str(entry.code)), nodes.Text(" "), nodes.literal(text=entry.error.__name__)]
    title += [nodes.Text(f" {entry.message}")]
    anchor = f"{entry.endpoint.replace('/', '-')}-{entry.code}"
    return _item(anchor, title, say(entry.cause, lang), say(entry.remedy, lang))


def _error_meaning(entry: ErrorMeaning, lang: Lang) -> nodes.Node:
    title: list[nodes.Node] = [nodes.literal(text=entry.error)]
    anchor = entry.error
    if entry.sent is not None:
        title += [
            nodes.Text(" "),
            nodes.literal(text=f".sent is {entry.sent}"),
            nodes.Text(f" {SENT_TEXTS[lang][entry.sent]}"),
        ]
        anchor += "-sent" if entry.sent else "-not-sent"
    return _item(anchor, title, say(entry.cause, lang), say(entry.remedy, lang))


def _item(anchor: str, title: Iterable[nodes.Node], cause: str, remedy: str) -> nodes.Node:
    paragraphs = [nodes.paragraph("", "", *_with_code(text)) for text in (cause, remedy)]
    term = nodes.term("", "", *title, ids=[anchor.lower()])
    return nodes.definition_list_item("", term, nodes.definition("", *paragraphs))


# Names such as list_products(), .out_order_id and deadline=; and a list of parameters.
_NAME = r"\.?[a-z]+_[a-z_.]*[a-z](?:\(\)|=\d?)?|\.[a-z_]+\b|[a-z]+=\d?"
_PARAMETERS = re.compile(r"appkey(?:(?:, |、)\w+)+")


def _with_code(text: str) -> Iterator[nodes.Node]:
    """Yield the text, with Python names formatted as code."""
    listed = _PARAMETERS.search(text)
    words = re.findall(r"\w+", listed[0]) if listed else []
    name = "|".join([_NAME, *(rf"\b{word}\b" for word in words)])
    for number, part in enumerate(re.split(f"({name})", text)):
        yield nodes.literal(text=part) if number % 2 else nodes.Text(part)


class SearchHan(SearchChinese):
    """Search in Chinese, which has no spaces: the terms in the index and in queries are pairs of characters."""

    language_name = "English"  # of the stemmer: Sphinx 9 would use a `ChineseStemmer`, which doesn't exist
    js_splitter_code = f"""
function splitQuery(query) {{
  const terms = [];
  for (const word of query.split(/[^\\p{{L}}\\p{{N}}_]+/u).filter(Boolean))
    for (const run of word.match(/[{HAN}]+|[^{HAN}]+/g))
      if (!/[{HAN}]/.test(run) || run.length < 3) terms.push(run);
      else for (let at = 0; at < run.length; at += 2) terms.push(run.slice(Math.min(at, run.length - 2)).slice(0, 2));
  return terms;
}}
"""

    def split(self, input: str) -> list[str]:  # noqa: A002 -- Sphinx's name for it
        """Return the Latin words, and each pair of adjacent Chinese characters."""
        pairs = ["".join(pair) for run in re.findall(f"[{HAN}]+", input) for pair in pairwise(run)]
        return pairs + super().split(input)


# ```python title="first.py": GitHub shows such a block as plain code; here its file name is shown above it.
_TITLED = re.compile(r'^(```+)(\w+) title="([^"]+)"$', re.MULTILINE)


def name_files(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Show the file name above a titled block of code."""
    source[0] = _TITLED.sub(r"\1{code-block} \2\n:caption: \3\n", source[0])


class PropertyDocstrings:
    """Protects the docstrings of properties from napoleon, which would read text before a colon as a type."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def save(self, _app: Sphinx, what: str, _name: str, _thing: object, _options: object, lines: list[str]) -> None:
        """Keep the lines before napoleon reads them."""
        if what == "property":
            self._lines = [*lines]

    def restore(self, _app: Sphinx, what: str, _name: str, _thing: object, _options: object, lines: list[str]) -> None:
        """Restore the lines after napoleon."""
        if what == "property":
            lines[:] = self._lines


def change_signature(
    _app: Sphinx, what: str, _name: str, thing: object, _options: object, signature: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """Hide the constructor of a class without ``Args:``, because only this package creates instances."""
    if what == "class" and "Args:" not in (thing.__doc__ or "") and not is_built_by_fields(thing):
        return "", None
    return signature and with_defaults(thing, signature), result


def with_defaults(thing: object, signature: str) -> str:
    """Show the defaults of an attrs class by their values. Sphinx shows the code that attrs has generated for them."""
    defaults = {field.name: field.default for field in getattr(thing, "__attrs_attrs__", ())}
    signature = re.sub(r"\battr_dict\['(\w+)'\]\.default", lambda match: repr(defaults[match[1]]), signature)
    return re.sub(r"= NOTHING\b", "= ...", signature)  # created for each instance


def is_built_by_fields(thing: object) -> bool:
    """Return whether the attributes of a class are its constructor's parameters: attrs classes and errors."""
    return hasattr(thing, "__attrs_attrs__") or (isinstance(thing, type) and issubclass(thing, BaseException))


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect this extension. Sphinx calls it."""
    app.add_directive("catalogue", Catalogue)
    app.add_search_language(SearchHan)
    app.connect("source-read", name_files)
    app.connect("autodoc-process-signature", change_signature)
    properties = PropertyDocstrings()
    app.connect("autodoc-process-docstring", properties.save, priority=400)  # before napoleon, which has 500
    app.connect("autodoc-process-docstring", properties.restore, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
