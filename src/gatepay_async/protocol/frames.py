"""
What an error's traceback keeps alive: the locals of every frame that it has passed.

Tools that report errors print them (Sentry by default; ``traceback.TracebackException(capture_locals=True)``). In the
frames of a call stand the form with its signature, card keys, the reply. They are emptied where an error leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps
from types import FrameType
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=type)

# Ours, and those that our calls run through. The frames of users' own code stay as they are.
_EMPTIED = frozenset(
    {
        "gatepay_async", "aiohttp", "anyio", "asyncio", "cattrs", "contextlib", "h11", "httpcore", "httpx",
        "httpx_aiohttp", "msgspec", "shutil", "ssl", "trio",
    }
)  # fmt: skip


def clear_frames(error: BaseException) -> None:
    """Empty the frames that *error*, and every error that hangs on it, has passed on its way to the caller."""
    for each in _chained_errors(error):
        traceback = each.__traceback__
        while traceback is not None:
            _clear_frame(traceback.tb_frame)
            traceback = traceback.tb_next


def sealed(function: Callable[P, T]) -> Callable[P, T]:
    """Let errors out of *function* without the locals of what it called, and without its arguments."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            del args, kwargs  # this frame stays
            clear_frames(error)
            raise

    return call


def sealed_init(cls: C) -> C:
    """Let errors out of a class's ``__init__`` likewise: its arguments may be secrets."""
    cast("Any", cls).__init__ = sealed(cast("Any", cls).__init__)
    return cls


def _chained_errors(error: BaseException) -> Iterator[BaseException]:
    """*error*, what caused it, what it came in, and the members of groups; each once."""
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        left += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            left += cast("BaseExceptionGroup[BaseException]", each).exceptions


def _clear_frame(frame: FrameType) -> None:
    if not _is_emptied(frame):
        return
    with suppress(RuntimeError):  # it still runs: the caller's, or the one that is asking
        frame.clear()


def _is_emptied(frame: FrameType) -> bool:
    # What attrs and cattrs generate has no module.
    module = frame.f_globals.get("__name__")
    return module is None or str(module).partition(".")[0] in _EMPTIED
