"""A call to the bytes that are posted; the bytes that come back to what the call promises, or to an error."""

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
from gatepay_async.words import say
from gatepay_async.words.problem import Problem

T = TypeVar("T")

CONTENT_TYPE = "application/x-www-form-urlencoded"  # silent; the API page's reading
SUCCESS = 100

_REDIRECT, _CLIENT_ERROR = 300, 400  # HTTP's own lines
_WITHOUT_BODY = (204, 205)  # No Content, Reset Content

# Where a whole reply is read in one go, with the call that it answers; the other replies are small, or rare.
_FAST_READERS: dict[str, Callable[[bytes, Any], tuple[int, Any] | None]] = {
    KaShow.path: codec.read_listing,
    PayCreate.path: codec.read_payment,
}

_MAX_CODE = 99_999  # GatePay's have three digits; a longer number may be a card key

_CODE_TEXT = re.compile(r"[0-9]{1,5}")
_EPOCH = re.compile(r"[0-9]{1,12}")

# What stands for itself (the same as in urllib.parse; WHATWG URL, application/x-www-form-urlencoded).
_SAFE = (string.ascii_letters + string.digits + "_.-~").encode()
_ALL_SAFE = re.compile(r"[A-Za-z0-9_.~-]*")
# Replacing byte by byte pays as long as there are few different ones: a line feed, mostly.
_FEW = 8


class Form(bytes):
    """A form as it is posted: signed, and perhaps full of card keys, so that ``repr`` shows its length only."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<form of {len(self)} bytes>"

    __str__ = __repr__  # what str() and f"{}" show; the bytes themselves are what decode() gives


@frozen
class Reply:
    """
    What came back.

    Attributes:
        status: HTTP's.
        body: Undone of any content coding.
        retry_after: Seconds that the server asks to be left alone for, or None.
        content_type: As its header says; empty where there is none.
        headers: All of them.
    """

    status: int
    body: bytes = field(repr=False)  # there may be card keys in it
    retry_after: float | None = None
    content_type: str = field(default="", repr=False)
    headers: Sequence[tuple[bytes, bytes]] = field(default=(), repr=False)


@frozen
class Envelope:
    """``{"code", "msg", "time", "data"}``: what every reply is wrapped in (返回结果表)."""

    code: int
    message: str = field(repr=False)
    raw_time: object = field(repr=False)
    data: Any = field(repr=False)

    @property
    def time(self) -> datetime | None:
        """When GatePay says it answered; read only where somebody asks."""
        time = self.raw_time  # text in the examples
        if isinstance(time, str) and _EPOCH.fullmatch(time):
            time = int(time)
        with suppress(codec.MisreadError):  # no reason to lose the cause of a refusal
            return codec.read(datetime, time, path="time")
        return None


def encode(call: Outgoing, credentials: Credentials) -> Form:
    """The form body of *call*, signed: ASCII, appkey first and sign last."""
    fields = call.fields()
    signature = sign(credentials, [fields[name] for name in call.signed])
    return encode_form({"appkey": credentials.appkey, **fields, "sign": signature})


def encode_form(fields: Mapping[str, str]) -> Form:
    """
    Put *fields* in ASCII as a form: what ``urllib.parse.urlencode`` gives, ten times as fast with 500 card keys in it.

    Args:
        fields: In this order. Their names must be safe as they are.
    """
    is_safe = _ALL_SAFE.fullmatch  # as most fields are but the card keys
    pairs = [f"{name}={value if is_safe(value) else _quote(value)}" for name, value in fields.items()]
    return Form("&".join(pairs).encode("ascii"))


def _quote(value: str) -> str:
    raw = value.encode()
    special = set(raw.translate(None, _SAFE))
    if len(special) > _FEW:
        return quote_plus(value)
    # The two that the others bring with them go first: a % and, for a blank, a +.
    for byte in [*[each for each in b"%+" if each in special], *special.difference(b"%+")]:
        raw = raw.replace(bytes((byte,)), b"+" if byte == ord(" ") else b"%%%02X" % byte)
    return raw.decode("ascii")


def decode(call: Call[T], reply: Reply) -> T:
    """
    What *call* promises, from its *reply*.

    Raises:
        RefusedError: GatePay said no; the subclass says why.
        ProtocolError: The reply is not GatePay's.
    """
    read_quickly = _FAST_READERS.get(call.path)
    if read_quickly is not None and reply.status < _REDIRECT:
        quick = read_quickly(reply.body, call)
        if quick is not None and quick[0] == SUCCESS:
            return cast("T", quick[1])
    failure: RefusedError | ProtocolError
    try:
        envelope = open_envelope(reply.body)
        if envelope.code == SUCCESS and reply.status < _REDIRECT:
            return call.read(envelope.data)
        failure = _refusal_error(call, reply, envelope)
    except codec.MisreadError as error:
        failure = _refusal_by_status(call, reply) or _unreadable_error(call, reply, error)
    raise failure


def _refusal_by_status(call: Call[Any], reply: Reply) -> RefusedError | ProtocolError | None:
    # FastAdmin sends a code from 200 to 999 as the HTTP status, too; with these two PHP sends no body.
    if reply.status in _WITHOUT_BODY and not reply.body.strip() and (call.path, reply.status) in catalogue.REFUSALS:
        return _refusal_error(call, reply, Envelope(reply.status, "", None, None))
    return None


def decode_raw(call: RawCall, reply: Reply) -> RawReply:
    """
    Take *reply* as it is, unless it says that *call* has failed.

    Raises:
        RefusedError: It has a ``code`` other than 100, as a number or as text.
        ProtocolError: Its ``code`` is neither; or its HTTP status is no success, and it is not GatePay's.
    """
    failure: RefusedError | ProtocolError
    try:
        envelope = open_envelope(reply.body, code_as_text=True)
    except codec.MisreadError as error:
        # Without a code it may be what this endpoint replies. A code that is none may say that the call has failed.
        has_code = error.path == "code" and error.problem.name != "missing"
        if reply.status < _REDIRECT and not has_code:
            return _raw_reply(call, reply, code=None)
        failure = _unreadable_error(call, reply, error)
    else:
        if envelope.code == SUCCESS and reply.status < _REDIRECT:
            return _raw_reply(call, reply, code=SUCCESS)
        failure = _refusal_error(call, reply, envelope)
    raise failure


def _raw_reply(call: RawCall, reply: Reply, *, code: int | None) -> RawReply:
    headers: dict[str, str] = {}
    for raw_name, raw_value in reply.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return RawReply(call.path, reply.status, headers, reply.body, code)


def open_envelope(body: bytes, *, code_as_text: bool = False) -> Envelope:
    """
    Read what every reply is wrapped in; of a refusal only ``code`` must be right, or its cause would be lost.

    Args:
        body: The reply's.
        code_as_text: Take ``"105"`` for 105, too: how an unknown endpoint writes its code isn't known.

    Raises:
        MisreadError: It is no JSON object, or has no whole number of at most five digits as ``code``.
    """
    reply = codec.as_object(codec.parse_json(body), path="reply")
    if "code" not in reply:
        raise codec.MisreadError(Problem("missing"), path="code")
    code = reply["code"]
    if code_as_text and isinstance(code, str) and _CODE_TEXT.fullmatch(code):
        code = int(code)
    if type(code) is not int:
        code = codec.read(int, code, path="code")  # raises, and says what it is instead
    if abs(code) > _MAX_CODE:
        raise codec.MisreadError(Problem("unknown_code"), path="code")
    message = reply.get("msg")
    return Envelope(code, message if isinstance(message, str) else "", reply.get("time"), reply.get("data"))


def _refusal_error(call: Outgoing, reply: Reply, envelope: Envelope) -> RefusedError | ProtocolError:
    """What to raise for a code that isn't success, or for a success that HTTP contradicts."""
    if envelope.code == SUCCESS:
        return _unreadable_error(call, reply, codec.MisreadError(Problem("says_success"), path="code"))
    if (call.path, envelope.code) not in catalogue.REFUSALS and reply.status >= _REDIRECT:
        # A gateway's own JSON ({"code": 504, …}), which says nothing of what GatePay did.
        return _unreadable_error(call, reply, codec.MisreadError(Problem("unknown_code"), path="code"))
    why = catalogue.meaning(call.path, envelope.code)
    # GatePay's own words for that code hold no card key; in any other words one may stand, in any form.
    strict = call.carries_keys and envelope.message != why.message
    return why.error(
        code=envelope.code,
        message=mask(envelope.message, keys=call.secrets(), strict=strict),
        endpoint=call.path,
        time=envelope.time,
        cause=say(why.cause, "en"),
        remedy=say(why.remedy, "en"),
    )


def _unreadable_error(call: Outgoing, reply: Reply, error: codec.MisreadError) -> ProtocolError:
    """What to raise for a reply that is not GatePay's."""
    redirect = _REDIRECT <= reply.status < _CLIENT_ERROR
    return ProtocolError(
        endpoint=call.path,
        http_status=reply.status,
        problem=Problem("redirect") if redirect else error.problem,
        path=None if redirect else error.path,
        excerpt=describe(reply.body, content_type=reply.content_type, keys=call.secrets(), strict=call.carries_keys),
        retry_after=reply.retry_after,
    )
