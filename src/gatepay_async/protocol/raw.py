"""A call to an endpoint that this SDK doesn't know, and its raw reply."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias
from urllib.parse import quote_plus

from attrs import field, frozen

from gatepay_async.protocol import checks, codec
from gatepay_async.protocol.calls import Call
from gatepay_async.protocol.errors import InvalidRequestError, ProtocolError
from gatepay_async.protocol.frames import scrub_init_errors
from gatepay_async.protocol.values import MisreadError
from gatepay_async.words.problem import Problem

_SEGMENT = r"[A-Za-z0-9_~-][A-Za-z0-9_.~-]*"  # it can't be "." or "..", which would change the path
_ENDPOINT_PATH = rf"{_SEGMENT}(/{_SEGMENT})*/?"
_PARAMETER_NAME = r"[A-Za-z0-9_.\[\]-]+"
_MAX_PATH_CHARS = 1000
_ADDED_BY_US = ("appkey", "sign")
_MIN_SECRET_CHARS = 4  # hiding every "a" or "1" in an error would leave nothing to read


def _is_a(kind: type, value: object) -> bool:
    """Like ``isinstance``, but without an effect on the type checker."""
    # After isinstance(), pyright would narrow Any to a dict of unknown types, and report that.
    return isinstance(value, kind)


def _as_dict(fields: Any) -> Any:
    return dict(fields) if _is_a(Mapping, fields) else fields


def _as_names(signed: Any) -> Any:
    return tuple(signed) if _is_a(list, signed) else signed


def _check_path(_: object, attribute: Any, value: Any) -> None:
    checks.text(_, attribute, value)
    if len(value) > _MAX_PATH_CHARS or re.fullmatch(_ENDPOINT_PATH, value) is None:
        problem = Problem("raw_path")
        raise InvalidRequestError(field=attribute.alias, problem=problem)


def _check_fields(_: object, attribute: Any, value: Any) -> None:
    if not _is_a(dict, value):
        raise InvalidRequestError(field=attribute.alias, problem=Problem("not_dict", kind=type(value).__name__))
    for number, (name, text) in enumerate(value.items(), 1):
        problem = _field_problem(name, text)
        if problem is not None:
            raise InvalidRequestError(field=attribute.alias, problem=Problem("field", number=number, problem=problem))


def _field_problem(name: object, value: object) -> Problem | None:
    """Return what is wrong with a field, or None. The problem repeats neither the value nor an invalid name."""
    if not isinstance(name, str) or re.fullmatch(_PARAMETER_NAME, name) is None:
        return Problem("field_name")
    if name in _ADDED_BY_US:
        return Problem("added_by_client", name=name)
    if not isinstance(value, str):
        return Problem("field_not_text", name=name, kind=type(value).__name__)
    if not checks.is_utf8(value):
        return Problem("field_not_utf8", name=name)
    return None


def _check_signed(call: RawCall, attribute: Any, value: Any) -> None:
    if not _is_a(tuple, value):
        raise InvalidRequestError(field=attribute.alias, problem=Problem("not_names"))
    for number, name in enumerate(value):
        if not isinstance(name, str) or name not in call.values:
            raise InvalidRequestError(field=attribute.alias, problem=Problem("no_such_field", number=number + 1))
        if name in value[:number]:
            raise InvalidRequestError(field=attribute.alias, problem=Problem("signed_twice", name=name))


def _check_bool(_: object, attribute: Any, value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidRequestError(field=attribute.alias, problem=Problem("not_bool", kind=type(value).__name__))


@scrub_init_errors
@frozen
class RawCall:
    """
    A call to any endpoint.

    Attributes:
        path: The path after the base URL.
        values: The fields, in the order in which they are sent. The constructor's parameter is called ``fields``.
        signed_names: The names of the signed fields, in order, after the appkey. The parameter is called ``signed``.
        repeatable: Whether it is safe to send the call again even if it may have been carried out.
    """

    path: str = field(validator=_check_path)
    values: dict[str, str] = field(converter=_as_dict, validator=_check_fields, repr=checks.show_length, alias="fields")
    signed_names: tuple[str, ...] = field(converter=_as_names, validator=_check_signed, alias="signed")
    repeatable: bool = field(validator=_check_bool)

    method: ClassVar[Literal["GET", "POST"]] = "POST"
    on_cloud: ClassVar[bool] = False
    # We can't know whether the fields or the reply hold card keys, so we assume that they do.
    carries_keys: ClassVar[bool] = True

    def fields(self) -> dict[str, str]:
        """The fields with their names as they are sent."""
        return {quote_plus(name): value for name, value in self.values.items()}

    @property
    def signed(self) -> tuple[str, ...]:
        """The names of the signed fields as they are sent."""
        return tuple(map(quote_plus, self.signed_names))

    def secrets(self) -> tuple[str, ...]:
        """Return all values that are long enough to be secrets, because any of them may be one."""
        return tuple(value for value in self.values.values() if len(value) >= _MIN_SECRET_CHARS)


@frozen
class RawReply:
    """
    The reply of an endpoint that this SDK doesn't know. Its ``repr`` shows neither headers nor body.

    Attributes:
        endpoint: The path that was called.
        http_status: The HTTP status.
        headers: The headers, with lower-case names. Several headers of one name are joined with a comma.
        body: The decoded body.
        code: 100, GatePay's code for success. None: the reply isn't a JSON object with a ``code``.
    """

    endpoint: str
    http_status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    code: int | None

    def json(self) -> Any:
        """
        Parse the body as JSON. A number with a decimal point becomes an exact ``Decimal``.

        Raises:
            ProtocolError: The body is not valid JSON.
        """
        try:
            return codec.parse_json(self.body)
        except MisreadError as error:
            problem = error.problem
        raise ProtocolError(endpoint=self.endpoint, http_status=self.http_status, problem=problem)


# Any call that the client can send.
Outgoing: TypeAlias = Call[Any] | RawCall
