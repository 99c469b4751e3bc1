"""
Draws the pictures of the terminal: each is what the command itself prints, run against the sandbox.

    python docs/terminal_pictures.py

Writes docs/images/terminal-*.svg. A test compares their text with what the command prints today.
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
COLUMN = 12.2  # how wide Rich draws one
WIDE = 22  # how large a Chinese character is drawn, in two of them
PIECE = re.compile(r'<text ([^>]*)x="([\d.]+)"([^>]*)textLength="[\d.]+"([^>]*)>([^<]+)</text>')
# What a bar does to a terminal: it draws itself anew in its line, and in the end it goes.
BAR = "\r\x1b[2K"
BARS = re.compile(r"(\r\x1b\[2K[^\r\n]*)+\n\r\x1b\[1A\x1b\[2K")


@frozen
class Picture:
    """
    What is drawn.

    Attributes:
        command: What follows ``gatepay``.
        half_way: It shows the bar of an upload about half done, and not how it ends.
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


def printed(picture: Picture, locale: str) -> str:
    """What the command leaves on a terminal, in a shop of its own; or its bar, half-way."""
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
    """A shop, and the environment of whoever deals with it."""
    with (
        Sandbox() as sandbox,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(sandbox.serve()) as base_url,
    ):
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm-256color"}
        own = {"BASE_URL": base_url, "APPKEY": sandbox.appkey, "APPSECRET": sandbox.appsecret}
        yield sandbox, environ | {f"GATEPAY_{name}": value for name, value in own.items()}


def on_terminal(command: tuple[str, ...], folder: Path, environ: dict[str, str]) -> str:
    """All that the command writes on a terminal of its own."""
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
    except OSError:  # how Linux says that the other side is closed
        return b""


def drawn(name: str, picture: Picture, text: str) -> str:
    """The picture as SVG; what differs from run to run is made the same."""
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8765", re.sub(r"\b[0-9a-f]{16}\b", "0123456789abcdef", text))
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text.assemble(("$ ", "bold green"), ("gatepay " + " ".join(picture.command), "bold")))
        console.print(Text.from_ansi(text))
        svg = console.export_svg(title="gatepay", unique_id=name)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # from a server far away
    return PIECE.sub(placed, svg)


def placed(found: re.Match[str]) -> str:
    """
    A piece of text, cut where narrow letters meet wide ones, each part where its column is.

    Rich gives a piece the width of as many columns as it has letters. A Chinese one fills two, so each is put in the
    middle of its own two: a width for all of them would put what is left over between them.
    """
    before, x, between, after, escaped = found.groups()
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
    """Draw them all."""
    IMAGES.mkdir(exist_ok=True)
    for name, picture in PICTURES.items():
        for language, locale in LOCALES.items():
            svg = drawn(name + language, picture, printed(picture, locale))
            (IMAGES / f"terminal-{name}{language}.svg").write_text(svg, "utf-8")


if __name__ == "__main__":
    main()
