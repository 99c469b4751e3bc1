"""What people see: tables, findings and progress, drawn by Rich. Nothing that comes from elsewhere is markup here."""

import math
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from datetime import datetime
from typing import IO

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from gatepay_async.cli.language import current_language, text
from gatepay_async.cli.output import escape, wants_json
from gatepay_async.cli.usage import wrap
from gatepay_async.words import Lang, say
from gatepay_async.words.command import COMMAND

_FILE_COLUMNS = 160  # columns where there is no terminal to ask
_WIDE_COLUMNS = 60  # columns; a narrower terminal needs them for the words of a table, not for the space between them


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the process. Typer does that, and knows the original error by its number."""
        raise  # noqa: PLE0704 -- Rich calls this while it handles that error


def screen(stream: IO[str] | None = None) -> Console:
    """A console on *stream*, by default standard output; it takes text as it is, never as markup."""
    file = sys.stdout if stream is None else stream
    width = None if file.isatty() else _FILE_COLUMNS
    return _Screen(file=file, markup=False, highlight=False, emoji=False, width=width)


def print_table(what: Table) -> None:
    """Draw a table on standard output, without the blanks that Rich fills its lines with."""
    console = screen()
    with console.capture() as drawn:
        console.print(what)
    lines = [line.rstrip() for line in drawn.get().splitlines()]
    sys.stdout.write("\n".join(lines).strip("\n") + ("\n\n" if what.show_header else "\n"))


def table(*columns: str, right: Iterable[int] = ()) -> Table:
    """An empty table; the columns numbered in *right*, from 0, hold numbers."""
    padding = (0, 1 if screen().width >= _WIDE_COLUMNS else 0)
    new = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=padding)
    for place, column in enumerate(columns):
        new.add_column(column, justify="right" if place in right else "left", overflow="fold")
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


class _Rate(ProgressColumn):
    """Card keys a second, and how long the rest will take at that rate."""

    def __init__(self) -> None:
        super().__init__()
        # Rich draws in a thread of its own, which doesn't know what language is spoken.
        self._language: Lang = current_language()

    def render(self, task: Task) -> Text:
        """Nothing before there is a rate."""
        # Since the beginning: chunks that were sent side by side end side by side, and between two of them Rich's own
        # rate is hundreds of thousands.
        if not task.completed or not task.elapsed:
            return Text()
        rate = task.completed / task.elapsed
        label = say(COMMAND["screens.rate"], self._language, rate=f"{rate:,.0f}")
        if task.remaining:
            left = math.ceil(task.remaining / rate)
            clock = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
            label += " " + say(COMMAND["screens.left"], self._language, time=clock)
        return Text(label, style="cyan")


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
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate())
    with Progress(*columns, console=screen(sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=total)

        def update(done: int, of: float | None) -> None:
            bar.update(task, completed=done, total=of)

        yield update
