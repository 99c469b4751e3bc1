"""What spans and metrics say: facts of our own code, and never text from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from attrs import field, frozen
from opentelemetry.util.types import AttributeValue

from gatepay_async.exchange.port import ForeignError
from gatepay_async.protocol.errors import GatePayError, RefusedError
from gatepay_async.protocol.payment_calls import CALLS
from gatepay_async.protocol.raw import Outgoing

Attributes = Mapping[str, AttributeValue]

OTHER: Final = "_OTHER"  # the conventions' own word
_PORTS: Final = {"http": 80, "https": 443}
_ERROR_STATUS: Final = 400
_MAX_CODE: Final = 99_999  # longer numbers are no codes of GatePay's
# Others may be any text, and any number of texts: ``send_raw`` takes what its caller gives.
_ENDPOINTS: Final = {call.path for call in CALLS}


@frozen
class Server:
    """
    Where calls go.

    Attributes:
        url: The base URL.
        path: That of the base URL.
        attributes: Its address and port.
    """

    url: str
    path: str = field(eq=False)
    attributes: Attributes = field(eq=False)

    @classmethod
    def of(cls, base_url: str) -> Server:
        """Return the one at *base_url*."""
        parts = urlsplit(base_url)
        port = parts.port or _PORTS[parts.scheme]
        return cls(base_url, parts.path, {"server.address": parts.hostname or "", "server.port": port})


def endpoint_of(call: Outgoing) -> str:
    """The path of *call*, if GatePay documents it."""
    return call.path if call.path in _ENDPOINTS else OTHER


def request_attributes(call: Outgoing, server: Server) -> dict[str, AttributeValue]:
    """Those of one attempt of *call*, for metrics."""
    endpoint = endpoint_of(call)
    template = {} if endpoint == OTHER else {"url.template": server.path + endpoint}
    return {"http.request.method": call.method, **server.attributes, **template}


def span_name(call: Outgoing, server: Server) -> str:
    """The name of an attempt's span: method and template, as the conventions have it."""
    endpoint = endpoint_of(call)
    return call.method if endpoint == OTHER else f"{call.method} {server.path}{endpoint}"


def full_url(call: Outgoing, server: Server) -> str:
    """Without the query, which holds the signature; without a path that may be any text."""
    endpoint = endpoint_of(call)
    return server.url if endpoint == OTHER else server.url + endpoint


def error_type(error: BaseException) -> str:
    """The name of its class. What it says may be anybody's."""
    if isinstance(error, ForeignError):
        error = error.error
    kind = type(error)
    return kind.__name__ if isinstance(error, GatePayError) else f"{kind.__module__}.{kind.__qualname__}"


def attempt_error(error: BaseException | None, http_status: int | None) -> str | None:
    """What the conventions call an error of an attempt. A refusal with HTTP 200 is none: HTTP has done its work."""
    if error is None:
        return None
    if isinstance(error, RefusedError) and http_status is not None and http_status < _ERROR_STATUS:
        return None
    return error_type(error)


def code_of(error: BaseException | None) -> dict[str, int]:
    """GatePay's code of a refusal."""
    if isinstance(error, RefusedError) and 0 <= error.code <= _MAX_CODE:
        return {"gatepay.code": error.code}
    return {}
