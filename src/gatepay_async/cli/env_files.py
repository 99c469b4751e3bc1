"""Reads GATEPAY_ variables from ``.env`` files, and writes those of the sandbox."""

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
from gatepay_async.words.problem import os_reason

_MAX_ENV_FILE_BYTES = 256 * 1024  # no .env file is longer
_OUR_FIRST_LINE = "# Written by `gatepay sandbox`, which replaces it each time it starts."


def read_env_file(path: str) -> dict[str, str]:
    """
    Read the variables in *path* whose names start with ``GATEPAY_``. Others are ignored.

    Raises:
        HaltError: The file can't be read, or has no such variable.
    """
    from dotenv import dotenv_values

    content, is_world_readable = _read_env(path)
    # No interpolation, because a secret may contain a `$`.
    values = dotenv_values(stream=StringIO(content), interpolate=False)
    own_variables = {name: value for name, value in values.items() if name.startswith("GATEPAY_") and value is not None}
    if not own_variables:
        raise HaltError(text("env_file.none", path=path))
    if is_world_readable and "GATEPAY_APPSECRET" in own_variables:
        warn(text("settings.secret_shared", path=path))
    return own_variables


def check_env_file(path: str, *, force: bool) -> None:
    """
    Check that *path* may be written: it doesn't exist, ``gatepay sandbox`` has written it, or *force* is true.

    Raises:
        HaltError: It may not be written.
    """
    if os.path.lexists(path) and not force and not _is_written_by_us(path):
        raise HaltError(text("files.there", path=path), todo=text("files.there.todo"))
    check_replaceable(Path(path))


def write_env_file(path: str, variables: Mapping[str, str]) -> None:
    """
    Write *variables* to a file that only its owner can read.

    Raises:
        HaltError: The file can't be written.
    """
    # The values of a sandbox are URLs and hexadecimal digits, which need no quotes.
    lines = [_OUR_FIRST_LINE, *(f"{name}={value}" for name, value in variables.items())]
    with atomic_write(Path(path)) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


def decoded(raw: bytes) -> str:
    """Decode a small file: UTF-8, or UTF-16 with a byte-order mark, which Notepad and PowerShell write."""
    encoding = "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    return raw.decode(encoding, "replace")


def _is_written_by_us(path: str) -> bool:
    """Whether ``gatepay sandbox`` has written the file at *path*."""
    if not Path(path).is_file():
        return False
    try:
        return _read_env(path)[0].startswith(_OUR_FIRST_LINE)
    except HaltError:
        return False


def _read_env(path: str) -> tuple[str, bool]:
    """Return the text of the file, and whether all users can read it."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_MAX_ENV_FILE_BYTES + 1)
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise HaltError(text("env_file.unreadable", path=path, reason=os_reason(error))) from None
    if len(raw) > _MAX_ENV_FILE_BYTES:
        raise HaltError(text("env_file.none", path=path))
    return decoded(raw), os.name == "posix" and bool(mode & stat.S_IROTH)
