"""Reads any kind of input as batches of lines."""

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

LINES_PER_BATCH = 2000  # lines that are read at once; from a file, in a worker thread


def read_lines(keys: Lines, on_cancelled_read: Callable[[list[object]], None]) -> AsyncGenerator[Iterable[object]]:
    """
    Read *keys* as batches of lines.

    Args:
        keys: An iterable of lines, or an open file.
        on_cancelled_read: Called if a cancellation interrupts reading from a file, with the lines read so far.

    Raises:
        InvalidRequestError: *keys* is not an iterable of lines.
    """
    if isinstance(keys, str | bytes | bytearray | PathLike):
        problem = Problem("keys_not_iterable")
        raise InvalidRequestError(field="keys", problem=problem)
    if isinstance(keys, AsyncIterable):
        return _read_async(keys)
    if isinstance(keys, Iterable):
        return _read_file(keys, on_cancelled_read) if hasattr(keys, "readline") else _read_all(keys)
    raise InvalidRequestError(field="keys", problem=Problem("not_iterable", kind=type(keys).__name__))


async def _read_async(keys: AsyncIterable[object]) -> AsyncGenerator[Iterable[object]]:
    async for key in keys:
        # One by one: if the upload ends early, lines that wait here in a batch would be missing in its report.
        yield (key,)


async def _read_all(keys: Iterable[object]) -> AsyncGenerator[Iterable[object]]:
    lines = iter(keys)
    for line in lines:
        # Lazily: the chunker takes the lines one by one. Lines that wait here when the upload ends early would be
        # missing in its report.
        yield chain((line,), islice(lines, LINES_PER_BATCH - 1))
        await anyio.lowlevel.checkpoint()  # lets other tasks run, even if all lines are blank lines and duplicates


async def _read_file(
    file: Iterable[object], on_cancelled_read: Callable[[list[object]], None]
) -> AsyncGenerator[Iterable[object]]:
    """Read in a worker thread, because reading a disk or a pipe would block the event loop."""
    while True:
        lines: list[object] = []
        try:
            error = await anyio.to_thread.run_sync(_read_next_lines, file, lines, abandon_on_cancel=True)
        except BaseException:
            on_cancelled_read(list(lines))  # don't lose the lines that a slow pipe has already given
            raise
        yield lines
        if error is not None:
            raise error
        if len(lines) < LINES_PER_BATCH:
            return


def _read_next_lines(file: Iterable[object], lines: list[object]) -> Exception | None:
    """Append the next lines to *lines*. An error is returned, not raised, so that the lines before it are kept."""
    try:
        lines.extend(islice(file, LINES_PER_BATCH))
    except Exception as error:  # noqa: BLE001 -- raised by the caller, after the lines
        return error
    return None
