"""The pictures of the documentation: each is used, in the right language. test_docs_terminal.py checks their text."""

import re
import runpy
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
TERMINAL = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "terminal_pictures.py")))


def pictures_by_page() -> dict[Path, set[Path]]:
    """Return the pictures that each page shows."""
    pages = [ROOT / "README.md", ROOT / "README.zh-CN.md", *(ROOT / "docs").glob("[ez][nh]/**/*.md")]
    targets_by_page = {page: re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text("utf-8")) for page in pages}
    return {page: {(page.parent / target).resolve() for target in targets} for page, targets in targets_by_page.items()}


def test_every_picture_is_shown() -> None:
    """Every picture in the folder is on a page, and every picture on a page exists."""
    pictures = set().union(*pictures_by_page().values())
    assert {path for path in pictures if not path.is_file()} == set()
    assert set(IMAGES.iterdir()) - pictures == set()


def test_chinese_pages_show_chinese_pictures() -> None:
    """If a picture has a Chinese version, the Chinese pages show that version, and other pages don't."""
    for page, pictures in pictures_by_page().items():
        is_chinese_page = "zh" in page.relative_to(ROOT).parts or page.name == "README.zh-CN.md"
        for picture in pictures & set(IMAGES.iterdir()):
            chinese_version = picture.with_stem(f"{picture.stem}-zh")
            assert not chinese_version.exists() if is_chinese_page else not picture.stem.endswith("-zh"), (
                page,
                picture,
            )


def test_terminal_pictures_are_complete() -> None:
    """The folder has exactly the pictures that docs/terminal_pictures.py draws."""
    drawn = {f"terminal-{name}{language}.svg" for name in TERMINAL.PICTURES for language in TERMINAL.LOCALES}
    assert {path.name for path in IMAGES.glob("terminal-*.svg")} == drawn


def test_chinese_characters_have_equal_distances() -> None:
    """Each Chinese character in a picture has its own position, at the same distance from the previous one."""
    for picture in IMAGES.glob("terminal-*-zh.svg"):
        texts = re.findall(r'<text [^>]*x="([^"]+)"[^>]*clip-path[^>]*>([^<]*)</text>', picture.read_text("utf-8"))
        chinese_texts = [(positions.split(), text) for positions, text in texts if re.search("[\u4e00-\u9fff]", text)]
        assert chinese_texts, picture.name
        for positions, text in chinese_texts:
            assert len(positions) == len(text), (picture.name, text)
            distances = {round(float(after) - float(before), 1) for before, after in pairwise(positions)}
            assert distances <= {2 * TERMINAL.COLUMN}, (picture.name, text)
