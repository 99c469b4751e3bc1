"""The check that one language doesn't lag behind the other; and that it sees when one does."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = [pytest.mark.fast, pytest.mark.uncounted]

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


def lag(tmp_path: Path, chinese: str, english: str = ENGLISH) -> str:
    """What the check says of a page and a translation that was stamped, then changed."""
    one, other = tmp_path / "page.md", tmp_path / "zh.md"
    one.write_text(ENGLISH, "utf-8")
    other.write_text(chinese, "utf-8")
    LANGUAGES.stamp(one, other)
    one.write_text(english, "utf-8")
    return "\n".join(LANGUAGES.differences(one, other))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: str(pair[0].relative_to(ROOT)))
def test_no_language_lags(pair: tuple[Path, Path]) -> None:
    """Each page is there in both languages, with the same headings, code, names and links, and up to date."""
    assert list(LANGUAGES.differences(*pair)) == []


def test_every_page_is_looked_at() -> None:
    """The pairs are the README's and those of each page in either folder."""
    pages = {path for lang in ("en", "zh") for path in (ROOT / "docs" / lang).rglob("*.md")}
    assert {path for pair in PAIRS for path in pair} == {*pages, ROOT / "README.md", ROOT / "README.zh-CN.md"}


def test_a_translation_agrees(tmp_path: Path) -> None:
    """Comments may be translated, and the names of headings that a link leads to."""
    assert lag(tmp_path, CHINESE) == ""


@pytest.mark.parametrize(
    ("change", "said"),
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
def test_what_is_seen(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    """A translation that says something else is found out."""
    assert said in lag(tmp_path, CHINESE.replace(*change))


def test_an_english_page_that_has_changed(tmp_path: Path) -> None:
    """A sentence that is new in English, and in nothing else, makes the translation an older one's."""
    assert "translates an older page.md" in lag(tmp_path, CHINESE, ENGLISH.replace("Call", "Always call"))


def test_a_page_that_was_never_stamped(tmp_path: Path) -> None:
    """A translation must say what it translates."""
    one, other = tmp_path / "page.md", tmp_path / "zh.md"
    one.write_text(ENGLISH, "utf-8")
    other.write_text(CHINESE, "utf-8")
    assert "translates an older page.md" in "\n".join(LANGUAGES.differences(one, other))


def test_a_page_with_two_stamps(tmp_path: Path) -> None:
    """An unfinished merge of two stamps is found, although one of them is right; stamping leaves one."""
    one, other = tmp_path / "page.md", tmp_path / "zh.md"
    one.write_text(ENGLISH, "utf-8")
    other.write_text(CHINESE, "utf-8")
    LANGUAGES.stamp(one, other)
    right = other.read_text("utf-8")
    stale = f"<!-- translates page.md, sha256:{'0' * 16} -->"
    for before, after in (("", f"\n{stale}\n"), (f"{stale}\n", ""), (f"{stale}\n\n{stale}\n", "")):
        other.write_text(right.replace("<!--", f"{before}<!--") + after, "utf-8")
        assert "stamps instead of one" in "\n".join(LANGUAGES.differences(one, other))
        LANGUAGES.stamp(one, other)
        assert other.read_text("utf-8") == right


def test_a_page_without_a_translation(tmp_path: Path) -> None:
    """A page that is there in one language only is missing."""
    assert list(LANGUAGES.differences(tmp_path / "page.md", ROOT / "README.md")) == ["is missing"]


def test_stamping_twice(tmp_path: Path) -> None:
    """A stamp takes the place of the one before it."""
    one, other = tmp_path / "page.md", tmp_path / "zh.md"
    one.write_text(ENGLISH, "utf-8")
    other.write_text(CHINESE, "utf-8")
    LANGUAGES.stamp(one, other)
    once = other.read_text("utf-8")
    LANGUAGES.stamp(one, other)
    assert other.read_text("utf-8") == once
    assert once.count("<!--") == 1
