"""Reading any kind of input, as batches of lines."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from itertools import chain, islice
from os import PathLike

import anyio
import anyio.lowlevel
import anyio.to_thread

from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

Lines = Iterable[str | bytes] | AsyncIterable[str | bytes]

LINES_PER_BATCH = 2000  # lines read at a time; from a file in a worker thread


def read_lines(keys: Lines, on_late_lines: Callable[[list[object]], None]) -> AsyncGenerator[Iterable[object]]:
    """
    *keys*, whatever they are, as batches of lines.

    Args:
        keys: An iterable of lines, or an open file.
        on_late_lines: Is called with the lines that a file has given when reading it is cancelled.

    Raises:
        InvalidRequestError: *keys* is no iterable of lines.
    """
    if isinstance(keys, str | bytes | bytearray | PathLike):
        problem = Problem("keys_not_iterable")
        raise InvalidRequestError(field="keys", problem=problem)
    if isinstance(keys, AsyncIterable):
        return _read_async(keys)
    if isinstance(keys, Iterable):
        return _read_file(keys, on_late_lines) if hasattr(keys, "readline") else _read_all(keys)
    raise InvalidRequestError(field="keys", problem=Problem("not_iterable", kind=type(keys).__name__))


async def _read_async(keys: AsyncIterable[object]) -> AsyncGenerator[Iterable[object]]:
    async for key in keys:
        # One by one: a line that waits in a batch of ours would be in no ledger.
        yield (key,)


async def _read_all(keys: Iterable[object]) -> AsyncGenerator[Iterable[object]]:
    lines = iter(keys)
    for line in lines:
        # Not taken out before the chunker asks for them: a line that waits here would be in no ledger.
        yield chain((line,), islice(lines, LINES_PER_BATCH - 1))
        await anyio.lowlevel.checkpoint()  # blanks and repetitions alone would never wait for a slot


async def _read_file(
    file: Iterable[object], on_late_lines: Callable[[list[object]], None]
) -> AsyncGenerator[Iterable[object]]:
    """Reading a disk, or a pipe, would block the event loop: it is done in a worker thread."""
    while True:
        lines: list[object] = []
        try:
            error = await anyio.to_thread.run_sync(_read_some, file, lines, abandon_on_cancel=True)
        except BaseException:
            on_late_lines(list(lines))  # a pipe may never give the rest; what it gave is not lost
            raise
        yield lines
        if error is not None:
            raise error
        if len(lines) < LINES_PER_BATCH:
            return


def _read_some(file: Iterable[object], lines: list[object]) -> Exception | None:
    """Append the next lines to *lines*; the error that ended them: what was read before it must not be lost."""
    try:
        lines.extend(islice(file, LINES_PER_BATCH))
    except Exception as error:  # noqa: BLE001 -- raised by the caller, after the lines
        return error
    return None
