"""The exception classes: their bases, their messages, and that they can be pickled and copied."""

import copy
import pickle
from argparse import Namespace
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tables import rows

from gatepay_async.protocol import callback_errors, errors
from gatepay_async.protocol.bulk import Chunk, Fate, Ledger, UploadIncomplete, failed
from gatepay_async.protocol.errors import GatePayError, RefusedError
from gatepay_async.words.problem import Problem
from gatepay_async.words.problems import PROBLEMS

pytestmark = pytest.mark.fast

THEN = datetime(2019, 4, 20, 8, 50, 50, tzinfo=UTC)
REFUSALS = [
    "MissingParameterError",
    "InvalidPayTypeError",
    "SingleItemOnlyError",
    "InvalidProductError",
    "InvalidQuantityError",
    "ProductNotFoundError",
    "ShopNotFoundError",
    "InvalidAppKeyError",
    "SignatureRejectedError",
    "OutOfStockError",
    "QuotaExceededError",
    "LicenceExpiredError",
    "EndpointClosedError",
    "InvalidPageError",
    "DuplicateKeysError",
    "EmptyContentError",
    "TooManyKeysError",
    "AlreadyStoredError",
    "StorageFailedError",
]
# The exceptions for codes of the endpoints that GatePay added later.
LATER = [
    "OrderNotFoundError",
    "InvalidPriceError",
    "PayTypeClosedError",
    "ProductUnavailableError",
    "UnexpectedParameterError",
    "CallbackUrlMissingError",
    "AppKeyExpiredError",
    "NotAnAgentError",
]
TREE = {
    "GatePayError": ["Exception"],
    "InvalidRequestError": ["GatePayError", "InvalidArgumentError"],
    "RefusedError": ["GatePayError"],
    **{name: ["RefusedError"] for name in REFUSALS},
    # Codes of pay/create that the vendor has added later.
    **{name: ["RefusedError"] for name in ("NoPayTypeAvailableError", "OrderFailedError", "UnknownFailureError")},
    **{name: ["RefusedError"] for name in LATER},
    "ProtocolError": ["GatePayError"],
    "TransportError": ["GatePayError"],
    "DeadlineExceededError": ["TransportError"],
    "OutcomeUnknownError": ["GatePayError"],
    "CallbackError": ["GatePayError"],
    "MalformedCallbackError": ["CallbackError"],
    "CallbackSignatureError": ["CallbackError"],
    "StaleCallbackError": ["CallbackError"],
    "UploadIncomplete": ["GatePayError"],
}


def classes(root: type[GatePayError] = GatePayError) -> Iterator[type[GatePayError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__.startswith("gatepay_async.protocol."):
            yield from classes(child)


def make_report() -> Any:
    ledger = Ledger()
    ledger.read = 2
    ledger.add(failed(Chunk(index=0, lines=(1, 2), keys=("KEY-1", "KEY-2")), Fate.UNKNOWN))
    return ledger.report(stopped=None)


def make_error(cls: Any) -> GatePayError:
    """Return an error of *cls* whose attributes all differ from their defaults."""
    attributes: dict[str, Any]
    if issubclass(cls, RefusedError):
        attributes = {
            "code": 113,
            "message": "失败",
            "endpoint": "ka/create",
            "time": THEN,
            "attempts": 3,
            "in_doubt": True,
        }
        attributes |= {"cause": "Its database failed.", "remedy": "Send it again."}
    elif issubclass(cls, errors.InvalidRequestError):
        attributes = {"field": "product_num", "problem": "must be above 0"}
    elif issubclass(cls, errors.ProtocolError):
        attributes = {"endpoint": "ka/show", "http_status": 429, "problem": "is missing", "path": "data.ka"}
        attributes |= {"excerpt": "Slow down", "retry_after": 7.5, "attempts": 2}
    elif issubclass(cls, errors.TransportError):
        attributes = {"endpoint": "ka/show", "sent": True, "problem": "ConnectError", "attempts": 4}
    elif issubclass(cls, errors.OutcomeUnknownError):
        attributes = {"endpoint": "pay/create", "out_order_id": "T-1-X", "attempts": 2}
    elif issubclass(cls, callback_errors.CallbackError):
        attributes = {"problem": "is missing", "field": "sign"}
    elif issubclass(cls, UploadIncomplete):
        attributes = {"report": make_report()}
    else:
        return GatePayError("anything")
    error: GatePayError = cls(**attributes)
    assert {name: getattr(error, name) for name in attributes} == attributes
    return error


each_class = rows("cls", list(classes()))


def test_exception_classes_have_the_documented_bases() -> None:
    """The tree of exception classes is part of the public API."""
    assert {cls.__name__: [base.__name__ for base in cls.__bases__] for cls in classes()} == TREE


def test_every_exception_is_in_the_diagram_of_the_module() -> None:
    """The docstring of ``errors`` lists every exception class."""
    assert errors.__doc__ is not None
    assert not [name for name in TREE if name not in errors.__doc__]


def assert_same(actual: GatePayError, expected: GatePayError) -> None:
    assert type(actual) is type(expected)
    assert (str(actual), repr(actual)) == (str(expected), repr(expected))
    assert (actual.args, actual.__dict__) == (expected.args, expected.__dict__)


@each_class
def test_error_has_a_problem_for_programs(cls: type[GatePayError]) -> None:
    """`.problem` is a text with a name, in both languages, that survives pickling."""
    problem = make_error(cls).problem
    restored = pickle.loads(pickle.dumps(make_error(cls))).problem  # noqa: S301 -- pickled in this test
    assert (problem.name, problem.facts) == (restored.name, restored.facts)
    assert problem.in_("en") == problem
    assert problem.name in PROBLEMS


@each_class
def test_error_survives_pickling(cls: type[GatePayError]) -> None:
    """Notes, and attributes that were set later, survive every pickle protocol, and pickling twice."""
    error = make_error(cls)
    error.add_note("while uploading")
    error.attempts = 9  # type: ignore[attr-defined]  # not every class has this attribute
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        restored = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 -- pickled in this test
        assert_same(restored, error)
        assert_same(pickle.loads(pickle.dumps(restored, protocol)), error)  # noqa: S301 -- pickled in this test
        assert restored.__notes__ == ["while uploading"]


def test_problem_of_an_unknown_outcome_of_a_raw_call_names_no_order() -> None:
    """``send_raw`` doesn't know which field is the order number."""
    assert errors.OutcomeUnknownError(endpoint="some/path", out_order_id="").problem.name == "call_unknown"


def test_error_that_its_own_report_contains_survives_pickling() -> None:
    """``.report`` has the chunks of an upload, with the error that ended it."""
    error: Any = errors.InvalidRequestError(field="client", problem=Problem("closed"))
    error.report = Namespace(error=error)
    for restored in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):  # noqa: S301 -- pickled in this test
        assert (restored.field, restored.problem.name) == ("client", "closed")
        assert restored.report.error is restored


@each_class
def test_error_survives_copying(cls: type[GatePayError]) -> None:
    """Changing the copy doesn't change the error."""
    error = make_error(cls)
    error.add_note("while uploading")
    for copied in (copy.copy(error), copy.deepcopy(error)):
        assert_same(copied, error)
        copied.attempts = 10  # type: ignore[attr-defined]  # not every class has this attribute
        assert getattr(error, "attempts", None) != 10


MESSAGES: list[tuple[GatePayError, str]] = [
    (errors.InvalidRequestError(field="page", problem="must not be empty"), "page: must not be empty"),
    (
        errors.OutOfStockError(
            code=110, message="有效库存不足", endpoint="pay/create", cause="Too few are left.", remedy="Upload more."
        ),
        "pay/create refused with 110 (有效库存不足): Too few are left. Upload more.",
    ),
    (
        errors.OutOfStockError(code=110, message="有效库存不足", endpoint="pay/create"),
        "pay/create refused with 110 (有效库存不足)",
    ),
    (RefusedError(code=777, message="", endpoint="ka/show"), "ka/show refused with 777"),
    (
        errors.ProtocolError(
            endpoint="ka/show", http_status=502, problem="is not complete JSON", excerpt="Bad Gateway"
        ),
        "ka/show (HTTP 502): is not complete JSON: Bad Gateway",
    ),
    (
        errors.ProtocolError(endpoint="ka/show", http_status=200, problem="is missing", path="data.ka", retry_after=0),
        "ka/show (HTTP 200): data.ka is missing; the server asks to retry after 0 s",
    ),
    (
        errors.TransportError(endpoint="ka/show", sent=False, problem="ConnectError"),
        "ka/show: no reply: ConnectError (1 attempt; no byte of the request has left)",
    ),
    (
        errors.DeadlineExceededError(endpoint="ka/show", sent=True, problem="late", attempts=3),
        "ka/show: no reply: late (3 attempts; the request may have arrived)",
    ),
    (
        callback_errors.MalformedCallbackError(problem="a parameter appears twice"),
        "callback: a parameter appears twice",
    ),
    (callback_errors.CallbackSignatureError(problem="is not yours", field="appkey"), "callback: appkey: is not yours"),
    (
        UploadIncomplete(make_report()),
        (
            "0 refused, 2 unknown, 0 not sent (of 2 lines; 0 stored, 0 there already). "
            "Uploading the same input again is safe: GatePay keeps one copy of each card key."
        ),
    ),
]


@rows(("error", "message"), MESSAGES)
def test_message_is_built_from_the_attributes(error: GatePayError, message: str) -> None:
    """``str()`` of an error contains the relevant attributes."""
    assert str(error) == message


def test_transport_error_message_reflects_attributes_set_later() -> None:
    """The client sets ``attempts`` and ``sent`` after the last attempt."""
    error = errors.TransportError(endpoint="ka/show", sent=False, problem="ConnectError")
    error.attempts, error.sent = 4, True
    assert str(error) == "ka/show: no reply: ConnectError (4 attempts; the request may have arrived)"


def test_unknown_outcome_message_names_the_order_and_the_next_step() -> None:
    """The message of ``OutcomeUnknownError`` tells the user how to find out whether the order exists."""
    text = str(errors.OutcomeUnknownError(endpoint="pay/create", out_order_id="T-1-X"))
    assert "'T-1-X' may or may not have been created" in text
    assert "Don't send it again" in text
    assert "callback" in text
