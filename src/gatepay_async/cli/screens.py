"""Output for people, with Rich: tables, lines and progress bars. No text is interpreted as markup."""

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

_FILE_COLUMNS = 160  # the width if the output is not a terminal
_WORD_COLUMNS = 8  # the least width of a text column in a table
_WIDE_COLUMNS = 60  # in a narrower terminal, the columns of a table have no space between them

_BAR_COLUMNS, _MIN_BAR_COLUMNS = 40, 8
# The space to leave free after a progress bar. A terminal echoes Ctrl-C as ^C at the cursor. If that wrapped to the
# next line, Rich would erase that line instead of the bar.
_ECHO_COLUMNS = 3


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        """Re-raise the original error, because Typer handles it. Rich would end the process."""
        raise  # noqa: PLE0704 -- Rich calls this while it handles that error


def screen(stream: IO[str] | None = None) -> Console:
    """Return a console without markup on *stream*; None: standard output."""
    file = sys.stdout if stream is None else stream
    width = None if file.isatty() else _file_columns()
    return _Screen(file=file, markup=False, highlight=False, emoji=False, width=width)


def _file_columns() -> int:
    """How wide the output is where there is no terminal: as ``COLUMNS`` says."""
    said = os.environ.get("COLUMNS", "")
    return int(said) if said.isascii() and said.isdecimal() and int(said) else _FILE_COLUMNS


def print_table(what: Table) -> None:
    """
    Print a table, without Rich's trailing blanks.

    If the terminal is too narrow, each row is printed as a list of names and values instead.
    """
    sys.stdout.write(_draw(what))


def print_list(what: Table) -> None:
    """Like ``print_table``, but use a pager if the table is longer than the terminal."""
    drawn = _draw(what)
    if not sys.stdout.isatty() or drawn.count("\n") < shutil.get_terminal_size().lines or not _show_in_pager(drawn):
        sys.stdout.write(drawn)


def _show_in_pager(drawn: str) -> bool:
    """Show text in ``$PAGER`` or less. False: there is no pager, or the user doesn't want one."""
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
    """Whether the table fits the terminal without breaking numbers and IDs. If so, fix the widths of their columns."""
    room = screen().width - len(what.columns) - 1  # without the space between and next to columns
    for column in what.columns:
        longest = max(cell_len(str(cell)) for cell in column.cells)
        if column.no_wrap:
            # Only the values must not be broken; the heading may be.
            column.no_wrap, column.min_width = False, longest
        room -= what.padding[1] + min(longest, column.min_width or _WORD_COLUMNS)
    return room >= 0


def table(*columns: str, right: Iterable[int] = (), whole: Iterable[int] = ()) -> Table:
    """
    Return an empty table.

    Args:
        columns: The headings.
        right: The indices of columns with numbers.
        whole: The indices of other columns whose values must not be broken, such as IDs and times.
    """
    padding = (0, 1 if screen().width >= _WIDE_COLUMNS else 0)
    new = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=padding)
    for place, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if place in right else "left"
        new.add_column(column, justify=justify, overflow="fold", no_wrap=place in right or place in whole)
    return new


def facts(rows: Iterable[tuple[str, object]]) -> Table:
    """Return a table of names and values."""
    new = Table(box=None, show_header=False, pad_edge=False)
    new.add_column(style="bold", no_wrap=True)
    new.add_column(overflow="fold")
    for name, value in rows:
        new.add_row(name, escape(value))
    return new


def local_time(moment: datetime) -> str:
    """Format *moment* in this machine's time zone: ``2026-11-28 21:05:10 +0800``."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %z}"


def span(seconds: int) -> str:
    """Format a duration for people: 90 is ``1 min 30 s``."""
    amounts = (("hours", seconds // 3600), ("minutes", seconds // 60 % 60), ("seconds", seconds % 60))
    return " ".join(text(f"time.{unit}", count=count) for unit, count in amounts if count)


def wrap_indented(text: str, *, indent: int) -> str:
    """Wrap *text* to the terminal, with following lines indented. Without a terminal, keep one line for programs."""
    if not sys.stdout.isatty():
        return text
    return f"\n{' ' * indent}".join(wrap(text, max(indent, screen().width - indent)))


def print_line(text: str, *, style: str = "", stream: IO[str] | None = None) -> None:
    """Print one line without wrapping it, so that URLs in it stay whole."""
    try:
        screen(stream).print(Text(text, style=style), soft_wrap=True)
    except OSError:
        if stream is not sys.stderr:  # if standard error can't be written, do nothing
            raise


class _Bar(ProgressColumn):
    """
    A progress bar that fits any terminal: the number done, the bar, the rate and the time left.

    Args:
        console: The console, for its width.
    """

    max_refresh = None

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        # Rich draws in another thread, where current_language() isn't set.
        self._language: Lang = current_language()

    def render(self, task: Task) -> Text:
        """Draw as many parts as fit, the most important ones first."""
        room = self._console.width - _ECHO_COLUMNS
        done = f"{task.completed:,.0f}" if task.total is None else f"{task.completed:,.0f}/{task.total:,.0f}"
        facts = [(task.description, ""), (done, "green"), *((each, "cyan") for each in self._pace(task))]
        # If the line is too long, leave out the rate, then the description, then the time left.
        for place in (2, 0, -1):
            if _columns(facts) > room and len(facts) > 1 and -len(facts) <= place < len(facts):
                facts.pop(place)
        texts = [Text(each, style=style) for each, style in facts]
        wide = min(_BAR_COLUMNS, room - _columns(facts) - 1)
        if task.total and wide >= _MIN_BAR_COLUMNS:
            texts.insert(int(facts[0][0] == task.description), self._drawn(task.completed / task.total, wide))
        return Text(" ").join(texts)

    def _pace(self, task: Task) -> list[str]:
        """The rate in card keys per second and the time left; empty while there is no rate."""
        # The average since the start. Rich's own rate is between two updates, and concurrent chunks end at nearly the
        # same time, which would give hundreds of thousands.
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
    """The width of all *facts*, with a blank between two."""
    return sum(cell_len(each) + 1 for each, _ in facts) - 1


@contextmanager
def progress(what: str, *, total: float | None) -> Generator[Callable[[int, float | None], None]]:
    """
    Show a progress bar on standard error, if that is a terminal.

    Args:
        what: The description of the work.
        total: The number of card keys or lines; None: unknown.

    Yields:
        A function to call with the number done and the total.
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
