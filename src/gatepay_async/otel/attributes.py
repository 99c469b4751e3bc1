"""The attributes of spans and metrics. Their values come from our own code, never from a reply or a caller's text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from attrs import field, frozen
from opentelemetry.util.types import AttributeValue

from gatepay_async.exchange.port import ForeignError
from gatepay_async.protocol.errors import GatePayError, RefusedError
from gatepay_async.protocol.messages import MAX_CODE
from gatepay_async.protocol.payment_calls import CALLS
from gatepay_async.protocol.raw import Outgoing
from gatepay_async.protocol.web_addresses import DEFAULT_PORTS

Attributes = Mapping[str, AttributeValue]

OTHER: Final = "_OTHER"  # OpenTelemetry's semantic conventions use this for values that aren't listed
_ERROR_STATUS: Final = 400  # the lowest HTTP status of an error
# Other paths are not reported: `send_raw` takes any path, and a metric must not have an unlimited number of values.
_DOCUMENTED_PATHS: Final = {call.path for call in CALLS}


@frozen
class Server:
    """
    The server of a client's calls.

    Attributes:
        url: The base URL.
        path: The path of the base URL.
        attributes: The address and the port as attributes.
    """

    url: str
    path: str = field(eq=False)
    attributes: Attributes = field(eq=False)

    @classmethod
    def of(cls, base_url: str) -> Server:
        """Return the server at *base_url*."""
        parts = urlsplit(base_url)
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        return cls(base_url, parts.path, {"server.address": parts.hostname or "", "server.port": port})


def endpoint_of(call: Outgoing) -> str:
    """Return the path of *call* if GatePay documents it, else ``OTHER``."""
    return call.path if call.path in _DOCUMENTED_PATHS else OTHER


def request_attributes(call: Outgoing, server: Server) -> dict[str, AttributeValue]:
    """Return the attributes of one attempt of *call*, for metrics."""
    endpoint = endpoint_of(call)
    template = {} if endpoint == OTHER else {"url.template": server.path + endpoint}
    return {"http.request.method": call.method, **server.attributes, **template}


def span_name(call: Outgoing, server: Server) -> str:
    """Return the name of an attempt's span: method and URL template, as the semantic conventions say."""
    endpoint = endpoint_of(call)
    return call.method if endpoint == OTHER else f"{call.method} {server.path}{endpoint}"


def full_url(call: Outgoing, server: Server) -> str:
    """Return the URL of *call* without the query, which contains the signature, and without an undocumented path."""
    endpoint = endpoint_of(call)
    return server.url if endpoint == OTHER else server.url + endpoint


def error_type(error: BaseException) -> str:
    """Return the name of the error's class. The message isn't reported, because it may contain text from outside."""
    if isinstance(error, ForeignError):
        error = error.error
    kind = type(error)
    return kind.__name__ if isinstance(error, GatePayError) else f"{kind.__module__}.{kind.__qualname__}"


def attempt_error(error: BaseException | None, http_status: int | None) -> str | None:
    """Return the error type of an attempt, or None. A refusal with HTTP 200 is a success for HTTP."""
    if error is None:
        return None
    if isinstance(error, RefusedError) and http_status is not None and http_status < _ERROR_STATUS:
        return None
    return error_type(error)


def code_attributes(error: BaseException | None) -> dict[str, int]:
    """Return GatePay's code as an attribute, if *error* is a refusal."""
    if isinstance(error, RefusedError) and 0 <= error.code <= MAX_CODE:
        return {"gatepay.code": error.code}
    return {}
