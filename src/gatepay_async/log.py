"""
The log ``gatepay_async``: a line for each retry and refusal (INFO) and for each unknown outcome (WARNING), with fields.

The lines hold no text of a reply, no card key and no signature. A call that succeeds at once writes nothing.
"""

from __future__ import annotations

import logging

from gatepay_async.protocol.errors import GatePayError, OutcomeUnknownError, ProtocolError, RefusedError

LOGGER = logging.getLogger("gatepay_async")


def log_retry(endpoint: str, failure: GatePayError, *, attempt: int, wait: float) -> None:
    """Log that an attempt has failed, and that the next one follows after *wait* seconds."""
    fields = {**_fields(endpoint, failure), "gatepay_attempts": attempt, "gatepay_wait": round(wait, 3)}
    LOGGER.info("%s: attempt %d: %s; again in %.1f s", endpoint, attempt, _kind_of(failure), wait, extra=fields)


def log_end(endpoint: str, failure: GatePayError, *, attempt: int) -> None:
    """Log that a call has ended with a refusal or an unknown outcome."""
    if not isinstance(failure, RefusedError | OutcomeUnknownError):
        return  # the caller gets this error, so there is no need to log it
    level = logging.INFO if isinstance(failure, RefusedError) else logging.WARNING
    fields = {**_fields(endpoint, failure), "gatepay_attempts": attempt}
    LOGGER.log(level, "%s: %s", endpoint, _kind_of(failure), extra=fields)


def _fields(endpoint: str, failure: GatePayError) -> dict[str, object]:
    """Return the fields of a line, which become attributes of its ``LogRecord``."""
    fields: dict[str, object] = {"gatepay_endpoint": endpoint, "gatepay_error": type(failure).__name__}
    if isinstance(failure, RefusedError):
        fields["gatepay_code"] = failure.code
    if isinstance(failure, ProtocolError):
        fields["gatepay_http_status"] = failure.http_status
    if isinstance(failure, OutcomeUnknownError):
        fields["gatepay_out_order_id"] = failure.out_order_id
    return fields


def _kind_of(failure: GatePayError) -> str:
    """Return a short text, such as ``SignatureRejectedError 106``, ``ProtocolError HTTP 503`` or ``TransportError``."""
    name = type(failure).__name__
    if isinstance(failure, RefusedError):
        return f"{name} {failure.code}"
    return f"{name} HTTP {failure.http_status}" if isinstance(failure, ProtocolError) else name
