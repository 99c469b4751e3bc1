"""The pictures of the pages: each is shown, in its reader's language. test_docs_terminal.py looks at what they say."""

import re
import runpy
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = [pytest.mark.fast, pytest.mark.uncounted]

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
TERMINAL = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "terminal_pictures.py")))


def shown() -> dict[Path, set[Path]]:
    """Each page -> the pictures on it."""
    pages = [ROOT / "README.md", ROOT / "README.zh-CN.md", *(ROOT / "docs").glob("[ez][nh]/**/*.md")]
    found = {page: re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text("utf-8")) for page in pages}
    return {page: {(page.parent / target).resolve() for target in targets} for page, targets in found.items()}


def test_every_picture_is_shown() -> None:
    """What lies in the folder of pictures is on some page, and what pages show is there."""
    pictures = set().union(*shown().values())
    assert {path for path in pictures if not path.is_file()} == set()
    assert set(IMAGES.iterdir()) - pictures == set()


def test_each_reader_sees_his_own_language() -> None:
    """Where a picture is there in Chinese, the Chinese pages show that, and only they do."""
    for page, pictures in shown().items():
        chinese = "zh" in page.relative_to(ROOT).parts or page.name == "README.zh-CN.md"
        for picture in pictures & set(IMAGES.iterdir()):
            twin = picture.with_stem(f"{picture.stem}-zh")
            assert not twin.exists() if chinese else not picture.stem.endswith("-zh"), (page, picture)


def test_every_terminal_is_drawn() -> None:
    """The folder holds the pictures that the program draws, and no older ones."""
    drawn = {f"terminal-{name}{language}.svg" for name in TERMINAL.PICTURES for language in TERMINAL.LOCALES}
    assert {path.name for path in IMAGES.glob("terminal-*.svg")} == drawn


def test_chinese_characters_stand_together() -> None:
    """Each has a place of its own in a picture, at the same distance from the one before it."""
    for picture in IMAGES.glob("terminal-*-zh.svg"):
        texts = re.findall(r'<text [^>]*x="([^"]+)"[^>]*clip-path[^>]*>([^<]*)</text>', picture.read_text("utf-8"))
        wide = [(places.split(), text) for places, text in texts if re.search("[\u4e00-\u9fff]", text)]
        assert wide, picture.name
        for places, text in wide:
            assert len(places) == len(text), (picture.name, text)
            apart = {round(float(after) - float(before), 1) for before, after in pairwise(places)}
            assert apart <= {2 * TERMINAL.COLUMN}, (picture.name, text)
