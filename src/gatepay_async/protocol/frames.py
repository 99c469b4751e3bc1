"""
Removes secrets from tracebacks: a traceback keeps the local variables of every frame that the error has passed.

Tools that report errors show these variables (Sentry by default;
``traceback.TracebackException(capture_locals=True)``). In the frames of a call, they hold signatures, card keys and
replies. So the frames are cleared before an error reaches the caller.
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

# This package, and the packages that our calls run through. The frames of users' own code stay as they are.
_CLEARED_PACKAGES = frozenset(
    {
        "gatepay_async", "aiohttp", "anyio", "asyncio", "cattrs", "contextlib", "h11", "httpcore", "httpcore2", "httpx",
        "httpx2", "httpx_aiohttp", "msgspec", "shutil", "ssl", "trio",
    }
)  # fmt: skip


def clear_frames(error: BaseException) -> None:
    """Clear the frames in the tracebacks of *error* and of all errors that are chained to it."""
    for chained in _chained_errors(error):
        traceback = chained.__traceback__
        while traceback is not None:
            _clear_frame(traceback.tb_frame)
            traceback = traceback.tb_next


def scrub_errors(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate *function*: tracebacks of its errors hold no arguments, and no local variables of what it calls."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            del args, kwargs  # this frame is still running, and can't be cleared
            clear_frames(error)
            raise

    return call


def scrub_init_errors(cls: C) -> C:
    """Decorate a class: apply ``scrub_errors`` to its ``__init__``, whose arguments may be secrets."""
    cast("Any", cls).__init__ = scrub_errors(cast("Any", cls).__init__)
    return cls


def _chained_errors(error: BaseException) -> Iterator[BaseException]:
    """Yield *error*, its causes and contexts, and the members of exception groups, each once."""
    remaining: list[BaseException | None] = [error]
    seen: set[int] = set()
    while remaining:
        current = remaining.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        remaining += [current.__cause__, current.__context__]
        if isinstance(current, BaseExceptionGroup):
            remaining += cast("BaseExceptionGroup[BaseException]", current).exceptions


def _clear_frame(frame: FrameType) -> None:
    if not _should_clear(frame):
        return
    with suppress(RuntimeError):  # the frame is still running
        frame.clear()


def _should_clear(frame: FrameType) -> bool:
    """Whether *frame* belongs to one of the packages whose frames are cleared."""
    # Code that attrs and cattrs generate has no module.
    module = frame.f_globals.get("__name__")
    return module is None or str(module).partition(".")[0] in _CLEARED_PACKAGES
