"""What all the parts of the client have: ``send``, and what it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from gatepay_async.client.caller import Caller, sealed_async
from gatepay_async.protocol.calls import Call
from gatepay_async.protocol.messages import decode, decode_raw
from gatepay_async.protocol.raw import RawCall, RawReply
from gatepay_async.protocol.signing import Credentials

T = TypeVar("T")


class Base:
    """The methods of ``AsyncGatePay`` that send any call. Its ``__init__`` fills in what they use."""

    _credentials: Credentials
    _base_url: str
    _caller: Caller
    _max_connections: int

    async def send(self, call: Call[T]) -> T:
        """
        Send *call*, again where that is safe, and read the reply. All methods above end here.

        Args:
            call: One of ``gatepay_async.protocol.calls`` or ``gatepay_async.protocol.payment_calls``.
        """
        return (await self._caller.send(call, decode)).value

    @sealed_async
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
            path: Below ``base_url``: ``"some/path"``, for example.
            fields: Text by name, sent in this order. The client adds ``appkey`` and ``sign``.
            signed: The names of the fields to sign, in the order that GatePay's page gives.
            repeatable: Pass True only if a call that is carried out twice does no harm. Otherwise the client sends
                the call again only while no byte of it has left.

        Raises:
            RefusedError: The reply has a ``code`` other than 100, as a number or as text. What the number means is
                unknown, so the error has the class and the remedy of an unlisted code; a known endpoint keeps its own.
            ProtocolError: The reply's ``code`` is neither a whole number of at most five digits nor such a text, or
                HTTP's status is no success and there is no code. A repeatable call has been tried again before.
            OutcomeUnknownError: The call is not repeatable, and it may have been carried out, or not.
        """
        call = RawCall(path, {} if fields is None else fields, signed, repeatable)
        return (await self._caller.send(call, decode_raw)).value
