"""What people see: tables, findings and progress, drawn by Rich. Nothing that comes from elsewhere is markup here."""

import math
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import IO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task
from rich.table import Table
from rich.text import Text

from gatepay_async.cli.language import current_language
from gatepay_async.cli.output import escape, wants_json
from gatepay_async.cli.usage import wrap
from gatepay_async.words import Lang, say
from gatepay_async.words.command import COMMAND

_FILE_COLUMNS = 160  # columns where there is no terminal to ask
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
