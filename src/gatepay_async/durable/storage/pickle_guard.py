"""
Refuses pickled rows. They would let anyone who can write to the database run code in this process.

DBOS decodes each row with the serializer that the row names. One of these is pickle, which can run any code. We write
JSON only. So we refuse pickle in all our own queries, and in the whole process while a DBOS that we launched runs in
it. A DBOS that the application launched itself may still unpickle; the documentation says so.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from dbos import _serialization

from gatepay_async.durable.errors import UnreadableRowError
from gatepay_async.words.problem import Problem


class PickledRowError(ValueError):
    """A row is pickled, so it is not decoded."""

    def __init__(self) -> None:
        super().__init__("the row is pickled, so it is not decoded; this package never writes pickled rows")


class _ThreadState(threading.local):
    """``refusing`` is the number of ``refuse_in_thread()`` blocks that this thread is in."""

    refusing = 0


_thread_state = _ThreadState()
_process_refusals: list[object] = []  # one for each DBOS that we have launched in this process
_unpickle = _serialization.DBOSDefaultSerializer.deserialize


def _refuse_or_unpickle(text: str) -> Any:
    if _thread_state.refusing or _process_refusals:
        raise PickledRowError
    return _unpickle(text)


# DBOS has no setting for this, so we patch the one instance that it uses for pickled rows.
setattr(_serialization.DBOSDefaultSerializer, "deserialize", _refuse_or_unpickle)  # noqa: B010 -- type checkers reject assigning to a method


@contextmanager
def refuse_in_thread() -> Generator[None]:
    """Refuse pickled rows in the DBOS queries of this thread."""
    _thread_state.refusing += 1
    try:
        yield
    finally:
        _thread_state.refusing -= 1


class _RowErrorFilter(logging.Filter):
    """Drops DBOS's messages about rows that it can't decode, because they quote the row. See ``wrap_row_errors``."""

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 -- logging's own signature
        """Return whether *record* is logged."""
        return not _thread_state.refusing


logging.getLogger("dbos").addFilter(_RowErrorFilter())


@contextmanager
def wrap_row_errors(row_id: str | None) -> Generator[None]:
    """
    Turn any error about the contents of a row into an ``UnreadableRowError``, which doesn't quote the row.

    Args:
        row_id: The row's ID. None: several rows are read, and any of them may cause the error.

    Raises:
        UnreadableRowError: The row can't be read.
    """
    unreadable = False
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError):
        unreadable = True
    if unreadable and row_id is None:
        raise UnreadableRowError(problem=Problem("row_unreadable"))
    if unreadable:
        problem = Problem("row_unreadable_named", row=row_id)
        raise UnreadableRowError(problem=problem)


@contextmanager
def refuse_in_process() -> Generator[None]:
    """Refuse pickled rows in the whole process, because DBOS decodes rows in its own threads too."""
    token = object()
    _process_refusals.append(token)
    try:
        yield
    finally:
        _process_refusals.remove(token)
