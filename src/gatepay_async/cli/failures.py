"""Prints errors with cause and remedy, on standard error or as JSON."""

import sys
from string import Formatter
from typing import cast

from gatepay_async.cli.language import CommandText, current_language, problem_text, text
from gatepay_async.cli.output import escape, print_json, wants_json
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.protocol import callback_errors, catalogue, errors
from gatepay_async.protocol.bulk import UploadIncomplete
from gatepay_async.words.command import COMMAND
from gatepay_async.words.problem import Problem

# The first entry whose class matches an error applies.
_STATUS_BY_ERROR: tuple[tuple[type[Exception], Status], ...] = (
    (errors.InvalidRequestError, Status.USAGE),
    (errors.RefusedError, Status.REFUSED),
    (callback_errors.CallbackError, Status.REFUSED),
    (UploadIncomplete, Status.PARTLY),
    (errors.GatePayError, Status.NO_ANSWER),
)

# The option or variable of the command for each parameter of the library.
_OPTIONS = {
    "out_order_id": "--order",
    "product_id": "--product",
    "product_num": "--num",
    "items": "--group",
    "pay_type": "--type",
    "price": "--price",
    "custom": "--custom",
    "extend": "--extend",
    "token": "TOKEN",
    "appkey": "GATEPAY_APPKEY",
    "appsecret": "GATEPAY_APPSECRET",
    "cloud_base_url": "GATEPAY_CLOUD_BASE_URL",
    "database": "GATEPAY_UPLOADS",
    "spool": "GATEPAY_UPLOADS_SPOOL",
    "path": "FILE",
    "realprice": "--realprice",
    "paid_at": "--paid-at",
    "order_id": "--order-id",
}

# The errors whose ``.problem`` is more specific than the cause in the catalogue.
_SELF_EXPLANATORY = ("InvalidRequestError", "DurableError")


def status_of(error: HaltError | errors.GatePayError) -> Status:
    """Return the exit status for *error*."""
    return error.status if isinstance(error, HaltError) else error_status(error)


def error_status(error: errors.GatePayError) -> Status:
    """Return the exit status for an error of the library."""
    return next(status for kind, status in _STATUS_BY_ERROR if isinstance(error, kind))


def explain(error: errors.GatePayError) -> catalogue.Explanation:
    """Explain *error* from the catalogue, but with the command's own remedy if the catalogue's is for programmers."""
    explanation = catalogue.explain(error, current_language())
    explanation = explanation._replace(problem=problem_text(Problem.of(getattr(error, "problem", ""))))
    endpoint = str(getattr(error, "endpoint", ""))
    key = f"todo.{type(error).__name__}"
    for todo in (f"{key} {endpoint}", f"{key} {_kind_of_call(endpoint)}", key):
        if todo in COMMAND:
            return explanation._replace(remedy=text(todo))
    return explanation


def _kind_of_call(endpoint: str) -> str:
    """Return the kind of call, which decides whether a retry after a lost reply is safe."""
    if endpoint == "ka/create":
        return "keys"
    return "order" if endpoint.endswith("/create") else "reading"


def cause_and_remedy(error: errors.GatePayError) -> tuple[str, str]:
    """Return cause and remedy for the error of one chunk."""
    explanation = explain(error)
    if any(kind.__name__ in _SELF_EXPLANATORY for kind in type(error).__mro__):
        return problem_text(_without_line(vars(error)["problem"])), explanation.remedy
    return explanation.cause, explanation.remedy


def text_as_json(message: CommandText | Problem) -> dict[str, object]:
    """Return the name, the text and the facts of *message* for JSON."""
    shown = problem_text(message) if isinstance(message, Problem) else message
    facts = {name: _fact_as_json(fact) for name, fact in message.facts.items()}
    return {"name": message.name, "text": escape(shown), "facts": facts}


def _fact_as_json(fact: object) -> object:
    if isinstance(fact, CommandText | Problem):
        return text_as_json(fact)
    if isinstance(fact, list):
        return [_fact_as_json(item) for item in cast("list[object]", fact)]
    return fact if isinstance(fact, int | float | None) else escape(fact)


def _without_line(problem: Problem) -> Problem:
    """Return *problem* without the line number, because the report shows file and line next to it."""
    inner = problem.facts["problem"] if problem.name in ("line", "lines") else problem
    return inner if isinstance(inner, Problem) else problem


def headline(error: errors.GatePayError) -> CommandText:
    """Describe *error* in one line."""
    kinds = (kind.__name__ for kind in type(error).__mro__)
    key = next(f"failing.{kind}" for kind in kinds if f"failing.{kind}" in COMMAND)
    facts: dict[str, object] = {**vars(error), "problem": _located_problem(error), "error": error}
    names = {name for _, name, _, _ in Formatter().parse(COMMAND[key][0]) if name}
    return text(key, **{name: _plain(facts[name]) for name in names})


def _plain(fact: object) -> object:
    """Return *fact* as a number or an escaped text."""
    return fact if isinstance(fact, int | CommandText) else escape(fact)


def _located_problem(error: errors.GatePayError) -> str:
    """Return the problem, preceded by the field or path at fault."""
    problem = escape(explain(error).problem)
    field, path = getattr(error, "field", None), getattr(error, "path", None)
    if path is not None:
        return text("failing.path", path=escape(path), problem=problem)
    if isinstance(error, errors.InvalidRequestError):
        field = text("failing.base_url") if error.field == "base_url" else _OPTIONS.get(error.field, error.field)
    return problem if field is None else text("failing.field", field=escape(field), problem=problem)


def show_error(error: HaltError | errors.GatePayError) -> Status:
    """Print *error*, and return its exit status."""
    if wants_json():
        result = error.result if isinstance(error, HaltError) else {}
        print_json(**result, error=error_as_json(error))
    elif isinstance(error, HaltError):
        _print_error(escape(error.text), "", escape(error.todo))
    else:
        explanation = explain(error)
        _print_error(headline(error), explanation.cause, explanation.remedy)
    return status_of(error)


def error_as_json(error: HaltError | errors.GatePayError) -> dict[str, object]:
    """Return *error* for JSON."""
    if isinstance(error, HaltError):
        return {
            "headline": escape(error.text),
            "cause": "",
            "todo": escape(error.todo),
            "type": error.status.name.lower(),
            "problem": text_as_json(error.problem),
            **error.facts,
        }
    explanation = explain(error)
    names = ("endpoint", "code", "message", "field", "http_status", "sent", "attempts", "out_order_id")
    return {
        "headline": headline(error),
        "cause": explanation.cause,
        "todo": explanation.remedy,
        "type": type(error).__name__,
        "problem": text_as_json(error.problem),
        **existing_attributes(error, names),
    }


def existing_attributes(error: Exception | None, names: tuple[str, ...]) -> dict[str, object]:
    """Return the attributes among *names* that *error* has, for JSON."""
    return {name: getattr(error, name) for name in names if hasattr(error, name)}


def _print_error(headline: str, cause: str, todo: str) -> None:
    from gatepay_async.cli.screens import print_line

    print_line(f"{text('failing.error')}{headline}", style="bold red", stream=sys.stderr)
    for name, message in (("failing.cause", cause), ("failing.todo", todo)):
        if message:
            print_line(f"  {text(name)}{message}", stream=sys.stderr)
