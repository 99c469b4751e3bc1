"""The pictures of the terminal show what the command prints today, as a process of its own on a real terminal."""

import html
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.text import Text

pytestmark = [pytest.mark.slow, pytest.mark.uncounted]

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
TERMINAL = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "terminal_pictures.py")))
# Versions, times, rates, and how many chunks are under way when the first is refused, are another each time.
SAME = sorted(set(TERMINAL.PICTURES) - {"doctor", "progress", "refused"})


@pytest.mark.parametrize("language", TERMINAL.LOCALES)
@pytest.mark.parametrize("name", SAME)
def test_a_terminal_shows_what_is_printed(name: str, language: str) -> None:
    """The text in a picture is what the command prints today."""
    picture = TERMINAL.PICTURES[name]
    today = Text.from_ansi(TERMINAL.printed(picture, TERMINAL.LOCALES[language])).plain
    svg = (IMAGES / f"terminal-{name}{language}.svg").read_text("utf-8")
    text = html.unescape("".join(re.findall(r"<text [^>]*clip-path[^>]*>([^<]*)</text>", svg)))
    expected = f"$ gatepay {' '.join(picture.command)}{today}"
    assert "".join(text.split()) == "".join(expected.split())


def test_a_bar_is_half_way() -> None:
    """The picture of an upload that goes on is a bar of the command's, with its rate and the time left."""
    bar = TERMINAL.printed(TERMINAL.PICTURES["progress"], TERMINAL.LOCALES["-zh"])
    assert re.search(r"正在上传 .*[\d,]+/10,003.* 条/秒 剩余 0:0", Text.from_ansi(bar).plain)
