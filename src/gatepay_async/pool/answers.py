"""A response under way, and its body as httpx reads it."""

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
from attrs import define

from gatepay_async.pool.port import Answer, Connection, Head
from gatepay_async.pool.slots import Slot


@define(eq=False, repr=False)
class Exchange:
    """
    A response under way. Its slot comes back when the body has been read to the end, has failed, or is closed.

    Attributes:
        head: Of the response.
    """

    head: Head
    _slot: Slot[Connection] | None
    _connection: Connection
    _return_slot: Callable[[Slot[Connection]], Awaitable[None]]

    async def read(self) -> bytes:
        """
        Read some of the body; nothing at its end.

        Raises:
            httpx.TransportError: It broke off.
        """
        if self._slot is None:
            return b""
        try:
            part = await self._connection.read()
        except BaseException:
            await self.aclose()
            raise
        if not part:
            await self.aclose()
        return part

    async def read_whole(self, *, most: int) -> Answer:
        """
        Read the body to its end, and no further once there are more bytes than *most*.

        Raises:
            httpx.TransportError: It broke off.
        """
        parts: list[bytes] = []
        size = 0
        try:
            while size <= most and (part := await self.read()):
                parts.append(part)
                size += len(part)
        finally:
            await self.aclose()
        return Answer(self.head.status, self.head.headers, self.head.fields, b"".join(parts))

    async def aclose(self) -> None:
        """Give the connection back if the body was read to its end; close it otherwise."""
        slot, self._slot = self._slot, None
        if slot is None:
            return
        try:
            try:
                await self._connection.finish()
            finally:
                if self._connection is not slot.connection:  # it is in no slot
                    await self._connection.aclose()
        finally:
            await self._return_slot(slot)


class Body(httpx.AsyncByteStream):
    """The body of an exchange, for httpx. An iterator and no generator: nothing is left half-way."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        part = await self._exchange.read()
        if not part:
            raise StopAsyncIteration
        return part

    async def aclose(self) -> None:
        """Give the connection back if the body was read to its end; close it otherwise."""
        await self._exchange.aclose()
