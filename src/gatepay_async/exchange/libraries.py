"""
httpx and httpx2, which have the same API. A user's object may come from either library.

At run time, this module imports neither of them.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import httpx
    import httpx2

    AnyClient = httpx.AsyncClient | httpx2.AsyncClient
    AnyTransport = httpx.AsyncBaseTransport | httpx2.AsyncBaseTransport
    AnyRequest = httpx.Request | httpx2.Request
    AnyResponse = httpx.Response | httpx2.Response


def classes(*names: str) -> tuple[type[Any], ...]:
    """Return the classes with these names, from each of the two libraries that is imported."""
    return tuple(getattr(library, name) for library in _imported() for name in names)


def errors(*names: str) -> tuple[type[Exception], ...]:
    """Return what ``classes`` returns, typed as exception classes for an ``except`` clause."""
    return cast("tuple[type[Exception], ...]", classes(*names))


def library_of(value: object, kind: str) -> Any:
    """Return the library that *value* is from. *kind* is the name of its class, such as ``AsyncBaseTransport``."""
    return next(library for library in _imported() if isinstance(value, getattr(library, kind)))


def _imported() -> list[ModuleType]:
    """Return the libraries, of these two, that the program has imported."""
    return [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
