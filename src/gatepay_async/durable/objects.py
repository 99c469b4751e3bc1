"""
Card keys in S3-compatible buckets and other stores that obstore supports: inputs and spools. The extra ``s3``.

Machines that share no folder can use a bucket as their spool.
"""

from __future__ import annotations

from contextlib import suppress
from secrets import token_bytes
from typing import TYPE_CHECKING, BinaryIO

import anyio.to_thread

from gatepay_async.durable.errors import SourceChangedError
from gatepay_async.durable.spool.folder import SECRET_BYTES, SECRET_NAME, check_secret
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

_READ_BYTES = 8 * 2**20  # bytes of an input read at a time


class StoredObject:
    """
    An object with one card key on each line, as an input.

    ::

        await submit.file(StoredObject(store, "keys.txt"), product_id=8)

    Args:
        store: The obstore store.
        path: The name of the object in it.
    """

    def __init__(self, store: ObjectStore, path: str) -> None:
        self._store = store
        self.name = path

    async def copy_to(self, file: BinaryIO) -> None:
        """Implement ``Source.copy_to``. The object is read in ranges, all of the same version."""
        metadata = await obstore.head_async(self._store, self.name)
        for start in range(0, metadata["size"], _READ_BYTES):
            options: GetOptions = {"range": (start, min(start + _READ_BYTES, metadata["size"]))}
            if metadata["e_tag"] is not None:
                options["if_match"] = metadata["e_tag"]
            await anyio.to_thread.run_sync(file.write, await self._read_range_of(options))

    async def _read_range_of(self, options: GetOptions) -> bytes:
        """Read the range of the object that *options* name, if the object is still the same version."""
        with suppress(PreconditionError, FileNotFoundError):
            reply = await obstore.get_async(self._store, self.name, options=options)
            return bytes(await reply.bytes_async())
        raise SourceChangedError(source=self.name, problem=Problem("changed_while_read"))


class ObjectSpool:
    """
    A ``Spool`` in a store of `obstore <https://developmentseed.org/obstore/>`_.

    ::

        store = obstore.store.S3Store("uploads", endpoint="https://s3.example.com", …)
        uploads = DurableUploads(connect, database="postgresql://…", spool=ObjectSpool(store))

    Args:
        store: The store. Everybody who can read it can read the card keys that wait there: keep it private and
            encrypted.
        prefix: The start of the names of all objects in it.
    """

    def __init__(self, store: ObjectStore, *, prefix: str = "gatepay/") -> None:
        self._store = store
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"ObjectSpool(prefix={self._prefix!r})"

    async def secret(self) -> bytes:
        """Implement ``Spool.secret``."""
        path = self._prefix + SECRET_NAME
        with suppress(AlreadyExistsError):  # if two processes do this at once, both use what the first one wrote
            await obstore.put_async(self._store, path, token_bytes(SECRET_BYTES), mode="create")
        reply = await obstore.get_async(self._store, path)
        return check_secret(bytes(await reply.bytes_async()), path)

    async def put(self, name: str, file: BinaryIO) -> None:
        """Implement ``Spool.put``. The store's settings decide who can read the object."""
        file.seek(0)
        await obstore.put_async(self._store, self._prefix + name, file)

    async def read(self, name: str, offset: int, length: int) -> bytes:
        """Implement ``Spool.read``."""
        path = self._prefix + name
        try:
            return bytes(await obstore.get_range_async(self._store, path, start=offset, length=length))
        except FileNotFoundError:
            pass
        except GenericError:
            # A range that starts at or after the end of the object is one cause of this error.
            if (await obstore.head_async(self._store, path))["size"] > offset:
                raise
            return b""
        raise SourceChangedError(source=name, problem=Problem("gone"))

    async def delete(self, name: str) -> None:
        """Implement ``Spool.delete``."""
        with suppress(FileNotFoundError):  # some stores raise it if there is no such object
            await obstore.delete_async(self._store, self._prefix + name)
