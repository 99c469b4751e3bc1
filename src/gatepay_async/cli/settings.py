"""What the command reads from the environment; nothing secret is ever read from its arguments."""

import codecs
import os
import stat
from pathlib import Path

from gatepay_async.cli.language import text
from gatepay_async.cli.output import warn
from gatepay_async.cli.status import HaltError
from gatepay_async.client import BASE_URL, AsyncGatePay

_MAX_SECRET_BYTES = 4096  # bytes; a file that is longer is another file


def base_url() -> str:
    """Where GatePay is, as the client reads it."""
    return os.environ.get("GATEPAY_BASE_URL") or BASE_URL


def appkey() -> str:
    """
    The shop's public key.

    Raises:
        HaltError: It is not set.
    """
    value = os.environ.get("GATEPAY_APPKEY", "").strip()
    if not value:
        raise HaltError(text("settings.no_appkey"), todo=text("settings.no_appkey.todo"))
    return value


def secret() -> str:
    """
    The shop's secret, from ``GATEPAY_APPSECRET`` or the file that ``GATEPAY_APPSECRET_FILE`` names.

    Raises:
        HaltError: Neither is set, both are, or the file can't be read.
    """
    value = os.environ.get("GATEPAY_APPSECRET", "").strip()
    path = os.environ.get("GATEPAY_APPSECRET_FILE", "")
    if value and path:
        raise HaltError(text("settings.two_secrets"), todo=text("settings.two_secrets.todo"))
    if path:
        return _read_secret(Path(path))
    if not value:
        raise HaltError(text("settings.no_secret"), todo=text("settings.no_secret.todo"))
    return value


def is_world_readable(path: Path) -> bool:
    """Whether others on this machine may read *path*; Windows has other means."""
    return os.name == "posix" and bool(path.stat().st_mode & stat.S_IROTH)


def client() -> AsyncGatePay:
    """A client, as the environment says; to be opened."""
    return AsyncGatePay(appkey(), secret())


def _read_secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_SECRET_BYTES + 1)
        shared = is_world_readable(path)
    except OSError as error:
        raise HaltError(text("settings.secret_file", path=path, reason=error.strerror)) from None
    # Notepad and PowerShell write UTF-16, with a mark that says so.
    encoding = "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    value = raw.decode(encoding, "replace").strip()
    if not value or len(raw) > _MAX_SECRET_BYTES or len(value.split()) != 1:
        raise HaltError(text("settings.secret_form", path=path))
    if shared:
        warn(text("settings.secret_shared", path=path))
    return value
