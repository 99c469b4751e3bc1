"""The base class of the client's methods: ``send``, ``send_raw`` and the attributes that they use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from gatepay_async.client.caller import Caller, scrub_errors_async
from gatepay_async.protocol.calls import Call
from gatepay_async.protocol.messages import decode, decode_raw
from gatepay_async.protocol.raw import RawCall, RawReply
from gatepay_async.protocol.signing import Credentials

T = TypeVar("T")


class Base:
    """The methods of ``AsyncGatePay`` that send any call. Its ``__init__`` sets the attributes."""

    _credentials: Credentials
    _base_url: str
    _caller: Caller
    _max_connections: int

    async def send(self, call: Call[T]) -> T:
        """
        Send *call*, retry it where that is safe, and read the reply.

        Args:
            call: One of ``gatepay_async.protocol.calls`` or ``gatepay_async.protocol.payment_calls``.
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

        The call is signed as GatePay signs: the appkey, then the fields that *signed* names, in that order.
        Retries, deadline and errors are those of every other call. An error shows no field and nothing of the reply.

        Args:
            path: The path below ``base_url``, such as ``"some/path"``.
            fields: Text by name, sent in this order. The client adds ``appkey`` and ``sign``.
            signed: The names of the fields to sign, in the order that GatePay's page gives.
            repeatable: Pass True only if carrying out the call twice does no harm. Otherwise the client retries it
                only if no byte of it has left.

        Raises:
            RefusedError: The reply has a ``code`` other than 100, as a number or as text. What the number means is
                unknown, so the error has the class and the remedy of an unlisted code; a known endpoint keeps its own.
            ProtocolError: The reply's ``code`` is neither a whole number of at most five digits nor such a text, or
                the HTTP status is no success and there is no code. A repeatable call was retried first.
            OutcomeUnknownError: The call is not repeatable, and may or may not have been carried out.
        """
        call = RawCall(path, {} if fields is None else fields, signed, repeatable)
        return (await self._caller.send(call, decode_raw)).value
