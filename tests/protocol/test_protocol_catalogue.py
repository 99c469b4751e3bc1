"""The catalogue of errors is complete, in both languages, and agrees with the exception classes and GatePay's page."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tables import rows

from gatepay_async.protocol import callback_errors, catalogue, errors
from gatepay_async.protocol.bulk import Ledger, UploadIncomplete
from gatepay_async.protocol.catalogue import (
    ERROR_MEANINGS,
    REFUSALS,
    ErrorMeaning,
    Explanation,
    Refusal,
    explain,
    meaning,
)
from gatepay_async.protocol.errors import GatePayError, InvalidRequestError, RefusedError
from gatepay_async.protocol.payment_calls import CALLS
from gatepay_async.words import LANGUAGES, Lang, Text, say
from gatepay_async.words.arguments import InvalidArgumentError
from gatepay_async.words.problem import Problem
from gatepay_async.words.refusals import CAUSES, ENDPOINTS, REMEDIES

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]

# The codes that the endpoints from anypay/create on share. GatePay documented these endpoints later.
SHARED = (*range(101, 111), 199)
# The codes that GatePay's page lists for each endpoint. `ka/create` has no 108.
CODES = {
    "pay/create": range(101, 117),
    "product/show": range(101, 104),
    "ka/show": range(101, 109),
    "ka/create": (*range(101, 108), *range(109, 114)),
    "anypay/create": (*SHARED, *range(201, 209)),
    "cloudpay/create": (*SHARED, *range(201, 210)),
    "grouppay/create": (*SHARED, *range(201, 209)),
    "stablepay/create": (*SHARED, *range(201, 207)),
    "order/check": (*SHARED, 201),
}
# One error of each kind that isn't a refusal, and what its remedy must mention.
OTHER_ERRORS: list[tuple[GatePayError, str]] = [
    (errors.InvalidRequestError(field="page", problem="x"), ".field"),
    (errors.ProtocolError(endpoint="ka/show", http_status=502, problem="x"), ".http_status"),
    (errors.TransportError(endpoint="ka/show", sent=False, problem="x"), "DNS"),
    (errors.DeadlineExceededError(endpoint="ka/show", sent=True, problem="x"), "deadline="),
    (errors.DeadlineExceededError(endpoint="ka/show", sent=False, problem="x"), "deadline="),
    (errors.OutcomeUnknownError(endpoint="pay/create", out_order_id="T-1-X"), ".out_order_id"),
    (callback_errors.MalformedCallbackError(problem="x"), "fail"),
    (callback_errors.CallbackSignatureError(problem="x"), "appsecret"),
    (callback_errors.StaleCallbackError(problem="x"), "max_age"),
    (callback_errors.CallbackError(problem="x"), "fail"),
    (UploadIncomplete(Ledger().report(stopped=None)), "report.chunks"),
]


def texts() -> Iterator[tuple[str, Text]]:
    """Yield the name and text of each refusal, of each other error, and of each endpoint."""
    for refusal in REFUSALS.values():
        yield f"{refusal.endpoint} {refusal.code} cause", refusal.cause
        yield f"{refusal.endpoint} {refusal.code} remedy", refusal.remedy
    for entry in ERROR_MEANINGS:
        yield f"{entry.error} {entry.sent} cause", entry.cause
        yield f"{entry.error} {entry.sent} remedy", entry.remedy
    yield from ENDPOINTS.items()


for_every_text = rows(("name", "text"), texts())


def test_every_code_has_an_entry() -> None:
    """The catalogue has one entry for each endpoint and code that GatePay's page lists, in the same order."""
    assert set(REFUSALS) == {(endpoint, code) for endpoint, codes in CODES.items() for code in codes}
    assert len(catalogue._ROWS) + len(catalogue._LATER_ROWS) == len(REFUSALS)
    assert all((refusal.endpoint, refusal.code) == key for key, refusal in REFUSALS.items())
    assert list(REFUSALS) == sorted(REFUSALS, key=lambda key: (list(CODES).index(key[0]), key[1]))


def test_every_text_is_used() -> None:
    """Each text for a cause or a remedy belongs to an error."""
    entries: list[Refusal | ErrorMeaning] = [*REFUSALS.values(), *ERROR_MEANINGS]
    assert set(CAUSES.values()) == {entry.cause for entry in entries}
    assert set(REMEDIES.values()) == {entry.remedy for entry in entries}


def test_every_endpoint_has_a_name() -> None:
    """The catalogue has a name for each endpoint that has a call class."""
    assert list(ENDPOINTS) == [call.path for call in CALLS] == list(CODES)


@for_every_text
def test_text_exists_in_both_languages_with_the_same_punctuation(name: str, text: Any) -> None:
    """Each text ends with the same kind of punctuation in English and in Chinese."""
    english, chinese = text
    assert english == english.strip()
    assert english[0].isupper() or english.startswith(("page", "product", "list_", "report."))
    assert not re.search("[\u4e00-\u9fff，。；：？]", english)
    assert re.search("[\u4e00-\u9fff]", chinese)
    assert (english[-1] in ".?") == (chinese[-1] in "。？")


@for_every_text
def test_chinese_text_follows_chinese_typography(name: str, text: Any) -> None:
    """Chinese texts use full-width punctuation, and a space between Chinese characters and Latin letters or digits."""
    _, chinese = text
    assert not re.search("[\u4e00-\u9fff][,;:?!]|[,;:?!][\u4e00-\u9fff]", chinese)
    assert not re.search("[\u4e00-\u9fff][A-Za-z0-9]|[A-Za-z0-9)=][\u4e00-\u9fff]", chinese)


@for_every_text
def test_both_languages_contain_the_same_names(name: str, text: Any) -> None:
    """Both languages mention the same parameters, methods and fields."""
    english, chinese = text
    names = r"[a-z]+_[a-z_]+(?:\(\)|=)?|\.[a-z_]+\b|[a-z]+=\d?"
    assert set(re.findall(names, english)) == set(re.findall(names, chinese))


def test_each_exception_has_its_own_cause() -> None:
    """No two exception classes share the text of a cause, and each class has an entry."""
    causes: dict[str, set[type[GatePayError]]] = {}
    for refusal in REFUSALS.values():
        causes.setdefault(refusal.cause[0], set()).add(refusal.error)
    assert all(len(classes) == 1 for classes in causes.values())
    assert {refusal.error for refusal in REFUSALS.values()} == set(RefusedError.__subclasses__())


@rows("call", CALLS)
def test_cause_of_a_missing_parameter_lists_all_signed_parameters(call: Any) -> None:
    """The cause of "a parameter is missing" lists every signed parameter of the endpoint."""
    causes = [entry.cause for entry in REFUSALS.values() if entry.endpoint == call.path]
    causes = [cause for cause in causes if cause[0].startswith("A parameter is missing")]
    assert causes
    for cause in causes:
        for name in ("appkey", "sign", *call.signed):
            assert all(re.search(rf"\b{name}\b", text) for text in cause), name


@rows("lang", LANGUAGES)
@rows("key", REFUSALS)
def test_refusals_are_explained(key: tuple[str, int], lang: Lang) -> None:
    """The explanation of a refusal depends on its endpoint and code, and is in the requested language."""
    endpoint, code = key
    entry = REFUSALS[key]
    error = entry.error(code=code, message="", endpoint=endpoint)
    problem = {"en": f"refused with code {code}", "zh": f"被拒绝，状态码 {code}"}[lang]
    assert explain(error, lang) == Explanation(say(entry.cause, lang), say(entry.remedy, lang), problem)


def test_explanation_of_an_unlisted_code_says_that_it_is_not_listed() -> None:
    """A code that GatePay's page doesn't list has a general explanation."""
    unlisted = meaning("ka/create", 108)
    assert (unlisted.endpoint, unlisted.code, unlisted.error, unlisted.message) == ("ka/create", 108, RefusedError, "")
    assert explain(RefusedError(code=108, message="", endpoint="ka/create"), "zh").cause == unlisted.cause[1]
    assert "does not list" in unlisted.cause[0]


@rows(("error", "mentioned"), OTHER_ERRORS)
def test_errors_other_than_refusals_are_explained(error: GatePayError, mentioned: str) -> None:
    """An error that isn't a refusal gets a cause and a remedy from its class."""
    assert mentioned in explain(error).remedy
    assert mentioned in explain(error, "zh").remedy


def test_explanation_of_a_transport_error_says_whether_the_request_was_sent() -> None:
    """The explanation of a transport error says whether GatePay may have received the request."""
    not_sent, sent = (errors.TransportError(endpoint="ka/show", sent=sent, problem="x") for sent in (False, True))
    assert "nothing was sent" in explain(not_sent).cause
    assert "may have received" in explain(sent).cause


def test_every_exception_other_than_refusals_has_an_entry() -> None:
    """Each exception class that isn't a refusal has an entry, so none of them gets the fallback explanation."""
    with_entry = {entry.error for entry in ERROR_MEANINGS}
    expected = {cls for cls in all_classes(GatePayError) if not issubclass(cls, RefusedError)} | {RefusedError}
    assert with_entry == {cls.__name__ for cls in expected}
    assert explain(GatePayError("x")).cause == "Something went wrong in gatepay-async."


@rows("lang", LANGUAGES)
def test_errors_of_other_rooms_are_explained(lang: Lang) -> None:
    """A wrong argument of the pool or the sandbox is explained like one of the client, any other error in general."""
    problem = Problem("not_whole", kind="str")
    of_client, of_pool = (kind(field="times", problem=problem) for kind in (InvalidRequestError, InvalidArgumentError))
    assert explain(of_pool, lang) == explain(of_client, lang)
    assert explain(OSError("odd"), lang) == explain(GatePayError("odd"), lang)


def all_classes(root: type[GatePayError]) -> Iterator[type[GatePayError]]:
    """Yield *root* and its subclasses at any depth, but only those of this package."""
    if root.__module__.startswith("gatepay_async.protocol."):
        yield root
    for child in root.__subclasses__():
        yield from all_classes(child)
