"""What people see: tables, findings and progress, drawn by Rich. Nothing that comes from elsewhere is markup here."""

import math
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task
from rich.table import Table
from rich.text import Text

from gatepay_async.cli.language import current_language, text
from gatepay_async.cli.output import escape, wants_json
from gatepay_async.cli.usage import wrap
from gatepay_async.words import Lang, say
from gatepay_async.words.command import COMMAND

_FILE_COLUMNS = 160  # columns where there is no terminal to ask
_WORD_COLUMNS = 8  # columns that a text in a table needs at least
_WIDE_COLUMNS = 60  # columns; a narrower terminal needs them for the words of a table, not for the space between them

_BAR_COLUMNS, _MIN_BAR_COLUMNS = 40, 8  # columns of a bar
# Columns at the end of its line that stay free. A terminal shows Ctrl-C as ^C where the cursor is; in the next line,
# Rich would take that one away, and leave the bar.
_ECHO_COLUMNS = 3


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the process. Typer does that, and knows the original error by its number."""
        raise  # noqa: PLE0704 -- Rich calls this while it handles that error


def screen(stream: IO[str] | None = None) -> Console:
    """A console on *stream*, by default standard output; it takes text as it is, never as markup."""
    file = sys.stdout if stream is None else stream
    width = None if file.isatty() else _file_columns()
    return _Screen(file=file, markup=False, highlight=False, emoji=False, width=width)


def _file_columns() -> int:
    """How wide the output is where there is no terminal: as ``COLUMNS`` says."""
    said = os.environ.get("COLUMNS", "")
    return int(said) if said.isascii() and said.isdecimal() and int(said) else _FILE_COLUMNS


def print_table(what: Table) -> None:
    """
    Draw a table on standard output, without the blanks that Rich fills its lines with.

    Where the terminal is too narrow for it, each row is drawn as names and values, one below the other.
    """
    sys.stdout.write(_draw(what))


def print_list(what: Table) -> None:
    """As ``print_table``; through a pager, if it is longer than the terminal."""
    drawn = _draw(what)
    if not sys.stdout.isatty() or drawn.count("\n") < shutil.get_terminal_size().lines or not _show_in_pager(drawn):
        sys.stdout.write(drawn)


def _show_in_pager(drawn: str) -> bool:
    """Show it with ``$PAGER``, or with less; False: there is none, or it isn't wanted."""
    command = shlex.split(os.environ.get("PAGER", "less -FRX"))
    program = shutil.which(command[0]) if command else None
    if program is None or command[0] == "cat":
        return False
    sys.stdout.flush()
    environment = {"LESSCHARSET": "utf-8", **os.environ}
    subprocess.run([program, *command[1:]], input=drawn.encode(), env=environment, check=False)  # noqa: S603 -- the user's own
    return True


def _draw(what: Table) -> str:
    if what.show_header and what.row_count and not _fits(what):
        names = [str(column.header) for column in what.columns]
        rows = zip(*(column.cells for column in what.columns), strict=True)
        return "\n".join(_draw(facts(zip(names, row, strict=True))) for row in rows) + "\n"
    console = screen()
    with console.capture() as drawn:
        console.print(what)
    lines = [line.rstrip() for line in drawn.get().splitlines()]
    return "\n".join(lines).strip("\n") + ("\n\n" if what.show_header else "\n")


def _fits(what: Table) -> bool:
    """Whether no number and no ID need be broken, and words have some room; keeps them whole."""
    room = screen().width - len(what.columns) - 1  # what is drawn between and beside columns
    for column in what.columns:
        longest = max(cell_len(str(cell)) for cell in column.cells)
        if column.no_wrap:
            # Its heading may be broken.
            column.no_wrap, column.min_width = False, longest
        room -= what.padding[1] + min(longest, column.min_width or _WORD_COLUMNS)
    return room >= 0


def table(*columns: str, right: Iterable[int] = (), whole: Iterable[int] = ()) -> Table:
    """
    An empty table.

    Args:
        columns: The headings.
        right: The columns that hold numbers, from 0.
        whole: Others whose values are never broken: IDs, times.
    """
    padding = (0, 1 if screen().width >= _WIDE_COLUMNS else 0)
    new = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=padding)
    for place, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if place in right else "left"
        new.add_column(column, justify=justify, overflow="fold", no_wrap=place in right or place in whole)
    return new


def facts(rows: Iterable[tuple[str, object]]) -> Table:
    """Names and values, one below the other."""
    new = Table(box=None, show_header=False, pad_edge=False)
    new.add_column(style="bold", no_wrap=True)
    new.add_column(overflow="fold")
    for name, value in rows:
        new.add_row(name, escape(value))
    return new


def local_time(moment: datetime) -> str:
    """*moment* by this machine's clock, with its zone: ``2026-11-28 21:05:10 +0800``."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %z}"


def span(seconds: int) -> str:
    """A length of time as a person says it: ``90 s`` is ``1 min 30 s``."""
    amounts = (("hours", seconds // 3600), ("minutes", seconds // 60 % 60), ("seconds", seconds % 60))
    return " ".join(text(f"time.{unit}", count=count) for unit, count in amounts if count)


def wrap_indented(text: str, *, indent: int) -> str:
    """*text* in lines that fit behind *indent* columns of a terminal; elsewhere one line, for programs to find."""
    if not sys.stdout.isatty():
        return text
    return f"\n{' ' * indent}".join(wrap(text, max(indent, screen().width - indent)))


def print_line(text: str, *, style: str = "", stream: IO[str] | None = None) -> None:
    """One line, however long: an address in it stays whole."""
    try:
        screen(stream).print(Text(text, style=style), soft_wrap=True)
    except OSError:
        if stream is not sys.stderr:  # where that can't be written, there is nobody to tell
            raise


class _Bar(ProgressColumn):
    """
    One line that fits the terminal, whatever its width: how many are done, the bar, the rate and the time left.

    Args:
        console: Whose width it is.
    """

    max_refresh = None

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        # Rich draws in a thread of its own, which doesn't know what language is spoken.
        self._language: Lang = current_language()

    def render(self, task: Task) -> Text:
        """What there is room for, the most important first."""
        room = self._console.width - _ECHO_COLUMNS
        done = f"{task.completed:,.0f}" if task.total is None else f"{task.completed:,.0f}/{task.total:,.0f}"
        facts = [(task.description, ""), (done, "green"), *((each, "cyan") for each in self._pace(task))]
        # What is left out when the line is too long, one after the other: the rate, what is being done, the time left.
        for place in (2, 0, -1):
            if _columns(facts) > room and len(facts) > 1 and -len(facts) <= place < len(facts):
                facts.pop(place)
        texts = [Text(each, style=style) for each, style in facts]
        wide = min(_BAR_COLUMNS, room - _columns(facts) - 1)
        if task.total and wide >= _MIN_BAR_COLUMNS:
            texts.insert(int(facts[0][0] == task.description), self._drawn(task.completed / task.total, wide))
        return Text(" ").join(texts)

    def _pace(self, task: Task) -> list[str]:
        """Card keys a second, and how long the rest will take at that rate; nothing before there is a rate."""
        # Since the beginning: chunks that were sent side by side end side by side, and between two of them Rich's own
        # rate is hundreds of thousands.
        if not task.completed or not task.elapsed:
            return []
        rate = task.completed / task.elapsed
        pace = [say(COMMAND["screens.rate"], self._language, rate=f"{rate:,.0f}")]
        if task.remaining:
            left = math.ceil(task.remaining / rate)
            clock = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
            pace.append(say(COMMAND["screens.left"], self._language, time=clock))
        return pace

    def _drawn(self, part: float, wide: int) -> Text:
        sign = "━" if self._console.encoding.startswith("utf") else "-"
        done = min(wide, int(part * wide))
        return Text.assemble((sign * done, "bar.complete"), (sign * (wide - done), "bar.back"))


def _columns(facts: list[tuple[str, str]]) -> int:
    """Columns of them all, with a blank between two."""
    return sum(cell_len(each) + 1 for each, _ in facts) - 1


@contextmanager
def progress(what: str, *, total: float | None) -> Generator[Callable[[int, float | None], None]]:
    """
    A bar on standard error, if that is a terminal.

    Args:
        what: Is being done.
        total: Card keys or lines, or None: not known.

    Yields:
        What is to be called with how many are done, and how many there are.
    """
    if wants_json() or not sys.stderr.isatty():
        yield lambda _done, _of: None
        return
    console = screen(sys.stderr)
    with Progress(_Bar(console), console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)

        def update(done: int, of: float | None) -> None:
            bar.update(task, completed=done, total=of)

        yield update
