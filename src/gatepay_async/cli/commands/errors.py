"""``gatepay errors``: the catalogue of errors, in the reader's language."""

from difflib import get_close_matches

from gatepay_async.cli.language import language, say
from gatepay_async.cli.output import emit, plain, wants_json
from gatepay_async.cli.screens import facts, line, show, table
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.protocol.catalogue import ENDPOINTS, REFUSALS, Refusal


def explain(endpoint: str, code: str) -> Status:
    """
    All refusals, those of an endpoint, or one.

    Args:
        endpoint: ``pay/create`` and so on; empty: all. A number: that code, wherever it is.
        code: A number, or empty: all.
    """
    if endpoint.isdecimal() and not code:
        endpoint, code = "", endpoint
    endpoint = endpoint.strip("/")
    _check(endpoint, code)
    found = [each for each in REFUSALS.values() if endpoint in ("", each.endpoint) and code in ("", str(each.code))]
    if not found:
        raise HaltError(
            say("errors.no_code", code=code, endpoint=endpoint or say("errors.any")), todo=say("errors.no_code.todo")
        )
    if wants_json():
        emit(errors=[_document(each) for each in found])
    elif code:
        for each in found:
            _show_one(each)
    else:
        _show_all(found)
    return Status.DONE


def _check(endpoint: str, code: str) -> None:
    if endpoint and endpoint not in ENDPOINTS:
        near = get_close_matches(endpoint, ENDPOINTS, n=1)
        hint = say("usage.meant", name=near[0]) if near else ""
        problem = say("errors.no_endpoint", endpoint=endpoint, endpoints=", ".join(ENDPOINTS))
        raise HaltError(problem + hint)
    if code and not code.isdecimal():
        raise HaltError(say("usage.bad", name="CODE", problem=say("usage.number", value=plain(code))))


def _document(each: Refusal) -> dict[str, object]:
    return {
        "endpoint": each.endpoint,
        "code": each.code,
        "error": each.error.__name__,
        "message": each.message,
        "cause": _words(each.cause),
        "remedy": _words(each.remedy),
    }


def _words(both: object) -> str:
    texts: dict[str, str] = both  # type: ignore[assignment]  # a TypedDict is read by a name that is not literal
    return texts[language()]


def _show_one(each: Refusal) -> None:
    line(f"{each.endpoint} {each.code}", style="bold")
    names = (
        ("message", each.message),
        ("cause", _words(each.cause)),
        ("remedy", _words(each.remedy)),
        ("class", each.error.__name__),
    )
    show(facts((f"  {say(f'errors.{name}')}", value) for name, value in names))


def _show_all(found: list[Refusal]) -> None:
    rows = table(*(say(f"errors.{name}") for name in ("where", "number", "cause", "remedy")), right=(1,))
    for each in found:
        rows.add_row(each.endpoint, str(each.code), _words(each.cause), _words(each.remedy))
    show(rows)
