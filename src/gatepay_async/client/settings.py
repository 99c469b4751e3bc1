"""Checks the client's arguments, and reads environment variables in place of missing ones."""

from __future__ import annotations

import codecs
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gatepay_async.exchange.loopback import is_loopback
from gatepay_async.exchange.urls import BadUrlError, parse_url
from gatepay_async.protocol import checks, invisible
from gatepay_async.protocol.checks import check_instance
from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem, os_reason

if TYPE_CHECKING:
    import httpx


MAX_SECRET_FILE_BYTES = 4096  # no file with a secret is longer


def value_or_env(name: str, value: str | None, variable: str) -> str:
    """
    Return *value*, or the environment's *variable* if *value* is None.

    Raises:
        InvalidRequestError: Both are missing, or the variable is invalid.
    """
    if value is not None:
        return value
    value = os.environ.get(variable)
    if value is None:
        raise InvalidRequestError(field=name, problem=Problem("not_set", variable=variable))
    checks.check(variable, checks.cleaned(value), checks.token)
    return value


def secret_or_env(secret: str | None) -> str:
    """
    Return *secret*, or else GATEPAY_APPSECRET, or else the contents of the file that GATEPAY_APPSECRET_FILE names.

    Raises:
        InvalidRequestError: All are missing, both variables are set, or the file has no secret or can't be read.
    """
    path = os.environ.get("GATEPAY_APPSECRET_FILE")
    if secret is not None or not path:
        return value_or_env("appsecret", secret, "GATEPAY_APPSECRET")
    if os.environ.get("GATEPAY_APPSECRET"):
        raise InvalidRequestError(field="GATEPAY_APPSECRET_FILE", problem=Problem("two_secrets"))
    # Path.expanduser() raises without a home.
    secret = read_secret(Path(os.path.expanduser(path)))  # noqa: PTH111 -- see above
    checks.check("GATEPAY_APPSECRET_FILE", checks.cleaned(secret), checks.token)
    return secret


def read_secret(path: Path) -> str:
    """
    Return the secret in the file that GATEPAY_APPSECRET_FILE names.

    Raises:
        InvalidRequestError: The file has no secret, has other text as well, or can't be read.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SECRET_FILE_BYTES + 1)
    except OSError as error:
        problem = Problem("secret_unreadable", path=str(path), reason=os_reason(error))
    else:
        # Notepad and PowerShell may write UTF-16, with a byte-order mark.
        encoding = "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        words = raw.decode(encoding, "replace").split()
        if len(words) == 1 and len(raw) <= MAX_SECRET_FILE_BYTES:
            return words[0]
        problem = Problem("secret_form", path=str(path))
    raise InvalidRequestError(field="GATEPAY_APPSECRET_FILE", problem=problem)


def url_or_env(name: str, url: str | None, default: str, *, allow_http: bool) -> str:
    """
    Return *url*, or else the environment's URL, or else *default* (which may be empty), with a slash at its end.

    Raises:
        InvalidRequestError: The URL is invalid.
    """
    # An empty *url* is invalid: it comes from a missing setting, and the default is the URL of the real GatePay.
    if url is not None:
        return _checked_url(name, url, allow_http)
    variable = f"GATEPAY_{name.upper()}"
    url = os.environ.get(variable) or default
    return _checked_url(variable, url, allow_http) if url else ""


def cloud_url_or_env(
    url: str | None, default: str, *, passed_base_url: str | None, default_base_url: str, allow_http: bool
) -> str:
    """
    Return the cloud's URL: *url*, or else the environment's, or else *default*, which may be empty.

    Args:
        url: The argument ``cloud_base_url``.
        default: The default of ``cloud_base_url``.
        passed_base_url: The argument ``base_url``. If it isn't None, the environment's ``cloud_base_url`` is used only
            if the environment's ``base_url`` is the same. So a program that passes the URL of a sandbox doesn't create
            real orders at the cloud.
        default_base_url: The base URL if the environment has none.
        allow_http: Whether plain http to another machine is allowed.
    """
    env_base_url = os.environ.get("GATEPAY_BASE_URL") or default_base_url
    if url is None and passed_base_url is not None and passed_base_url.rstrip("/") != env_base_url.strip().rstrip("/"):
        return default
    return url_or_env("cloud_base_url", url, default, allow_http=allow_http)


def _checked_url(name: str, base_url: str, allow_http: bool) -> str:  # noqa: FBT001 -- private
    """Return *base_url* with a slash at its end, or raise if it is invalid."""
    problem = Problem("not_base_url")
    try:
        url = parse_url(invisible.strip(base_url))
    except BadUrlError as error:
        if base_url:
            problem = Problem("not_base_url_because", reason=error.problem)
    except (TypeError, AttributeError):  # not a str
        pass
    else:
        url_problem = _url_problem(url, allow_http)
        if url_problem is None:
            return str(url).rstrip("/") + "/"
        problem = url_problem
    raise InvalidRequestError(field=name, problem=problem)


def _url_problem(url: httpx.URL, allow_http: bool) -> Problem | None:  # noqa: FBT001 -- private
    """Return why a valid URL can't be a base URL, or None."""
    if url.userinfo or set("?#") & set(str(url)):  # an empty query or fragment is refused too
        return Problem("url_with_extras")
    if url.scheme == "http" and not allow_http and not is_loopback(url.host):
        return Problem("not_https")
    return None


def check_transport(transport: object, *kinds: type) -> None:
    """Check the argument ``transport``: None, or an instance of one of *kinds*."""
    if transport == "aiohttp":  # an earlier version accepted this
        raise InvalidRequestError(field="transport", problem=Problem("aiohttp_transport"))
    check_instance("transport", transport, *kinds)
