"""What the command is told by the environment; nothing secret is ever read from its arguments."""

import os
import stat
from pathlib import Path

from gatepay_async.cli.language import say
from gatepay_async.cli.output import complain
from gatepay_async.cli.status import HaltError
from gatepay_async.client import BASE_URL, AsyncGatePay

_LONGEST_SECRET = 4096  # bytes; a file that is longer is another file


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
        raise HaltError(say("settings.no_appkey"), todo=say("settings.no_appkey.todo"))
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
        raise HaltError(say("settings.two_secrets"), todo=say("settings.two_secrets.todo"))
    if path:
        return _read_secret(Path(path))
    if not value:
        raise HaltError(say("settings.no_secret"), todo=say("settings.no_secret.todo"))
    return value


def open_to_others(path: Path) -> bool:
    """Whether others on this machine may read *path*; Windows has other means."""
    return os.name == "posix" and bool(path.stat().st_mode & stat.S_IROTH)


def client() -> AsyncGatePay:
    """A client, as the environment says; to be opened."""
    return AsyncGatePay(appkey(), secret())


def _read_secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_LONGEST_SECRET + 1)
        shared = open_to_others(path)
    except OSError as error:
        raise HaltError(say("settings.secret_file", path=path, reason=error.strerror)) from None
    value = raw.decode("utf-8", "replace").removeprefix("\ufeff").strip()
    if not value or len(raw) > _LONGEST_SECRET or len(value.split()) != 1:
        raise HaltError(say("settings.secret_form", path=path))
    if shared:
        complain(say("settings.secret_shared", path=path))
    return value
