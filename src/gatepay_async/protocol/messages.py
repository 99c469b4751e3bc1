"""Encodes a call to the bytes that are sent, and decodes the reply to a model or an error."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar, cast
from urllib.parse import quote_plus

from attrs import field, frozen

from gatepay_async.protocol import catalogue, codec
from gatepay_async.protocol.calls import Call, KaShow, PayCreate
from gatepay_async.protocol.describing import describe
from gatepay_async.protocol.errors import ProtocolError, RefusedError
from gatepay_async.protocol.masking import mask
from gatepay_async.protocol.raw import Outgoing, RawCall, RawReply
from gatepay_async.protocol.signing import Credentials, sign
from gatepay_async.protocol.values import MisreadError
from gatepay_async.words import say
from gatepay_async.words.problem import Problem

T = TypeVar("T")

CONTENT_TYPE = "application/x-www-form-urlencoded"  # the vendor doesn't document it
SUCCESS = 100

_FIRST_REDIRECT, _FIRST_CLIENT_ERROR = 300, 400  # HTTP statuses
_EMPTY_STATUSES = (204, 205)  # No Content, Reset Content

# Functions that decode a whole reply in one step, for the endpoints with large or frequent replies. The second argument
# is the call.
_FAST_READERS: dict[str, Callable[[bytes, Any], tuple[int, Any] | None]] = {
    KaShow.path: codec.read_listing,
    PayCreate.path: codec.read_payment,
}

MAX_CODE = 99_999  # GatePay's codes have three digits; a longer number may be a card key

_CODE_TEXT = re.compile(r"[0-9]{1,5}")
_EPOCH = re.compile(r"[0-9]{1,12}")

# The bytes that need no escaping (the same as in urllib.parse; WHATWG URL, application/x-www-form-urlencoded).
_SAFE = (string.ascii_letters + string.digits + "_.-~").encode()
_ALL_SAFE = re.compile(r"[A-Za-z0-9_.~-]*")
# With at most so many different bytes to escape, replacing them one after the other is faster than quote_plus().
_MAX_REPLACED_BYTES = 8


class Form(bytes):
    """A signed form. ``repr`` shows only its length, because it may hold card keys."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<form of {len(self)} bytes>"

    __str__ = __repr__  # str() and f"{}" don't show the bytes either; decode() does


@frozen
class Reply:
    """
    The reply to an attempt.

    Attributes:
        status: The HTTP status.
        body: The decoded body.
        retry_after: The seconds after which the server asks to retry, or None.
        content_type: The value of the header; empty: there is none.
        headers: All headers.
    """

    status: int
    body: bytes = field(repr=False)  # it may hold card keys
    retry_after: float | None = None
    content_type: str = field(default="", repr=False)
    headers: Sequence[tuple[bytes, bytes]] = field(default=(), repr=False)


@frozen
class Envelope:
    """The structure of every reply (返回结果表): ``{"code", "msg", "time", "data"}``."""

    code: int
    message: str = field(repr=False)
    raw_time: object = field(repr=False)
    data: Any = field(repr=False)

    @property
    def time(self) -> datetime | None:
        """The time in GatePay's reply, or None if it is unreadable. It is only parsed when it is used."""
        time = self.raw_time  # text in the vendor's examples
        if isinstance(time, str) and _EPOCH.fullmatch(time):
            time = int(time)
        with suppress(MisreadError):  # an unreadable time must not hide the cause of a refusal
            return codec.read(datetime, time, path="time")
        return None


def encode(call: Outgoing, credentials: Credentials) -> Form:
    """Return the signed form of *call*, in ASCII, with the appkey first and the signature last."""
    fields = call.fields()
    signature = sign(credentials, [fields[name] for name in call.signed])
    return encode_form({"appkey": credentials.appkey, **fields, "sign": signature})


def encode_form(fields: Mapping[str, str]) -> Form:
    """
    Encode *fields* like ``urllib.parse.urlencode``, but ten times as fast for 500 card keys.

    Args:
        fields: The fields, in order. Their names must need no escaping.
    """
    is_safe = _ALL_SAFE.fullmatch  # most fields except card keys need no escaping
    pairs = [f"{name}={value if is_safe(value) else _quote(value)}" for name, value in fields.items()]
    return Form("&".join(pairs).encode("ascii"))


def _quote(value: str) -> str:
    """Escape *value* like ``quote_plus``."""
    raw = value.encode()
    special = set(raw.translate(None, _SAFE))
    if len(special) > _MAX_REPLACED_BYTES:
        return quote_plus(value)
    # Escape % and + first, because the other replacements insert these two.
    for byte in [*[byte for byte in b"%+" if byte in special], *special.difference(b"%+")]:
        raw = raw.replace(bytes((byte,)), b"+" if byte == ord(" ") else b"%%%02X" % byte)
    return raw.decode("ascii")


def decode(call: Call[T], reply: Reply) -> T:
    """
    Return the result of *call* from its *reply*.

    Raises:
        RefusedError: GatePay refused the call. The subclass says why.
        ProtocolError: The reply is not GatePay's.
    """
    read_quickly = _FAST_READERS.get(call.path)
    if read_quickly is not None and reply.status < _FIRST_REDIRECT:
        code_and_result = read_quickly(reply.body, call)
        if code_and_result is not None and code_and_result[0] == SUCCESS:
            return cast("T", code_and_result[1])
    failure: RefusedError | ProtocolError
    try:
        envelope = open_envelope(reply.body)
        if envelope.code == SUCCESS and reply.status < _FIRST_REDIRECT:
            return call.read(envelope.data)
        failure = _refusal_error(call, reply, envelope)
    except MisreadError as error:
        failure = _refusal_by_status(call, reply) or _unreadable_error(call, reply, error)
    raise failure


def _refusal_by_status(call: Call[Any], reply: Reply) -> RefusedError | ProtocolError | None:
    """Return the refusal that the HTTP status of an empty reply shows, or None."""
    # FastAdmin, which GatePay very likely runs, sends codes from 200 to 999 as the HTTP status, too. With 204 and 205,
    # PHP sends no body.
    if reply.status in _EMPTY_STATUSES and not reply.body.strip() and (call.path, reply.status) in catalogue.REFUSALS:
        return _refusal_error(call, reply, Envelope(reply.status, "", None, None))
    return None


def decode_raw(call: RawCall, reply: Reply) -> RawReply:
    """
    Return *reply* unchanged, unless it says that *call* has failed.

    Raises:
        RefusedError: The ``code``, a number or a text, is not 100.
        ProtocolError: The ``code`` is neither a number nor a text; or the HTTP status is an error, and the reply is not
            GatePay's.
    """
    failure: RefusedError | ProtocolError
    try:
        envelope = open_envelope(reply.body, code_as_text=True)
    except MisreadError as error:
        # Perhaps the replies of this endpoint have no code. But if there is a code that can't be read, the call may
        # have failed.
        has_code = error.path == "code" and error.problem.name != "missing"
        if reply.status < _FIRST_REDIRECT and not has_code:
            return _raw_reply(call, reply, code=None)
        failure = _unreadable_error(call, reply, error)
    else:
        if envelope.code == SUCCESS and reply.status < _FIRST_REDIRECT:
            return _raw_reply(call, reply, code=SUCCESS)
        failure = _refusal_error(call, reply, envelope)
    raise failure


def _raw_reply(call: RawCall, reply: Reply, *, code: int | None) -> RawReply:
    """Convert *reply*. Several headers of one name are joined."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in reply.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return RawReply(call.path, reply.status, headers, reply.body, code)


def open_envelope(body: bytes, *, code_as_text: bool = False) -> Envelope:
    """
    Read the envelope of a reply. Only ``code`` must be valid: other invalid fields must not hide the cause of a
    refusal.

    Args:
        body: The body of the reply.
        code_as_text: Also accept ``"105"`` for 105, because unknown endpoints may write their codes like that.

    Raises:
        MisreadError: The body is no JSON object, or its ``code`` is not a whole number of at most five digits.
    """
    reply = codec.as_object(codec.parse_json(body), path="reply")
    if "code" not in reply:
        raise MisreadError(Problem("missing"), path="code")
    code = reply["code"]
    if code_as_text and isinstance(code, str) and _CODE_TEXT.fullmatch(code):
        code = int(code)
    if type(code) is not int:
        code = codec.read(int, code, path="code")  # raises MisreadError, which names the type of the code
    if abs(code) > MAX_CODE:
        raise MisreadError(Problem("unknown_code"), path="code")
    message = reply.get("msg")
    return Envelope(code, message if isinstance(message, str) else "", reply.get("time"), reply.get("data"))


def _refusal_error(call: Outgoing, reply: Reply, envelope: Envelope) -> RefusedError | ProtocolError:
    """Return the error for a code other than success, or for a success with an HTTP error status."""
    if envelope.code == SUCCESS:
        return _unreadable_error(call, reply, MisreadError(Problem("says_success"), path="code"))
    if (call.path, envelope.code) not in catalogue.REFUSALS and reply.status >= _FIRST_REDIRECT:
        # This is a gateway's own JSON ({"code": 504, …}), which doesn't tell what GatePay did.
        return _unreadable_error(call, reply, MisreadError(Problem("unknown_code"), path="code"))
    refusal = catalogue.meaning(call.path, envelope.code)
    # GatePay's documented message holds no card key. Any other message may hold one, in any form.
    strict = call.carries_keys and envelope.message != refusal.message
    return refusal.error(
        code=envelope.code,
        message=mask(envelope.message, keys=call.secrets(), strict=strict),
        endpoint=call.path,
        time=envelope.time,
        cause=say(refusal.cause, "en"),
        remedy=say(refusal.remedy, "en"),
    )


def _unreadable_error(call: Outgoing, reply: Reply, error: MisreadError) -> ProtocolError:
    """Return the error for a reply that is not GatePay's."""
    is_redirect = _FIRST_REDIRECT <= reply.status < _FIRST_CLIENT_ERROR
    return ProtocolError(
        endpoint=call.path,
        http_status=reply.status,
        problem=Problem("redirect") if is_redirect else error.problem,
        path=None if is_redirect else error.path,
        excerpt=describe(reply.body, content_type=reply.content_type, keys=call.secrets(), strict=call.carries_keys),
        retry_after=reply.retry_after,
    )
