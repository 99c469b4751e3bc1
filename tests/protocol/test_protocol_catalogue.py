"""The catalogue of errors: complete, in both languages, and in agreement with the tree and the vendor's page."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tables import rows

from gatepay_async.protocol import callback_errors, catalogue, errors
from gatepay_async.protocol.bulk import Ledger, UploadIncomplete
from gatepay_async.protocol.catalogue import FAULTS, REFUSALS, Explanation, Fault, Refusal, explain, meaning
from gatepay_async.protocol.errors import GatePayError, RefusedError
from gatepay_async.protocol.payment_calls import CALLS
from gatepay_async.words import LANGUAGES, Lang, Text, say
from gatepay_async.words.refusals import CAUSES, ENDPOINTS, REMEDIES

pytestmark = [pytest.mark.fast, pytest.mark.uncounted]

# "The reply" of the API page: code, then a cell for each endpoint. `ka/create` has no 108.
LATER = (*range(101, 111), 199)  # of the later endpoints
CODES = {
    "pay/create": range(101, 117),
    "product/show": range(101, 104),
    "ka/show": range(101, 109),
    "ka/create": (*range(101, 108), *range(109, 114)),
    "anypay/create": (*LATER, *range(201, 209)),
    "cloudpay/create": (*LATER, *range(201, 210)),
    "grouppay/create": (*LATER, *range(201, 209)),
    "stablepay/create": (*LATER, *range(201, 207)),
    "order/check": (*LATER, 201),
}
# One of each error that is no refusal, and what its remedy must speak of.
OTHERS: list[tuple[GatePayError, str]] = [
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
    for refusal in REFUSALS.values():
        yield f"{refusal.endpoint} {refusal.code} cause", refusal.cause
        yield f"{refusal.endpoint} {refusal.code} remedy", refusal.remedy
    for fault in FAULTS:
        yield f"{fault.error.__name__} {fault.sent} cause", fault.cause
        yield f"{fault.error.__name__} {fault.sent} remedy", fault.remedy
    yield from ENDPOINTS.items()


every = rows(("name", "words"), texts())


def test_every_code_has_an_entry() -> None:
    """Each (endpoint, code) of the vendor's tables stands in the catalogue once, under its own name."""
    assert set(REFUSALS) == {(endpoint, code) for endpoint, codes in CODES.items() for code in codes}
    assert len(catalogue._ROWS) + len(catalogue._LATER_ROWS) == len(REFUSALS)
    assert all((each.endpoint, each.code) == key for key, each in REFUSALS.items())
    assert list(REFUSALS) == sorted(REFUSALS, key=lambda key: (list(CODES).index(key[0]), key[1]))


def test_every_text_is_used() -> None:
    """Each cause and each remedy of the tables is that of an error."""
    entries: list[Refusal | Fault] = [*REFUSALS.values(), *FAULTS]
    assert set(CAUSES.values()) == {each.cause for each in entries}
    assert set(REMEDIES.values()) == {each.remedy for each in entries}


def test_every_endpoint_has_a_name() -> None:
    """The catalogue knows the endpoints that there are calls for."""
    assert list(ENDPOINTS) == [call.path for call in CALLS] == list(CODES)


@every
def test_both_languages(name: str, words: Any) -> None:
    """Each text is there in English and in Chinese, as whole sentences, or as a title."""
    assert words[0] == words[0].strip()
    assert words[0][0].isupper() or words[0].startswith(("page", "product", "list_", "report."))
    assert not re.search("[\u4e00-\u9fff，。；：？]", words[0])
    assert re.search("[\u4e00-\u9fff]", words[1])
    assert (words[0][-1] in ".?") == (words[1][-1] in "。？")


@every
def test_chinese_is_set_as_chinese(name: str, words: Any) -> None:
    """Chinese has its own full-width marks, and a blank between Han and Latin letters or figures."""
    assert not re.search("[\u4e00-\u9fff][,;:?!]|[,;:?!][\u4e00-\u9fff]", words[1])
    assert not re.search("[\u4e00-\u9fff][A-Za-z0-9]|[A-Za-z0-9)=][\u4e00-\u9fff]", words[1])


@every
def test_names_are_the_same_in_both(name: str, words: Any) -> None:
    """Both languages name the same parameters, methods and fields."""
    names = r"[a-z]+_[a-z_]+(?:\(\)|=)?|\.[a-z_]+\b|[a-z]+=\d?"
    assert set(re.findall(names, words[0])) == set(re.findall(names, words[1]))


def test_each_class_says_its_own() -> None:
    """Two classes never have one cause; each class is the cause of something."""
    causes: dict[str, set[type[GatePayError]]] = {}
    for refusal in REFUSALS.values():
        causes.setdefault(refusal.cause[0], set()).add(refusal.error)
    assert all(len(classes) == 1 for classes in causes.values())
    assert {refusal.error for refusal in REFUSALS.values()} == set(RefusedError.__subclasses__())


@rows("call", CALLS)
def test_a_missing_parameter_is_named(call: Any) -> None:
    """101, or 105, lists what the endpoint wants, and so all that is signed."""
    causes = [why.cause for why in REFUSALS.values() if why.endpoint == call.path]
    causes = [cause for cause in causes if cause[0].startswith("A parameter is missing")]
    assert causes
    for cause in causes:
        for name in ("appkey", "sign", *call.signed):
            assert all(re.search(rf"\b{name}\b", text) for text in cause), name


@rows("lang", LANGUAGES)
@rows("key", REFUSALS)
def test_refusals_are_explained(key: tuple[str, int], lang: Lang) -> None:
    """A refusal is explained by its endpoint and number, in the language that is asked for."""
    endpoint, code = key
    entry = REFUSALS[key]
    error = entry.error(code=code, message="", endpoint=endpoint)
    assert explain(error, lang) == Explanation(say(entry.cause, lang), say(entry.remedy, lang))


def test_a_number_that_is_not_listed() -> None:
    """A number that the vendor's table lacks is explained as that."""
    unlisted = meaning("ka/create", 108)
    assert (unlisted.endpoint, unlisted.code, unlisted.error, unlisted.message) == ("ka/create", 108, RefusedError, "")
    assert explain(RefusedError(code=108, message="", endpoint="ka/create"), "zh").cause == unlisted.cause[1]
    assert "does not list" in unlisted.cause[0]


@rows(("error", "named"), OTHERS)
def test_other_errors_are_explained(error: GatePayError, named: str) -> None:
    """What is no refusal has its cause and remedy too, by its class."""
    assert named in explain(error).remedy
    assert named in explain(error, "zh").remedy


def test_sent_or_not_makes_the_difference() -> None:
    """A transport error is explained by whether the request can have arrived."""
    stayed, left = (errors.TransportError(endpoint="ka/show", sent=sent, problem="x") for sent in (False, True))
    assert "nothing was sent" in explain(stayed).cause
    assert "may have received" in explain(left).cause


def test_every_branch_has_its_own_entry() -> None:
    """Each class that is no cause of a refusal has an entry, so the last resort is for none of ours."""
    named = {fault.error for fault in FAULTS}
    assert named == {each for each in all_classes(GatePayError) if not issubclass(each, RefusedError)} | {RefusedError}
    assert explain(GatePayError("x")).cause == "Something went wrong in gatepay-async."


def all_classes(root: type[GatePayError]) -> Iterator[type[GatePayError]]:
    if root.__module__.startswith("gatepay_async.protocol."):
        yield root
    for child in root.__subclasses__():
        yield from all_classes(child)
