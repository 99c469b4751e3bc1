"""Prints tables, lines and progress bars for people, with Rich. No text is interpreted as markup."""

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
from gatepay_async.cli.wrapping import longest_piece, wrap, wrap_lines
from gatepay_async.words import Lang, say
from gatepay_async.words.command import COMMAND

# Widths are in columns of the terminal. A Chinese character fills two.
_FILE_COLUMNS = 160  # the default width without a terminal
_MIN_TEXT_COLUMNS = 8  # the minimum width of a text column in a table
_WIDE_COLUMNS = 60  # in a narrower terminal, there is no space between the columns of a table

_BAR_COLUMNS, _MIN_BAR_COLUMNS = 40, 8  # the longest and the shortest progress bar
# The space to leave free after a progress bar. A terminal echoes Ctrl-C as ^C at the cursor. If that wrapped to the
# next line, Rich would erase that line instead of the bar.
_ECHO_COLUMNS = 3


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        """Re-raise the original error, because Typer handles it. Rich would end the process."""
        raise  # noqa: PLE0704 -- Rich calls this in its except block


def new_console(stream: IO[str] | None = None) -> Console:
    """Return a console without markup on *stream*; None: standard output."""
    clear_waiting()
    file = sys.stdout if stream is None else stream
    width = None if file.isatty() else _file_columns()
    return _Screen(file=file, markup=False, highlight=False, emoji=False, width=width)


def _file_columns() -> int:
    """Return the width without a terminal: ``COLUMNS``, or a default."""
    setting = os.environ.get("COLUMNS", "")
    return int(setting) if setting.isascii() and setting.isdecimal() and int(setting) else _FILE_COLUMNS


def print_table(content: Table) -> None:
    """
    Print a table, without Rich's trailing spaces.

    If the terminal is too narrow, each row is printed as a list of names and values instead.
    """
    sys.stdout.write(_draw(content))


def print_list(content: Table) -> None:
    """Print a table, in a pager if it is longer than the terminal."""
    output = _draw(content)
    if not sys.stdout.isatty() or output.count("\n") < shutil.get_terminal_size().lines or not _show_in_pager(output):
        sys.stdout.write(output)


def _show_in_pager(output: str) -> bool:
    """Show text in ``$PAGER`` or less. Return False if there is no pager, or the user doesn't want one."""
    command = shlex.split(os.environ.get("PAGER", "less -FRX"))
    program = shutil.which(command[0]) if command else None
    if program is None or command[0] == "cat":
        return False
    sys.stdout.flush()
    environment = {"LESSCHARSET": "utf-8", **os.environ}
    subprocess.run([program, *command[1:]], input=output.encode(), env=environment, check=False)  # noqa: S603 -- the user's program
    return True


def _draw(content: Table) -> str:
    """Return a table as text, or each row as names and values if the table doesn't fit the terminal."""
    if content.show_header and content.row_count and not _fit_columns(content):
        names = [str(column.header) for column in content.columns]
        cells = zip(*(column.cells for column in content.columns), strict=True)
        return "\n".join(_draw(name_value_table(zip(names, row, strict=True))) for row in cells) + "\n"
    console = new_console()
    with console.capture() as output:
        if content.show_header:
            console.print(content)
        else:
            for line in _draw_names_and_values(content, console.width):
                console.print(line, soft_wrap=True)
    lines = [line.rstrip() for line in output.get().splitlines()]
    return "\n".join(lines).strip("\n") + ("\n\n" if content.show_header else "\n")


def _draw_names_and_values(content: Table, width: int) -> Iterator[Text]:
    """
    Yield names and values next to each other.

    If a word of a value doesn't fit there, the value is below its name.
    """
    names, values = ([str(cell) for cell in column.cells] for column in content.columns)
    indent = max(map(cell_len, names), default=0) + 1
    for name, value in zip(names, values, strict=True):
        if longest_piece(value) > width - indent:
            yield Text(name, style="bold")
            yield Text(wrap_lines(f"{' ' * (len(name) - len(name.lstrip()) + 2)}{value}", width))
            continue
        first, *more = wrap(value, width - indent)
        yield Text(f"{name}{' ' * (indent - cell_len(name))}", style="bold").append(first, style="not bold")
        yield from (Text(f"{' ' * indent}{line}") for line in more)


def _fit_columns(content: Table) -> bool:
    """
    Set the column widths so that the table fits the terminal without breaking numbers, IDs and words.

    Return whether it fits. If it doesn't, the widths are meaningless.
    """
    gap = content.padding[1] + content.padding[3] + 1  # between two columns
    # Without the spaces at both sides, and another one that older versions of Rich add to the first column.
    free_columns = new_console().width - (len(content.columns) - 1) * gap - 3
    content_widths: list[int] = []
    for column in content.columns:
        cells, heading = [str(cell) for cell in column.cells], str(column.header)
        content_widths.append(max(map(cell_len, [*cells, heading])))
        # A heading may be wrapped between its words.
        if column.no_wrap:
            longest_piece_width = max(map(cell_len, cells))
        else:
            longest_piece_width = max(min(content_widths[-1], _MIN_TEXT_COLUMNS), *map(longest_piece, cells))
        heading_width = min(max(map(cell_len, heading.split())), _MIN_TEXT_COLUMNS)
        column.no_wrap, column.width = False, max(longest_piece_width, heading_width, longest_piece(heading))
        free_columns -= column.width
    if free_columns < 0:
        return False
    for _ in range(free_columns):  # widen the column whose content needs the most additional space
        column, limit = max(
            zip(content.columns, content_widths, strict=True), key=lambda pair: pair[1] - (pair[0].width or 0)
        )
        column.width = min(limit, (column.width or 0) + 1)
    return True


class _WrappedText:
    """
    The text of a cell, wrapped by ``wrap``. Rich would treat a Chinese sentence as one word, and break names in it.

    Args:
        content: The text.
    """

    def __init__(self, content: str) -> None:
        self._content = content

    def __str__(self) -> str:
        return self._content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the text."""
        yield Text("\n".join(wrap(self._content, options.max_width)))


class _WrappedTable(Table):
    """A table whose cells are wrapped by ``wrap``."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Implement ``Table.add_row``."""
        super().add_row(*map(_WrappedText, cells), **options)


def table(*columns: str, number_columns: Iterable[int] = (), unbroken_columns: Iterable[int] = ()) -> Table:
    """
    Return an empty table.

    Args:
        columns: The headings.
        number_columns: The indexes of columns with numbers.
        unbroken_columns: The indexes of other columns whose values must not be broken, such as IDs and times.
    """
    padding = (0, 1 if new_console().width >= _WIDE_COLUMNS else 0)
    new = _WrappedTable(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=padding)
    for index, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if index in number_columns else "left"
        new.add_column(
            column, justify=justify, overflow="fold", no_wrap=index in number_columns or index in unbroken_columns
        )
    return new


def name_value_table(rows: Iterable[tuple[str, object]]) -> Table:
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


def format_duration(seconds: int) -> str:
    """Format a duration: 90 is ``1 min 30 s``."""
    amounts = (("hours", seconds // 3600), ("minutes", seconds // 60 % 60), ("seconds", seconds % 60))
    return " ".join(text(f"time.{unit}", count=count) for unit, count in amounts if count)


def wrap_indented(text: str, *, indent: int) -> str:
    """
    Wrap *text* to the terminal, and indent the following lines.

    Without a terminal, leave it on one line for programs.
    """
    if not sys.stdout.isatty():
        return text
    return f"\n{' ' * indent}".join(wrap(text, max(indent, new_console().width - indent)))


def print_line(text: str, *, style: str = "", stream: IO[str] | None = None, unwrapped: bool = False) -> None:
    """
    Print *text*. On a terminal it is wrapped between words, so that numbers and URLs are not broken.

    Args:
        text: A line, or several.
        style: Rich's style for the text.
        stream: None: standard output.
        unwrapped: Whether to print *text* without wrapping, because the user copies it.
    """
    console = new_console(stream)
    if console.file.isatty() and not unwrapped:
        text = wrap_lines(text, console.width)
    try:
        console.print(Text(text, style=style), soft_wrap=True)
    except OSError:
        if stream is not sys.stderr:  # nothing can be printed about an error of standard error
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
        """Return as many parts as fit, the most important ones first."""
        free_columns = self._console.width - _ECHO_COLUMNS
        done = f"{task.completed:,.0f}" if task.total is None else f"{task.completed:,.0f}/{task.total:,.0f}"
        parts = [(task.description, ""), (done, "green"), *((part, "cyan") for part in self._rate_and_time_left(task))]
        # If the line is too long, leave out the rate, then the description, then the time left.
        for index in (2, 0, -1):
            if _columns(parts) > free_columns and len(parts) > 1 and -len(parts) <= index < len(parts):
                parts.pop(index)
        texts = [Text(part, style=style) for part, style in parts]
        # The bar comes after the description, unless that was left out.
        bar_columns = min(_BAR_COLUMNS, free_columns - _columns(parts) - 1)
        if task.total and bar_columns >= _MIN_BAR_COLUMNS:
            texts.insert(int(parts[0][0] == task.description), self._draw_bar(task.completed / task.total, bar_columns))
        return Text(" ").join(texts)

    def _rate_and_time_left(self, task: Task) -> list[str]:
        """Return the rate in card keys per second and the time left, or nothing until there is a rate."""
        # This is the average since the start. Rich's own rate is that between two updates, which would be hundreds of
        # thousands, because concurrent chunks end at nearly the same time.
        if not task.completed or not task.elapsed:
            return []
        rate = task.completed / task.elapsed
        texts = [say(COMMAND["screens.rate"], self._language, rate=f"{rate:,.0f}")]
        if task.remaining:
            left = math.ceil(task.remaining / rate)
            clock = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
            texts.append(say(COMMAND["screens.left"], self._language, time=clock))
        return texts

    def _draw_bar(self, fraction: float, columns: int) -> Text:
        character = "━" if self._console.encoding.startswith("utf") else "-"
        done = min(columns, int(fraction * columns))
        return Text.assemble((character * done, "bar.complete"), (character * (columns - done), "bar.back"))


def _columns(parts: list[tuple[str, str]]) -> int:
    """Return the width of *parts*, with a space between two of them."""
    return sum(cell_len(part) + 1 for part, _ in parts) - 1


@contextmanager
def progress(description: str, *, total: float | None) -> Generator[Callable[[int, float | None], None]]:
    """
    Show a progress bar on standard error, if that is a terminal.

    Args:
        description: What the progress bar counts.
        total: The number of card keys or lines, or None if it is unknown.

    Yields:
        A function to call with the number done and the total.
    """
    if wants_json() or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    console = new_console(sys.stderr)
    with Progress(_Bar(console), console=console, transient=True) as bar:
        task = bar.add_task(description, total=total)

        def update(done: int, total: float | None) -> None:
            bar.update(task, completed=done, total=total)

        yield update
