"""The check that English and Chinese pages agree: on our pages, and on pages with differences."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]

ROOT = Path(__file__).parents[2]
LANGUAGES = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "languages.py")))
PAIRS = list(LANGUAGES.pairs())

ENGLISH = """# A title

Call `close()`, see [the tour](tour.md#end).

```python
gatepay.close()  # at the end
```

```sh
pip install x  # a comment
```
"""
CHINESE = """# 标题

请调用 `close()`，见[功能一览](tour.md#结束)。

```python
gatepay.close()  # 在结束时
```

```sh
pip install x  # 注释
```
"""


def differences_after_change(tmp_path: Path, chinese: str, english: str = ENGLISH) -> str:
    """Stamp the translation, then change the English page. Return the differences that the check finds."""
    english_page, chinese_page = tmp_path / "page.md", tmp_path / "zh.md"
    english_page.write_text(ENGLISH, "utf-8")
    chinese_page.write_text(chinese, "utf-8")
    LANGUAGES.stamp(english_page, chinese_page)
    english_page.write_text(english, "utf-8")
    return "\n".join(LANGUAGES.differences(english_page, chinese_page))


def write_pages(folder: Path) -> tuple[Path, Path]:
    """Write an English page and its translation, which has no stamp yet."""
    english_page, chinese_page = folder / "page.md", folder / "zh.md"
    english_page.write_text(ENGLISH, "utf-8")
    chinese_page.write_text(CHINESE, "utf-8")
    return english_page, chinese_page


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: str(pair[0].relative_to(ROOT)))
def test_pages_and_translations_agree(pair: tuple[Path, Path]) -> None:
    """Each page has an up-to-date translation with the same headings, code, names and links."""
    assert list(LANGUAGES.differences(*pair)) == []


def test_pairs_include_every_page() -> None:
    """The pairs include the README and every page of either language."""
    pages = {path for lang in ("en", "zh") for path in (ROOT / "docs" / lang).rglob("*.md")}
    assert {path for pair in PAIRS for path in pair} == {*pages, ROOT / "README.md", ROOT / "README.zh-CN.md"}


def test_translated_comments_and_anchors_are_accepted(tmp_path: Path) -> None:
    """Comments in code and anchors of links may be translated."""
    assert differences_after_change(tmp_path, CHINESE) == ""


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (("# 标题", "## 标题"), "has other headings"),
        (("gatepay.close()", "gatepay.open()"), "has another block 1"),
        (("install x", "install y"), "has another block 2"),
        (("```python", '```python title="other.py"'), "has another block 1"),
        (("```sh\npip install x  # 注释\n```\n", ""), "has 1 blocks of code instead of 2"),
        (("`close()`", "`open()`"), "names other things: ['close()', 'open()']"),
        (("tour.md", "start.md"), "links elsewhere: ['start.md', 'tour.md']"),
        (("# 标题\n", "# 标题\n\n![图](a.png)\n"), "shows 1 pictures instead of 0"),
        (("请调用 `close()`，见", "请调用 `close()`，\n见"), "breaks a paragraph"),
    ],
)
def test_a_different_translation_is_found(tmp_path: Path, change: tuple[str, str], difference: str) -> None:
    """A translation with other headings, code, names, links, pictures or line breaks is reported."""
    assert difference in differences_after_change(tmp_path, CHINESE.replace(*change))


def test_a_changed_english_page_is_found(tmp_path: Path) -> None:
    """If only a sentence changes in the English page, the translation is reported as older."""
    assert "translates an older page.md" in differences_after_change(
        tmp_path, CHINESE, ENGLISH.replace("Call", "Always call")
    )


def test_a_translation_without_a_stamp_is_found(tmp_path: Path) -> None:
    """A translation without a stamp is reported as older."""
    english_page, chinese_page = write_pages(tmp_path)
    assert "translates an older page.md" in "\n".join(LANGUAGES.differences(english_page, chinese_page))


def test_a_translation_with_two_stamps_is_found(tmp_path: Path) -> None:
    """A translation with two stamps, after a merge, is reported; stamping again leaves one stamp."""
    english_page, chinese_page = write_pages(tmp_path)
    LANGUAGES.stamp(english_page, chinese_page)
    stamped = chinese_page.read_text("utf-8")
    stale = f"<!-- translates page.md, sha256:{'0' * 16} -->"
    for before, after in (("", f"\n{stale}\n"), (f"{stale}\n", ""), (f"{stale}\n\n{stale}\n", "")):
        chinese_page.write_text(stamped.replace("<!--", f"{before}<!--") + after, "utf-8")
        assert "stamps instead of one" in "\n".join(LANGUAGES.differences(english_page, chinese_page))
        LANGUAGES.stamp(english_page, chinese_page)
        assert chinese_page.read_text("utf-8") == stamped


def test_a_missing_translation_is_found(tmp_path: Path) -> None:
    """A page that exists in only one language is reported as missing."""
    assert list(LANGUAGES.differences(tmp_path / "page.md", ROOT / "README.md")) == ["is missing"]


def test_stamping_twice_leaves_one_stamp(tmp_path: Path) -> None:
    """A new stamp replaces the old one."""
    english_page, chinese_page = write_pages(tmp_path)
    LANGUAGES.stamp(english_page, chinese_page)
    once = chinese_page.read_text("utf-8")
    LANGUAGES.stamp(english_page, chinese_page)
    assert chinese_page.read_text("utf-8") == once
    assert once.count("<!--") == 1
