"""Writes files with card keys or secrets atomically. Only their owner can read them."""

import glob
import os
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from gatepay_async.cli.language import text
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.words.problem import os_reason

_TEMPORARY_SUFFIX = ".part"  # the suffix of temporary files
_LEFTOVER_SECONDS = 60.0  # a younger temporary file may belong to a running command


@contextmanager
def atomic_write(path: Path) -> Generator[BinaryIO]:
    """
    Write a new file with mode 0600, which replaces *path* at the end of the block.

    If *path* is a symbolic link, the file that it points to is replaced. If the block raises, an existing file stays as
    it was.

    Raises:
        HaltError: The file can't be written.
    """
    target = Path(os.path.realpath(path))
    descriptor, temporary = _create_temporary(path, target)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        temporary.replace(target)
    except OSError as error:
        message = text("files.unwritable", path=path, reason=os_reason(error))
        raise HaltError(message, status=Status.NO_OUTPUT) from None
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def remove_leftovers(path: Path) -> None:
    """
    Remove temporary files that a killed ``atomic_write`` to *path* has left. They may contain a secret.

    A file younger than a minute is kept, because it may belong to a running command.
    """
    with suppress(OSError):
        for temporary in path.parent.glob(f".{glob.escape(path.name)}.*{_TEMPORARY_SUFFIX}"):
            with suppress(OSError):
                if time.time() - temporary.stat().st_mtime > _LEFTOVER_SECONDS:
                    temporary.unlink()


def check_replaceable(path: Path) -> None:
    """
    Check that *path* can be written or replaced, without changing it.

    Raises:
        HaltError: *path* can't be written.
    """
    descriptor, temporary = _create_temporary(path, Path(os.path.realpath(path)))
    os.close(descriptor)
    temporary.unlink()


def _is_output_of_command(path: Path) -> bool:
    """Whether standard output or standard error goes to the file at *path*, under this name or under another one."""
    for descriptor in (1, 2):
        with suppress(OSError):  # there is no such file, or the stream is closed
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return True
    return False


def _create_temporary(path: Path, target: Path) -> tuple[int, Path]:
    """Create an empty file next to *target*, the file that *path* points to. Return its descriptor and path."""
    try:
        if path.is_dir() or (path.exists() and not path.is_file()):
            raise HaltError(text("files.no_file", path=path))
        if _is_output_of_command(path):
            raise HaltError(text("files.is_output", path=path))
        # mkstemp() chooses a unique name, so concurrent commands don't conflict. It creates the file with mode 0600.
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=_TEMPORARY_SUFFIX, dir=target.parent)
    except OSError as error:
        raise HaltError(text("files.unwritable", path=path, reason=os_reason(error))) from None
    return descriptor, Path(name)
