"""Tests that problems and remedies of the command name its options and variables, not parameters of the library."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from gatepay_async.cli import failures, language
from gatepay_async.protocol import callback_errors, errors
from gatepay_async.protocol.bulk import Ledger, UploadIncomplete
from gatepay_async.protocol.catalogue import REFUSALS
from gatepay_async.sandbox import Sandbox
from gatepay_async.words import LANGUAGES
from gatepay_async.words.command import COMMAND
from gatepay_async.words.problem import Problem
from gatepay_async.words.problems import PROBLEMS

pytestmark = pytest.mark.sockets

# Words for programmers only: calls, keyword arguments, attributes, names with an underscore, values and classes.
LIBRARY_WORDS = re.compile(
    r"\w\(|\b\w+=|(?<![\w.])\.[a-z]|\b[a-z]+_[a-z_]+|\bdeadline\b|\btimedelta\b|\bdatetime\b|\b(?:None|True|False)\b"
    r"|\b(?:iterable|callable|tuple|httpx client|Decimal|a dict|a Source|jobs|DBOS|MemoryStore|redis\.asyncio)\b"
)
# The problems that name parameters of the library, by the reason why no command can have them.
UNREACHABLE = {
    "checked or converted by an option, or by a Python call that no command makes": (
        "not_list not_seconds seconds_or_none seconds_from_0 keys_not_iterable not_iterable not_callable not_bool "
        "too_many_keys money_not_decimal naive_datetime vendor_field not_dict not_instance wrong_type lacks_members "
        "not_path no_job"
    ),
    "for clients, transports and hooks of the user's own": (
        "client_and_transport aiohttp_transport used_up_by_hook foreign_error foreign_cancellation call_in_test "
        "connect_not_callable client_without_timeout executor_taken application_version databases_differ "
        "dbos_not_launched durable_needs_asyncio not_redis not_a_file"
    ),
    "for raw calls": "raw_path added_by_client not_names",
    "for CallbackApp": "handled_differently not_async_function max_age_too_long timeout_too_long",
}
# Words that look like the library's, but belong to GatePay, to the callback or to other programs.
ALLOWED = re.compile(r"pip install 'httpx\[socks\]'|out_order_id|pay_type|product_id|product_num")


def library_words(message: str) -> list[str]:
    return LIBRARY_WORDS.findall(ALLOWED.sub("", message))


def all_errors() -> Iterator[errors.GatePayError]:
    """Yield each error that a command may print."""
    for refusal in REFUSALS.values():
        yield refusal.error(code=refusal.code, message=refusal.message, endpoint=refusal.endpoint)
    for endpoint in ("ka/create", "pay/create", "anypay/create", "product/show"):
        yield errors.RefusedError(code=999, message="", endpoint=endpoint)
        for sent in (True, False):
            for kind in (errors.TransportError, errors.DeadlineExceededError):
                yield kind(endpoint=endpoint, sent=sent, problem=Problem("deadline_passed"))
        yield errors.ProtocolError(endpoint=endpoint, http_status=302, problem=Problem("redirect"))
        yield errors.OutcomeUnknownError(endpoint=endpoint, out_order_id="T-1-X")
    yield errors.InvalidRequestError(field="price", problem=Problem("money_decimals"))
    for callback_error in (
        callback_errors.CallbackError,
        callback_errors.MalformedCallbackError,
        callback_errors.CallbackSignatureError,
        callback_errors.StaleCallbackError,
    ):
        yield callback_error(problem=Problem("missing"))
    yield UploadIncomplete(Ledger().report(stopped=None))
    yield errors.GatePayError("odd")


def test_remedies_name_nothing_of_the_library() -> None:
    """The remedy of each error that a command may print is for users of the command, in both languages."""
    wrong = []
    for lang in LANGUAGES:
        language.set_language(lang)
        for error in all_errors():
            remedy = failures.explain(error).remedy
            if words := library_words(remedy):
                wrong.append((type(error).__name__, getattr(error, "endpoint", ""), words, remedy))
    assert not wrong, "\n".join(map(str, wrong))


def test_problems_name_nothing_of_the_library() -> None:
    """Each problem has words for users of the command, or can't reach the command."""
    unreachable = {name for names in UNREACHABLE.values() for name in names.split()}
    assert unreachable <= PROBLEMS.keys()
    wrong = []
    for name in PROBLEMS.keys() - unreachable:
        for column, lang in enumerate(LANGUAGES):
            words = COMMAND.get(f"problem.{name}") or PROBLEMS[name]
            text = re.sub(r"\{\{|\}\}|\{[^{}]*\}", "", words[column])
            if matches := library_words(text):
                wrong.append((name, lang, matches, text))
    assert not wrong, "\n".join(map(str, sorted(wrong)))


# The variables, the command line, what the error names, and what it must not name.
ERRORS: tuple[tuple[dict[str, str], str, str, str], ...] = (
    ({"GATEPAY_UPLOADS": "nonsense"}, "uploads list", "GATEPAY_UPLOADS: must be sqlite:///", "database:"),
    ({"GATEPAY_UPLOADS": "postgresql://h/d"}, "uploads list", "GATEPAY_UPLOADS_SPOOL: is missing", "spool:"),
    ({"GATEPAY_BASE_URL": "http://example.com/api/"}, "products", "GATEPAY_BASE_URL: must be https", "allow_http"),
    (
        {},
        "login --base-url http://example.com/api/",
        "--base-url or that of your profile): must be https",
        "allow_http",
    ),
    (
        {"GATEPAY_CLOUD_BASE_URL": ""},
        "pay --cloud --price 1 --type alipay",
        "Set GATEPAY_BASE_URL and GATEPAY_CLOUD_BASE_URL",
        "Pass it",
    ),
    (
        {},
        "callback sign --order-id 7 --order T-1-X --price 1.00 --paid-at 7",
        "--paid-at: must be a Unix timestamp",
        "datetime",
    ),
    ({}, "sandbox --callback http://example.com/", "must point to this machine", "Sandbox("),
)


TYPED = "an appkey\nan appsecret\n"  # for `gatepay login`


def test_errors_name_the_options_and_variables_of_the_command(
    gatepay: Any, shop: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variables, line, expected, unexpected in ERRORS:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            run = gatepay(*line.split(), input=TYPED)
            shown = gatepay("--json", *line.split(), input=TYPED).json["error"]
        assert (run.status, expected in run.err, unexpected in run.err) == (2, True, False), (line, run)
        assert unexpected not in f"{shown['headline']} {shown['problem']['text']}", line
    assert not shop.requests
