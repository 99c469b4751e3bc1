"""The types in the annotations of public functions, for your own annotations."""

from gatepay_async.callbacks.events import OnEvent
from gatepay_async.callbacks.once import Handler, Lookup
from gatepay_async.lines import Lines
from gatepay_async.protocol.bulk import OnProgress
from gatepay_async.protocol.durations import Seconds

__all__ = ["Handler", "Lines", "Lookup", "OnEvent", "OnProgress", "Seconds"]
