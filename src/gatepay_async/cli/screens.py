"""Output for people, with Rich: tables, lines and progress bars. No text is interpreted as markup."""

import math
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Any, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.progress import Progress, ProgressColumn, Task
from rich.table import Table
from rich.text import Text

from gatepay_async.cli.language import current_language, text
from gatepay_async.cli.output import clear_waiting, escape, wants_json
from gatepay_async.cli.wrapping import fold, longest_piece, wrap
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
    clear_waiting()
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
        if what.show_header:
            console.print(what)
        else:
            for line in _draw_facts(what, console.width):
                console.print(line, soft_wrap=True)
    lines = [line.rstrip() for line in drawn.get().splitlines()]
    return "\n".join(lines).strip("\n") + ("\n\n" if what.show_header else "\n")


def _draw_facts(what: Table, width: int) -> Iterator[Text]:
    """Names and values next to each other. A value with a word that doesn't fit there is below its name."""
    names, values = ([str(cell) for cell in column.cells] for column in what.columns)
    indent = max(map(cell_len, names), default=0) + 1
    for name, value in zip(names, values, strict=True):
        if longest_piece(value) > width - indent:
            yield Text(name, style="bold")
            yield Text(fold(f"{' ' * (len(name) - len(name.lstrip()) + 2)}{value}", width))
            continue
        first, *more = wrap(value, width - indent)
        yield Text(f"{name}{' ' * (indent - cell_len(name))}", style="bold").append(first, style="not bold")
        yield from (Text(f"{' ' * indent}{line}") for line in more)


def _fits(what: Table) -> bool:
    """Whether the table fits the terminal without breaking numbers, IDs and words. If so, fix the column widths."""
    room = (
        screen().width - (len(what.columns) - 1) * what.padding[1] - len(what.columns) - 1
    )  # space between and beside
    wanted: list[int] = []
    for column in what.columns:
        cells, heading = [str(cell) for cell in column.cells], str(column.header)
        wanted.append(max(map(cell_len, [*cells, heading])))
        # A heading may be wrapped between its words.
        if column.no_wrap:
            longest = max(map(cell_len, cells))
        else:
            longest = max(min(wanted[-1], _WORD_COLUMNS), *map(longest_piece, cells))
        word = min(max(map(cell_len, heading.split())), _WORD_COLUMNS)
        column.no_wrap, column.width = False, max(longest, word, longest_piece(heading))
        room -= column.width
    if room < 0:
        return False
    for _ in range(room):
        column, most = max(zip(what.columns, wanted, strict=True), key=lambda pair: pair[1] - (pair[0].width or 0))
        column.width = min(most, (column.width or 0) + 1)
    return True


class _Words:
    """
    The text of a cell, wrapped by ``wrap``. Rich takes a Chinese sentence for one word, and breaks the names in it.

    Args:
        content: The text.
    """

    def __init__(self, content: str) -> None:
        self._content = content

    def __str__(self) -> str:
        return self._content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """The lines of the text."""
        yield Text("\n".join(wrap(self._content, options.max_width)))


class _Rows(Table):
    """A table whose cells are wrapped by ``wrap``."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """As ``Table.add_row``."""
        super().add_row(*map(_Words, cells), **options)


def table(*columns: str, right: Iterable[int] = (), whole: Iterable[int] = ()) -> Table:
    """
    Return an empty table.

    Args:
        columns: The headings.
        right: The indices of columns with numbers.
        whole: The indices of other columns whose values must not be broken, such as IDs and times.
    """
    padding = (0, 1 if screen().width >= _WIDE_COLUMNS else 0)
    new = _Rows(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=padding)
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


def print_line(text: str, *, style: str = "", stream: IO[str] | None = None, whole: bool = False) -> None:
    """
    Print *text*. On a terminal it is wrapped between words, so that numbers and URLs stay whole.

    Args:
        text: A line, or several.
        style: Rich's style for the whole text.
        stream: None: standard output.
        whole: Don't wrap it, because the user copies the line.
    """
    console = screen(stream)
    if console.file.isatty() and not whole:
        text = fold(text, console.width)
    try:
        console.print(Text(text, style=style), soft_wrap=True)
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
