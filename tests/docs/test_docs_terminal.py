"""The pictures of terminals show the current output of the command, run on a real terminal."""

import html
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.text import Text

pytestmark = [pytest.mark.slow, pytest.mark.without_coverage]

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
TERMINAL = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "terminal_pictures.py")))
# The other pictures show versions, times, rates, or a number of chunks in flight, which differ from run to run.
UNCHANGING_PICTURES = sorted(set(TERMINAL.PICTURES) - {"doctor", "progress", "refused"})


@pytest.mark.parametrize("language", TERMINAL.LOCALES)
@pytest.mark.parametrize("name", UNCHANGING_PICTURES)
def test_a_picture_shows_the_commands_output(name: str, language: str) -> None:
    """The text of a picture is the command's current output."""
    picture = TERMINAL.PICTURES[name]
    printed = Text.from_ansi(TERMINAL.command_output(picture, TERMINAL.LOCALES[language])).plain
    svg = (IMAGES / f"terminal-{name}{language}.svg").read_text("utf-8")
    text = html.unescape("".join(re.findall(r"<text [^>]*clip-path[^>]*>([^<]*)</text>", svg)))
    printed = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8765", printed)  # as in the pictures
    expected = f"$ gatepay {' '.join(picture.command)}{printed}"
    assert "".join(text.split()) == "".join(expected.split())


def test_the_progress_picture_shows_rate_and_time_left() -> None:
    """The picture of a running upload shows a progress bar with its rate and the time left."""
    bar = TERMINAL.command_output(TERMINAL.PICTURES["progress"], TERMINAL.LOCALES["-zh"])
    assert re.search(r"正在上传 .*[\d,]+/10,003.* 条/秒 剩余 0:0", Text.from_ansi(bar).plain)
