"""Where card keys come from, and where they lie until they are sent: small interfaces, and a folder that serves one."""

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

_SECRET_NAME = "digest-key"  # noqa: S105 -- the name of a file
_SECRET_BYTES = 32
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OWNER_ONLY = 0o600
_POSIX = os.name == "posix"


class Spool(Protocol):
    """
    Where submitters put card keys, and from which workers read them: both must reach it.

    The database names what lies here and holds none of it.
    """

    async def secret(self) -> bytes:
        """32 random bytes, the same for everybody who uses this spool; made when first asked for."""
        ...

    async def put(self, name: str, file: BinaryIO) -> None:
        """Keep all of *file* as *name*, readable by its owner only. What *name* was before is replaced, at once."""
        ...

    async def read(self, name: str, offset: int, length: int) -> bytes:
        """
        *length* bytes of *name* from *offset* on; fewer where it ends.

        Raises:
            SourceChangedError: There is no *name* any more.
        """
        ...

    async def delete(self, name: str) -> None:
        """Let *name* be gone; nothing, where it is."""
        ...


@runtime_checkable
class Source(Protocol):
    """An input that is no file here."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    async def copy_to(self, file: BinaryIO) -> None:
        """
        Write all of it into *file*, which is empty, has no name, and is gone when it is closed or the process ends.

        Raises:
            SourceChangedError: It has changed meanwhile.
        """
        ...


class FolderSpool:
    """
    A folder: on this machine, or one that all machines share.

    Args:
        folder: Made if it isn't there, for its owner only. Files in it have the mode 0600. It must belong to whoever
            runs this, and nobody else may be able to write into it, because what lies in it is sent.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder).absolute()

    def __repr__(self) -> str:
        return f"FolderSpool({str(self._folder)!r})"

    async def secret(self) -> bytes:
        """As ``Spool.secret``."""
        return await anyio.to_thread.run_sync(self._read_or_create_secret)

    async def put(self, name: str, file: BinaryIO) -> None:
        """As ``Spool.put``; on the disk when it returns."""
        await anyio.to_thread.run_sync(self._replace_file, name, file)

    async def read(self, name: str, offset: int, length: int) -> bytes:
        """As ``Spool.read``."""
        return await anyio.to_thread.run_sync(self._read_range, name, offset, length)

    async def delete(self, name: str) -> None:
        """As ``Spool.delete``."""
        path = self._folder / name
        await anyio.to_thread.run_sync(lambda: path.unlink(missing_ok=True))

    def _read_or_create_secret(self) -> bytes:
        path = self._folder / _SECRET_NAME
        self._make_folder()
        if not path.exists():
            mine = self._write_new_file(BytesIO(token_bytes(_SECRET_BYTES)))
            try:
                os.link(mine, path)  # of two that do this at once, one is the first
            except FileExistsError:
                pass
            finally:
                mine.unlink()
        with _open_regular(path) as file:
            return check_secret(file.read(_SECRET_BYTES + 1), str(path))

    def _replace_file(self, name: str, file: BinaryIO) -> None:
        self._make_folder()
        mine = self._write_new_file(file)
        try:
            mine.replace(self._folder / name)
        finally:
            mine.unlink(missing_ok=True)
        _fsync_folder(self._folder)

    def _make_folder(self) -> None:
        """
        Make the folder, if it is missing.

        Raises:
            DurableError: It is somebody else's, or others may write into it.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_owner(self._folder.stat())

    def _check_owner(self, status: os.stat_result) -> None:
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
                # So much is allocated before it is read, and *length* is what a row of the database says.
                return file.read(min(length, max(0, os.fstat(file.fileno()).st_size - offset)))
        except FileNotFoundError:
            pass
        raise SourceChangedError(source=str(self._folder / name), problem=Problem("gone"))

    def _write_new_file(self, source: BinaryIO) -> Path:
        """A new file in the folder with what *source* holds; nobody else can read it at any time."""
        source.seek(0)
        path = self._folder / f".{token_bytes(8).hex()}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
        try:
            with os.fdopen(descriptor, "wb") as file:
                shutil.copyfileobj(source, file)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:  # the disk is full, say; nobody would find what is half written
            path.unlink(missing_ok=True)
            raise
        return path


def _open_regular(path: Path) -> BinaryIO:
    """
    Open a file for reading.

    Raises:
        DurableError: It is a pipe, which would wait for a writer, or a device, which has no end.
    """
    if path.exists() and not path.is_file():
        raise DurableError(problem=Problem("not_regular_file", path=str(path)))
    return path.open("rb")


def check_secret(secret: bytes, where: str) -> bytes:
    """
    The key of a spool, which is 32 bytes long; with a shorter one, who reads the database could try card keys.

    Raises:
        DurableError: It is not.
    """
    if len(secret) != _SECRET_BYTES:
        problem = Problem("secret_damaged", where=where, wanted=_SECRET_BYTES, found=len(secret))
        raise DurableError(problem=problem)
    return secret


def _fsync_folder(folder: Path) -> None:
    """Have the names in *folder* on the disk, where the system knows how."""
    if _POSIX:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
