"""Errors as JSON, for the database: their class and their facts, which never hold a card key. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gatepay_async.durable import errors as durable_errors
from gatepay_async.protocol import errors
from gatepay_async.protocol.errors import GatePayError

# Any other one is kept by what it says.
_KNOWN = {
    cls.__name__: cls
    for module in (errors, durable_errors)
    for cls in vars(module).values()
    if isinstance(cls, type) and issubclass(cls, GatePayError) and cls is not errors.UploadIncomplete
}


def as_json(error: GatePayError) -> dict[str, Any]:
    """Its class, its facts and what it says."""
    facts = {name: _plain(value) for name, value in vars(error).items() if value is not None}
    return {"class": type(error).__name__, "says": list(error.args), **facts}


def of_json(stored: dict[str, Any]) -> GatePayError:
    """The error again; of a class that this version doesn't know, a ``GatePayError`` with its words."""
    facts = dict(stored)
    cls = _KNOWN.get(facts.pop("class"), GatePayError)
    error = cls.__new__(cls, *facts.pop("says"))
    vars(error).update(dict.fromkeys(_optional(cls)), **facts)
    if "time" in facts:
        vars(error)["time"] = datetime.fromisoformat(facts["time"])
    return error


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _optional(cls: type[GatePayError]) -> tuple[str, ...]:
    """What is None where it isn't known, and so is left out."""
    if issubclass(cls, errors.RefusedError):
        return ("time",)
    if issubclass(cls, errors.ProtocolError):
        return ("path", "retry_after")
    return ("field",) if issubclass(cls, errors.CallbackError) else ()
