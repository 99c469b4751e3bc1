"""``.env`` files: reading GATEPAY_ variables from one, and writing the sandbox's."""

import codecs
import os
import stat
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from gatepay_async.cli.language import text
from gatepay_async.cli.output import warn
from gatepay_async.cli.private_file import atomic_write, check_replaceable
from gatepay_async.cli.status import HaltError

_MAX_BYTES = 256 * 1024  # a file that is longer is another file
_OURS = "# Written by `gatepay sandbox`, which replaces it each time it starts."


def read_env_file(path: str) -> dict[str, str]:
    """
    Read the variables of *path* whose names begin with ``GATEPAY_``; a project's others are none of our business.

    Raises:
        HaltError: It can't be read, or has none.
    """
    from dotenv import dotenv_values

    content, shared = _read_env(path)
    # A secret may hold a `$`: nothing is put in its place.
    values = dotenv_values(stream=StringIO(content), interpolate=False)
    found = {name: value for name, value in values.items() if name.startswith("GATEPAY_") and value is not None}
    if not found:
        raise HaltError(text("env_file.none", path=path))
    if shared and "GATEPAY_APPSECRET" in found:
        warn(text("settings.secret_shared", path=path))
    return found


def check_env_file(path: str, *, force: bool) -> None:
    """
    See whether *path* may be written: it isn't there, or is one of ours, or it is to be replaced.

    Raises:
        HaltError: It may not.
    """
    if os.path.lexists(path) and not force and not _is_ours(path):
        raise HaltError(text("files.there", path=path), todo=text("files.there.todo"))
    check_replaceable(Path(path))


def write_env_file(path: str, variables: Mapping[str, str]) -> None:
    """
    Write *variables*, for their owner alone.

    Raises:
        HaltError: It can't be written.
    """
    # The values are a sandbox's: URLs and hexadecimal digits, which need no quotes.
    lines = [_OURS, *(f"{name}={value}" for name, value in variables.items())]
    with atomic_write(Path(path)) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


def decoded(raw: bytes) -> str:
    """The text of a small file: UTF-8, or the UTF-16 that Notepad and PowerShell write, with a mark that says so."""
    encoding = "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    return raw.decode(encoding, "replace")


def _is_ours(path: str) -> bool:
    if not Path(path).is_file():
        return False
    try:
        return _read_env(path)[0].startswith(_OURS)
    except HaltError:
        return False


def _read_env(path: str) -> tuple[str, bool]:
    """The text, and whether everybody may read it."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise HaltError(text("env_file.unreadable", path=path, reason=error.strerror)) from None
    if len(raw) > _MAX_BYTES:
        raise HaltError(text("env_file.none", path=path))
    return decoded(raw), os.name == "posix" and bool(mode & stat.S_IROTH)
