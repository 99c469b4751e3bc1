"""The pages as they are built: each code can be linked to, each page leads to its twin, nothing is fetched."""

import html
import os
import re
from pathlib import Path

import pytest

from gatepay_async import __version__
from gatepay_async.protocol.catalogue import FAULTS, REFUSALS
from gatepay_async.words import Lang, say

ROOT = Path(__file__).parents[2]
BUILT = Path(os.environ.get("GATEPAY_TEST_DOCS", ""))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.uncounted,
    pytest.mark.skipif("GATEPAY_TEST_DOCS" not in os.environ, reason="nothing is built; `nox -s docs` does"),
]

both = pytest.mark.parametrize("language", ["en", "zh"])


def pages(language: str) -> dict[str, str]:
    """The built pages, by their names."""
    folder = BUILT / language
    return {str(page.relative_to(folder)): page.read_text("utf-8") for page in sorted(folder.rglob("*.html"))}


@both
def test_every_code_has_an_anchor(language: str) -> None:
    """The page of errors has each code, and each other error, once, with its texts in the page's language."""
    page = pages(language)["errors.html"]
    anchors = re.findall(r'<dt id="([^"]+)"', page)
    assert len(anchors) == len(set(anchors)) == len(REFUSALS) + len(FAULTS)
    assert {f"{endpoint.replace('/', '-')}-{code}" for endpoint, code in REFUSALS} <= set(anchors)
    own: Lang = "zh" if language == "zh" else "en"
    other: Lang = "en" if language == "zh" else "zh"
    straight = str.maketrans("’‘“”", "''\"\"")  # as Sphinx bends them, but for those of a Chinese text
    plain = html.unescape(re.sub(r"<[^>]+>", "", page)).translate(straight)
    texts = [(each.cause, each.remedy) for each in REFUSALS.values()] + [(each.cause, each.remedy) for each in FAULTS]
    for cause, remedy in texts:
        assert say(cause, own).translate(straight) in plain
        assert say(remedy, own).translate(straight) in plain
        assert say(remedy, other) not in plain


@both
def test_every_page_leads_to_the_other_language(language: str) -> None:
    """The switch is on each page, and leads to the same page."""
    written = {name: text for name, text in pages(language).items() if name not in ("genindex.html", "search.html")}
    for name, text in written.items():
        found = re.search(r'class="language-switch"[^>]* href="([^"]+)"', text)
        assert found, name
        target = (BUILT / language / name).parent / found[1]
        assert target.is_file(), (name, found[1])
        assert target.resolve().relative_to(BUILT.resolve()).parts[1:] == Path(name).parts


@both
def test_nothing_is_fetched_from_elsewhere(language: str) -> None:
    """Scripts, styles, fonts and pictures are the site's own: it can be read without a network."""
    for name, text in pages(language).items():
        sources = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]+)"', text)
        sources += re.findall(r'<link[^>]* rel="(?:stylesheet|preload|(?:shortcut )?icon)"[^>]* href="([^"]+)"', text)
        assert not [source for source in sources if re.match(r"(https?:)?//", source)], name


@both
def test_no_page_shows_an_unfinished_merge(language: str) -> None:
    """No page shows a conflict marker, as text or in its source."""
    found = [name for name, text in pages(language).items() if re.search("(?:<|&lt;){7}|(?:>|&gt;){7}", text)]
    assert found == []


@both
def test_pages_say_their_language(language: str) -> None:
    """A browser is told which language it reads."""
    for name, text in pages(language).items():
        assert re.search(r'<html[^>]* lang="(zh-CN|en)"', text), name
        assert ('lang="zh-CN"' in text.split(">", 2)[1]) == (language == "zh"), name


@both
def test_each_page_has_its_tools(language: str) -> None:
    """Each page has the version, the logo, the icon, buttons that copy, and a link to edit its source."""
    for name, text in pages(language).items():
        assert f"gatepay-async {__version__}" in text, name
        assert re.search(r'<img[^>]* src="[^"]*_static/logo\.svg"', text), name
        assert re.search(r'<link[^>]* rel="(?:shortcut )?icon"[^>]* href="[^"]*_static/favicon\.svg"', text), name
        assert "_static/copybutton.js" in text, name
        if name not in ("genindex.html", "search.html"):
            [source] = set(re.findall(r'href="[^"]*/edit/main/(docs/[^"]+)"', text))
            assert source == f"docs/{language}/{name.removesuffix('.html')}.md"
            assert (ROOT / source).is_file()


@both
def test_recipes_can_be_downloaded(language: str) -> None:
    """Each recipe, and each example that a page links to, is a file of the site, as it is in the sources."""
    found = {name for text in pages(language).values() for name in re.findall(r'"[./]*(_downloads/[^"]+\.py)"', text)}
    loaded = {Path(name).name: (BUILT / language / name).read_bytes() for name in found}
    examples = {each.name: each.read_bytes() for each in (ROOT / "examples").rglob("*.py")}
    assert {each.name for each in (ROOT / "examples" / "recipes").glob("*.py")} <= loaded.keys()
    assert loaded.items() <= examples.items()


@both
def test_programs_have_their_names(language: str) -> None:
    """The name of a program's file is above it."""
    assert '<span class="caption-text">upload.py</span>' in pages(language)["howto/upload.html"]


@both
def test_llms_txt_lists_every_page(language: str) -> None:
    """The index for programs that read has a line for each page, with its title and what it is about."""
    lines = re.findall(r"^- \[.+\]\((.+)\): .+$", (BUILT / language / "llms.txt").read_text("utf-8"), re.MULTILINE)
    written = set(pages(language)) - {"index.html", "genindex.html", "search.html"}
    assert sorted(lines) == sorted(written)
    assert f"({language}/llms.txt)" in (BUILT / "llms.txt").read_text("utf-8")


def test_the_reference_in_chinese_speaks_chinese() -> None:
    """A sentence of the table is on the page, and not the docstring's."""
    page = pages("zh")["reference/client.html"]
    assert "GatePay 的客户端，可用于 asyncio 和 trio" in page
    assert "A client of GatePay, on asyncio or trio" not in page
    assert "Edit this page" not in page


def test_the_first_page_leads_to_both() -> None:
    """Without a language in its address, a reader gets to either."""
    text = (BUILT / "index.html").read_text("utf-8")
    for language in ("en", "zh"):
        assert f'href="{language}/index.html"' in text
        assert (BUILT / language / "index.html").is_file()


def test_chinese_can_be_searched() -> None:
    """The index of the Chinese pages has Chinese terms, and the page a way to cut a question into them."""
    assert r'"\u5361\u5bc6"' in (BUILT / "zh/searchindex.js").read_text("utf-8")  # 卡密
    script = (BUILT / "zh/_static/language_data.js").read_text("utf-8")
    assert "function splitQuery" in script
    assert "window.Stemmer = EnglishStemmer" in script
