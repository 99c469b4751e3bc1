"""Runs the command as a process, with or without a real terminal."""

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable

from attrs import define, field
from rich.cells import cell_len
from waiting import PATIENCE

COMMAND = [sys.executable, "-W", "error", "-m", "gatepay_async.cli"]


@define
class Terminal:
    """A process in its own pseudo-terminal, and its output so far."""

    pid: int
    fd: int
    text: str = ""
    _decoder: codecs.IncrementalDecoder = field(factory=codecs.getincrementaldecoder("utf-8"))

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def read(self, until: Callable[[str], object]) -> str:
        """Read until *until* is true for the output, or the process has ended."""
        deadline = time.monotonic() + PATIENCE
        while not until(self.text):
            assert time.monotonic() < deadline, self.text
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    data = os.read(self.fd, 65_536)
                except OSError:  # Linux raises this when the other side is closed
                    break
                if not data:
                    break
                self.text += self._decoder.decode(data)  # the data may end within a character
        return self.text

    def end(self) -> int:
        """Wait until the process has ended. Return its exit status."""
        self.read(lambda _: False)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def screen_of(text: str, columns: int) -> list[str]:
    """Return the lines that a terminal shows for *text*, including those that scrolled away."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|[^\x1b]", text):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part == "\x1b[2K":  # erase the line
            lines[row] = ""
        elif part.startswith("\x1b"):
            row -= int(part[2:-1] or 1) if part.endswith("A") else 0  # "A" moves up; colours, for example, move nothing
        else:
            width = cell_len(part)
            if column + width > columns:  # continue on the next line
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            # A wide letter takes two columns; the second cell is empty.
            cells = [cell for letter in lines[row] for cell in ([letter, ""] if cell_len(letter) > 1 else [letter])]
            cells += [" "] * (column - len(cells))
            lines[row] = "".join([*cells[:column], part, *cells[column + width :]])
            column += width
    return lines


Open = Callable[..., Terminal]  # the type of the fixture `terminal`, which passes its arguments to `opened`


def opened(*arguments: object, columns: int) -> Terminal:
    """Start the command in its own terminal."""
    pid, fd = pty.fork()
    if pid == 0:
        # Also set in the child: the parent may set the size only after the command has read it.
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        # Pass os.environ explicitly: readline sets COLUMNS in the environment of the C library only.
        os.execve(sys.executable, [*COMMAND, *map(str, arguments)], dict(os.environ))  # noqa: S606 -- a fixed program
    terminal = Terminal(pid, fd)
    terminal.resize(columns)
    return terminal


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command without a terminal, and wait for its end."""
    return subprocess.run(  # type: ignore[call-overload,no-any-return]  # options are passed on
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
        **options,
    )
