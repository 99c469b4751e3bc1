"""
Checks all input files before anything is sent.

A line that may not be a card key is *odd*. The user is asked whether to upload odd lines.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from anyio import to_thread
from attrs import define, evolve, field

from gatepay_async.cli.files import encodings, formats, memory
from gatepay_async.cli.files.lines import MAX_LINE_BYTES
from gatepay_async.cli.files.odd import Odd, Oddities, is_long_number, masked
from gatepay_async.cli.files.reading import AUTO, FileProblemError, NumberCell, Reading, Refused
from gatepay_async.cli.files.tables import Cell
from gatepay_async.cli.language import CommandText, text
from gatepay_async.cli.output import escape, question, wants_json, warn
from gatepay_async.cli.screens import progress
from gatepay_async.cli.sources import (
    InputSource,
    add_nothing_sent,
    explain_problems,
    explain_unreadable,
    file_error,
    file_stamp,
    find_sources,
    locate_problem,
)
from gatepay_async.cli.status import HaltError
from gatepay_async.protocol import invisible

MAX_BYTES_KEPT = 32 * 2**20  # for all files together
_MIN_PIPE_BYTES = 2 * MAX_LINE_BYTES  # of a pipe are kept in any case, so that its first line can be checked
_MAX_PROBLEMS = 5  # to report; then the check stops, because in a wrong encoding every line has a problem
_MAX_ODD = 5  # odd lines to show
BATCH_LINES = 2000  # lines to read at once
_ODD_CHARACTERS = (",", "\t", "<", "&", '"', "'", "`", "E+")  # a line without any of them is odd only if it is a number


async def read_inputs(names: list[Path], reading: Reading, *, yes: bool) -> list[InputSource]:
    """
    Check all files while a progress bar is shown, and ask the user about odd lines.

    Raises:
        HaltError: As for ``check_sources`` and ``confirm_odd_lines``.
    """
    with progress(text("sources.reading"), total=None):
        # A pipe may never end. If this task is cancelled, abandon the thread that waits for it.
        checked = await to_thread.run_sync(check_sources, names, reading, abandon_on_cancel=True)
    if not yes:
        await to_thread.run_sync(confirm_odd_lines, checked, abandon_on_cancel=True)
    return checked


def check_sources(names: list[Path], reading: Reading) -> list[InputSource]:
    """
    Check whether all lines of all files can be uploaded. Keep up to ``MAX_BYTES_KEPT`` bytes of them in memory.

    Raises:
        HaltError: A file is missing, is a folder, or has a line that can't be a card key. The error names the place.
    """
    memory.separate_large_blocks()
    sources = find_sources(names)
    if reading.column and not any(formats.is_table(source.path, reading) for source in sources):
        raise HaltError(text("sources.no_table"), todo=text("sources.no_table.todo"))
    checked: list[InputSource] = []
    free_bytes = MAX_BYTES_KEPT
    for source in sources:
        with add_nothing_sent(), explain_unreadable(source.name), explain_problems(source.name):
            parts = _check_input(source, reading, free_bytes)
        free_bytes = max(1, free_bytes - sum(len(part.content or b"") for part in parts))  # 0 means: no table
        checked += parts
    memory.release_memory()
    return checked


def confirm_odd_lines(sources: list[InputSource]) -> None:
    """
    Ask whether odd lines are card keys.

    Raises:
        HaltError: The user says no, or can't be asked.
    """
    count = sum(source.odd_count for source in sources)
    if not count:
        return
    on_terminal = sys.stdin.isatty() and sys.stderr.isatty() and not wants_json()
    reads_stdin = any(source.path is None for source in sources)  # the answer can't come from the same stream
    if on_terminal and not reads_stdin:
        warn(text("odd.these", count=count))
        for line in odd_lines(sources):
            warn(f"  {line}")
        with question(text("odd.ask")):
            answer = sys.stdin.readline()
        if answer.strip().casefold() in {"y", "yes", "是", "好"}:
            return
        raise HaltError(text("odd.no"), todo=text("odd.todo"))
    raise HaltError(text("odd.found", count=count, lines=list(odd_lines(sources))), todo=text("odd.todo"))


def odd_lines(sources: list[InputSource]) -> Iterator[CommandText]:
    """Return the first odd lines, masked, each with the reason why it is odd."""
    lines = (
        text(
            "odd.line", name=escape(source.name), line=odd.line, shown=escape(odd.shown), reason=text(f"odd.{odd.kind}")
        )
        for source in sources
        for odd in source.odd
    )
    return islice(lines, _MAX_ODD)


def _check_input(source: InputSource, reading: Reading, free_bytes: int) -> list[InputSource]:
    if source.is_pipe:
        return [_check_pipe(source, reading, free_bytes)]
    with source.open() as file:
        if source.path is not None and source.path.suffix.lower() == formats.WORKBOOK:
            return _check_workbook(source, file, reading, free_bytes)
        size, _ = stamp = file_stamp(file)
        source = evolve(source, stamp=stamp)
        content = file.read(free_bytes + 1) if size <= free_bytes else None
        if content is not None and len(content) <= free_bytes:  # the file may have grown since the check of its size
            return [_check_text(evolve(source, content=content), BytesIO(content), reading, free_bytes)]
        return [_check_text(source, file, reading, free_bytes)]


def _check_pipe(source: InputSource, reading: Reading, free_bytes: int) -> InputSource:
    """Check a pipe, or only its start if it has many more than *free_bytes*. The rest is read during the upload."""
    encoding = "utf-8" if reading.encoding == AUTO else reading.encoding
    if reading.as_is:  # lines are sent as they arrive, without a check
        return evolve(source, parse=partial(formats.parse_plain, encoding=encoding))
    context = source.open()
    file = context.__enter__()  # not a with block: the upload reads the rest of a long pipe
    max_bytes = max(free_bytes, _MIN_PIPE_BYTES)
    content = file.read(max_bytes + 1)
    if len(content) <= max_bytes:
        context.__exit__(None, None, None)
        complete = evolve(source, is_pipe=False, content=content)
        return _check_text(complete, BytesIO(content), reading, free_bytes)
    if formats.is_table(source.path, reading):
        context.__exit__(None, None, None)
        raise FileProblemError("sources.long_table", most=max_bytes // 2**20)
    wide = next((name for name in (encodings.encoding_of_mark(content), encoding) if name in encodings.WIDE), None)
    # In a wide encoding, the byte "\n" may be a part of another character.
    start = content[: content.rfind(b"\n") + 1] if wide is None else encodings.whole_characters(content, wide)
    checked = _check_text(source, BytesIO(start), reading, free_bytes)
    return evolve(checked, content=content, rest=file, line_count=None)


def _check_text(source: InputSource, file: BinaryIO, reading: Reading, free_bytes: int) -> InputSource:
    """Check a text file, which may be a table. A table is kept as lines with one card key each."""
    encoding, parse = formats.parser_for(source.path, file, reading)
    if reading.encoding == AUTO and encoding == "gb18030":
        warn(text("sources.guessed", name=escape(source.name), encoding=encoding))
    first_line, keys = parse(file)
    if not formats.is_table(source.path, reading):
        check = _Check(source.name, first_line, None if reading.as_is else Oddities(is_table=False))
        check.read(keys)
        # The upload reads kept content from memory, so changes of the file don't matter.
        return check.result(evolve(source, stamp=None if source.content else source.stamp), parse)
    return _check_table(evolve(source, content=None), first_line, keys, parse, free_bytes)


def _check_workbook(source: InputSource, file: BinaryIO, reading: Reading, free_bytes: int) -> list[InputSource]:
    """Check a workbook. Return a source for each sheet."""
    if reading.as_is:
        raise FileProblemError("sources.workbook_as_is")
    from gatepay_async.cli.files import workbooks

    source = evolve(source, stamp=file_stamp(file))
    checked: list[InputSource] = []
    sheets, hidden_count = workbooks.sheets(file)
    for number, sheet in enumerate(sheets):
        part = evolve(source, name=f"{source.name}[{sheet.name}]" if len(sheets) > 1 else source.name)
        with explain_problems(part.name):
            parse = partial(formats.parse_sheet, number=number, reading=reading)
            checked.append(_check_table(part, *sheet.keys(reading), parse, free_bytes))
            if sheet.hidden_rows and not reading.hidden_rows:
                raise FileProblemError("sources.hidden_rows", count=sheet.hidden_rows)
            covered_count = sheet.count_covered()
            if covered_count:
                raise FileProblemError("sources.merged", count=covered_count)
        if sheet.hidden_rows:
            note = text(f"sources.hidden_{reading.hidden_rows}", name=escape(part.name), count=f"{sheet.hidden_rows:,}")
            warn(note)
        free_bytes = max(1, free_bytes - len(checked[-1].content or b""))
    if hidden_count:
        warn(text("sources.hidden_sheets", name=escape(source.name), count=hidden_count))
    if not checked:
        raise FileProblemError("sources.empty")
    return checked


def _check_table(
    source: InputSource, first_line: int, keys: Iterator[Cell], parse: formats.Parse, free_bytes: int
) -> InputSource:
    """Check a table. If its card keys have at most *free_bytes*, keep them as lines of text."""
    check = _Check(source.name, first_line, Oddities(is_table=True), max_kept_bytes=free_bytes)
    check.read(keys)
    if check.kept is None:
        return check.result(source, parse)
    kept = evolve(source, content=check.kept.getvalue(), stamp=None)
    return check.result(kept, partial(formats.parse_kept, first_line=first_line))


@define
class _Check:
    """
    Checks the lines of a file.

    Attributes:
        name: The name of the file.
        first_line: The number of the first line with a card key.
        oddities: Finds odd lines; None: no line counts as odd.
        max_kept_bytes: How many bytes to keep of a table; 0: the file is not a table.
        lines_read: The number of lines read so far.
        kept: The card keys of a table as lines, or None if they have more than ``max_kept_bytes``.
    """

    name: str
    first_line: int
    oddities: Oddities | None
    max_kept_bytes: int = 0
    lines_read: int = field(default=0, init=False)
    kept: BytesIO | None = field(init=False, default=None)
    _problems: list[tuple[int, Refused]] = field(init=False, factory=list[tuple[int, Refused]])  # with their lines
    _odd: dict[str, list[Odd]] = field(init=False, factory=dict[str, list[Odd]])  # by kind
    _odd_counts: Counter[str] = field(init=False, factory=Counter[str])
    _has_keys: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.kept = BytesIO() if self.max_kept_bytes else None

    def read(self, keys: Iterator[Cell]) -> None:
        """
        Read all *keys*.

        Raises:
            FileProblemError: There are no card keys.
            HaltError: Some lines can't be card keys. Raised after the last line, or after ``_MAX_PROBLEMS`` problems.
        """
        while batch := list(islice(keys, BATCH_LINES)):
            self._check_batch(batch)
            self.lines_read += len(batch)
            if len(self._problems) >= _MAX_PROBLEMS:
                break
        if self._problems:
            raise self._combine_problems()
        if not self._has_keys:
            raise FileProblemError("sources.empty")

    def result(self, source: InputSource, parse: formats.Parse) -> InputSource:
        """Return a copy of *source* with the results of the check."""
        if self.oddities is not None:
            del self._odd_counts[self.oddities.kind_to_ignore()]
        odd = sorted((line for kind in self._odd_counts for line in self._odd[kind]), key=lambda line: line.line)
        return evolve(
            source,
            parse=parse,
            first_line=self.first_line,
            line_count=self.lines_read,
            odd=tuple(odd[:_MAX_ODD]),
            odd_count=self._odd_counts.total(),
        )

    def _check_batch(self, batch: list[Cell]) -> None:
        """Check the lines of *batch*: all together, which is fast, and one by one only if necessary."""
        texts = [key for key in batch if isinstance(key, str)]
        joined = "".join(texts)
        self._has_keys = self._has_keys or bool(invisible.strip(joined))
        number = self.first_line + self.lines_read
        may_be_too_long = bool(self.max_kept_bytes) and _may_have_long_key(texts, joined)
        if may_be_too_long or not joined.isprintable() or len(texts) < len(batch):
            for line, key in enumerate(batch, number):
                self._record_problem(line, key)
        if self.oddities is not None and (_has_odd_characters(joined) or _has_odd_numbers(texts)):
            for line, key in enumerate(batch, number):
                kind = self.oddities.kind_of(key) if isinstance(key, str) else ""
                if kind:
                    self._odd_counts[kind] += 1
                    if self._odd_counts[kind] <= _MAX_ODD:
                        self._odd.setdefault(kind, []).append(Odd(line, kind, masked(str(key))))
        if self.kept is not None:
            # Refused cells are missing here, but they end the check.
            self.kept.write(("\n".join(texts) + "\n").encode("utf-8", "surrogatepass"))
            if self.kept.tell() > self.max_kept_bytes:
                self.kept = None

    def _record_problem(self, line: int, key: Cell) -> None:
        problem = (
            key
            if isinstance(key, Refused)
            else _line_problem(key) or (_cell_problem(key) if self.max_kept_bytes else None)
        )
        if problem is not None and len(self._problems) < _MAX_PROBLEMS:
            self._problems.append((line, problem))

    def _combine_problems(self) -> HaltError:
        """Return one error for all recorded problems."""
        problems = [
            locate_problem(self.name, line, text(problem.key, **problem.facts)) for line, problem in self._problems
        ]
        problem = problems[0] if len(problems) == 1 else text("sources.several", problems=problems)
        return file_error(self.name, problem, self._problems[0][1].key)


def _may_have_long_key(keys: list[str], joined: str) -> bool:
    """Whether one of *keys* may have more than ``MAX_LINE_BYTES``. *joined* is the text of all of them."""
    limit = MAX_LINE_BYTES if joined.isascii() else MAX_LINE_BYTES // 4  # UTF-8 has up to 4 bytes for a character
    return len(joined) > limit and max(map(len, keys)) > limit


def _cell_problem(key: str) -> Refused | None:
    """Return a problem if *key* is longer than a line can be, because tables are kept as lines of text."""
    is_too_long = len(key.encode("utf-8", "surrogatepass")) > MAX_LINE_BYTES
    return Refused("sources.long", {"most": MAX_LINE_BYTES}) if is_too_long else None


def _has_odd_characters(letters: str) -> bool:
    return any(character in letters for character in _ODD_CHARACTERS)


def _has_odd_numbers(keys: list[str]) -> bool:
    """Whether one of *keys* is a number that ``Oddities`` has to look at."""
    are_numbers = map(str.isdecimal, map(str.strip, keys))  # fast, and few files of card keys have numbers
    return any(are_numbers) and any(map(_may_be_odd_number, keys))


def _may_be_odd_number(key: str) -> bool:
    return type(key) is NumberCell or is_long_number(key.strip())


def _line_problem(line: str) -> Refused | None:
    """Return why *line* can't be a card key, or None."""
    if line.isprintable():
        return None
    key = invisible.strip(line)
    for character, text_key in (("\0", "sources.nul"), ("\n", "sources.lf"), ("\r", "sources.cr")):
        if character in key:
            return Refused(text_key, {})
    return Refused("sources.encoding", {}) if any("\ud800" <= character <= "\udfff" for character in key) else None
