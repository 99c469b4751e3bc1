"""
Draws the pictures of terminals in the documentation: each shows what the command prints, with a sandbox.

    python docs/terminal_pictures.py

Writes docs/images/terminal-*.svg. A test compares their text with the command's current output.
"""

import html
import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anyio.from_thread import start_blocking_portal
from attrs import frozen
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from gatepay_async.sandbox import Fault, FaultKind, Sandbox

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
LOCALES = {"": "en_GB.UTF-8", "-zh": "zh_CN.UTF-8"}
COLUMNS = 88
COLUMN = 12.2  # the width of a column in Rich's pictures
WIDE = 22  # the font size of a Chinese character, placed in two columns
PIECE = re.compile(r'<text ([^>]*)x="([\d.]+)"([^>]*)textLength="[\d.]+"([^>]*)>([^<]+)</text>')
# The progress bar redraws itself in its line (BAR), and disappears at the end (BARS).
BAR = "\r\x1b[2K"
BARS = re.compile(r"(\r\x1b\[2K[^\r\n]*)+\n\r\x1b\[1A\x1b\[2K")


@frozen
class Picture:
    """
    A picture of a command's output.

    Attributes:
        command: The arguments of ``gatepay``.
        half_way: Show the progress bar of an upload about half done, instead of the final output.
    """

    command: tuple[str, ...]
    half_way: bool = False


PICTURES = {
    "progress": Picture(("keys", "upload", "keys.txt", "--product", "8"), half_way=True),
    "upload": Picture(("keys", "upload", "keys.txt", "--product", "8")),
    "refused": Picture(("keys", "upload", "keys.txt", "--product", "77", "--failed-lines", "failed.txt")),
    "errors": Picture(("errors", "pay/create", "109")),
    "doctor": Picture(("doctor",)),
}


def command_output(picture: Picture, locale: str) -> str:
    """Run the command on a terminal, with a sandbox. Return the final screen, or a half-done progress bar."""
    keys = "".join(f"AAAA-{number:04d}\n" for number in range(10_000)) + "\nAAAA-0007\nAAAA-0008\n"
    with tempfile.TemporaryDirectory() as folder, shop() as (sandbox, environ):
        (Path(folder) / "keys.txt").write_text(keys)
        if picture.half_way:
            sandbox.fault(Fault(FaultKind.SLOW, endpoint="ka/create", times=None, seconds=0.5))
        variables = environ | {"LANG": locale, "PYTHONUTF8": "1", "COLUMNS": str(COLUMNS)}
        text = on_terminal(picture.command, Path(folder), variables).replace("\r\n", "\n")
    text = re.sub(r"\x1b\[\?25[hl]", "", text)
    if picture.half_way:
        return next(bar for bar in text.split(BAR) if re.search(r"(?<![\d,])[5-9],\d\d\d/10,003", bar))
    return BARS.sub("", text).rstrip()


@contextmanager
def shop() -> Iterator[tuple[Sandbox, dict[str, str]]]:
    """Start a sandbox. Yield it with the environment for the command."""
    with (
        Sandbox() as sandbox,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(sandbox.serve()) as base_url,
    ):
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm-256color"}
        settings = {"BASE_URL": base_url, "APPKEY": sandbox.appkey, "APPSECRET": sandbox.appsecret}
        yield sandbox, environ | {f"GATEPAY_{name}": value for name, value in settings.items()}


def on_terminal(command: tuple[str, ...], folder: Path, environ: dict[str, str]) -> str:
    """Return everything that the command writes to a new terminal."""
    master, slave = pty.openpty()
    try:
        program = [sys.executable, "-m", "gatepay_async.cli", *command]
        with subprocess.Popen(program, cwd=folder, env=environ, stdin=slave, stdout=slave, stderr=slave):  # noqa: S603 -- our own
            os.close(slave)
            text = b""
            while part := _read(master):
                text += part
    finally:
        os.close(master)
    return text.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # on Linux, the other side is closed
        return b""


def draw(name: str, picture: Picture, text: str) -> str:
    """Return the picture as SVG. Ports and keys are replaced, so that they are the same in each run."""
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8765", re.sub(r"\b[0-9a-f]{16}\b", "0123456789abcdef", text))
    with Path(os.devnull).open("w", encoding="utf-8") as null_device:
        console = Console(record=True, width=COLUMNS, file=null_device, force_terminal=True)
        console.print(Text.assemble(("$ ", "bold green"), ("gatepay " + " ".join(picture.command), "bold")))
        console.print(Text.from_ansi(text))
        svg = console.export_svg(title="gatepay", unique_id=name)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # it would be loaded from another server
    return PIECE.sub(place_characters, svg)


def place_characters(match: re.Match[str]) -> str:
    """
    Split a piece of text between Latin and Chinese characters, and place each part at its column.

    Rich sets the width of a piece to one column per character. A Chinese character needs two, so each one is centred in
    its own two columns. One width for a whole piece would leave gaps between the characters.
    """
    before, x, between, after, escaped = match.groups()
    column, parts = float(x), []
    for part in re.findall(r"[⺀-￯]+|[^⺀-￯]+", html.unescape(escaped)):
        width = cell_len(part) * COLUMN
        if cell_len(part) > len(part):
            edge = column + COLUMN - WIDE / 2
            places = " ".join(f"{edge + 2 * COLUMN * number:g}" for number in range(len(part)))
            parts.append(f'<text {before}x="{places}"{between}style="font-size: {WIDE}px"{after}>{part}</text>')
        else:
            shown = html.escape(part).replace(" ", "&#160;")
            parts.append(f'<text {before}x="{column:g}"{between}textLength="{width:g}"{after}>{shown}</text>')
        column += width
    return "".join(parts)


def main() -> None:
    """Draw all pictures in both languages."""
    IMAGES.mkdir(exist_ok=True)
    for name, picture in PICTURES.items():
        for language, locale in LOCALES.items():
            svg = draw(name + language, picture, command_output(picture, locale))
            (IMAGES / f"terminal-{name}{language}.svg").write_text(svg, "utf-8")


if __name__ == "__main__":
    main()
