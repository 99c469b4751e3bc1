"""``gatepay errors``: the catalogue of errors, in the user's language."""

from difflib import get_close_matches

from gatepay_async.cli.language import current_language, text
from gatepay_async.cli.output import escape, print_json, wants_json
from gatepay_async.cli.screens import name_value_table, print_line, print_list, print_table, table
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.protocol.catalogue import REFUSALS, Refusal
from gatepay_async.words import say
from gatepay_async.words.refusals import ENDPOINTS


def list_refusals(endpoint: str, code: str) -> Status:
    """
    Print all refusals, or only those of an endpoint or a code.

    Args:
        endpoint: An endpoint such as ``pay/create``; empty: all. A number is taken as the code.
        code: A number; empty: all.
    """
    if endpoint.isdecimal() and not code:
        endpoint, code = "", endpoint
    endpoint = endpoint.strip("/")
    _check_arguments(endpoint, code)
    refusals = [
        refusal
        for refusal in REFUSALS.values()
        if endpoint in ("", refusal.endpoint) and code in ("", str(refusal.code))
    ]
    if not refusals:
        raise HaltError(
            text("errors.no_code", code=code, endpoint=endpoint or text("errors.any")), todo=text("errors.no_code.todo")
        )
    if wants_json():
        print_json(errors=[_refusal_as_json(refusal) for refusal in refusals])
    elif code:
        for refusal in refusals:
            _print_refusal(refusal)
    else:
        _print_refusals(refusals)
    return Status.DONE


def _check_arguments(endpoint: str, code: str) -> None:
    if endpoint and endpoint not in ENDPOINTS:
        matches = get_close_matches(endpoint, ENDPOINTS, n=1)
        hint = text("usage.meant", name=matches[0]) if matches else ""
        raise HaltError(text("errors.no_endpoint", endpoint=endpoint, endpoints=", ".join(ENDPOINTS), hint=hint))
    if code and not code.isdecimal():
        raise HaltError(text("usage.bad", name="CODE", problem=text("usage.number", value=escape(code))))


def _refusal_as_json(refusal: Refusal) -> dict[str, object]:
    return {
        "endpoint": refusal.endpoint,
        "code": refusal.code,
        "error": refusal.error.__name__,
        "message": refusal.message,
        "cause": say(refusal.cause, current_language()),
        "remedy": say(refusal.remedy, current_language()),
    }


def _print_refusal(refusal: Refusal) -> None:
    print_line(f"{refusal.endpoint} {refusal.code}", style="bold")
    names = (
        ("message", refusal.message),
        ("cause", say(refusal.cause, current_language())),
        ("remedy", say(refusal.remedy, current_language())),
        ("class", refusal.error.__name__),
    )
    print_table(name_value_table((f"  {text(f'errors.{name}')}", value) for name, value in names))


def _print_refusals(refusals: list[Refusal]) -> None:
    headings = (text(f"errors.{name}") for name in ("where", "number", "cause", "remedy"))
    rows = table(*headings, number_columns=(1,), unbroken_columns=(0,))
    for refusal in refusals:
        rows.add_row(
            refusal.endpoint,
            str(refusal.code),
            say(refusal.cause, current_language()),
            say(refusal.remedy, current_language()),
        )
    print_list(rows)
