"""``gatepay errors``: the catalogue of errors, in the reader's language."""

from difflib import get_close_matches

from gatepay_async.cli.language import current_language, text
from gatepay_async.cli.output import escape, print_json, wants_json
from gatepay_async.cli.screens import facts, print_line, print_list, print_table, table
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.protocol.catalogue import REFUSALS, Refusal
from gatepay_async.words import say
from gatepay_async.words.refusals import ENDPOINTS


def list_refusals(endpoint: str, code: str) -> Status:
    """
    Print all refusals, or only those of an endpoint or a code.

    Args:
        endpoint: ``pay/create``, for example; empty for all. If it is a number, it is taken as the code.
        code: A number; empty for all.
    """
    if endpoint.isdecimal() and not code:
        endpoint, code = "", endpoint
    endpoint = endpoint.strip("/")
    _check_arguments(endpoint, code)
    refusals = [each for each in REFUSALS.values() if endpoint in ("", each.endpoint) and code in ("", str(each.code))]
    if not refusals:
        raise HaltError(
            text("errors.no_code", code=code, endpoint=endpoint or text("errors.any")), todo=text("errors.no_code.todo")
        )
    if wants_json():
        print_json(errors=[_refusal_as_json(each) for each in refusals])
    elif code:
        for each in refusals:
            _print_refusal(each)
    else:
        _print_refusals(refusals)
    return Status.DONE


def _check_arguments(endpoint: str, code: str) -> None:
    if endpoint and endpoint not in ENDPOINTS:
        near = get_close_matches(endpoint, ENDPOINTS, n=1)
        hint = text("usage.meant", name=near[0]) if near else ""
        problem = text("errors.no_endpoint", endpoint=endpoint, endpoints=", ".join(ENDPOINTS))
        raise HaltError(problem + hint)
    if code and not code.isdecimal():
        raise HaltError(text("usage.bad", name="CODE", problem=text("usage.number", value=escape(code))))


def _refusal_as_json(each: Refusal) -> dict[str, object]:
    return {
        "endpoint": each.endpoint,
        "code": each.code,
        "error": each.error.__name__,
        "message": each.message,
        "cause": say(each.cause, current_language()),
        "remedy": say(each.remedy, current_language()),
    }


def _print_refusal(each: Refusal) -> None:
    print_line(f"{each.endpoint} {each.code}", style="bold")
    names = (
        ("message", each.message),
        ("cause", say(each.cause, current_language())),
        ("remedy", say(each.remedy, current_language())),
        ("class", each.error.__name__),
    )
    print_table(facts((f"  {text(f'errors.{name}')}", value) for name, value in names))


def _print_refusals(refusals: list[Refusal]) -> None:
    rows = table(*(text(f"errors.{name}") for name in ("where", "number", "cause", "remedy")), right=(1,), whole=(0,))
    for each in refusals:
        rows.add_row(
            each.endpoint, str(each.code), say(each.cause, current_language()), say(each.remedy, current_language())
        )
    print_list(rows)
