"""Errors as JSON for the database: their class and attributes, which never hold a card key. No I/O."""

from __future__ import annotations

import inspect
from datetime import datetime
from types import NoneType
from typing import Any, cast

from gatepay_async.durable import errors as durable_errors
from gatepay_async.durable.records.bounds import check_number
from gatepay_async.protocol import callback_errors, errors
from gatepay_async.protocol.errors import GatePayError
from gatepay_async.words.problem import Problem

_CLASSES = {
    cls.__name__: cls
    for module in (errors, callback_errors, durable_errors)
    for cls in vars(module).values()
    if isinstance(cls, type) and issubclass(cls, GatePayError)
}
# The attributes that are read back from the database, with their types. Others, of a later version, are ignored.
_ATTRIBUTES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("field", "problem", "message", "endpoint", "time", "cause", "remedy", "path", "excerpt"), (str,)),
    **dict.fromkeys(("source", "reason", "kind", "out_order_id"), (str,)),
    **dict.fromkeys(("code", "attempts", "http_status"), (int,)),
    **dict.fromkeys(("in_doubt", "sent"), (bool,)),
    "retry_after": (int, float),
}
_BREAKS = str.maketrans("\n\t", "  ")  # line feeds and tabs are safe to print, but str.isprintable() refuses them
_MAX_PROBLEM_DEPTH = 3  # a fact of a problem can itself be a problem
MAX_TEXT_CHARS = 4000  # of each text of an error
MAX_ERROR_NUMBER = 2**31  # for codes, attempts and seconds


def as_json(error: GatePayError) -> dict[str, Any]:
    """Convert *error* to its class name, its attributes and its arguments."""
    facts = {name: _to_json(value) for name, value in vars(error).items() if value is not None}
    if "problem" in facts:  # "problem" stays a text, because earlier versions read that
        facts["problem_data"] = Problem.of(facts["problem"]).as_json()
    return {"class": type(error).__name__, "says": list(error.args), **facts}


def of_json(stored: dict[str, Any]) -> GatePayError:
    """
    Convert back to an error. If this version doesn't know its class, the error is a ``GatePayError`` with its message.

    Raises:
        LookupError, TypeError, ValueError: No version of this package wrote such JSON.
    """
    cls = _CLASSES.get(_checked(stored["class"], str), GatePayError)
    facts = {name: _checked(value, *_ATTRIBUTES[name]) for name, value in stored.items() if name in _ATTRIBUTES}
    if "time" in facts:
        facts["time"] = datetime.fromisoformat(facts["time"])
    if "problem" in facts:
        facts["problem"] = _read_problem(stored.get("problem_data", facts["problem"]))
    required, optional = _parameters(cls)
    # Not cls(...), which would make the texts again from the attributes: keep the texts that were stored.
    error = cls.__new__(cls, *[_checked(argument, str) for argument in _checked(stored["says"], list)])
    vars(error).update(optional, **facts)
    for name in required:
        vars(error)[name]  # raises KeyError here, instead of AttributeError where the error is shown
    return error


def _to_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _read_problem(stored: Any, *, depth: int = 0) -> Problem:
    """Convert back to a problem. Earlier versions have stored only its text."""
    if isinstance(stored, dict) and depth < _MAX_PROBLEM_DEPTH:
        data = cast("dict[str, Any]", stored)
        for fact in (data["text"], data["name"], *_checked(data["facts"], dict).values()):
            if isinstance(fact, dict):
                _read_problem(fact, depth=depth + 1)
            else:
                _checked(fact, str, int, float, NoneType)
        return Problem.of_json(data)
    return Problem.of(_checked(stored, str))


def _checked(value: Any, *types: type) -> Any:
    """Return *value* if it has one of *types*, is not too large, and is safe to print."""
    if type(value) not in types:
        raise TypeError("wrong type")
    if type(value) in (int, float):
        check_number(int(value), minimum=-MAX_ERROR_NUMBER, maximum=MAX_ERROR_NUMBER)
    if isinstance(value, str) and not (len(value) <= MAX_TEXT_CHARS and value.translate(_BREAKS).isprintable()):
        raise ValueError("too long or not printable")
    return value


def _parameters(cls: type[GatePayError]) -> tuple[list[str], dict[str, Any]]:
    """Return the required keyword arguments of the class's constructor, and the optional ones with their defaults."""
    parameters = [
        parameter
        for parameter in inspect.signature(cls.__init__).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    required = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    optional = {
        parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty
    }
    return required, optional
