"""
Draws the pictures of the terminal: each is what the command itself prints, run against the sandbox.

    python docs/terminal_pictures.py

Writes docs/images/terminal-*.svg.
"""

import html
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from gatepay_async.sandbox import Sandbox

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
COLUMNS = 88
WIDTHS = re.compile(r'(<text [^>]*)textLength="([\d.]+)"([^>]*)>([^<]+)</text>')
COMMANDS = {
    "upload": ["keys", "upload", "keys.txt", "--product", "8"],
    "refused": ["keys", "upload", "keys.txt", "--product", "77"],
    "errors": ["errors", "pay/create", "109"],
    "doctor": ["doctor"],
    "help": ["--help"],
}


def printed(command: list[str], folder: Path, environ: dict[str, str]) -> str:
    """What the command writes on a terminal."""
    master, slave = pty.openpty()
    try:
        program = [sys.executable, "-m", "gatepay_async.cli", *command]
        subprocess.run(program, cwd=folder, env=environ, stdout=slave, stderr=subprocess.PIPE, check=False)  # noqa: S603 -- our own
        os.close(slave)
        text = b""
        while True:
            try:
                part = os.read(master, 65_536)
            except OSError:  # how Linux says that the other side is closed
                break
            if not part:
                break
            text += part
    finally:
        os.close(master)
    return text.decode().replace("\r\n", "\n").rstrip()


def draw(name: str, command: list[str], text: str) -> None:
    """One picture; what differs from run to run is made the same."""
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8765", re.sub(r"\b[0-9a-f]{16}\b", "0123456789abcdef", text))
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text.assemble(("$ ", "bold green"), ("gatepay " + " ".join(command), "bold")))
        console.print(Text.from_ansi(text))
        picture = console.export_svg(title="gatepay", unique_id=name)
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)  # from a server far away
    (IMAGES / f"terminal-{name}.svg").write_text(WIDTHS.sub(widened, picture), "utf-8")


def widened(found: re.Match[str]) -> str:
    """A piece of text with its true width: Rich counts letters, and a Chinese one is two columns wide."""
    text = html.unescape(found[4])
    return f'{found[1]}textLength="{float(found[2]) / len(text) * cell_len(text):g}"{found[3]}>{found[4]}</text>'


async def main() -> None:
    """Draw them all."""
    IMAGES.mkdir(exist_ok=True)
    keys = "".join(f"AAAA-{number:04d}\n" for number in range(2000)) + "\nAAAA-0007\nAAAA-0008\n"
    with tempfile.TemporaryDirectory() as folder, Sandbox() as sandbox:
        (Path(folder) / "keys.txt").write_text(keys)
        async with sandbox.serve() as base_url:
            appkey, appsecret = sandbox.shops[0]
            environ = {
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT / "src"),
                "TERM": "xterm-256color",
                "COLUMNS": str(COLUMNS),
                "GATEPAY_BASE_URL": base_url,
                "GATEPAY_APPKEY": appkey,
                "GATEPAY_APPSECRET": appsecret,
            }
            for name, command in COMMANDS.items():
                for language, locale in (("", "en_GB.UTF-8"), ("-zh", "zh_CN.UTF-8")):
                    variables = environ | {"LANG": locale, "PYTHONUTF8": "1"}
                    text = await anyio.to_thread.run_sync(printed, command, Path(folder), variables)
                    draw(name + language, command, text)


if __name__ == "__main__":
    anyio.run(main)
