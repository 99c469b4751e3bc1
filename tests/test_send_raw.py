"""`send_raw`: calls to endpoints that the SDK doesn't know."""

import pickle
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from anyio.abc import SocketStream
from selected_httpx import httpx
from servers import http, raw_server
from tables import rows

from gatepay_async import (
    AsyncGatePay,
    InvalidRequestError,
    OutcomeUnknownError,
    ProtocolError,
    RawReply,
    RefusedError,
    RetryPolicy,
    SignatureRejectedError,
)
from gatepay_async.protocol.raw import RawCall
from gatepay_async.protocol.signing import Credentials, sign
from gatepay_async.sandbox import Sandbox

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]

TWO_ATTEMPTS = RetryPolicy(attempts=2, first_wait=0)
FIELDS = {"product_id": "8", "content": "CANARY-KEY-1\nCANARY-KEY-2"}


def make_client(reply: httpx.Response, requests: list[httpx.Request] | None = None) -> AsyncGatePay:
    """Return a client whose every call gets *reply*. Its requests are added to *requests*."""

    def answer(request: httpx.Request) -> httpx.Response:
        if requests is not None:
            requests.append(request)
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    return AsyncGatePay("K", "S", transport=httpx.MockTransport(answer), retry=TWO_ATTEMPTS)


async def test_send_raw_signs_the_named_fields_and_returns_the_reply(gatepay: AsyncGatePay, sandbox: Sandbox) -> None:
    """A refusal by a known endpoint raises the exception that the catalogue lists."""
    raw = await gatepay.send_raw("ka/create", FIELDS, signed=["product_id", "content"])
    assert (raw.endpoint, raw.http_status, raw.code) == ("ka/create", 200, 100)
    assert raw.headers["content-type"] == "application/json"
    assert raw.json()["data"] == "成功录入:2条卡密"
    assert sandbox.keys(8)[-2:] == ["CANARY-KEY-1", "CANARY-KEY-2"]
    with pytest.raises(SignatureRejectedError):  # the order of the signed fields is wrong
        await gatepay.send_raw("ka/create", FIELDS, signed=["content", "product_id"])


async def test_form_has_the_fields_in_order_and_signs_only_the_named_ones() -> None:
    """Names and values are form-encoded."""
    requests: list[httpx.Request] = []
    async with make_client(httpx.Response(200, json={"code": 100}), requests) as gatepay:
        await gatepay.send_raw("some/path", {"b[0]": "x y", "a": "1", "c": ""}, signed=("a", "b[0]"))
        await gatepay.send_raw("another")
    assert [str(request.url) for request in requests] == [
        "https://gatepay.io/api/some/path",
        "https://gatepay.io/api/another",
    ]
    shop = Credentials("K", "S")
    assert requests[0].content.decode() == f"appkey=K&b%5B0%5D=x+y&a=1&c=&sign={sign(shop, ['1', 'x y'])}"
    assert requests[1].content.decode() == f"appkey=K&sign={sign(shop, [])}"


@rows(
    ("status", "body", "code"),
    [
        (200, b'{"code": 100, "data": 1.10}', 100),
        (201, b"<html>", None),
        (200, b'{"code": "100"}', 100),
        (200, b'{"data": 1}', None),
        (200, b"[1]", None),
        (204, b"", None),
    ],
)
async def test_reply_that_is_no_refusal_is_returned_unchanged(status: int, body: bytes, code: int | None) -> None:
    """The ``repr`` of the reply shows neither headers nor body."""
    async with make_client(httpx.Response(status, content=body, headers={"X-Trace": "CANARY"})) as gatepay:
        raw = await gatepay.send_raw("some/path")
    assert (raw.http_status, raw.body, raw.code, raw.headers["x-trace"]) == (status, body, code, "CANARY")
    assert repr(raw) == f"RawReply(endpoint='some/path', http_status={status}, code={code})"
    assert pickle.loads(pickle.dumps(raw)) == raw  # noqa: S301 -- pickled in this test
    if b"1.10" in body:
        assert raw.json()["data"] == Decimal("1.10")


@rows(
    ("code", "kind"),
    [
        ("105", RefusedError), ('"105"', RefusedError), ('"00105"', RefusedError), ("-1", RefusedError),
        ("100000", OutcomeUnknownError), ('"100000"', OutcomeUnknownError), ("null", OutcomeUnknownError),
        ("true", OutcomeUnknownError), ("100.0", OutcomeUnknownError), ('"1e2"', OutcomeUnknownError),
        ('" 100"', OutcomeUnknownError), ('"OK"', OutcomeUnknownError), ("[100]", OutcomeUnknownError),
    ],
)  # fmt: skip
async def test_code_must_be_a_number_or_its_digits(code: str, kind: type[Exception]) -> None:
    """A ``code`` that is neither a whole number nor its digits is not a success, whatever the HTTP status is."""
    async with make_client(httpx.Response(200, content=f'{{"code": {code}, "data": []}}'.encode())) as gatepay:
        with pytest.raises(kind) as caught:
            await gatepay.send_raw("some/path")
        if kind is RefusedError:
            assert getattr(caught.value, "code") == int(code.strip('"'))  # noqa: B009 -- for the type checkers
            return
        with pytest.raises(ProtocolError):
            await gatepay.send_raw("some/path", repeatable=True)


async def test_json_of_an_invalid_body_raises_protocol_error() -> None:
    """``send_raw`` returns a reply whose body isn't JSON. Only ``json()`` raises an error."""
    raw = RawReply(endpoint="some/path", http_status=200, headers={}, body=b"<html>", code=None)
    with pytest.raises(ProtocolError, match="is not complete JSON") as caught:
        raw.json()
    assert caught.value.__context__ is None


@rows("repeatable", [True, False])
async def test_refusal_has_a_generic_cause_and_repeats_no_field(*, repeatable: bool) -> None:
    """The meaning of a code isn't known at an unknown endpoint."""
    refusal = {"code": 205, "msg": "CANARY-KEY-1 8 failed", "time": "1555773183", "data": None}
    async with make_client(httpx.Response(200, json=refusal)) as gatepay:
        with pytest.raises(RefusedError) as caught:
            await gatepay.send_raw("some/path", FIELDS, repeatable=repeatable)
    error = caught.value
    assert (type(error), error.code, error.endpoint, error.attempts) == (RefusedError, 205, "some/path", 1)
    assert "GatePay" in error.remedy
    assert "CANARY" not in str(error)


@rows(
    ("status", "repeatable", "kind", "attempts"),
    [
        (302, False, ProtocolError, 1),
        (404, True, ProtocolError, 1),
        (502, True, ProtocolError, 2),
        (502, False, OutcomeUnknownError, 1),
    ],
)
async def test_error_status_is_retried_only_if_the_call_is_repeatable(
    status: int, *, repeatable: bool, kind: type[Exception], attempts: int
) -> None:
    """The outcome of a call that isn't repeatable may stay unknown."""
    requests: list[httpx.Request] = []
    async with make_client(httpx.Response(status, content=b"<html>CANARY-KEY-1"), requests) as gatepay:
        with pytest.raises(kind) as caught:
            await gatepay.send_raw("some/path", FIELDS, repeatable=repeatable)
    assert len(requests) == attempts
    assert "CANARY" not in str(caught.value)


@rows("repeatable", [True, False])
async def test_lost_reply_is_retried_or_leaves_the_outcome_unknown(*, repeatable: bool) -> None:
    """A repeatable call is retried. Any other call raises ``OutcomeUnknownError``."""

    async def answer(stream: SocketStream, number: int) -> None:
        if number == 1:
            raise ConnectionAbortedError
        await stream.send(http(b'{"code": 100}'))

    async with (
        raw_server(answer) as server,
        AsyncGatePay("K", "S", base_url=server.base_url, retry=TWO_ATTEMPTS) as gatepay,
    ):
        if repeatable:
            assert (await gatepay.send_raw("some/path", FIELDS, repeatable=True)).code == 100
        else:
            with pytest.raises(OutcomeUnknownError, match="may or may not have been carried out") as caught:
                await gatepay.send_raw("some/path", {"out_order_id": "CANARY"})
            assert caught.value.out_order_id == ""
            assert "CANARY" not in str(caught.value)
    assert len(server.bodies) == (2 if repeatable else 1)


INVALID_ARGUMENTS: list[tuple[str, dict[str, Any], str]] = [
    *(
        ("path", {"path": path}, "must be a path below base_url")
        for path in (
            "/pay/create", "https://example.com/x", "//example.com", "../x", "a/../b", "a/./b", "a?b=1", "a#b", "a b",
            "a//b", "a\\b", "a%2e%2e/b", "支付", "a\n", "@example.com", "a" * 1001,
        )
    ),
    ("path", {"path": ""}, "must not be empty"),
    ("path", {"path": None}, "must be text, not NoneType"),
    ("fields", {"fields": [("a", "1")]}, "must be a dict, not list"),
    ("fields", {"fields": {"a": 1}}, "field 1 (a) must be text, not int"),
    ("fields", {"fields": {"a": "1", "b": None}}, "field 2 (b) must be text, not NoneType"),
    ("fields", {"fields": {"a": "CANARY\ud800"}}, "field 1 (a) can't be encoded as UTF-8"),
    ("fields", {"fields": {1: "CANARY"}}, "field 1 must have a name"),
    ("fields", {"fields": {"": "CANARY"}}, "field 1 must have a name"),
    ("fields", {"fields": {"CANARY 1": "a"}}, "field 1 must have a name"),
    ("fields", {"fields": {"appkey": "CANARY"}}, "field 1 is appkey, which the client adds itself"),
    ("fields", {"fields": {"sign": "CANARY"}}, "field 1 is sign, which the client adds itself"),
    ("signed", {"signed": "a"}, "must be a tuple of the names of fields"),
    ("signed", {"signed": ("a", "CANARY")}, "name 2 is not among the fields"),
    ("signed", {"signed": ([],)}, "name 1 is not among the fields"),
    ("signed", {"signed": ("a", "a")}, "names a twice"),
    ("repeatable", {"repeatable": "no"}, "must be True or False, not str"),
]  # fmt: skip


@rows(("field", "invalid", "problem"), INVALID_ARGUMENTS)
def test_invalid_argument_is_rejected_without_its_value(field: str, invalid: Mapping[str, Any], problem: str) -> None:
    """The error for an invalid argument names the parameter, and doesn't show the value."""
    valid: dict[str, Any] = {"path": "some/path", "fields": {"a": "1"}, "signed": ("a",), "repeatable": False}
    with pytest.raises(InvalidRequestError) as caught:
        RawCall(**{**valid, **invalid})
    assert caught.value.field == field
    assert caught.value.problem.startswith(problem)
    assert "CANARY" not in str(caught.value)


async def test_invalid_path_sends_nothing_and_repr_shows_no_values() -> None:
    """The values of the fields may be secrets."""
    requests: list[httpx.Request] = []
    async with make_client(httpx.Response(200), requests) as gatepay:
        with pytest.raises(InvalidRequestError):
            await gatepay.send_raw("../some/path")
    assert not requests
    assert "CANARY" not in repr(RawCall("a", FIELDS, ["content"], repeatable=False))
