"""The base class of ``AsyncGatePay``: ``send``, ``send_raw`` and the attributes that they use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from gatepay_async.client.caller import Caller, scrub_errors_async
from gatepay_async.protocol.calls import Call
from gatepay_async.protocol.messages import decode, decode_raw
from gatepay_async.protocol.raw import RawCall, RawReply
from gatepay_async.protocol.signing import Credentials

T = TypeVar("T")


class BaseClient:
    """The methods that can send any call. ``AsyncGatePay.__init__`` sets the attributes."""

    _credentials: Credentials
    _base_url: str
    _caller: Caller
    _max_connections: int

    async def send(self, call: Call[T]) -> T:
        """
        Send *call*, retry it where that is safe, and decode the reply.

        Args:
            call: A call from ``gatepay_async.protocol.calls`` or ``gatepay_async.protocol.payment_calls``.
        """
        return (await self._caller.send(call, decode)).value

    @scrub_errors_async
    async def send_raw(
        self,
        path: str,
        fields: Mapping[str, str] | None = None,
        *,
        signed: Sequence[str] = (),
        repeatable: bool = False,
    ) -> RawReply:
        """
        Send a call to an endpoint that this SDK doesn't know.

        The signature covers the appkey, then the fields in *signed*, in that order. Retries, the deadline and errors
        work as for every other call. Errors contain neither the fields nor the reply.

        Args:
            path: The path below ``base_url``, such as ``"some/path"``.
            fields: Names and values, sent in this order. The client adds ``appkey`` and ``sign``.
            signed: The names of the fields to sign, in the order that GatePay's page gives.
            repeatable: Pass True only if carrying out the call twice does no harm. Otherwise the client retries it
                only if no byte of it was sent.

        Raises:
            RefusedError: The reply has a ``code`` other than 100, as a number or as text. For an endpoint that this SDK
                knows, the error has the class and remedy of that code. For any other endpoint, it has those of an
                unknown code.
            ProtocolError: The reply's ``code`` isn't a whole number of at most five digits (as a number or as text),
                or there is no ``code`` and the HTTP status isn't a success. A repeatable call was retried first.
            OutcomeUnknownError: The call is not repeatable, and may or may not have been carried out.
        """
        call = RawCall(path, {} if fields is None else fields, signed, repeatable)
        return (await self._caller.send(call, decode_raw)).value
