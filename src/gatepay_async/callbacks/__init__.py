"""
Receiving callbacks: an ASGI application, and the stores that record which callbacks were handled.

Before a callback is handled, a store gets a ``Claim`` to it. It answers with a ``Standing``: whether the callback is
free, being handled, or was handled before.

``RedisStore`` is here, too, with the extra ``redis``.
"""

from typing import TYPE_CHECKING

from gatepay_async.callbacks.app import CallbackApp
from gatepay_async.callbacks.events import CallbackEvent, EventKind
from gatepay_async.callbacks.memory import MemoryStore
from gatepay_async.callbacks.sqlite import SQLiteStore
from gatepay_async.callbacks.store import Claim, Standing, Store
from gatepay_async.protocol.models import CallbackReply

if TYPE_CHECKING:
    from gatepay_async.callbacks.redis_store import RedisStore as RedisStore

__all__ = [
    "CallbackApp",
    "CallbackEvent",
    "CallbackReply",
    "Claim",
    "EventKind",
    "MemoryStore",
    "SQLiteStore",
    "Standing",
    "Store",
]


def __getattr__(name: str) -> object:
    """Import ``RedisStore`` when it is used for the first time."""
    if name != "RedisStore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from gatepay_async.callbacks.redis_store import RedisStore  # noqa: PLC0415 -- an extra
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise ImportError("RedisStore needs redis: pip install 'gatepay-async[redis]'") from error
    return RedisStore
