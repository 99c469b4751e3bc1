"""Files that hold card keys: readable by their owner alone, and there only when they are whole."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from gatepay_async.cli.language import text
from gatepay_async.cli.status import HaltError


@contextmanager
def atomic_write(path: Path) -> Generator[BinaryIO]:
    """
    A new file, mode 0600, that takes the place of *path* when all of it has been written.

    Where writing it is broken off, what was at *path* stays as it was.

    Raises:
        HaltError: It can't be written there.
    """
    descriptor, temporary = _create_temporary(path)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except OSError as error:
        raise HaltError(text("files.unwritable", path=path, reason=error.strerror)) from None
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def check_replaceable(path: Path) -> None:
    """
    See whether a file can be written beside *path*; what is there stays as it is.

    Raises:
        HaltError: It can't.
    """
    descriptor, temporary = _create_temporary(path)
    os.close(descriptor)
    temporary.unlink()


def _create_temporary(path: Path) -> tuple[int, Path]:
    try:
        if path.is_dir() or (path.exists() and not path.is_file()):
            raise HaltError(text("files.no_file", path=path))
        # A name of its own: two commands at once don't meet. Made with mode 0600.
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise HaltError(text("files.unwritable", path=path, reason=error.strerror)) from None
    return descriptor, Path(name)
