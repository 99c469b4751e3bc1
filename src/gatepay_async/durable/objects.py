"""
Objects in an S3-compatible bucket, or another store that obstore knows; the extra ``s3``.

As an input, and as a spool for machines that share no folder.
"""

from __future__ import annotations

from contextlib import suppress
from secrets import token_bytes
from typing import TYPE_CHECKING, BinaryIO

import anyio.to_thread

from gatepay_async.durable.errors import SourceChangedError
from gatepay_async.durable.spool.folder import check_secret
from gatepay_async.words.problem import Problem

try:
    import obstore
    from obstore.exceptions import AlreadyExistsError, GenericError, PreconditionError
    from obstore.store import ObjectStore
except ModuleNotFoundError as error:
    missing = "objects as inputs and spools need obstore, which is not installed: pip install 'gatepay-async[s3]'"
    raise ModuleNotFoundError(missing, name=error.name) from error

if TYPE_CHECKING:
    from obstore import GetOptions

_SECRET_NAME = "digest-key"  # noqa: S105 -- the name of an object
_SECRET_BYTES = 32
_READ_BYTES = 8 * 2**20  # bytes of an input read at a time


class StoredObject:
    """
    An object of card keys, one a line, as an input: ``submit.file(StoredObject(store, "keys.txt"), product_id=8)``.

    Args:
        store: Where it is.
        path: What it is called there.
    """

    def __init__(self, store: ObjectStore, path: str) -> None:
        self._store = store
        self.name = path

    async def copy_to(self, file: BinaryIO) -> None:
        """As ``Source.copy_to``; by ranged reads, all of the same version."""
        facts = await obstore.head_async(self._store, self.name)
        for start in range(0, facts["size"], _READ_BYTES):
            options: GetOptions = {"range": (start, min(start + _READ_BYTES, facts["size"]))}
            if facts["e_tag"] is not None:
                options["if_match"] = facts["e_tag"]
            await anyio.to_thread.run_sync(file.write, await self._read_range_of(options))

    async def _read_range_of(self, options: GetOptions) -> bytes:
        with suppress(PreconditionError, FileNotFoundError):
            reply = await obstore.get_async(self._store, self.name, options=options)
            return bytes(await reply.bytes_async())
        raise SourceChangedError(source=self.name, problem=Problem("changed_while_read"))


class ObjectSpool:
    """
    A store of `obstore <https://developmentseed.org/obstore/>`_ as a ``Spool``; read by ranges.

    ::

        store = obstore.store.S3Store("uploads", endpoint="https://s3.example.com", …)
        uploads = DurableUploads(connect, database="postgresql://…", spool=ObjectSpool(store))

    Args:
        store: Who may read it may read the card keys that are waiting: let it be yours alone, and encrypted.
        prefix: Of the names in it.
    """

    def __init__(self, store: ObjectStore, *, prefix: str = "gatepay/") -> None:
        self._store = store
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"ObjectSpool(prefix={self._prefix!r})"

    async def secret(self) -> bytes:
        """As ``Spool.secret``."""
        path = self._prefix + _SECRET_NAME
        with suppress(AlreadyExistsError):  # of two that do this at once, one is the first
            await obstore.put_async(self._store, path, token_bytes(_SECRET_BYTES), mode="create")
        reply = await obstore.get_async(self._store, path)
        return check_secret(bytes(await reply.bytes_async()), path)

    async def put(self, name: str, file: BinaryIO) -> None:
        """As ``Spool.put``; who may read it, the store says."""
        file.seek(0)
        await obstore.put_async(self._store, self._prefix + name, file)

    async def read(self, name: str, offset: int, length: int) -> bytes:
        """As ``Spool.read``."""
        path = self._prefix + name
        try:
            return bytes(await obstore.get_range_async(self._store, path, start=offset, length=length))
        except FileNotFoundError:
            pass
        except GenericError:
            # Stores say so, among other things, of a range that begins behind the end.
            if (await obstore.head_async(self._store, path))["size"] > offset:
                raise
            return b""
        raise SourceChangedError(source=name, problem=Problem("gone"))

    async def delete(self, name: str) -> None:
        """As ``Spool.delete``."""
        with suppress(FileNotFoundError):  # some stores say so
            await obstore.delete_async(self._store, self._prefix + name)
