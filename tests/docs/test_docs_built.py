"""The pages as they are built: each code can be linked to, each page leads to its twin, nothing is fetched."""

import html
import os
import re
from pathlib import Path

import pytest

from gatepay_async.protocol.catalogue import FAULTS, REFUSALS
from gatepay_async.words import Lang, say

BUILT = Path(os.environ.get("GATEPAY_TEST_DOCS", ""))
pytestmark = [
    pytest.mark.slow,
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
    plain = html.unescape(re.sub(r"<[^>]+>", "", page)).translate(str.maketrans("’‘“”", "''\"\""))
    texts = [(each.cause, each.remedy) for each in REFUSALS.values()] + [(each.cause, each.remedy) for each in FAULTS]
    for cause, remedy in texts:
        assert say(cause, own) in plain
        assert say(remedy, own) in plain
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
        sources += re.findall(r'<link[^>]* rel="(?:stylesheet|preload|icon)"[^>]* href="([^"]+)"', text)
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
