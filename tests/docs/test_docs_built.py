"""The built pages: anchors for all codes, links between the languages, and nothing loaded from other sites."""

import html
import os
import re
from pathlib import Path

import pytest

from gatepay_async import __version__
from gatepay_async.protocol.catalogue import ERROR_MEANINGS, REFUSALS
from gatepay_async.words import Lang, say

ROOT = Path(__file__).parents[2]
BUILT = Path(os.environ.get("GATEPAY_TEST_DOCS", ""))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.without_coverage,
    pytest.mark.skipif(
        "GATEPAY_TEST_DOCS" not in os.environ, reason="the pages are not built; `nox -s docs` builds them"
    ),
]

each_language = pytest.mark.parametrize("language", ["en", "zh"])


def pages(language: str) -> dict[str, str]:
    """Return the text of each built page by its name."""
    folder = BUILT / language
    return {str(page.relative_to(folder)): page.read_text("utf-8") for page in sorted(folder.rglob("*.html"))}


@each_language
def test_every_code_has_an_anchor(language: str) -> None:
    """The page of errors has one anchor for each code and each other error, with its texts in the page's language."""
    page = pages(language)["errors.html"]
    anchors = re.findall(r'<dt id="([^"]+)"', page)
    assert len(anchors) == len(set(anchors)) == len(REFUSALS) + len(ERROR_MEANINGS)
    assert {f"{endpoint.replace('/', '-')}-{code}" for endpoint, code in REFUSALS} <= set(anchors)
    own_language: Lang = "zh" if language == "zh" else "en"
    other_language: Lang = "en" if language == "zh" else "zh"
    straight = str.maketrans("’‘“”", "''\"\"")  # Sphinx makes the quotation marks of English texts curly
    plain_text = html.unescape(re.sub(r"<[^>]+>", "", page)).translate(straight)
    texts = [(refusal.cause, refusal.remedy) for refusal in REFUSALS.values()]
    texts += [(meaning.cause, meaning.remedy) for meaning in ERROR_MEANINGS]
    for cause, remedy in texts:
        assert say(cause, own_language).translate(straight) in plain_text
        assert say(remedy, own_language).translate(straight) in plain_text
        assert say(remedy, other_language) not in plain_text


@each_language
def test_every_page_links_to_its_translation(language: str) -> None:
    """The language switch of each page links to the same page in the other language."""
    with_switch = {name: text for name, text in pages(language).items() if name not in ("genindex.html", "search.html")}
    for name, text in with_switch.items():
        match = re.search(r'class="language-switch"[^>]* href="([^"]+)"', text)
        assert match, name
        target = (BUILT / language / name).parent / match[1]
        assert target.is_file(), (name, match[1])
        assert target.resolve().relative_to(BUILT.resolve()).parts[1:] == Path(name).parts


@each_language
def test_nothing_is_loaded_from_other_sites(language: str) -> None:
    """Scripts, styles, fonts and pictures are part of the site, so that it can be read without a network."""
    for name, text in pages(language).items():
        sources = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]+)"', text)
        sources += re.findall(r'<link[^>]* rel="(?:stylesheet|preload|(?:shortcut )?icon)"[^>]* href="([^"]+)"', text)
        assert not [source for source in sources if re.match(r"(https?:)?//", source)], name


@each_language
def test_no_page_has_conflict_markers(language: str) -> None:
    """No page contains a conflict marker of an unfinished merge."""
    names = [name for name, text in pages(language).items() if re.search("(?:<|&lt;){7}|(?:>|&gt;){7}", text)]
    assert names == []


@each_language
def test_pages_declare_their_language(language: str) -> None:
    """The `lang` attribute of each page is the language of its text."""
    for name, text in pages(language).items():
        assert re.search(r'<html[^>]* lang="(zh-CN|en)"', text), name
        assert ('lang="zh-CN"' in text.split(">", 2)[1]) == (language == "zh"), name


@each_language
def test_each_page_has_version_logo_copy_buttons_and_edit_link(language: str) -> None:
    """Each page has the version, the logo, the icon, copy buttons, and a link to edit its source."""
    for name, text in pages(language).items():
        assert f"gatepay-async {__version__}" in text, name
        assert re.search(r'<img[^>]* src="[^"]*_static/logo\.svg"', text), name
        assert re.search(r'<link[^>]* rel="(?:shortcut )?icon"[^>]* href="[^"]*_static/favicon\.svg"', text), name
        assert "_static/copybutton.js" in text, name
        if name not in ("genindex.html", "search.html"):
            [source] = set(re.findall(r'href="[^"]*/edit/main/(docs/[^"]+)"', text))
            assert source == f"docs/{language}/{name.removesuffix('.html')}.md"
            assert (ROOT / source).is_file()


@each_language
def test_recipes_can_be_downloaded(language: str) -> None:
    """Each recipe, and each linked example, is a file of the site with the same content as the source."""
    names = {name for text in pages(language).values() for name in re.findall(r'"[./]*(_downloads/[^"]+\.py)"', text)}
    downloads = {Path(name).name: (BUILT / language / name).read_bytes() for name in names}
    examples = {path.name: path.read_bytes() for path in (ROOT / "examples").rglob("*.py")}
    assert {path.name for path in (ROOT / "examples" / "recipes").glob("*.py")} <= downloads.keys()
    assert downloads.items() <= examples.items()


@each_language
def test_programs_show_their_file_names(language: str) -> None:
    """A program's file name is shown above its code."""
    assert '<span class="caption-text">upload.py</span>' in pages(language)["howto/upload.html"]


@each_language
def test_llms_txt_lists_every_page(language: str) -> None:
    """llms.txt has a line for each page, with its title and its first sentences."""
    lines = re.findall(r"^- \[.+\]\((.+)\): .+$", (BUILT / language / "llms.txt").read_text("utf-8"), re.MULTILINE)
    expected = set(pages(language)) - {"index.html", "genindex.html", "search.html"}
    assert sorted(lines) == sorted(expected)
    assert f"({language}/llms.txt)" in (BUILT / "llms.txt").read_text("utf-8")


def test_the_chinese_reference_replaces_docstrings() -> None:
    """The Chinese reference shows the Chinese sentence instead of the docstring's first paragraph."""
    page = pages("zh")["reference/client.html"]
    assert "GatePay 的客户端，可用于 asyncio 和 trio" in page
    assert "A client of GatePay, on asyncio or trio" not in page
    assert "Edit this page" not in page


@each_language
def test_signatures_show_defaults(language: str) -> None:
    """The signature of an attrs class shows its defaults, not the code that attrs has generated for them."""
    texts = {name: html.unescape(re.sub(r"<[^>]+>", "", text)) for name, text in pages(language).items()}
    assert "durable.Rate(limit: int, *, per: Seconds = 1.0)" in texts["reference/durable.html"]
    assert [name for name, text in texts.items() if "attr_dict" in text or "= NOTHING" in text] == []


def test_the_root_page_links_to_both_languages() -> None:
    """The page without a language in its URL links to both languages."""
    text = (BUILT / "index.html").read_text("utf-8")
    for language in ("en", "zh"):
        assert f'href="{language}/index.html"' in text
        assert (BUILT / language / "index.html").is_file()


def test_chinese_can_be_searched() -> None:
    """The search index has Chinese terms, and the page has a script that splits queries into such terms."""
    assert r'"\u5361\u5bc6"' in (BUILT / "zh/searchindex.js").read_text("utf-8")  # 卡密
    script = (BUILT / "zh/_static/language_data.js").read_text("utf-8")
    assert "function splitQuery" in script
    assert "window.Stemmer = EnglishStemmer" in script
