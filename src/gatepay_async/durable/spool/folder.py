"""The protocols ``Source`` (an input) and ``Spool`` (holds card keys until they are sent), and a spool in a folder."""

from __future__ import annotations

import os
import shutil
import stat
from io import BytesIO
from pathlib import Path
from secrets import token_bytes
from typing import BinaryIO, Protocol, runtime_checkable

import anyio
import anyio.to_thread

from gatepay_async.durable.errors import DurableError, SourceChangedError
from gatepay_async.words.problem import Problem

SECRET_NAME = "digest-key"  # noqa: S105 -- the name of a file
SECRET_BYTES = 32
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH  # in a mode: the group or others can write
_OWNER_ONLY = 0o600  # the mode of new files
_POSIX = os.name == "posix"


class Spool(Protocol):
    """
    Holds card keys from submission until they are sent. Submitters write them, workers read them.

    All submitters and workers of a queue must have access to it. The database holds names of spool files, and no card
    keys.
    """

    async def secret(self) -> bytes:
        """Return the 32 random bytes of this spool, always the same. The first call creates them."""
        ...

    async def put(self, name: str, file: BinaryIO) -> None:
        """Store all of *file* as *name*, readable by its owner only. An existing *name* is replaced atomically."""
        ...

    async def read(self, name: str, offset: int, length: int) -> bytes:
        """
        Return *length* bytes of *name* from *offset* on, or fewer if it ends before that.

        Raises:
            SourceChangedError: *name* doesn't exist.
        """
        ...

    async def delete(self, name: str) -> None:
        """Delete *name*, if it exists."""
        ...


@runtime_checkable
class Source(Protocol):
    """An input that isn't a local file."""

    @property
    def name(self) -> str:
        """Its name, to show to people."""
        ...

    async def copy_to(self, file: BinaryIO) -> None:
        """
        Write the whole input to *file*, an empty temporary file without a name.

        Raises:
            SourceChangedError: The input changed while it was read.
        """
        ...


class FolderSpool:
    """
    A spool in a folder, on this machine or on a file system that all machines share.

    Args:
        folder: The folder. If it doesn't exist, it is created for its owner only. Files in it have the mode 0600. It
            must belong to the user who runs this process, and nobody else may be able to write to it, because
            workers send the card keys in it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder).absolute()

    def __repr__(self) -> str:
        return f"FolderSpool({str(self._folder)!r})"

    async def secret(self) -> bytes:
        """Implement ``Spool.secret``."""
        return await anyio.to_thread.run_sync(self._read_or_create_secret)

    async def put(self, name: str, file: BinaryIO) -> None:
        """Implement ``Spool.put``. When it returns, the file is on the disk."""
        await anyio.to_thread.run_sync(self._replace_file, name, file)

    async def read(self, name: str, offset: int, length: int) -> bytes:
        """Implement ``Spool.read``."""
        return await anyio.to_thread.run_sync(self._read_range, name, offset, length)

    async def delete(self, name: str) -> None:
        """Implement ``Spool.delete``."""
        path = self._folder / name
        await anyio.to_thread.run_sync(lambda: path.unlink(missing_ok=True))

    def _read_or_create_secret(self) -> bytes:
        path = self._folder / SECRET_NAME
        self._make_folder()
        if not path.exists():
            temporary = self._write_new_file(BytesIO(token_bytes(SECRET_BYTES)))
            try:
                os.link(temporary, path)  # if two processes do this at once, both use what the first one wrote
            except FileExistsError:
                pass
            finally:
                temporary.unlink()
        with _open_regular(path) as file:
            return check_secret(file.read(SECRET_BYTES + 1), str(path))

    def _replace_file(self, name: str, file: BinaryIO) -> None:
        self._make_folder()
        temporary = self._write_new_file(file)
        try:
            temporary.replace(self._folder / name)
        finally:
            temporary.unlink(missing_ok=True)
        _fsync_folder(self._folder)

    def _make_folder(self) -> None:
        """
        Create the folder if it doesn't exist, and check its owner.

        Raises:
            DurableError: The folder belongs to another user, or others can write to it.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_owner(self._folder.stat())

    def _check_owner(self, status: os.stat_result) -> None:
        """
        Check the owner and the mode of the folder. *status* is the result of its ``stat()``.

        Raises:
            DurableError: The folder belongs to another user, or others can write to it.
        """
        if _POSIX:
            if status.st_uid != os.geteuid():
                raise DurableError(problem=Problem("spool_foreign", folder=str(self._folder)))
            if status.st_mode & _OTHERS_WRITE:
                problem = Problem("spool_writable", folder=str(self._folder))
                raise DurableError(problem=problem)

    def _read_range(self, name: str, offset: int, length: int) -> bytes:
        try:
            self._check_owner(self._folder.stat())
            with _open_regular(self._folder / name) as file:
                file.seek(offset)
                # read() allocates memory for *length* bytes, and *length* comes from the database, which isn't trusted.
                return file.read(min(length, max(0, os.fstat(file.fileno()).st_size - offset)))
        except FileNotFoundError:
            pass
        raise SourceChangedError(source=str(self._folder / name), problem=Problem("gone"))

    def _write_new_file(self, source: BinaryIO) -> Path:
        """Copy *source* to a new file in the folder, which only the owner can read from the start. Return its path."""
        source.seek(0)
        path = self._folder / f".{token_bytes(8).hex()}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
        try:
            with os.fdopen(descriptor, "wb") as file:
                shutil.copyfileobj(source, file)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:  # a full disk, for example: leave no half-written file with card keys
            path.unlink(missing_ok=True)
            raise
        return path


def _open_regular(path: Path) -> BinaryIO:
    """
    Open a file for reading.

    Raises:
        DurableError: *path* is a pipe or a device, from which reading might never end.
    """
    if path.exists() and not path.is_file():
        raise DurableError(problem=Problem("not_regular_file", path=str(path)))
    return path.open("rb")


def check_secret(secret: bytes, where: str) -> bytes:
    """
    Return *secret*, a spool's key of 32 bytes. A shorter one would let readers of the database guess card keys.

    Raises:
        DurableError: *secret* has another length.
    """
    if len(secret) != SECRET_BYTES:
        problem = Problem("secret_damaged", where=where, wanted=SECRET_BYTES, found=len(secret))
        raise DurableError(problem=problem)
    return secret


def _fsync_folder(folder: Path) -> None:
    """Flush the file names in *folder* to the disk, where the system supports that."""
    if _POSIX:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
