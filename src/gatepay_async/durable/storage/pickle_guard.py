"""
Rows of the database are not trusted: whoever can write to it must not be able to run code here.

DBOS decodes a row with the serializer that the row itself names, and one of them is pickle, which runs whatever it is
told. We write JSON only. So pickle is refused where rows are ours: in our own queries always, and in the whole process
while a DBOS of ours works in it. A DBOS of the application's own is left as it is; the documentation says so.
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
    """A row names pickle as its serializer; it is not decoded."""

    def __init__(self) -> None:
        super().__init__("the row is pickled, and rows of ours never are; it is not decoded")


class _ThisThread(threading.local):
    """This thread asks for rows of ours."""

    asking = 0


_this_thread = _ThisThread()
_process_wide: list[object] = []  # one for each DBOS of ours that works in this process
_unpickle = _serialization.DBOSDefaultSerializer.deserialize


def _deserialize(text: str) -> Any:
    if _this_thread.asking or _process_wide:
        raise PickledRowError
    return _unpickle(text)


# On the one instance that DBOS uses for rows which name pickle; there is no setting for it.
setattr(_serialization.DBOSDefaultSerializer, "deserialize", _deserialize)  # noqa: B010 -- a method, to type checkers


@contextmanager
def refuse_in_thread() -> Generator[None]:
    """Refuse pickled rows in what this thread asks DBOS for."""
    _this_thread.asking += 1
    try:
        yield
    finally:
        _this_thread.asking -= 1


class _QuietFilter(logging.Filter):
    """DBOS logs what it can't decode, and quotes the row; whoever asks for it here says so without that."""

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 -- logging's own signature
        """Whether it is logged."""
        return not _this_thread.asking


logging.getLogger("dbos").addFilter(_QuietFilter())


@contextmanager
def one_row_error(name: str | None) -> Generator[None]:
    """
    Whatever a row holds that this version did not write is one error, which quotes nothing.

    Args:
        name: The row's; None: one of several.

    Raises:
        UnreadableRowError: It can't be read.
    """
    unreadable = False
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError):
        unreadable = True
    if unreadable and name is None:
        raise UnreadableRowError(problem=Problem("row_unreadable"))
    if unreadable:
        problem = Problem("row_unreadable_named", row=name)
        raise UnreadableRowError(problem=problem)


@contextmanager
def refuse_in_process() -> Generator[None]:
    """Refuse pickled rows in the whole process: the threads of DBOS decode them, too."""
    mine = object()
    _process_wide.append(mine)
    try:
        yield
    finally:
        _process_wide.remove(mine)
