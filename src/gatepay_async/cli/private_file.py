"""Files that hold card keys: readable by their owner alone, and there only when they are whole."""

import glob
import os
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from gatepay_async.cli.language import text
from gatepay_async.cli.status import HaltError

_PART = ".part"
_LEFT_SECONDS = 60.0  # writing takes a moment


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


def remove_leftovers(path: Path) -> None:
    """
    Remove what a killed ``atomic_write`` to *path* has left, as it may hold a secret.

    A file that is newer than a minute may belong to one that is at work.
    """
    with suppress(OSError):
        for each in path.parent.glob(f".{glob.escape(path.name)}.*{_PART}"):
            with suppress(OSError):
                if time.time() - each.stat().st_mtime > _LEFT_SECONDS:
                    each.unlink()


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
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_PART, dir=path.parent)
    except OSError as error:
        raise HaltError(text("files.unwritable", path=path, reason=error.strerror)) from None
    return descriptor, Path(name)
