"""An error, told: what happened, why, and what to do next; on standard error, or as JSON."""

import re
import sys

from gatepay_async.cli.language import language, say
from gatepay_async.cli.output import emit, plain, wants_json
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.cli.texts import TEXTS
from gatepay_async.protocol import catalogue, errors
from gatepay_async.protocol.problems import in_chinese

# The first that an error is an instance of counts.
_STATUSES: tuple[tuple[type[Exception], Status], ...] = (
    (errors.InvalidRequestError, Status.USAGE),
    (errors.RefusedError, Status.REFUSED),
    (errors.CallbackError, Status.REFUSED),
    (errors.UploadIncomplete, Status.PARTLY),
    (errors.GatePayError, Status.NO_ANSWER),
)

# Whose problem is the cause; the catalogue knows them in general only.
_TELL_THEMSELVES = ("InvalidRequestError", "DurableError")
_WHERE = re.compile(r"line \d+ |lines \d+ to \d+: each ")


def status_of(error: errors.GatePayError) -> Status:
    """What the command ends with."""
    return next(status for kind, status in _STATUSES if isinstance(error, kind))


def explain(error: errors.GatePayError) -> catalogue.Explanation:
    """The catalogue's words; what to do in the command's own, where the catalogue speaks to programmers."""
    known = catalogue.explain(error, "zh" if language() == "zh" else "en")
    todo = f"todo.{type(error).__name__}"
    return known._replace(remedy=say(todo)) if todo in TEXTS else known


def why(error: errors.GatePayError) -> tuple[str, str]:
    """The cause, and what to do: for one chunk of many."""
    known = explain(error)
    if any(kind.__name__ in _TELL_THEMSELVES for kind in type(error).__mro__):
        # Where it stands is said beside it, by file.
        return worded(_WHERE.sub("", str(vars(error)["problem"]))), known.remedy
    return known.cause, known.remedy


def worded(problem: str) -> str:
    """A sentence of the library's or of httpx's, in the language that is spoken."""
    return in_chinese(problem) if language() == "zh" else problem


def headline(error: errors.GatePayError) -> str:
    """What happened, in one line."""
    facts = {name: plain(value) for name, value in vars(error).items()}
    facts["problem"] = _problem(error)
    kinds = (kind.__name__ for kind in type(error).__mro__)
    return next(say(f"failing.{kind}", **facts, error=plain(error)) for kind in kinds if f"failing.{kind}" in TEXTS)


def _problem(error: errors.GatePayError) -> str:
    """What is wrong, after what it is wrong with."""
    problem = plain(explain(error).problem)
    field, path = getattr(error, "field", None), getattr(error, "path", None)
    if path is not None:
        return f"{plain(path)} {problem}"
    return problem if field is None else say("failing.field", field=plain(field), problem=problem)


def tell(error: HaltError | errors.GatePayError) -> Status:
    """Say what is to be said; gives what to end with."""
    if isinstance(error, HaltError):
        _show(plain(error.text), "", plain(error.todo), {"type": error.status.name.lower()})
        return error.status
    known = explain(error)
    names = ("endpoint", "code", "message", "field", "http_status", "sent", "attempts", "out_order_id")
    _show(headline(error), known.cause, known.remedy, {"type": type(error).__name__, **_facts(error, names)})
    return status_of(error)


def _facts(error: Exception, names: tuple[str, ...]) -> dict[str, object]:
    return {name: getattr(error, name) for name in names if hasattr(error, name)}


def _show(headline: str, cause: str, todo: str, facts: dict[str, object]) -> None:
    if wants_json():
        emit(error={"headline": headline, "cause": cause, "todo": todo, **facts})
        return
    from gatepay_async.cli.screens import line

    line(f"{say('failing.error')}{headline}", style="bold red", stream=sys.stderr)
    for name, text in (("failing.cause", cause), ("failing.todo", todo)):
        if text:
            line(f"  {say(name)}{text}", stream=sys.stderr)
