"""A response whose body is still being read, and that body as an httpx stream."""

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
from attrs import define

from gatepay_async.pool.port import Connection, Head, WholeResponse
from gatepay_async.pool.slots import Slot


@define(eq=False, repr=False)
class OpenResponse:
    """
    A response whose head has been read. The slot is released when the body ends, fails or is closed.

    Attributes:
        head: The status and headers of the response.
    """

    head: Head
    _slot: Slot[Connection] | None  # None: it was released
    _connection: Connection
    _return_slot: Callable[[Slot[Connection]], Awaitable[None]]

    async def read(self) -> bytes:
        """
        Read the next part of the body. At the end of the body the part is empty.

        Raises:
            httpx.TransportError: The body broke off.
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

    async def read_whole(self, *, max_bytes: int) -> WholeResponse:
        """
        Read the body to its end, or until it has more than *max_bytes* bytes.

        Raises:
            httpx.TransportError: The body broke off.
        """
        parts: list[bytes] = []
        size = 0
        try:
            while size <= max_bytes and (part := await self.read()):
                parts.append(part)
                size += len(part)
        finally:
            await self.aclose()
        return WholeResponse(self.head.status, self.head.headers, self.head.fields, b"".join(parts))

    async def aclose(self) -> None:
        """Give the connection back if the body was read to its end; close it otherwise."""
        slot, self._slot = self._slot, None
        if slot is None:
            return
        try:
            try:
                await self._connection.finish()
            finally:
                if self._connection is not slot.connection:  # an extra one, for this exchange only
                    await self._connection.aclose()
        finally:
            await self._return_slot(slot)


class ResponseBody(httpx.AsyncByteStream):
    """The body of an open response, for httpx. It is no generator, so the garbage collector never has to finish it."""

    def __init__(self, response: OpenResponse) -> None:
        self._response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        part = await self._response.read()
        if not part:
            raise StopAsyncIteration
        return part

    async def aclose(self) -> None:
        """Give the connection back if the body was read to its end; close it otherwise."""
        await self._response.aclose()
